// What the colours and shapes mean.

const MOST_ROUNDS = 8; // more than these are shown as a scale

function drawLegend(root, points, colourBy) {
  root.replaceChildren();
  if (!points.id.length) return;
  if (colourBy === "status") {
    const present = STATUS_ORDER.filter((status) => points.status.includes(status));
    present.forEach((status) => addEntry(root, STATUS_LOOKS[status], STATUS_LOOKS[status].title));
    return;
  }
  const values = colourBy === "round" ? points.round : points.doubt;
  const range = rangeOf(values);
  if (range && colourBy === "round" && range[1] - range[0] < MOST_ROUNDS) {
    for (let number = range[0]; number <= range[1]; number += 1) {
      addEntry(root, { colour: rampColour(shareOf(number, range)), shape: "dot", size: 5 }, `round ${number}`);
    }
  } else if (range) {
    const words = colourBy === "round" ? [`round ${range[0]}`, `round ${range[1]}`] : range.map((value) => value.toFixed(2));
    addScale(root, words, colourBy === "doubt" ? "mean doubt (0: sure, 1: a coin toss)" : "");
  }
  if (values.includes(null)) {
    addEntry(root, { ...UNKNOWN, size: 4 }, colourBy === "round" ? "never picked" : "not known: no model has looked at it");
  }
}

function addEntry(root, look, title) {
  const entry = document.createElement("span");
  entry.setAttribute("role", "listitem");
  const sign = document.createElement("canvas");
  sign.width = sign.height = 36;
  const context = sign.getContext("2d");
  context.scale(2, 2);
  drawPoint(context, { ...look, size: Math.min(look.size + 1, 8) }, 9, 9);
  entry.append(sign, title);
  root.append(entry);
}

function addScale(root, [low, high], title) {
  const entry = document.createElement("span");
  entry.setAttribute("role", "listitem");
  const ramp = document.createElement("span");
  ramp.className = "map-ramp";
  ramp.style.background = `linear-gradient(to right, ${RAMP.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
  entry.append(low, ramp, high, title && ` ${title}`);
  root.append(entry);
}
