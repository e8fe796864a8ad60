// Painting: the pixels change at once here, and go to the server as one act when the pointer is lifted.

const BRUSH_MAX = 100; // pixels across

// An object while it is painted: the whole slice, one byte a pixel, of which only changed parts are drawn anew.
class LiveItem extends Item {
  constructor(id, z, height, width) {
    super({ id, box: [z, 0, 0, z + 1, height, width], runs: [], size: 0, suggestion: false });
    this.decoded = new Uint8Array(height * width);
  }

  take(item) {
    const [top, left] = flatBox(item);
    const pixels = item.slice(this.box[0]);
    for (let y = 0; y < item.height; y++) {
      this.decoded.set(pixels.subarray(y * item.width, (y + 1) * item.width), (top + y) * this.width + left);
    }
  }

  outline(z, box) {
    const path = new Path2D();
    const [y0, x0, y1, x1] = box || [0, 0, this.height, this.width];
    const within = [Math.max(0, y0), Math.max(0, x0), Math.min(this.height, y1), Math.min(this.width, x1)];
    return tracePixels(this.decoded, 0, 0, this.height, this.width, path, within);
  }
}

// Left drag paints (or erases, with the eraser); right drag erases.
const brushTool = {
  name: "brush",
  hint: "Brush: drag to paint, right drag to erase, [ and ] change the size. Enter ends the object.",
  erases: false,
  press(page, event) {
    this.erase = this.erases || event.button === 2;
    this.last = page.view.locate(event);
    if (this.begin(page, event)) page.dab(this.last, this.last);
    return true;
  },
  // With nothing selected, an eraser takes the first object that it meets.
  begin(page, event) {
    const pixel = page.view.pixel(event);
    if (this.erase && !page.draft && !page.selected && !(pixel && page.view.at(pixel))) return false;
    const { draft } = page;
    page.beginStroke("brush", this.erase, pixel, page.settle() ?? page.selected, draft);
    return true;
  },
  move(page, event) {
    if (!page.stroke && !this.begin(page, event)) {
      this.last = page.view.locate(event);
      return;
    }
    // A frame may hold several events of a fast pen.
    const steps = event.getCoalescedEvents?.() ?? [];
    let dirty = null;
    for (const step of steps.length ? steps : [event]) {
      const point = page.view.locate(step);
      dirty = joinBoxes([dirty, page.dab(this.last, point, false)]);
      this.last = point;
    }
    if (dirty) page.view.refresh(dirty);
  },
  release(page) {
    if (page.stroke) page.endStroke();
    else page.say("Select an object, or drag over one, to take pixels away.");
  },
  cancel(page) { page.dropStroke(); },
};

const eraseTool = {
  ...brushTool,
  name: "erase",
  hint: "Eraser: drag over the selected object, or over any. [ and ] change the size.",
  erases: true,
};

