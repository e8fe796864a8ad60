// The part of a patch that nobody annotated: marked by an outline, drawn hatched under the objects, which win.

const HATCH_PX = 14; // distance of the stripes on the screen
const IN_REGION = 0.5; // a suggestion of which this share is marked needs no answer any more

// An outline like the lasso's, whose inside is not annotated. It shares the lasso's path, so that Esc, Enter and
// another slice treat both alike.
const regionTool = {
  name: "region",
  hint: "Ignore: drag around a part that you do not annotate, or click its corners and press Enter. Objects on it stay. Right drag takes the mark away.",
  outlines: "markRegion",
  press: (page, event) => lassoTool.press(page, event),
  move: (page, event) => lassoTool.move(page, event),
  release: (page, event) => lassoTool.release(page, event),
  hover: (page, event) => lassoTool.hover(page, event),
  cancel: (page) => lassoTool.cancel(page),
};

const regions = {
  // Take in what the server says of the region; returns the boxes (y0, x0, y1, x1) to draw anew.
  takeRegion(answer) {
    if (answer.not_annotated !== undefined) this.patch.not_annotated = answer.not_annotated;
    if (!("region" in answer)) return [];
    const before = this.region;
    this.region = answer.region ? new Item({ ...answer.region, id: 0 }) : null;
    return [flatBox(before), flatBox(this.region)];
  },

  // On a stack the outline counts for the slice that is shown, or for all of them if the box is ticked.
  markRegion(path, erase) {
    const [ys, xs] = [path.map((point) => point[0]), path.map((point) => point[1])];
    const box = this.clip([Math.min(...ys), Math.min(...xs), Math.max(...ys), Math.max(...xs)]);
    const pixels = box ? pixelsInside(path, box) : [];
    if (!pixels.length) return;
    const [y0, x0, y1, x1] = box;
    const inside = new Uint8Array((y1 - y0) * (x1 - x0));
    for (const [y, x] of pixels) inside[(y - y0) * (x1 - x0) + x - x0] = 1;
    this.settle();
    this.send("mark_region", {
      how: "draw", box: [this.z, y0, x0, this.z + 1, y1, x1], runs: encodeRuns(inside), erase,
      every_slice: this.patch.depth > 1 && this.part("region-slices").checked,
    });
  },

  markRest() {
    if (this.hindered()) return;
    this.settle();
    this.send("mark_region", { how: "rest" }, () => this.say("All but the objects is marked as not annotated."));
  },

  markSuggestions(then) { this.send("mark_region", { how: "suggestions" }, then); },

  clearRegion() { if (!this.closed && this.region) this.send("mark_region", { how: "clear" }); },

  // Whether most of a suggestion lies where nobody annotates.
  inRegion(item) {
    const { region } = this;
    if (!region) return false;
    let marked = 0;
    for (let z = Math.max(item.box[0], region.box[0]); z < Math.min(item.box[3], region.box[3]); z++) {
      const [mine, theirs] = [item.slice(z), region.slice(z)];
      const [top, left] = [item.box[1] - region.box[1], item.box[2] - region.box[2]];
      mine.forEach((set, i) => {
        const [y, x] = [Math.floor(i / item.width) + top, (i % item.width) + left];
        if (set && y >= 0 && x >= 0 && y < region.height && x < region.width) marked += theirs[y * region.width + x];
      });
    }
    return marked >= IN_REGION * item.size;
  },
};

// The row in the list of objects, and what belongs to the tool.
function showRegion(page) {
  const { patch, region } = page;
  const share = patch.not_annotated / (patch.depth * patch.height * patch.width);
  page.part("region-item").hidden = !region;
  page.part("region-share").textContent = region ? `${shareText(share)} of the patch` : "";
  page.root.querySelector('[data-act="clearRegion"]').disabled = page.closed;
  page.part("region-row").hidden = page.tool !== regionTool || page.closed;
  page.part("region-every").hidden = patch.depth < 2;
}

function shareText(share) {
  const percent = 100 * share;
  return `${percent > 0 && percent < 1 ? "under 1" : Math.floor(percent)}%`;
}

// What the list says of a finished patch.
function doneText({ n_objects, not_annotated }) {
  const found = n_objects ? `done, ${n_objects} object${n_objects === 1 ? "" : "s"}` : "empty, checked";
  return not_annotated ? `${found}, ${shareText(not_annotated)} not annotated` : found;
}

// --- drawing -------------------------------------------------------------------------------------------------

// Masks changed in the rows y0 to y1 of `view`: find there what is marked and lies under no object.
function markRows(view, y0, y1) {
  const { region, z } = view.scene;
  if (!region?.on(z)) {
    view.marked = [];
    return;
  }
  const [top, left, bottom, right] = flatBox(region);
  const pixels = region.slice(z);
  for (let y = y0; y < y1; y++) {
    const runs = [];
    for (let x = left, start = -1; x <= right && y >= top && y < bottom; x++) {
      const set = x < right && pixels[(y - top) * region.width + x - left] && !view.grid[y * view.width + x];
      if (set && start < 0) start = x;
      if (!set && start >= 0) {
        runs.push(start, x - start);
        start = -1;
      }
    }
    view.marked[y] = { runs, key: runs.join() };
  }
}

function drawRegion(view, context, box) {
  const { region, z } = view.scene;
  if (!region?.on(z)) return;
  const { marked } = view;
  const reach = Math.ceil(MARGIN_PX / view.scale) + 1;
  const bottom = Math.min(view.height, box ? box[2] + reach : view.height);
  const path = new Path2D();
  for (let y = Math.max(0, box ? box[0] - reach : 0), next = 0; y < bottom; y = next) {
    for (next = y + 1; next < bottom && marked[next]?.key === marked[y]?.key; ) next++;
    const runs = marked[y]?.runs ?? [];
    for (let i = 0; i < runs.length; i += 2) path.rect(runs[i], y, runs[i + 1], next - y);
  }
  context.fillStyle = "rgba(110, 110, 110, .4)";
  context.fill(path);
  context.fillStyle = hatch(view);
  context.fill(path);
}

// Light and dark stripes side by side: one of them is seen on any picture. They keep their distance at any zoom.
function hatch(view) {
  if (!view.hatch) {
    const tile = Object.assign(document.createElement("canvas"), { width: HATCH_PX, height: HATCH_PX });
    const context = tile.getContext("2d");
    for (const [shift, colour] of [[0, "rgba(255, 255, 255, .75)"], [2, "rgba(0, 0, 0, .65)"]]) {
      context.strokeStyle = colour;
      context.lineWidth = 1.4;
      context.beginPath();
      for (const x of [-HATCH_PX, 0, HATCH_PX]) {
        context.moveTo(x + shift - 1, HATCH_PX + 1);
        context.lineTo(x + shift + HATCH_PX + 1, -1);
      }
      context.stroke();
    }
    view.hatch = view.context.createPattern(tile, "repeat");
  }
  view.hatch.setTransform(new DOMMatrix().scale(1 / view.scale));
  return view.hatch;
}
