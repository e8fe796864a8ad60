// Fingers and pens. One finger or a pen uses the tool; two fingers zoom and move; a palm beside a pen does nothing.

const TOUCH_SLOP_PX = 8; // a finger that moved less was not dragged
const PINCH_MS = 400; // a finger that joins later is taken for a hand that came to rest
const HOLD_MS = 600; // held so long, a finger acts as a right click
const PALM_MS = 800; // so long after the pen was seen, touches are a palm

// What a tool needs of the event that starts it, with another button: 0 left, 2 right.
function withButton(event, button) {
  const { type, clientX, clientY, pointerId, pointerType, ctrlKey, metaKey, shiftKey, altKey, timeStamp } = event;
  return { type, clientX, clientY, pointerId, pointerType, ctrlKey, metaKey, shiftKey, altKey, timeStamp, button };
}

// A pen's barrel button (2) and its eraser end (32) act as the right button.
function pressed(event) {
  return event.pointerType === "pen" && event.buttons & (2 | 32) ? withButton(event, 2) : event;
}

class Touch {
  // `press(event, tool)` starts a tool.
  constructor(page, press) {
    this.page = page;
    this.press = press;
    this.fingers = new Map();
    this.waiting = null; // a first finger, until it is known what it does
    this.pinching = false;
    this.penDown = false;
    this.penSeen = -Infinity;
  }

  // Each of these is true when the event is dealt with here.
  down(event) {
    if (event.pointerType === "pen") {
      this.sawPen(event);
      this.penDown = true;
      this.drop();
    }
    if (event.pointerType !== "touch") return false;
    if (this.penDown || event.timeStamp - this.penSeen < PALM_MS) return true;
    const first = !this.fingers.size;
    const late = event.timeStamp - this.started > PINCH_MS && !this.waiting && this.page.drag !== panTool;
    if (!first && (this.fingers.size > 1 || late)) return true;
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (first) this.wait(event);
    else this.pinch();
    return true;
  }

  move(event) {
    if (event.pointerType === "pen") this.sawPen(event);
    if (event.pointerType !== "touch") return false;
    const from = this.fingers.get(event.pointerId);
    if (!from) return true;
    if (this.pinching) this.follow(event);
    else if (this.waiting) {
      if (Math.hypot(event.clientX - from[0], event.clientY - from[1]) < TOUCH_SLOP_PX) return true;
      // There is nothing to do with a finger on a closed patch but to move it.
      this.start(this.waiting, this.page.closed && this.page.tool !== rulerTool ? panTool : undefined);
    }
    return this.pinching;
  }

  up(event) {
    if (event.pointerType === "pen") {
      this.sawPen(event);
      this.penDown = false;
    }
    if (event.pointerType !== "touch") return false;
    if (!this.fingers.delete(event.pointerId)) return true;
    if (this.waiting) this.start(this.waiting);
    const pinched = this.pinching;
    if (!this.fingers.size) this.pinching = false;
    return pinched;
  }

  // The browser took the pointer away.
  forget(event) {
    if (event.pointerType === "pen") this.penDown = false;
    if (!this.fingers.delete(event.pointerId)) return;
    this.stopWaiting();
    if (!this.fingers.size) this.pinching = false;
  }

  sawPen(event) { this.penSeen = event.timeStamp; }

  wait(event) {
    this.started = event.timeStamp;
    this.waiting = withButton(event, 0);
    this.timer = setTimeout(() => this.start(withButton(event, 2)), HOLD_MS);
  }

  stopWaiting() {
    clearTimeout(this.timer);
    this.waiting = null;
  }

  start(event, tool) {
    this.stopWaiting();
    this.press(event, tool);
  }

  pinch() {
    const { drag } = this.page;
    this.page.cancelDrag();
    // The first point of a scribble is set as soon as it begins.
    if (drag === pointTool) this.page.undo();
    this.stopWaiting();
    this.pinching = true;
  }

  // Zoom by how far the fingers part, and move with the place between them.
  follow(event) {
    if (this.fingers.size < 2) return;
    const before = this.spread();
    this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = this.spread();
    if (!before.apart) return;
    const [x, y] = before.middle;
    this.page.view.zoom(after.apart / before.apart, { clientX: x, clientY: y }, after.middle[0] - x, after.middle[1] - y);
  }

  spread() {
    const [[ax, ay], [bx, by]] = this.fingers.values();
    return { apart: Math.hypot(bx - ax, by - ay), middle: [(ax + bx) / 2, (ay + by) / 2] };
  }

  // A pen came: whatever the hand began is not meant.
  drop() {
    if (this.fingers.has(this.page.dragPointer)) this.page.cancelDrag();
    this.stopWaiting();
    this.fingers.clear();
    this.pinching = false;
  }
}