const painting = {
  // A stroke on object `id`, else on the one under the pointer, or on a new one. `draft`: the unfinished object that
  // was settled for it.
  beginStroke(tool, erase, pixel, id, draft = null) {
    if (!id && pixel && (tool === "brush" || erase)) id = this.view.at(pixel) || null;
    if (!id && erase) {
      this.say("Select an object, or begin on one, to take pixels away.");
      return false;
    }
    const ref = id ? this.refer(id) : this.conceive();
    const started = ref.id;
    if (this.painting?.id !== started || this.painting.z !== this.z) {
      const { height, width } = this.patch;
      const live = new LiveItem(started, this.z, height, width);
      const known = draft?.item && draft.ref?.id === id ? draft.item : this.items.find((item) => item.id === id);
      const taken = known?.on(this.z) ? known : null;
      if (taken) live.take(taken);
      this.painting = { id: started, z: this.z, item: live, waiting: 0, ref, box: flatBox(taken) };
    }
    this.stroke = { tool, erase, ref, begins: !id, pixels: this.strokeRoom(), box: null };
    if (this.selected !== started) this.select(started);
    else this.scene();
    return true;
  },

  // One byte a pixel, all 0; the same memory for every stroke, as the collector of garbage costs a frame.
  strokeRoom() {
    const size = this.patch.height * this.patch.width;
    if (this.room?.length !== size) this.room = new Uint8Array(size);
    return this.room.fill(0);
  },

  // Paint everything within the brush's radius of the line from `a` to `b` (y, x); returns the box that changed.
  dab(a, b, show = true) {
    const r = this.brushSize / 2;
    const box = this.clip([Math.min(a[0], b[0]) - r, Math.min(a[1], b[1]) - r, Math.max(a[0], b[0]) + r + 1, Math.max(a[1], b[1]) + r + 1]);
    if (!box) return null;
    const [dy, dx] = [b[0] - a[0], b[1] - a[1]];
    const length = dy * dy + dx * dx;
    for (let y = box[0]; y < box[2]; y++) {
      for (let x = box[1]; x < box[3]; x++) {
        const [py, px] = [y + 0.5 - a[0], x + 0.5 - a[1]];
        const t = length ? Math.min(1, Math.max(0, (py * dy + px * dx) / length)) : 0;
        const near = (py - t * dy) ** 2 + (px - t * dx) ** 2 <= r * r;
        // The pixel under the pointer always counts, however fine the brush.
        if (near || (y === Math.floor(b[0]) && x === Math.floor(b[1]))) this.mark(y, x);
      }
    }
    this.stroke.box = joinBoxes([this.stroke.box, box]);
    if (show) this.view.refresh(box);
    return box;
  },

  mark(y, x) {
    const at = y * this.patch.width + x;
    const owner = this.view.grid[at];
    const { erase, pixels } = this.stroke;
    if (!erase && owner && owner !== this.painting.id && this.part("overlap").value === "keep") return;
    pixels[at] = 1;
    this.painting.item.decoded[at] = erase ? 0 : 1;
  },

  clip([y0, x0, y1, x1]) {
    const { height, width } = this.patch;
    const box = [Math.max(0, Math.floor(y0)), Math.max(0, Math.floor(x0)), Math.min(height, Math.ceil(y1)), Math.min(width, Math.ceil(x1))];
    return box[0] < box[2] && box[1] < box[3] ? box : null;
  },

  endStroke() {
    const { stroke, painting } = this;
    this.stroke = null;
    if (this.untold || this.unmarked) this.tellInPause();
    const sent = stroke.box && strokeMask(stroke, this.patch.width, painting.z);
    if (!sent) {
      if (stroke.box) this.say("All of this lies on other objects, which keep their pixels.");
      return this.endPainting();
    }
    const { id } = this.patch;
    const overlap = this.part("overlap").value;
    const { ref } = stroke;
    painting.box = joinBoxes([painting.box, stroke.box]);
    painting.waiting++;
    const over = this.fills(ref, painting.z);
    const act = this.link.act("paint", (sending) => {
      if (this.patch?.id !== id) return null;
      if (sending && this.isGone(ref)) {
        if (stroke.erase) return null;
        this.bearAnew(ref);
      }
      return { patch: id, revision: this.patch.revision, ...sent, tool: stroke.tool, erase: stroke.erase, ...target(ref), overlap };
    }, (answer) => {
      if (this.patch?.id !== id) return;
      painting.waiting--;
      over();
      if (this.failed(answer)) return this.strokeFailed(painting);
      this.bear(ref, answer.object);
      const ends = !painting.waiting && !this.stroke && this.painting === painting;
      if (ends) this.painting = null;
      // Of all that it showed something may be undone by now.
      this.takeIn(answer, ends ? painting.box : stroke.box);
      if (painting.failed && this.painting !== painting) this.view.refresh();
    }, { skipped: () => {
      if (this.patch?.id !== id) return;
      painting.waiting--;
      over();
      this.strokeFailed(painting);
    } });
    act.ref = ref;
  },

  // The server did not take a stroke. What else is drawn, or on its way, is not to suffer for it: the next stroke of a
  // new object makes the object.
  strokeFailed(painting) {
    this.forgo(painting.ref);
    painting.failed = true; // its pixels are still on the screen
    if (this.painting === painting) {
      if (!painting.waiting && !this.stroke) this.dropPainting();
      return;
    }
    if (!this.known(this.selected)) this.selected = null;
    this.recount();
    this.scene();
    this.view.refresh();
    this.showPatch();
  },

  // Nothing of the stroke was sent: back to the object as it is known.
  dropStroke() { if (this.stroke) this.dropPainting(); },

  endPainting() { if (!this.painting?.waiting) this.dropPainting(); },

  dropPainting() {
    this.forgo(this.painting?.ref);
    this.painting = null;
    this.stroke = null;
    if (!this.known(this.selected)) this.selected = null;
    this.recount();
    this.scene();
    this.untold = this.unmarked = null;
    this.view.refresh();
    this.showPatch();
  },

  // Whether there is an object of this id, be it on its way.
  known(id) { return this.unborn.has(id) || this.items.some((item) => item.id === id); },

  // Before a tool acts the unfinished object is accepted, be its mask still on its way; its id comes back, null if there
  // was none.
  settle() {
    const { draft } = this;
    if (!draft) return null;
    if (!draft.item && !(awaited(draft) && prompted(draft))) {
      this.clearDraft();
      return null;
    }
    this.sendAccept(draft, false);
    return draft.ref.id;
  },

  resizeBrush(by) { this.setBrush(this.brushSize + by * Math.max(1, Math.round(this.brushSize * 0.15))); },

  setBrush(size) {
    this.brushSize = Math.min(BRUSH_MAX, Math.max(1, Math.round(size)));
    this.part("brush-size").value = this.brushSize;
    this.part("brush-number").textContent = `${this.brushSize} px`;
    remember("brush", this.brushSize);
    showRing(this, this.ringEvent);
  },
};

// The stroke as box and runs, tight; null if it is empty.
function strokeMask({ pixels, box }, width, z) {
  let [y0, x0, y1, x1] = [Infinity, Infinity, -1, -1];
  for (let y = box[0]; y < box[2]; y++) {
    const row = pixels.subarray(y * width + box[1], y * width + box[3]);
    const first = row.indexOf(1);
    if (first < 0) continue;
    [y0, y1] = [Math.min(y0, y), y + 1];
    [x0, x1] = [Math.min(x0, box[1] + first), Math.max(x1, box[1] + row.lastIndexOf(1) + 1)];
  }
  if (y1 < 0) return null;
  const window = new Uint8Array((y1 - y0) * (x1 - x0));
  for (let y = y0; y < y1; y++) window.set(pixels.subarray(y * width + x0, y * width + x1), (y - y0) * (x1 - x0));
  return { box: [z, y0, x0, z + 1, y1, x1], runs: encodeRuns(window) };
}

// The circle around the pointer: as large as the brush. `event` null: hidden.
function showRing(page, event) {
  page.ringEvent = event;
  const ring = page.part("ring");
  const shown = event && !page.closed && page.patch && (page.tool === brushTool || page.tool === eraseTool);
  ring.hidden = !shown;
  if (!shown) return;
  const rect = page.canvas.getBoundingClientRect();
  const across = Math.max(3, page.brushSize * page.view.scale);
  ring.style.width = ring.style.height = `${across}px`;
  ring.style.transform = `translate(${event.clientX - rect.left - across / 2}px, ${event.clientY - rect.top - across / 2}px)`;
}
