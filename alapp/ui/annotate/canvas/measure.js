// Lengths: the scale bar and the ruler. In physical units where the size of a pixel is known.

const SCALE_BAR_PX = 110; // the bar is at most so long on the screen

// `length` in µm, in the unit that reads best.
function lengthText(length) {
  const [size, unit] = length >= 1000 ? [length / 1000, "mm"] : length >= 1 ? [length, "µm"] : [length * 1000, "nm"];
  return `${Number(size.toPrecision(3))} ${unit}`;
}

// The largest of 1, 2, 5, 10, 20, ... that is not larger than `limit`.
function roundLength(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  return [5, 2, 1].find((digit) => digit * power <= limit * (1 + 1e-9)) * power;
}

function showScaleBar(page) {
  const { patch, view } = page;
  page.part("scale").hidden = !patch;
  if (!patch) return;
  const { x } = patch.voxel_size;
  const length = roundLength((SCALE_BAR_PX / view.scale) * (x ?? 1));
  page.part("scale-bar").style.width = `${(length / (x ?? 1)) * view.scale}px`;
  page.part("scale-text").textContent = x ? lengthText(length) : `${Number(length.toPrecision(3))} px`;
}

// Drag: how far is it? Nothing is stored.
const rulerTool = {
  name: "ruler",
  hint: "Ruler: drag over the image to measure a length. Esc ends it.",
  press(page, event) {
    this.from = page.view.locate(event);
    this.measure(page, this.from);
    return event.button === 0;
  },
  move(page, event) { this.measure(page, page.view.locate(event)); },
  release(page, event) { this.measure(page, page.view.locate(event)); },
  cancel(page) {
    page.showShape(null);
    showRuler(page);
  },
  measure(page, to) {
    page.showShape({ points: [this.from, to], closed: false, measured: true });
    showRuler(page);
  },
};

// The length beside the end of the line; drawn anew whenever the view moves.
function showRuler(page) {
  const label = page.part("ruler");
  const { shape, view, patch } = page;
  label.hidden = !shape?.measured;
  if (label.hidden) return;
  const [from, to] = shape.points;
  const [dy, dx] = [to[0] - from[0], to[1] - from[1]];
  const { y, x } = patch.voxel_size;
  const pixels = `${Math.hypot(dy, dx).toFixed(1)} px`;
  label.textContent = y && x ? `${lengthText(Math.hypot(dy * y, dx * x))} (${pixels})` : pixels;
  const { clientWidth: w, clientHeight: h } = view.canvas;
  const left = Math.min(w - label.offsetWidth - 4, view.left + to[1] * view.scale + 12);
  const top = Math.min(h - label.offsetHeight - 4, view.top + to[0] * view.scale + 12);
  label.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}
