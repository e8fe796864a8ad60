// A crosshair moved by the arrow keys, which stands in for the pointer with every tool. Methods of Annotator.

const CURSOR_POINTER = -1; // no real pointer has this id
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const EDGE_PX = 24;

const cursoring = {
  bindCursor() {
    this.cursor = null; // the pixel (y, x)
    const cross = make("div", "ann-cursor");
    cross.dataset.part = "cursor";
    cross.setAttribute("aria-hidden", "true");
    cross.hidden = true;
    this.part("ring").after(cross);
    this.view.drawn.push(() => this.placeCursor());
    this.canvas.addEventListener("pointermove", () => {
      if (this.cursor && this.dragPointer !== CURSOR_POINTER) this.hideCursor();
      else if (this.cursor && !this.drag) this.hideCursor();
    });
  },

  moveCursor(key, far) {
    if (!this.patch) return;
    const { height, width } = this.patch;
    const first = !this.cursor;
    const at = this.cursor ?? this.pointer ?? this.middle();
    const [dy, dx] = first ? [0, 0] : STEPS[key];
    const step = far ? 10 : 1;
    const inside = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.cursor = [inside(at[0] + dy * step, height), inside(at[1] + dx * step, width)];
    this.keepInSight(this.cursor);
    this.placeCursor();
    const event = this.cursorEvent();
    showRing(this, event);
    if (this.drag) this.drag.move(this, event);
    else this.tool.hover?.(this, event);
    this.hover(this.cursor);
  },

  // What a click at the crosshair does. A tool that is dragged goes down with the first press, up with the second.
  pressCursor(negative) {
    if (!this.patch || (!this.drag && (this.hindered() || this.blind()))) return;
    if (!this.cursor) this.moveCursor("ArrowUp", false);
    const event = this.cursorEvent(negative ? 2 : 0);
    if (this.drag) {
      if (this.dragPointer !== CURSOR_POINTER) return;
      const { drag } = this;
      this.drag = null;
      return drag.release(this, event);
    }
    const { tool } = this;
    if (!tool.press(this, event)) return;
    if (tool === lassoTool || tool === pointTool) return tool.release(this, event); // their points are clicks
    this.drag = tool;
    this.dragPointer = CURSOR_POINTER;
    if (!this.pressHinted) this.say("Move with the arrow keys, then press I again. Esc cancels.");
    this.pressHinted = true;
  },

  cursorEvent(button = 0) {
    const rect = this.canvas.getBoundingClientRect();
    const [y, x] = this.cursor;
    const { scale, left, top } = this.view;
    return {
      clientX: rect.left + left + (x + 0.5) * scale, clientY: rect.top + top + (y + 0.5) * scale, button,
      pointerId: CURSOR_POINTER, pointerType: "keyboard", pressure: 0.5, shiftKey: false, ctrlKey: false, metaKey: false,
      altKey: false, timeStamp: performance.now(), preventDefault() {},
    };
  },

  middle() {
    const { scale, left, top } = this.view;
    return [(this.canvas.clientHeight / 2 - top) / scale, (this.canvas.clientWidth / 2 - left) / scale].map(Math.floor);
  },

  // Move the image so that pixel (y, x) is seen.
  keepInSight([y, x]) {
    const { scale, left, top } = this.view;
    const push = (at, size) => Math.max(0, EDGE_PX - at) - Math.max(0, at - (size - EDGE_PX));
    const dx = push(left + (x + 0.5) * scale, this.canvas.clientWidth);
    const dy = push(top + (y + 0.5) * scale, this.canvas.clientHeight);
    if (dx || dy) this.view.pan(dx, dy);
  },

  placeCursor() {
    const cross = this.part("cursor");
    cross.hidden = !this.cursor;
    if (!this.cursor) return;
    const { scale, left, top } = this.view;
    cross.style.transform = `translate(${left + (this.cursor[1] + 0.5) * scale}px, ${top + (this.cursor[0] + 0.5) * scale}px)`;
  },

  hideCursor() {
    this.cursor = null;
    this.placeCursor();
  },
};
