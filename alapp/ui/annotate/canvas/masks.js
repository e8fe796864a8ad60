// Objects as the server sends them: a box (z0, y0, x0, z1, y1, x1) and run lengths in it, and back.

// Colours that people with any colour vision tell apart (Okabe and Ito, 2008, without black), by object id.
const PALETTE = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2"];
const PALETTE_RGB = PALETTE.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

class Item {
  constructor(raw) {
    Object.assign(this, { id: raw.id, source: raw.source, corrected: raw.corrected, box: raw.box, size: raw.size });
    this.suggestion = raw.suggestion;
    this.confidence = raw.confidence ?? null;
    this.flag = raw.flag || "";
    this.kind = raw.kind ?? 1;
    this.propagated = raw.propagated ?? []; // slices that were carried there from others
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

// A Path2D of the borders between set and unset pixels `within` (y0, x0, y1, x1) of the array, or everywhere. Edges
// that follow each other are one line: a path of many pieces takes several times as long to draw, dashes most of all.
function tracePixels(pixels, top, left, height, width, path = new Path2D(), within = [0, 0, height, width]) {
  const [y0, x0, y1, x1] = within;
  const columns = x1 - x0 + 1;
  const edges = directedEdges(pixels, height, width, within);
  const steps = [1, columns, -1, -columns];
  const point = (corner) => [left + x0 + (corner % columns), top + y0 + Math.floor(corner / columns)];
  for (let start = 0; start < edges.length; start++) {
    while (edges[start]) {
      let corner = start;
      let way = [0, 1, 2, 3].find((each) => (edges[start] >> each) & 1);
      path.moveTo(...point(start));
      for (;;) {
        edges[corner] &= ~(1 << way);
        corner += steps[way];
        const onward = edges[corner];
        if (!onward) break;
        const before = way;
        // Turning right first keeps to the pixel, where two touch by a corner.
        way = [(way + 1) % 4, way, (way + 3) % 4].find((each) => (onward >> each) & 1);
        if (way !== before) path.lineTo(...point(corner));
      }
      if (corner === start) path.closePath();
      else path.lineTo(...point(corner));
    }
  }
  return path;
}

// Tracing clears every edge that it follows, so this room is empty again after each use. Allocating it anew, for each
// stroke that spans the patch, makes the garbage collector hold up a frame.
let edgeRoom = new Uint8Array(0);

// For each corner of the pixels a bit for each edge that starts there: 1 right, 2 down, 4 left, 8 up, with the set
// pixel on the right-hand side. It goes from run to run, as most of a large box is far from any edge.
function directedEdges(pixels, height, width, [y0, x0, y1, x1]) {
  const columns = x1 - x0 + 1;
  const size = (y1 - y0 + 1) * columns;
  if (edgeRoom.length < size) edgeRoom = new Uint8Array(size);
  const edges = edgeRoom.subarray(0, size);
  let above = runEnds(pixels, height, width, y0 - 1, x0 - 1, x1 + 1);
  for (let y = y0, start = -x0; y <= y1; y++, start += columns) {
    const here = runEnds(pixels, height, width, y, x0 - 1, x1 + 1);
    let [i, j, at] = [0, 0, x0];
    while (i < here.length || j < above.length) {
      const next = Math.min(here[i] ?? Infinity, above[j] ?? Infinity);
      if ((i ^ j) & 1) {
        for (let x = at; x < Math.min(next, x1); x++) edges[start + (i & 1 ? x : x + 1)] |= i & 1 ? 1 : 4;
      }
      if (here[i] === next) i++;
      if (above[j] === next) j++;
      at = Math.max(next, x0);
    }
    if (y < y1) {
      here.forEach((x, k) => {
        if (x >= x0 && x <= x1) edges[start + x + (k & 1 ? 0 : columns)] |= k & 1 ? 2 : 8;
      });
    }
    above = here;
  }
  return edges;
}

// Where runs of set pixels begin and end, in turn, in columns x0 to x1 (exclusive) of row y.
function runEnds(pixels, height, width, y, x0, x1) {
  const ends = [];
  if (y < 0 || y >= height) return ends;
  const left = Math.max(0, x0);
  const row = pixels.subarray(y * width + left, y * width + Math.min(width, x1));
  for (let at = row.indexOf(1); at >= 0; ) {
    const end = row.indexOf(0, at);
    ends.push(left + at, left + (end < 0 ? row.length : end));
    at = end < 0 ? -1 : row.indexOf(1, end);
  }
  return ends;
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
