// The page: what is open, what was clicked, and what the server said. Joins view, link, tools and panels.

const RESHAPING = ["merge", "fillHoles", "smooth", "grow", "shrink"];

class Annotator {
  constructor(root, server, trigger) {
    this.root = root;
    this.server = server;
    this.trigger = trigger;
    this.stage = this.part("stage");
    this.canvas = this.part("canvas");
    this.items = [];
    this.batch = { title: "", patches: [] };
    this.patch = null;
    this.z = 0;
    this.draft = null;
    this.selected = null;
    this.hovered = null;
    this.also = []; // further objects that are selected
    this.painting = null; // an object that is drawn here before the server knows it
    this.stroke = null;
    this.shape = null;
    this.region = null; // what is marked as not annotated
    this.drag = null;
    this.tool = pointTool;
    this.hinted = new Set();
    this.turn = 0;
    this.view = new View(this.canvas, () => showStatus(this));
    this.link = new Link(server, sessionId(), () => showStatus(this));
    bindPointer(this);
    bindKeys(this);
    this.bindControls();
    this.bindDoubts();
    this.bindTuning();
    this.setBrush(recall("brush") ?? 9);
    new ResizeObserver(() => this.view.resize()).observe(this.canvas);
    showSheet(this);
    // For tests and benchmarks: where pixel (y, x) lies on the screen.
    root.viewTransform = () => ({ scale: this.view.scale, left: this.view.left, top: this.view.top });
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  get closed() { return this.patch?.status === "done" || this.patch?.status === "skipped"; }

  bindControls() {
    for (const button of this.root.querySelectorAll("[data-act]")) {
      button.addEventListener("click", () => {
        this[button.dataset.act]();
        if (button.dataset.act !== "toggleSheet") this.stage.focus({ preventScroll: true });
      });
    }
    for (const button of this.root.querySelectorAll("button[data-tool]")) {
      button.addEventListener("click", () => {
        this.setTool(button.dataset.tool);
        this.stage.focus({ preventScroll: true });
      });
    }
    this.part("brush-size").addEventListener("input", (event) => this.setBrush(Number(event.target.value)));
    for (const name of ["brightness", "contrast"]) {
      this.part(name).addEventListener("input", () =>
        this.view.adjust(this.part("brightness").value / 100, this.part("contrast").value / 100));
    }
    this.part("slice").addEventListener("input", (event) => this.toSlice(Number(event.target.value)));
    this.part("start").addEventListener("change", (event) => this.startFrom(event.target.value));
    this.part("overlap").addEventListener("change", () => this.draft && this.sendClick());
  }

  // --- opening ---------------------------------------------------------------------------------------------

  // Called at mount and whenever the server sets the value: {project, patch, rev}.
  async open(value) {
    const before = this.project;
    this.project = this.link.project = value?.project ?? null;
    if (this.project === null) {
      this.patch = null;
      return this.show("empty");
    }
    const wanted = value.patch ?? recall(`patch-${this.project}`);
    await this.loadBatch();
    // A mere refresh must not take the work out of the person's hands.
    const here = this.batch.patches.some((patch) => patch.id === this.patch?.id);
    if (value.patch == null && before === this.project && here) return;
    const known = this.batch.patches.find((patch) => patch.id === wanted);
    // A finished batch stays open to look at and to reopen.
    const id = value.patch ?? known?.id ?? this.batch.next ?? this.batch.patches[0]?.id;
    if (id === null || id === undefined) return this.show("empty");
    await this.openPatch(id);
  }

  async loadBatch() {
    const answer = await this.link.ask("load_batch", { project: this.project });
    if (this.failed(answer)) return;
    this.batch = answer;
    showBatch(this);
  }

  async openPatch(id, start = null) {
    if (this.link.failure) return this.say("The last change is not saved yet, so this patch stays open.", true);
    await this.link.idle();
    const turn = ++this.turn;
    this.stage.classList.add("ann-loading");
    const answer = await this.link.ask("load_patch", { patch: id, start });
    if (turn !== this.turn) return;
    this.stage.classList.remove("ann-loading");
    if (this.failed(answer)) return;
    const same = this.patch?.id === id;
    this.cancelDrag();
    lassoTool.cancel(this);
    this.patch = answer;
    this.items = answer.items.map((raw) => new Item(raw));
    this.selected = this.hovered = null;
    this.also = [];
    this.painting = this.stroke = this.outlined = null;
    this.takeRegion(answer);
    this.draft = answer.draft ? this.asDraft(answer.draft) : null;
    this.z = Math.min(this.draft?.z ?? (same ? this.z : Math.floor(answer.depth / 2)), answer.depth - 1);
    remember(`patch-${this.project}`, id);
    this.show("stage");
    if (!same || this.view.width !== answer.width) this.view.reset(answer.width, answer.height);
    this.showPatch();
    await this.loadSlice();
    this.restoreDraft();
    // Without anything selected the keys go to the stage, unless the person is typing elsewhere.
    if (!document.activeElement || document.activeElement === document.body || this.root.contains(document.activeElement)) {
      this.stage.focus({ preventScroll: true });
    }
  }

  show(which) {
    this.part("empty").hidden = which !== "empty";
    this.part("work").hidden = which !== "stage";
    this.view.resize();
  }

  showPatch() {
    const { patch } = this;
    this.root.dataset.patch = patch.id;
    this.root.dataset.revision = patch.revision;
    this.root.dataset.status = patch.status;
    this.part("patch-name").textContent = patch.name;
    this.stage.dataset.tool = this.closed ? "point" : this.tool.name;
    this.part("closed").hidden = !this.closed;
    this.part("closed-text").textContent = patch.status === "skipped" ? "This patch is skipped."
      : this.items.some((item) => !item.suggestion) ? "This patch is done." : "This patch is empty, checked.";
    this.part("z-row").hidden = patch.depth < 2;
    this.part("slice").max = patch.depth - 1;
    this.part("slice").value = this.z;
    for (const option of this.part("start").options) option.disabled = !patch.starts.includes(option.value);
    this.part("start").value = patch.start;
    this.part("start").disabled = this.closed;
    const note = startNote(this.batch.patches.find((each) => each.id === patch.id));
    this.part("start-note").hidden = !note;
    this.part("start-note").textContent = note;
    for (const name of ["acceptDraft", "finish", "skip", "remove", ...RESHAPING]) this.button(name).disabled = this.closed;
    for (const button of this.root.querySelectorAll("button[data-tool]")) button.disabled = this.closed;
    this.button("undo").disabled = this.closed || !(patch.can_undo || this.draft?.order.length);
    this.button("redo").disabled = this.closed || !patch.can_redo;
    this.button("propagate").hidden = patch.depth < 2;
    showBatch(this);
    showObjects(this);
    showRegion(this);
    showSheet(this);
    showStatus(this);
  }

  button(act) { return this.root.querySelector(`.ann-tools [data-act="${act}"]`); }

  async loadSlice() {
    const { id } = this.patch;
    const { z } = this;
    this.scene();
    const key = `${id}/${z}`;
    const answer = await this.link.ask("load_slice", { patch: id, z });
    if (this.patch?.id !== id || this.z !== z || this.failed(answer)) return;
    const picture = new Image();
    picture.src = `data:image/png;base64,${answer.png}`;
    await picture.decode();
    if (this.patch?.id !== id || this.z !== z) return;
    this.view.show(picture);
    this.view.refresh();
    this.root.dataset.slice = key;
    this.prepareSlice(id, z);
  }

  // The picture does not wait for this: a foundation model takes seconds.
  async prepareSlice(id, z) {
    this.part("method").textContent = "getting ready for clicks…";
    const answer = await this.link.ask("prepare_slice", { patch: id, z });
    if (this.patch?.id !== id || this.z !== z) return;
    this.part("method").textContent = answer.method || "";
    if (!this.failed(answer) && answer.note && answer.note !== this.noted) this.say(answer.note);
    this.noted = answer.note;
  }

  scene() {
    const { z, draft, hovered, selected, also, painting, shape, region } = this;
    // What is being painted stands in for the object as the server knows it, on top of the others.
    const live = painting?.z === z ? painting : null;
    const items = live ? [...this.items.filter((item) => item.id !== live.id), live.item] : this.items;
    this.view.scene = { items, z, draft, hovered, selected, also, shape, region };
  }

  toSlice(z) {
    if (!this.patch || z < 0 || z >= this.patch.depth || z === this.z) return;
    if (this.draft) this.clearDraft();
    this.cancelDrag();
    if (lassoTool.path) lassoTool.cancel(this);
    this.z = z;
    this.part("slice").value = z;
    showStatus(this);
    this.scene();
    this.view.refresh();
    this.loadSlice();
  }

  // --- looking -----------------------------------------------------------------------------------------------

  hover(point) {
    this.pointer = point;
    this.highlight(point ? this.view.at(point) || null : null);
    showStatus(this);
  }

  highlight(id) {
    if (id === this.hovered) return;
    const boxes = [this.hovered, id].map((each) => flatBox(this.items.find((item) => item.id === each)));
    this.hovered = id;
    this.scene();
    const box = joinBoxes(boxes);
    if (box) this.view.draw(box);
  }

  // Select an object, and `also` others with it; null selects none.
  select(id, also = []) {
    const changed = [...this.chosen, id, ...also];
    const boxes = changed.map((each) => flatBox(this.items.find((item) => item.id === each)));
    this.selected = id;
    this.also = also;
    this.scene();
    const box = joinBoxes(boxes);
    if (box) this.view.draw(box);
    for (const row of this.root.querySelectorAll("[data-object]")) {
      row.classList.toggle("ann-selected", this.chosen.includes(Number(row.dataset.object)));
      if (Number(row.dataset.object) === id) row.scrollIntoView({ block: "nearest" });
    }
  }

  toggleFill() {
    this.view.filled = !this.view.filled;
    this.view.draw();
  }

  fit() { this.view.fit(); }
  zoomIn() { this.view.zoom(1.25); }
  zoomOut() { this.view.zoom(0.8); }

  resetLight() {
    this.part("brightness").value = this.part("contrast").value = 0;
    this.view.adjust(0, 0);
  }

  fullscreen() {
    if (document.fullscreenElement) return document.exitFullscreen();
    this.root.requestFullscreen?.();
  }

  toggleSheet() {
    const sheet = this.part("sheet");
    sheet.hidden = !sheet.hidden;
    if (sheet.hidden) this.stage.focus({ preventScroll: true });
    else this.part("sheet-close").focus();
  }

  say(text, error = false) {
    // A question waits for its answer: news must not push it away.
    const asking = !this.part("message").hidden && this.part("message-actions").childElementCount;
    if (!asking || error) showMessage(this, text, { error });
  }

  ask(text, actions) { showMessage(this, text, { actions }); }

  // Shows what went wrong; true if something did.
  failed(answer) {
    if (answer.unreachable) answer = { error: "The app does not answer. Check that it still runs, then try again." };
    if (!answer.error) return false;
    const actions = answer.conflict ? [["Reload the patch", () => { forget(`draft-${this.patch.id}`); this.openPatch(this.patch.id); }]] : [];
    showMessage(this, answer.error, { error: true, actions });
    return true;
  }
}

for (const methods of [drafting, tuning, doubting, painting, shaping, regions, editing, acting]) {
  Object.defineProperties(Annotator.prototype, Object.getOwnPropertyDescriptors(methods));
}

const page = new Annotator(element.querySelector(".ann"), server, (name, data) => name === "changed" && trigger("changed", data));
page.open(props.value);
watch("value", () => page.open(props.value));
