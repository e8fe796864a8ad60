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
    this.confidence = raw.confidence ?? null;
    this.flag = raw.flag || "";
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
  let value = 0;
  let length = 0;
  for (const pixel of pixels) {
    if (pixel !== value) {
      runs.push(length);
      value = pixel;
      length = 0;
    }
    length++;
  }
  runs.push(length);
  return runs;
}

// A Path2D of the borders between set and unset pixels `within` (y0, x0, y1, x1) of the array, or everywhere; runs of
// equal edges become one segment.
function tracePixels(pixels, top, left, height, width, path = new Path2D(), within = [0, 0, height, width]) {
  const [y0, x0, y1, x1] = within;
  const at = (y, x) => (y >= 0 && y < height && x >= 0 && x < width ? pixels[y * width + x] : 0);
  for (let y = y0; y <= y1; y++) {
    for (let x = x0, start = -1; x <= x1; x++) {
      const edge = x < x1 && at(y, x) !== at(y - 1, x);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) {
        path.moveTo(left + start, top + y);
        path.lineTo(left + x, top + y);
        start = -1;
      }
    }
  }
  for (let x = x0; x <= x1; x++) {
    for (let y = y0, start = -1; y <= y1; y++) {
      const edge = y < y1 && at(y, x) !== at(y, x - 1);
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
