// The canvas: image and masks; zoom and pan. layers.js draws them. Coordinates are (y, x) of the patch, pixel 0 spans
// 0 to 1.

const MIN_SCALE = 0.1;
const MAX_SCALE = 64;
const MARGIN_PX = 6;
const AROUND_ALPHA = 0.45; // how strongly the surroundings of the patch are shown

class View {
  constructor(canvas, onMove) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.below = document.createElement("canvas").getContext("2d", { alpha: false });
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
    this.scene = { items: [], z: 0, drafts: [], hovered: null, selected: null, also: [], shape: null };
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
    for (const canvas of [this.canvas, this.below.canvas]) {
      Object.assign(canvas, { width: Math.round(w * ratio), height: Math.round(h * ratio) });
    }
    if (this.fitted) this.fit();
    else {
      // Keep what was in the middle in the middle.
      this.left += (w - before[0]) / 2;
      this.top += (h - before[1]) / 2;
    }
    // At once: the canvas is empty now, and the next frame would be too late to hide that.
    if (this.width) this.paint({ screen: null, below: null });
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

  // Masks changed inside `box` (y0, x0, y1, x1), or everywhere: paint them anew there. `painted`: nothing but pixels of
  // objects may have changed, and what is the same pixel by pixel is on the screen already.
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
    // Who is selected may have changed in all of the box.
    this.drawOver(box);
    if (!painted) this.draw(box);
    else if (changed) this.draw([y0 + changed[0], changed[1], y0 + changed[2], changed[3]]);
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
    else this.drawOver(box);
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
