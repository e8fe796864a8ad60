// Tools are small objects: press(page, event) is true when it starts a drag, which then gets move and release.

const SCRIBBLE_PX = 8; // on the screen, from one point of a scribble to the next
const SCRIBBLE_MOST = 60; // points; of a longer one every other is left out

// Left click: this belongs to the object. Right click: this does not. A drag is a scribble: many points at once.
const pointTool = {
  name: "point",
  press(page, event) {
    const point = page.view.pixel(event);
    if (!point || page.hindered()) return false;
    const negative = event.button === 2;
    if (!negative && !page.draft && !event.ctrlKey && !event.metaKey) {
      const id = page.view.at(point);
      if (id) {
        page.select(id === page.selected ? null : id);
        return false;
      }
    }
    Object.assign(this, { negative, points: [], line: [page.view.locate(event)], last: [event.clientX, event.clientY] });
    page.addPoint(point, negative, event.timeStamp);
    return true;
  },
  move(page, event) {
    if (Math.hypot(event.clientX - this.last[0], event.clientY - this.last[1]) < SCRIBBLE_PX) return;
    this.last = [event.clientX, event.clientY];
    const point = page.view.pixel(event);
    if (point) this.points.push(point);
    this.line.push(page.within(event));
    page.showShape({ points: this.line, closed: false });
  },
  release(page, event) {
    page.showShape(null);
    let { points } = this;
    while (points.length > SCRIBBLE_MOST) points = points.filter((_, i) => i % 2);
    page.addScribble(points, this.negative, event.timeStamp);
  },
  cancel(page) { page.showShape(null); },
};

// Drag with the middle button, or with Space held.
const panTool = {
  name: "pan",
  press(page, event) {
    this.at = [event.clientX, event.clientY];
    this.moved = false;
    page.stage.classList.add("ann-grabbing");
    return true;
  },
  move(page, event) {
    const [x, y] = this.at;
    this.at = [event.clientX, event.clientY];
    this.moved = true;
    page.view.pan(event.clientX - x, event.clientY - y);
  },
  release(page) { page.stage.classList.remove("ann-grabbing"); },
  cancel(page) { this.release(page); },
};

function toolFor(page, event) {
  if (event.button === 1 || page.spaceHeld) return panTool;
  if (page.tool === rulerTool) return rulerTool;
  if (page.locked || !page.patch) return pointTool;
  return event.shiftKey && event.button === 0 ? boxTool : page.tool;
}

function bindPointer(page) {
  const { canvas, view } = page;
  const press = (event, tool = toolFor(page, event)) => {
    if (page.drag || event.button > 2) return;
    const works = tool !== panTool && tool !== rulerTool;
    if (page.loading && works) return page.say(LOADING);
    if (works && page.blind()) return;
    if (!tool.press(page, event)) return;
    page.drag = tool;
    page.dragPointer = event.pointerId; // a second finger must not draw
    canvas.setPointerCapture(event.pointerId);
  };
  const touch = new Touch(page, press);
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    page.stage.focus({ preventScroll: true });
    if (!touch.down(event)) press(pressed(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (touch.move(event)) return;
    if (page.drag && event.pointerId !== page.dragPointer) return;
    showRing(page, event);
    if (page.drag) return page.drag.move(page, event);
    page.tool.hover?.(page, event);
    page.hover(view.pixel(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (touch.up(event)) return;
    const { drag } = page;
    if (drag && event.pointerId !== page.dragPointer) return;
    page.drag = null;
    drag?.release(page, event);
  });
  canvas.addEventListener("pointercancel", (event) => {
    touch.forget(event);
    if (event.pointerId === page.dragPointer) page.cancelDrag();
  });
  canvas.addEventListener("pointerleave", () => {
    showRing(page, null);
    if (!page.drag) page.hover(null);
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.altKey && page.isStack) return page.wheelSlice(event);
    view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event);
    showRing(page, event);
  }, { passive: false });
}
