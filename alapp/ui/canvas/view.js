// The canvas: image, masks, points; zoom and pan. Coordinates are (y, x) of the patch, pixel 0 spans 0 to 1.

const MIN_SCALE = 0.1;
const MAX_SCALE = 64;
const MARGIN_PX = 6;
const AROUND_ALPHA = 0.45; // how strongly the surroundings of the patch are shown

class View {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.onMove = onMove;
    this.image = document.createElement("canvas");
    this.fill = document.createElement("canvas");
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    this.width = 0;
    this.height = 0;
    this.filled = true;
    this.tones = null; // colours by id that take the place of the objects' own
    this.alone = false; // only what is selected or under the pointer is drawn
    this.opacity = 0.31;
    this.around = null; // the surroundings: {image, raw, box}
    this.light = { brightness: 0, contrast: 0, gamma: 1 };
    this.drawn = []; // what else is drawn anew when the image moves
    this.onChange = () => {};
    this.scene = { items: [], z: 0, draft: null, hovered: null, selected: null, also: [], shape: null };
  }

  // A patch of another size: start anew, fitted to the stage.
  reset(width, height) {
    Object.assign(this, { width, height });
    for (const layer of [this.image, this.fill]) Object.assign(layer, { width, height });
    this.grid = new Int32Array(width * height);
    this.hints = new Int32Array(width * height);
    this.kept = new Int32Array(width * height); // room for the grid as it was: allocating it takes half a frame
    this.marked = [];
    this.raw = null;
    this.around = null;
    this.fitted = true; // a tab that is not shown yet has no size: it is fitted when it gets one
    this.fit();
  }

  fit() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!w || !this.width) return;
    this.scale = Math.min((w - 24) / this.width, (h - 24) / this.height);
    this.left = (w - this.width * this.scale) / 2;
    this.top = (h - this.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
    this.onMove();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!w || !h) return;
    const before = [this.canvas.width / (this.ratio || ratio), this.canvas.height / (this.ratio || ratio)];
    this.ratio = ratio;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    if (this.fitted) this.fit();
    else {
      // Keep what was in the middle in the middle.
      this.left += (w - before[0]) / 2;
      this.top += (h - before[1]) / 2;
    }
    if (this.width) this.paint(null); // at once: the canvas is empty now, and the next frame would be too late to hide that
  }

  // Event position to (y, x) in image coordinates, exact at any zoom, scroll and pixel ratio.
  locate(event) {
    const rect = this.canvas.getBoundingClientRect();
    return [(event.clientY - rect.top - this.top) / this.scale, (event.clientX - rect.left - this.left) / this.scale];
  }

  pixel(event) {
    const [y, x] = this.locate(event).map(Math.floor);
    return y >= 0 && x >= 0 && y < this.height && x < this.width ? [y, x] : null;
  }

  // `event` stays over the same place of the image, or (dx, dy) beside it.
  zoom(factor, event, dx = 0, dy = 0) {
    const rect = this.canvas.getBoundingClientRect();
    const at = event ? [event.clientX - rect.left, event.clientY - rect.top] : [rect.width / 2, rect.height / 2];
    const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, this.scale * factor));
    this.left = at[0] - ((at[0] - this.left) * scale) / this.scale + dx;
    this.top = at[1] - ((at[1] - this.top) * scale) / this.scale + dy;
    this.scale = scale;
    this.fitted = false;
    this.draw();
    this.onMove();
  }

  // Bring a box (y0, x0, y1, x1) of the image into sight, if it is not.
  reveal([y0, x0, y1, x1]) {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    const [top, left] = [this.top + y0 * this.scale, this.left + x0 * this.scale];
    const [bottom, right] = [this.top + y1 * this.scale, this.left + x1 * this.scale];
    if (top >= 0 && left >= 0 && bottom <= h && right <= w) return;
    this.pan(w / 2 - (left + right) / 2, h / 2 - (top + bottom) / 2);
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
    this.draw();
    this.onMove();
  }

  // The place (y, x) of the image to the middle of the stage.
  centre([y, x]) {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    this.pan(w / 2 - x * this.scale - this.left, h / 2 - y * this.scale - this.top);
  }

  // `picture`: a decoded image of the slice. It is kept raw, so that the sliders never lose anything.
  show(picture) {
    this.raw = this.develop(picture, this.image);
    this.onChange();
  }

  // The image around the patch; `box` (y0, x0, y1, x1) in the patch's coordinates. Without a picture: none.
  surround(picture, box) {
    this.around = null;
    if (picture) {
      const image = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
      this.around = { image, box, raw: this.develop(picture, image) };
    }
    this.draw();
  }

  develop(picture, canvas) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const raw = context.getImageData(0, 0, canvas.width, canvas.height);
    this.print(raw, canvas);
    return raw;
  }

  // Brightness and contrast from -1 to 1; a gamma over 1 brightens what is dark.
  adjust(light) {
    this.light = light;
    if (this.raw) this.print(this.raw, this.image);
    if (this.around) this.print(this.around.raw, this.around.image);
    this.draw();
    this.onChange();
  }

  print(raw, canvas) {
    const { brightness, contrast, gamma } = this.light;
    const context = canvas.getContext("2d");
    if (!brightness && !contrast && gamma === 1) return context.putImageData(raw, 0, 0);
    const gain = Math.tan(((contrast + 1) * Math.PI) / 4);
    const linear = (v) => Math.min(1, Math.max(0, ((v - 127.5) * gain + 127.5 + brightness * 127.5) / 255));
    const table = Uint8ClampedArray.from({ length: 256 }, (_, v) => 255 * linear(v) ** (1 / gamma));
    const shown = new ImageData(raw.width, raw.height);
    for (let i = 0; i < shown.data.length; i += 4) {
      for (let c = 0; c < 3; c++) shown.data[i + c] = table[raw.data[i + c]];
      shown.data[i + 3] = 255;
    }
    context.putImageData(shown, 0, 0);
  }

  // Masks changed inside `box` (y0, x0, y1, x1), or everywhere: paint them anew there. `painted`: nothing but objects
  // may have changed, and what is the same pixel by pixel is on the screen already.
  refresh(box = null, painted = false) {
    if (!this.width) return;
    const [y0, x0, y1, x1] = box || [0, 0, this.height, this.width];
    const { items, z } = this.scene;
    const [first, last] = [y0 * this.width, y1 * this.width];
    const before = box && !this.alone && this.kept.subarray(first, last);
    if (before) before.set(this.grid.subarray(first, last));
    for (let y = y0; y < y1; y++) {
      this.grid.fill(0, y * this.width + x0, y * this.width + x1);
      this.hints.fill(0, y * this.width + x0, y * this.width + x1);
    }
    for (const item of items) if (item.on(z)) this.stamp(item, y0, x0, y1, x1);
    markRows(this, y0, y1);
    // An answer mostly says what was painted already, in a box that can span the patch: only what differs is filled.
    const changed = before ? differing(before, this.grid.subarray(first, last), this.width, x0, x1) : [0, x0, y1 - y0, x1];
    if (changed) this.paintFill(y0 + changed[0], changed[1], y0 + changed[2], changed[3]);
    if (changed || !painted) this.draw(box);
    this.onChange();
  }

  paintFill(y0, x0, y1, x1) {
    const { hovered, selected, also } = this.scene;
    const only = this.alone && new Set([hovered, selected, ...also]);
    const patch = new ImageData(Math.max(1, x1 - x0), Math.max(1, y1 - y0));
    const { data } = patch;
    let colour = null;
    for (let y = y0, i = 0, known = 0; y < y1; y++) {
      for (let x = x0; x < x1; x++, i += 4) {
        const id = this.grid[y * this.width + x];
        if (!id) continue;
        if (id !== known) [known, colour] = [id, only && !only.has(id) ? null : this.rgb(id)];
        if (!colour) continue;
        data[i] = colour[0];
        data[i + 1] = colour[1];
        data[i + 2] = colour[2];
        data[i + 3] = 255;
      }
    }
    this.fill.getContext("2d", { willReadFrequently: true }).putImageData(patch, x0, y0);
  }

  // Another object is selected or under the pointer inside `box`.
  mark(box) {
    if (this.alone) this.refresh(box);
    else this.draw(box);
  }

  stamp(item, y0, x0, y1, x1) {
    const target = item.suggestion ? this.hints : this.grid;
    const pixels = item.slice(this.scene.z);
    const [top, left, bottom, right] = flatBox(item);
    const [from, to] = [Math.max(x0, left), Math.min(x1, right)];
    if (from >= to) return;
    for (let y = Math.max(y0, top); y < Math.min(y1, bottom); y++) {
      const ends = runEnds(pixels, item.height, item.width, y - top, from - left, to - left);
      const at = y * this.width + left;
      for (let k = 0; k < ends.length; k += 2) target.fill(item.id, at + ends[k], at + ends[k + 1]);
    }
  }

  // The id of the object, or else the suggestion, at (y, x); 0 for neither.
  at([y, x]) {
    const i = y * this.width + x;
    return this.grid[i] || this.hints[i];
  }

  // Show what changed inside `box` (y0, x0, y1, x1), or everything, in the next frame: an act may change several things.
  draw(box = null) {
    if (!this.due) {
      this.due = { box };
      requestAnimationFrame(() => {
        if (this.due) this.paint(this.due.box); // else all was painted meanwhile
      });
    } else if (this.due.box) this.due.box = box && joinBoxes([this.due.box, box]);
  }

  paint(box) {
    this.due = null;
    const { context } = this;
    const ratio = this.ratio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.save();
    if (box) {
      const [y0, x0, y1, x1] = box;
      context.beginPath();
      context.rect(
        Math.floor(this.left + x0 * this.scale) - MARGIN_PX, Math.floor(this.top + y0 * this.scale) - MARGIN_PX,
        Math.ceil((x1 - x0) * this.scale) + 2 * MARGIN_PX, Math.ceil((y1 - y0) * this.scale) + 2 * MARGIN_PX,
      );
      context.clip();
    }
    context.fillStyle = "#6f6f6f";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.translate(this.left, this.top);
    context.scale(this.scale, this.scale);
    context.imageSmoothingEnabled = this.scale < 1;
    if (this.around) this.drawAround();
    if (this.raw) context.drawImage(this.image, 0, 0);
    if (this.filled) {
      context.globalAlpha = this.opacity;
      context.drawImage(this.fill, 0, 0);
      context.globalAlpha = 1;
    }
    drawRegion(this, box);
    this.drawOutlines(box);
    this.drawDraft();
    this.drawShape();
    context.restore();
    if (!box) for (const react of this.drawn) react();
  }

  // Dimmed, with a frame around the patch itself that covers none of its pixels.
  drawAround() {
    const { context } = this;
    const { image, box } = this.around;
    context.globalAlpha = AROUND_ALPHA;
    context.drawImage(image, box[1], box[0]);
    context.globalAlpha = 1;
    for (const [colour, px] of [["rgba(0,0,0,.8)", 4], ["#ffffff", 2]]) {
      const wide = px / this.scale;
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.strokeRect(-wide / 2, -wide / 2, this.width + wide, this.height + wide);
    }
  }

  drawOutlines(box) {
    const { items, z, hovered, selected, also } = this.scene;
    const { context } = this;
    // The margin of the box is drawn anew too, so it reaches farther the smaller the scale.
    const r = Math.ceil((2 * MARGIN_PX) / this.scale) + 1;
    const near = box && [box[0] - r, box[1] - r, box[2] + r, box[3] + r];
    const shown = items.filter((item) => item.on(z) && !(near && !overlap(flatBox(item), near)));
    // What is selected or under the pointer lies on top of the neighbours that it touches.
    const strong = new Set(shown.filter(({ id }) => id === selected || id === hovered || also.includes(id)));
    for (const item of [...(this.alone ? [] : shown.filter((each) => !strong.has(each))), ...strong]) {
      const path = item.outline(z, near);
      const stands = strong.has(item);
      if (stands) this.stroke(path, "#000000", 5);
      context.setLineDash(item.suggestion ? [5 / this.scale, 4 / this.scale] : []);
      if (item.suggestion && !stands) this.stroke(path, "rgba(0,0,0,.65)", 3);
      this.stroke(path, item.suggestion ? (item.flag ? "#FFB000" : "#ffffff") : this.tone(item.id), stands ? 3 : 1.75);
      context.setLineDash([]);
      if (item.id === selected || also.includes(item.id)) this.stroke(path, "#ffffff", 1);
    }
  }

  // The colour of an object, as [r, g, b] and for styles.
  rgb(id) { return this.tones?.get(id) ?? PALETTE_RGB[id % PALETTE_RGB.length]; }

  tone(id) { return `rgb(${this.rgb(id)})`; }

  drawDraft() {
    const { draft, z } = this.scene;
    const { context } = this;
    if (!draft || draft.z !== z) return;
    if (draft.item && draft.item.on(z)) {
      if (this.filled) context.drawImage(draft.item.tint(z), draft.item.box[2], draft.item.box[1]);
      const path = draft.item.outline(z);
      this.stroke(path, "#000000", 4.5);
      this.stroke(path, "#ffffff", 2.25);
    }
    if (draft.box) {
      const [y0, x0, y1, x1] = draft.box;
      const path = new Path2D();
      path.rect(x0, y0, x1 - x0, y1 - y0);
      this.stroke(path, "rgba(0,0,0,.65)", 3);
      this.stroke(path, "#56B4E9", 1.5);
    }
    for (const [points, colour, plus] of [[draft.positive, "#0072B2", true], [draft.negative, "#D55E00", false]]) {
      for (const [y, x] of points) this.drawPoint(y + 0.5, x + 0.5, colour, plus);
    }
  }

  // What a tool draws at the moment: points (y, x) of a line, closed or not.
  drawShape() {
    const { shape } = this.scene;
    if (!shape) return;
    const path = new Path2D();
    shape.points.forEach(([y, x], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (shape.closed) path.closePath();
    this.stroke(path, "rgba(0,0,0,.65)", 3.5);
    this.stroke(path, "#ffffff", 1.5);
  }

  drawPoint(y, x, colour, plus) {
    const { context } = this;
    const r = 6.5 / this.scale;
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    context.lineWidth = 1.75 / this.scale;
    context.strokeStyle = "#ffffff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - r * 0.5, y);
    context.lineTo(x + r * 0.5, y);
    if (plus) {
      context.moveTo(x, y - r * 0.5);
      context.lineTo(x, y + r * 0.5);
    }
    context.stroke();
  }

  stroke(path, colour, width) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = width / this.scale;
    this.context.stroke(path);
  }
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

// The box (y0, x0, y1, x1) in which two arrays of rows of `width` differ, columns x0 to x1 only; null if nowhere.
function differing(before, after, width, x0, x1) {
  let found = null;
  for (let y = 0, start = 0; start < after.length; y++, start += width) {
    let [from, to] = [start + x0, start + x1];
    while (from < to && before[from] === after[from]) from++;
    if (from === to) continue;
    while (before[to - 1] === after[to - 1]) to--;
    found = joinBoxes([found, [y, from - start, y + 1, to - start]]);
  }
  return found;
}
