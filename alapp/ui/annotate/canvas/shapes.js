// Tools that draw a shape over the image: box, outline, line. The shape is in image coordinates, (y, x).

const CLICK_PX = 4; // a pointer that moved less was clicked, not dragged

const boxTool = {
  name: "box",
  hint: "Box: drag around an object. Clicks then correct it, Enter accepts it.",
  press(page, event) {
    if (event.button === 2) {
      pointTool.press(page, event);
      return false;
    }
    this.from = page.within(event);
    this.at = [event.clientX, event.clientY];
    this.shift = event.shiftKey;
    return true;
  },
  move(page, event) {
    const to = page.within(event);
    const [a, b] = [this.from, to];
    page.showShape({ points: [a, [a[0], b[1]], b, [b[0], a[1]]], closed: true });
  },
  release(page, event) {
    page.showShape(null);
    const [a, b] = [this.from, page.within(event)];
    if (Math.hypot(event.clientX - this.at[0], event.clientY - this.at[1]) >= CLICK_PX) {
      const box = page.clip([Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])]);
      if (box) page.addBox(box, event.timeStamp);
      return;
    }
    const point = page.view.pixel(event);
    const id = (point && page.view.at(point)) || null;
    if (this.shift) page.selectAlso(id);
    else if (page.draft && point) page.addPoint(point, false, event.timeStamp);
    else page.select(id === page.selected ? null : id);
  },
  cancel(page) { page.showShape(null); },
};

// A drag is a freehand outline, closed when the pointer is lifted; single clicks are the corners of a polygon.
const lassoTool = {
  name: "lasso",
  outlines: "fillPolygon",
  hint: "Outline: drag around an object, or click its corners and press Enter. Right drag takes away.",
  path: null,
  press(page, event) {
    const point = page.within(event);
    this.dragged = false;
    this.at = [event.clientX, event.clientY];
    if (!this.path) {
      this.path = [point];
      this.erase = event.button === 2;
      this.first = page.view.pixel(event);
      this.corners = 0;
    } else {
      this.path.push(point);
    }
    this.show(page);
    return true;
  },
  move(page, event) {
    const far = Math.hypot(event.clientX - this.at[0], event.clientY - this.at[1]) >= CLICK_PX;
    if (!this.dragged && !far) return;
    this.dragged = true;
    for (const step of event.getCoalescedEvents?.() ?? [event]) this.path.push(page.within(step));
    this.show(page);
  },
  release(page, event) {
    const single = this.corners === 0;
    this.corners++;
    if (this.dragged && single) return this.finish(page);
    const [y, x] = this.path[0];
    const [py, px] = page.within(event);
    const back = Math.hypot(py - y, px - x) * page.view.scale < 2 * CLICK_PX;
    if (this.corners > 3 && back) this.finish(page);
  },
  hover(page, event) { if (this.path) this.show(page, page.within(event)); },
  show(page, next = null) { page.showShape({ points: next ? [...this.path, next] : this.path, closed: this.path.length > 2 }); },
  // Close the outline; false if none was begun.
  finish(page) {
    const { path, erase, first } = this;
    if (!path) return false;
    this.cancel(page);
    if (path.length > 2) page[page.tool.outlines](path, erase, first);
    return true;
  },
  cancel(page) {
    this.path = null;
    page.showShape(null);
  },
};

const splitTool = {
  name: "split",
  hint: "Split: draw a line right across an object.",
  press(page, event) {
    this.from = page.view.locate(event);
    return event.button === 0;
  },
  move(page, event) { page.showShape({ points: [this.from, page.view.locate(event)], closed: false }); },
  release(page, event) {
    page.showShape(null);
    page.split(this.from, page.view.locate(event));
  },
  cancel(page) { page.showShape(null); },
};

