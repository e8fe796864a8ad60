// Points of the map: how they look, where they are on the screen, and which one is meant.

const LINE = "rgb(138 143 152)"; // reads on a light and on a dark page

// Okabe & Ito (2008): colours that colour-blind people can tell apart; every status has a shape of its own as well.
const STATUS_LOOKS = {
  unlabelled: { title: "not labelled", colour: "rgb(138 143 152 / 65%)", shape: "dot", size: 3.5 },
  labelled: { title: "labelled", colour: "#009e73", shape: "square", size: 5 },
  validation: { title: "validation", colour: "#0072b2", shape: "diamond", size: 6 },
  skipped: { title: "skipped", colour: "#cc79a7", shape: "cross", size: 5 },
  selected: { title: "selected now", colour: "#e69f00", shape: "star", size: 8 },
};
const STATUS_ORDER = Object.keys(STATUS_LOOKS); // what matters most is drawn last, on top
const UNKNOWN = { colour: LINE, shape: "ring" };

// Cividis (Nuñez, Anderton & Renslow 2018), made to look the same with and without colour blindness; from low to high.
const RAMP = [[0, 32, 77], [64, 77, 107], [124, 123, 120], [188, 175, 111], [255, 234, 70]];

function rampColour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  const mixed = RAMP[low].map((from, part) => Math.round(from + (at - low) * (RAMP[low + 1][part] - from)));
  return `rgb(${mixed.join(" ")})`;
}

// [smallest, largest] of the values that are known, or null without one.
function rangeOf(values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return null;
  return known.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function shareOf(value, [low, high]) { return high > low ? (value - low) / (high - low) : 1; }

// {colour, shape, size} of every point, as the map is coloured. Of thousands, those that say little are smaller.
function looksOf(points, colourBy) {
  const crowd = Math.min(1, Math.max(0.5, (500 / points.id.length) ** 0.3));
  const plain = { ...STATUS_LOOKS.unlabelled, size: crowd * STATUS_LOOKS.unlabelled.size };
  if (colourBy === "status") {
    return points.status.map((status) => (status === "unlabelled" ? plain : STATUS_LOOKS[status]));
  }
  const values = colourBy === "round" ? points.round : points.doubt;
  const range = rangeOf(values);
  const size = colourBy === "doubt" ? 5 * crowd : 5;
  return values.map((value) => (
    value === null ? { ...UNKNOWN, size: plain.size } : { colour: rampColour(shareOf(value, range)), shape: "dot", size }
  ));
}

const SHAPES = {
  dot: (path, x, y, r) => path.arc(x, y, r, 0, 2 * Math.PI),
  ring: (path, x, y, r) => path.arc(x, y, r, 0, 2 * Math.PI),
  square: (path, x, y, r) => path.rect(x - r, y - r, 2 * r, 2 * r),
  diamond: (path, x, y, r) => polygon(path, x, y, [r, r], 4),
  cross: (path, x, y, r) => {
    for (const [dx, dy] of [[r, r], [r, -r]]) {
      path.moveTo(x - dx, y - dy);
      path.lineTo(x + dx, y + dy);
    }
  },
  star: (path, x, y, r) => polygon(path, x, y, [r, 0.45 * r], 10),
};

function polygon(path, x, y, radii, corners) {
  for (let corner = 0; corner < corners; corner += 1) {
    const r = radii[corner % 2];
    const turn = (2 * Math.PI * corner) / corners - Math.PI / 2;
    path.lineTo(x + r * Math.cos(turn), y + r * Math.sin(turn));
  }
  path.closePath();
}

// Draw a point; lines around it keep pale points visible on white and dark ones on black.
function drawPoint(context, { colour, shape, size }, x, y) {
  context.beginPath();
  SHAPES[shape](context, x, y, size);
  if (shape === "cross" || shape === "ring") {
    context.strokeStyle = colour;
    context.lineWidth = shape === "cross" ? 2.5 : 1.3;
    return context.stroke();
  }
  context.fillStyle = colour;
  context.fill();
  context.strokeStyle = LINE;
  context.lineWidth = 0.8;
  context.stroke();
}

// From the map's coordinates to the screen: `scale`, then `x` and `y`.
function fitted({ x, y }, width, height) {
  const [left, right] = rangeOf(x) || [0, 1];
  const [bottom, top] = rangeOf(y) || [0, 1];
  const margin = 26;
  const scale = Math.min(
    (width - 2 * margin) / Math.max(right - left, 1e-9), (height - 2 * margin) / Math.max(top - bottom, 1e-9),
    1e6,
  );
  return { scale, x: (width - scale * (left + right)) / 2, y: (height + scale * (bottom + top)) / 2 };
}

function placed(points, at, { scale, x, y }) { return [x + scale * points.x[at], y - scale * points.y[at]]; }

// The point nearest to a place on the screen, at most `reach` pixels away; -1 for none.
function nearestPoint(points, view, px, py, reach) {
  let found = -1;
  let best = reach * reach;
  for (const at of points.order.toReversed()) { // of two in one place, the one that is drawn on top
    const [x, y] = placed(points, at, view);
    const distance = (x - px) ** 2 + (y - py) ** 2;
    if (distance < best) [found, best] = [at, distance];
  }
  return found;
}

// The nearest point in a direction of the screen (dx, dy), within 45 degrees of it; the point itself without one.
function nextPoint(points, view, from, dx, dy) {
  const [px, py] = placed(points, from, view);
  let found = from;
  let best = Infinity;
  for (const at of points.order) {
    const [x, y] = placed(points, at, view);
    const along = (x - px) * dx + (y - py) * dy;
    const across = Math.abs((x - px) * dy) + Math.abs((y - py) * dx);
    const distance = along + 2 * across;
    if (at !== from && along > 0 && across <= along && distance < best) [found, best] = [at, distance];
  }
  return found;
}
