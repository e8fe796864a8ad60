// The stack from the side: XZ under the image, on the same scale along x, and YZ right of it. Methods of Annotator.

const CUT_REST_MS = 120; // how long the pointer rests before the cuts follow it
const CUT_MIN_PX = 56;
const CUT_MAX_PX = 190;

// (y, x)
function middlePlace(item) { return [1, 2].map((axis) => Math.floor((item.box[axis] + item.box[axis + 3] - 1) / 2)); }

const orthogonal = {
  bindOrtho() {
    this.cross = null; // (y, x) that the cuts go through
    this.cut = null; // {patch, y, x, xz, yz}: the pictures of the place that was asked for last
    this.cutting = false;
    for (const name of ["xz", "yz"]) {
      this.part(name).addEventListener("pointerdown", (event) => this.pressCut(name, event));
      this.part(name).addEventListener("pointermove", (event) => event.buttons === 1 && this.pressCut(name, event));
    }
    this.canvas.addEventListener("pointerdown", (event) => this.crossTo(this.view.pixel(event)));
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.orthoShown || event.buttons) return;
      const place = this.view.pixel(event);
      clearTimeout(this.resting);
      this.resting = setTimeout(() => this.crossTo(place), CUT_REST_MS);
    });
    this.canvas.addEventListener("pointerleave", () => clearTimeout(this.resting));
  },

  get orthoShown() { return Boolean(this.wantsOrtho && this.isStack); },

  toggleOrtho() {
    if (!this.isStack) return;
    this.wantsOrtho = !this.wantsOrtho;
    const chosen = this.shownObject;
    if (this.wantsOrtho) this.cross = this.pointer ?? (chosen ? middlePlace(chosen) : this.cross);
    this.showOrtho();
  },

  showOrtho() {
    this.part("views").classList.toggle("ann-ortho", this.orthoShown);
    this.part("ortho-button").setAttribute("aria-pressed", String(this.orthoShown));
    for (const name of ["xz", "yz", "cross-x", "cross-y"]) this.part(name).hidden = !this.orthoShown;
    if (!this.orthoShown) return;
    const { height, width } = this.patch;
    const [y, x] = this.cross ?? [height >> 1, width >> 1];
    this.cross = [Math.min(height - 1, y), Math.min(width - 1, x)];
    const { clientWidth, clientHeight } = this.part("views");
    const scale = Math.min(clientWidth / width, clientHeight / height);
    const thick = Math.min(CUT_MAX_PX, Math.max(CUT_MIN_PX, Math.round(this.patch.depth * this.zPixels * scale) + 12));
    this.part("views").style.setProperty("--ann-cut", `${thick}px`);
    this.loadCut();
  },

  crossTo(place) {
    if (!this.orthoShown || !place) return;
    this.cross = place;
    this.drawOrtho();
    this.loadCut();
  },

  // One request at a time; the newest place follows.
  async loadCut() {
    if (this.cutting || !this.orthoShown) return;
    this.cutting = true;
    for (;;) {
      const { id } = this.patch;
      const [y, x] = this.cross;
      const { cut } = this;
      const settings = JSON.stringify(this.lookMessage());
      if (cut?.patch === id && cut.y === y && cut.x === x && cut.settings === settings) break;
      const answer = await this.link.ask("load_cuts", { patch: id, y, x, ...this.lookMessage() });
      if (this.patch?.id === id && this.failed(answer)) break;
      const [xz, yz] = answer.error === undefined ? await Promise.all([answer.xz, answer.yz].map(decoded)) : [];
      if (xz) this.cut = { patch: id, y, x, xz, yz, settings };
      if (!this.orthoShown) break;
    }
    this.cutting = false;
    this.drawOrtho();
  },

  // How many pixels of the image a slice is thick.
  get zPixels() {
    const { x, z } = this.patch.voxel_size;
    return x && z ? z / x : 1;
  },

  // Where the panel's depth axis begins and how long a slice is there, in pixels of the screen.
  depthAxis(length) {
    const step = this.view.scale * this.zPixels;
    const all = step * this.patch.depth;
    if (all <= length) return { step, start: (length - all) / 2 };
    // Too deep for the panel: the slice that is shown stays in sight.
    return { step, start: Math.min(0, Math.max(length - all, length / 2 - (this.z + 0.5) * step)) };
  },

  drawOrtho() {
    if (!this.orthoShown) return;
    cancelAnimationFrame(this.orthoFrame);
    this.orthoFrame = requestAnimationFrame(() => {
      if (!this.orthoShown) return;
      this.drawCut("xz");
      this.drawCut("yz");
      const { left, top, scale } = this.view;
      this.part("cross-x").style.transform = `translateX(${left + (this.cross[1] + 0.5) * scale}px)`;
      this.part("cross-y").style.transform = `translateY(${top + (this.cross[0] + 0.5) * scale}px)`;
    });
  },

  drawCut(name) {
    const canvas = this.part(name);
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = canvas;
    if (!w || !h) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      Object.assign(canvas, { width: Math.round(w * ratio), height: Math.round(h * ratio) });
    }
    const context = canvas.getContext("2d", { alpha: false });
    const { view, patch } = this;
    const flat = name === "xz";
    const { step, start } = this.depthAxis(flat ? h : w);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#6f6f6f";
    context.fillRect(0, 0, w, h);
    const [left, top, across, down] = flat
      ? [view.left, start, patch.width * view.scale, patch.depth * step]
      : [start, view.top, patch.depth * step, patch.height * view.scale];
    const picture = this.cut?.patch === patch.id && this.cut[name];
    context.imageSmoothingEnabled = view.scale < 1;
    if (picture) context.drawImage(picture, left, top, across, down);
    if (picture) context.drawImage(this.cutMasks(name), left, top, across, down);
    // The slice that is shown, and the other cut.
    const [y, x] = this.cross;
    const slice = start + (this.z + 0.5) * step;
    const place = flat ? view.left + (x + 0.5) * view.scale : view.top + (y + 0.5) * view.scale;
    this.drawLine(context, flat ? [0, slice, w, slice] : [slice, 0, slice, h], "#ffffff");
    this.drawLine(context, flat ? [place, 0, place, h] : [0, place, w, place], "#56B4E9");
  },

  drawLine(context, [x0, y0, x1, y1], colour) {
    for (const [style, width] of [["rgba(0,0,0,.6)", 3], [colour, 1]]) {
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      Object.assign(context, { strokeStyle: style, lineWidth: width });
      context.stroke();
    }
  },

  // The objects that the cut goes through, one pixel a voxel; suggestions in white.
  cutMasks(name) {
    const { patch } = this;
    const flat = name === "xz";
    const at = this.cut[flat ? "y" : "x"];
    const [width, height] = flat ? [patch.width, patch.depth] : [patch.depth, patch.height];
    const picture = new ImageData(width, height);
    for (const item of [...this.items].sort((a, b) => b.suggestion - a.suggestion)) {
      const [z0, y0, x0, z1, y1, x1] = item.box;
      if (at < (flat ? y0 : x0) || at >= (flat ? y1 : x1)) continue;
      const colour = item.suggestion ? [255, 255, 255, 60] : [...this.view.rgb(item.id), item.id === this.selected ? 190 : 120];
      for (let z = z0; z < z1; z++) {
        const pixels = item.slice(z);
        for (let i = flat ? x0 : y0; i < (flat ? x1 : y1); i++) {
          const inside = flat ? pixels[(at - y0) * item.width + i - x0] : pixels[(i - y0) * item.width + at - x0];
          if (inside) picture.data.set(colour, 4 * (flat ? z * width + i : i * width + z));
        }
      }
    }
    this.cutLayer ??= document.createElement("canvas");
    Object.assign(this.cutLayer, { width, height });
    this.cutLayer.getContext("2d").putImageData(picture, 0, 0);
    return this.cutLayer;
  },

  // A click in a panel: to that slice, and to that place.
  pressCut(name, event) {
    const canvas = this.part(name);
    const rect = canvas.getBoundingClientRect();
    const flat = name === "xz";
    const [along, deep] = flat ? [event.clientX - rect.left, event.clientY - rect.top] : [event.clientY - rect.top, event.clientX - rect.left];
    const { step, start } = this.depthAxis(flat ? rect.height : rect.width);
    const z = Math.floor((deep - start) / step);
    const place = Math.floor((along - (flat ? this.view.left : this.view.top)) / this.view.scale);
    if (z < 0 || z >= this.patch.depth || place < 0 || place >= (flat ? this.patch.width : this.patch.height)) return;
    event.preventDefault();
    this.stage.focus({ preventScroll: true });
    this.cross = flat ? [this.cross[0], place] : [place, this.cross[1]];
    this.toSlice(z);
    this.reveal(this.cross);
    this.drawOrtho();
    this.loadCut();
  },

  // Move the image as little as needed, so that (y, x) is in sight.
  reveal([y, x]) {
    const { view, canvas } = this;
    const out = (at, length) => (at < 0 ? -at + 20 : at > length ? length - at - 20 : 0);
    const dx = out(view.left + (x + 0.5) * view.scale, canvas.clientWidth);
    const dy = out(view.top + (y + 0.5) * view.scale, canvas.clientHeight);
    if (dx || dy) view.pan(dx, dy);
  },
};
