// Objects as the server sends them: a box (z0, y0, x0, z1, y1, x1) and run lengths in it, and back.

// Colours that people with any colour vision tell apart (Okabe and Ito, 2008, without black), by object id.
const PALETTE = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2"];
const PALETTE_RGB = PALETTE.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

function colourOf(id) {
  return PALETTE[id % PALETTE.length];
}

class Item {
  constructor(raw) {
    Object.assign(this, { id: raw.id, source: raw.source, corrected: raw.corrected, box: raw.box, size: raw.size });
    this.suggestion = raw.suggestion;
    this.runs = raw.runs;
    this.paths = new Map();
  }

  get height() { return this.box[4] - this.box[1]; }
  get width() { return this.box[5] - this.box[2]; }

  on(z) { return z >= this.box[0] && z < this.box[3]; }

  // One byte a voxel, decoded once.
  get pixels() {
    if (!this.decoded) {
      this.decoded = decodeRuns(this.runs, (this.box[3] - this.box[0]) * this.height * this.width);
    }
    return this.decoded;
  }

  slice(z) {
    const area = this.height * this.width;
    const start = (z - this.box[0]) * area;
    return this.pixels.subarray(start, start + area);
  }

  filledOn(z) { return this.on(z) && this.slice(z).includes(1); }

  // White, see-through: the object is being made.
  tint(z) {
    if (this.tinted) return this.tinted;
    this.tinted = Object.assign(document.createElement("canvas"), { width: this.width, height: this.height });
    const picture = new ImageData(this.width, this.height);
    this.slice(z).forEach((set, i) => set && picture.data.set([255, 255, 255, 56], 4 * i));
    this.tinted.getContext("2d").putImageData(picture, 0, 0);
    return this.tinted;
  }

  // The outline on slice z, along the edges of pixels, in image coordinates.
  outline(z) {
    if (!this.paths.has(z)) this.paths.set(z, tracePixels(this.slice(z), this.box[1], this.box[2], this.height, this.width));
    return this.paths.get(z);
  }
}

function decodeRuns(runs, size) {
  const pixels = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    if (i % 2) pixels.fill(1, at, at + runs[i]);
    at += runs[i];
  }
  return pixels;
}

function encodeRuns(pixels) {
  const runs = [];
  // Strokes span much of a large patch: native searches keep this well inside a frame.
  for (let at = 0, value = 0; at < pixels.length || !runs.length; value = 1 - value) {
    const found = pixels.indexOf(1 - value, at);
    const end = found < 0 ? pixels.length : found;
    runs.push(end - at);
    at = end;
  }
  return runs;
}

// A Path2D of the borders between set and unset pixels `within` (y0, x0, y1, x1) of the array, or everywhere; runs of
// equal edges become one segment.
function tracePixels(pixels, top, left, height, width, path = new Path2D(), within = [0, 0, height, width]) {
  const [y0, x0, y1, x1] = within;
  // Plain indices: a call for each pixel would take more than a frame for an object as large as a patch.
  for (let y = y0; y <= y1; y++) {
    const [inside, after] = [y < height, y > 0];
    for (let x = x0, start = -1; x <= x1; x++) {
      const i = y * width + x;
      const edge = x < x1 && (inside ? pixels[i] : 0) !== (after ? pixels[i - width] : 0);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) {
        path.moveTo(left + start, top + y);
        path.lineTo(left + x, top + y);
        start = -1;
      }
    }
  }
  for (let x = x0; x <= x1; x++) {
    const [inside, after] = [x < width, x > 0];
    for (let y = y0, start = -1; y <= y1; y++) {
      const i = y * width + x;
      const edge = y < y1 && (inside ? pixels[i] : 0) !== (after ? pixels[i - 1] : 0);
      if (edge && start < 0) start = y;
      if (!edge && start >= 0) {
        path.moveTo(left + x, top + start);
        path.lineTo(left + x, top + y);
        start = -1;
      }
    }
  }
  return path;
}

function joinBoxes(boxes) {
  const found = boxes.filter(Boolean);
  if (!found.length) return null;
  return [
    Math.min(...found.map((b) => b[0])), Math.min(...found.map((b) => b[1])),
    Math.max(...found.map((b) => b[2])), Math.max(...found.map((b) => b[3])),
  ];
}

function flatBox(item) {
  return item ? [item.box[1], item.box[2], item.box[4], item.box[5]] : null;
}
