// Choosing tools and objects, and changes to whole objects. Methods of Annotator.

const TOOLS = Object.fromEntries([pointTool, boxTool, brushTool, eraseTool, lassoTool, splitTool, regionTool, rulerTool].map((tool) => [tool.name, tool]));

const editing = {
  setTool(name) {
    if (!this.patch) return;
    if (this.locked && name !== "ruler" && this.tool !== rulerTool) return void this.hindered();
    this.cancelDrag();
    if (lassoTool.path) lassoTool.cancel(this);
    if (this.tool === rulerTool) rulerTool.cancel(this);
    const hint = this.tool.hint;
    if (hint && this.part("message-text").textContent === hint) showMessage(this, "");
    this.tool = TOOLS[name];
    this.stage.dataset.tool = name;
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      if (button !== this.stage) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    }
    const painted = name === "brush" || name === "erase";
    this.part("brush-row").hidden = !painted;
    this.part("tuning-row").hidden = painted;
    showRegion(this);
    showRing(this, this.ringEvent);
    if (this.tool.hint && !this.hinted.has(name)) this.say(this.tool.hint);
    this.hinted.add(name);
  },

  cancelDrag() {
    const { drag } = this;
    this.drag = null;
    drag?.cancel(this);
  },

  get chosen() { return this.selected ? [this.selected, ...this.also] : []; },

  // Shift-click: one more object, or one less.
  selectAlso(id) {
    if (!id) return;
    if (!this.selected) return this.select(id);
    const chosen = this.chosen.includes(id) ? this.chosen.filter((each) => each !== id) : [...this.chosen, id];
    this.select(chosen[0] ?? null, chosen.slice(1));
  },

  merge() {
    if (this.hindered()) return;
    const settled = this.settle();
    // Who selected several means these, whatever is unfinished beside them.
    const chosen = settled && this.chosen.length < 2 ? [settled] : this.chosen;
    if (chosen.length === 1 && this.hovered && this.hovered !== chosen[0]) chosen.push(this.hovered);
    if (chosen.length < 2) return this.say("Select two objects with Shift+click, then press M.");
    const first = this.refer(chosen[0]);
    this.select(first.id); // now: when the answer comes, another one may be in hand
    this.send("merge", { objects: chosen }, () => this.say(`${chosen.length} objects are now object ${first.id}.`));
  },

  reshape(how) {
    if (this.hindered()) return;
    const object = this.settle() ?? this.selected;
    if (!object) return this.say("Select an object first.");
    this.select(object);
    this.send("reshape", { object, how });
  },

  fillHoles() { this.reshape("fill"); },
  smooth() { this.reshape("smooth"); },
  grow() { this.reshape("grow"); },
  shrink() { this.reshape("shrink"); },
};