const shaping = {
  // Event position (y, x), inside of the patch.
  within(event) {
    const [y, x] = this.view.locate(event);
    return [Math.min(this.patch.height, Math.max(0, y)), Math.min(this.patch.width, Math.max(0, x))];
  },

  showShape(shape) {
    const before = this.shape;
    this.shape = shape;
    this.scene();
    const box = joinBoxes([before, shape].map((each) => each && pointsBox({ positive: each.points, negative: [] })));
    if (box) this.view.drawOver(box);
  },

  // An outline is an object of its own, unless it meets the unfinished object, or the one that the person selected.
  fillPolygon(path, erase, pixel) {
    const [ys, xs] = [path.map((point) => point[0]), path.map((point) => point[1])];
    const box = this.clip([Math.min(...ys), Math.min(...xs), Math.max(...ys), Math.max(...xs)]);
    const pixels = box ? pixelsInside(path, box) : [];
    if (!pixels.length) return;
    const { draft } = this;
    const joins = erase || (draft && pixels.some((point) => covers(draft, this.z, point)));
    const settled = this.settle();
    const meets = this.selected && this.selected !== this.outlined && pixels.some((point) => this.view.at(point) === this.selected);
    if (!this.beginStroke("lasso", erase, pixel, (joins && settled) || (erase || meets ? this.selected : null), draft)) return;
    if (this.stroke.begins) this.outlined = this.painting.id;
    for (const [y, x] of pixels) this.mark(y, x);
    this.stroke.box = box;
    this.view.refresh(box);
    this.endStroke();
  },

  // Cut the selected object if the line crosses it, else the one that it crosses most.
  split(from, to) {
    const steps = Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])) + 1;
    const crossed = new Map();
    const line = [];
    for (let i = 0; i <= steps; i++) {
      const [y, x] = [0, 1].map((axis) => Math.floor(from[axis] + ((to[axis] - from[axis]) * i) / steps));
      if (y < 0 || x < 0 || y >= this.patch.height || x >= this.patch.width) continue;
      line.push([y, x]);
      const id = this.view.at([y, x]);
      if (id) crossed.set(id, (crossed.get(id) || 0) + 1);
    }
    const crossesDraft = this.draft && crosses(this.draft, this.z, line);
    if (!crossed.size && !crossesDraft) return this.say("The line crosses no object. Draw it right across one.");
    const most = [...crossed.keys()].sort((a, b) => crossed.get(b) - crossed.get(a))[0];
    const settled = this.settle();
    const object = (crossesDraft && settled) || (crossed.has(this.selected) ? this.selected : most);
    if (!object) return this.say("The line crosses no object. Draw it right across one.");
    const ref = this.refer(object);
    const ends = [from, to].map((point) => point.map((part) => part - 0.5));
    const half = this.conceiveHalf();
    this.send("split", { object, line: ends, z: this.z }, (answer) => {
      const part = answer.items.find((raw) => raw.id !== ref.id);
      if (part) this.say(`Object ${ref.id} is now ${ref.id} and ${part.id}.`);
    }, { over: () => this.forgo(half) });
  },
};

// The pixels whose middle lies inside of an outline (even-odd rule).
function pixelsInside(path, [top, left, bottom, right]) {
  const found = [];
  for (let y = top; y < bottom; y++) {
    const crossings = crossingsAt(path, y + 0.5);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const to = Math.min(right, Math.ceil(crossings[i + 1] - 0.5));
      for (let x = Math.max(left, Math.ceil(crossings[i] - 0.5)); x < to; x++) found.push([y, x]);
    }
  }
  return found;
}

// Where the outline crosses the middle of a row, in order.
function crossingsAt(path, y) {
  const found = [];
  path.forEach(([y0, x0], i) => {
    const [y1, x1] = path[(i + 1) % path.length];
    if (y0 <= y !== y1 <= y) found.push(x0 + ((y - y0) / (y1 - y0)) * (x1 - x0));
  });
  return found.sort((a, b) => a - b);
}

// Whether a line of pixels crosses an unfinished object on slice z; before its mask is known it is taken to.
function crosses(draft, z, line) {
  return draft.item ? line.some((pixel) => covers(draft, z, pixel)) : draft.z === z;
}

// Whether an unfinished object has the pixel (y, x) of slice z; before its mask is known, whether it was clicked there.
function covers({ item, positive, z: at }, z, [y, x]) {
  if (!item) return at === z && positive.some((point) => point[0] === y && point[1] === x);
  const [top, left] = flatBox(item);
  const [row, column] = [y - top, x - left];
  if (!item.on(z) || row < 0 || column < 0 || row >= item.height || column >= item.width) return false;
  return item.slice(z)[row * item.width + column] === 1;
}
