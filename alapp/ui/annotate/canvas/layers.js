// What the canvas shows, in two layers. Below, on a canvas of its own: image, fill, outlines. Over a copy of it: what is
// selected or under the pointer, points, the line of a tool; these change often, and the outlines of a crowded patch
// take most of a frame. Methods of View.

const layers = {
  // Show what changed inside `box` (y0, x0, y1, x1), or everything, in the next frame: an act may change several things.
  draw(box = null) {
    this.drawOver(box);
    this.due.below = "below" in this.due ? joinedOrAll(this.due.below, box) : box;
  },

  // The same where nothing changed in the layer below.
  drawOver(box = null) {
    if (!this.due) {
      this.due = { screen: box };
      requestAnimationFrame(() => {
        if (this.due) this.paint(this.due); // else all was painted meanwhile
      });
    } else this.due.screen = joinedOrAll(this.due.screen, box);
  },

  // Boxes as above, null for everything; without `below` that layer stays.
  paint({ screen, below }) {
    this.due = null;
    if (below !== undefined) this.paintBelow(below);
    const { context } = this;
    context.save();
    this.enter(context, screen, () => context.drawImage(this.below.canvas, 0, 0));
    this.drawStrong(screen);
    this.drawDrafts();
    this.drawShape();
    context.restore();
    if (below === null) for (const react of this.drawn) react();
  },

  paintBelow(box) {
    const { below: context } = this;
    context.save();
    this.enter(context, box, () => {
      context.fillStyle = "#6f6f6f";
      context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    });
    if (this.around) this.drawAround(context);
    if (this.raw) context.drawImage(this.image, 0, 0);
    if (this.filled) {
      context.globalAlpha = this.opacity;
      context.drawImage(this.fill, 0, 0);
      context.globalAlpha = 1;
    }
    drawRegion(this, context, box);
    if (!this.alone) this.drawOutlines(box);
    context.restore();
  },

  // Confine a context to `box` and its margin, let `ground` draw there in pixels of the screen, then go over to
  // coordinates of the patch.
  enter(context, box, ground) {
    const ratio = this.ratio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (box) {
      const [top, left, bottom, right] = [this.top, this.left, this.top, this.left].map((at, i) => (at + box[i] * this.scale) * ratio);
      const margin = MARGIN_PX * ratio;
      const [x, y] = [Math.floor(left - margin), Math.floor(top - margin)];
      context.beginPath();
      context.rect(x, y, Math.ceil(right + margin) - x, Math.ceil(bottom + margin) - y);
      context.clip();
    }
    ground();
    context.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.left, ratio * this.top);
    context.imageSmoothingEnabled = this.scale < 1;
  },

  // Dimmed, with a frame around the patch itself that covers none of its pixels.
  drawAround(context) {
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
  },

  // The box with its margin, which is drawn anew too: it reaches farther the smaller the scale.
  near(box) {
    const r = Math.ceil((2 * MARGIN_PX) / this.scale) + 1;
    return box && [box[0] - r, box[1] - r, box[2] + r, box[3] + r];
  },

  shownIn(near) {
    const { items, z } = this.scene;
    return items.filter((item) => item.on(z) && !(near && !overlap(flatBox(item), near)));
  },

  drawOutlines(box) {
    const { below: context, scale } = this;
    const near = this.near(box);
    for (const item of this.shownIn(near)) {
      const path = item.outline(this.scene.z, near);
      if (item.suggestion) {
        context.setLineDash([5 / scale, 4 / scale]);
        this.stroke(path, "rgba(0,0,0,.65)", 3, context);
      }
      this.stroke(path, this.line(item), 1.75, context);
      context.setLineDash([]);
    }
  },

  // What is selected or under the pointer lies on top of the neighbours that it touches.
  drawStrong(box) {
    const { z, hovered, selected, also } = this.scene;
    const { context, scale } = this;
    const near = this.near(box);
    for (const item of this.shownIn(near)) {
      const chosen = item.id === selected || also.includes(item.id);
      if (!chosen && item.id !== hovered) continue;
      const path = item.outline(z, near);
      this.stroke(path, "#000000", 5);
      if (item.suggestion) context.setLineDash([5 / scale, 4 / scale]);
      this.stroke(path, this.line(item), 3);
      context.setLineDash([]);
      if (chosen) this.stroke(path, "#ffffff", 1);
    }
  },

  line(item) {
    if (item.suggestion) return item.flag ? "#FFB000" : "#ffffff";
    return this.tone(item.id);
  },

  // The colour of an object, as [r, g, b] and for styles.
  rgb(id) { return this.tones?.get(id) ?? PALETTE_RGB[id % PALETTE_RGB.length]; },

  tone(id) { return `rgb(${this.rgb(id)})`; },

  drawDrafts() {
    for (const draft of this.scene.drafts) if (draft.z === this.scene.z) this.drawDraft(draft);
  },

  drawDraft(draft) {
    const { z } = this.scene;
    const { context } = this;
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
  },

  // What a tool draws at the moment: points (y, x) of a line, closed or not.
  drawShape() {
    const { shape } = this.scene;
    if (!shape) return;
    const path = new Path2D();
    shape.points.forEach(([y, x], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    if (shape.closed) path.closePath();
    this.stroke(path, "rgba(0,0,0,.65)", 3.5);
    this.stroke(path, "#ffffff", 1.5);
  },

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
  },

  stroke(path, colour, width, context = this.context) {
    context.strokeStyle = colour;
    context.lineWidth = width / this.scale;
    context.stroke(path);
  },
};

// Two boxes as one; null, for everything, takes the other in.
function joinedOrAll(one, other) { return one && other && joinBoxes([one, other]); }

Object.defineProperties(View.prototype, Object.getOwnPropertyDescriptors(layers));
