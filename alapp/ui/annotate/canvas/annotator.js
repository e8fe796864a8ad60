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
    this.view = new View(this.canvas, () => {
      showStatus(this);
      this.drawOrtho();
    });
    this.look = { ...LOOK };
    this.channels = [];
    this.looking = false; // another page works on this patch
    this.link = new Link(server, sessionId(), () => showStatus(this));
    this.alone = detectDuplicate(this.link.session, (renewed) => { this.link.session = renewed; });
    this.pictures = new Pictures((message) => this.link.ask("load_slice", message));
    this.opensOn = new Map(); // the slice that a patch will open on, where it was looked up ahead
    this.readied = new Set(); // patches that are ready for clicks before they are opened
    bindPointer(this);
    this.bindOrtho();
    bindKeys(this);
    bindLook(this);
    bindMinimap(this);
    this.bindPresence();
    this.bindNote();
    this.bindCursor();
    this.bindFocus();
    this.bindControls();
    this.bindDoubts();
    this.bindTuning();
    bindClasses(this);
    this.setBrush(recall("brush") ?? 9);
    new ResizeObserver(() => {
      this.view.resize();
      this.drawOrtho();
    }).observe(this.canvas);
    showSheet(this);
    // For tests and benchmarks: where pixel (y, x) lies on the screen.
    root.viewTransform = () => ({ scale: this.view.scale, left: this.view.left, top: this.view.top });
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  // Nothing can be changed: the patch is finished, or another page works on it.
  get closed() { return this.looking || this.patchClosed; }

  get patchClosed() { return this.patch?.status === "done" || this.patch?.status === "skipped"; }

  bindControls() {
    for (const button of this.root.querySelectorAll("[data-act]")) {
      button.addEventListener("click", () => {
        this[button.dataset.act]();
        if (!["toggleSheet", "toggleNote"].includes(button.dataset.act)) this.stage.focus({ preventScroll: true });
      });
    }
    for (const button of this.root.querySelectorAll("button[data-tool]")) {
      button.addEventListener("click", () => {
        this.setTool(button.dataset.tool);
        this.stage.focus({ preventScroll: true });
      });
    }
    this.part("brush-size").addEventListener("input", (event) => this.setBrush(Number(event.target.value)));
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
    if (before !== this.project) this.recallLook();
    const wanted = value.patch ?? recall(`patch-${this.project}`);
    const { clicks } = this.batch;
    await Promise.all([this.alone, this.loadBatch()]);
    const lost = await resendKept(this.link, this.project);
    // A mere refresh must not take the work out of the person's hands.
    const here = this.batch.patches.some((patch) => patch.id === this.patch?.id);
    if (value.patch == null && before === this.project && here) {
      if (clicks !== this.batch.clicks) this.clicksChanged();
      return;
    }
    const known = this.batch.patches.find((patch) => patch.id === wanted);
    // A finished batch stays open to look at and to reopen.
    const id = value.patch ?? known?.id ?? this.batch.next ?? this.batch.patches[0]?.id;
    if (id === null || id === undefined) return this.show("empty");
    await this.openPatch(id);
    if (lost) showMessage(this, lost, { error: true });
  }

  async loadBatch() {
    const answer = await this.link.ask("load_batch", { project: this.project });
    if (this.failed(answer)) return;
    this.batch = answer;
    this.restoreKind();
    showBatch(this);
  }

  // `started`: when it was asked for, for the measurement.
  async openPatch(id, start = null, started = performance.now()) {
    if (this.link.failure) return this.say("The last change is not saved yet, so this patch stays open.", true);
    await this.link.idle();
    const turn = ++this.turn;
    this.stage.classList.add("ann-loading");
    // The picture comes along with the objects, if it can be told which slice it will be.
    const likely = this.patch && (this.patch.id === id ? this.z : this.opensOn.get(id) ?? Math.floor(this.patch.depth / 2));
    this.pictures.settings = this.lookMessage();
    if (likely !== null) this.pictures.load(id, likely);
    const answer = await this.link.ask("load_patch", { patch: id, start });
    if (turn !== this.turn) return;
    this.stage.classList.remove("ann-loading");
    if (this.failed(answer)) return;
    const same = this.patch?.id === id;
    this.cancelDrag();
    lassoTool.cancel(this);
    this.patch = answer;
    this.arrive(answer);
    this.items = answer.items.map((raw) => new Item(raw));
    this.selected = this.hovered = null;
    this.also = [];
    this.painting = this.stroke = this.outlined = this.untold = this.unmarked = null;
    this.takeRegion(answer);
    this.draft = answer.draft ? this.asDraft(answer.draft) : null;
    this.z = Math.min(this.draft?.z ?? (same ? this.z : Math.floor(answer.depth / 2)), answer.depth - 1);
    remember(`patch-${this.project}`, id);
    this.show("stage");
    this.view.scene.items = []; // nothing is drawn twice
    if (!same || this.view.width !== answer.width) this.view.reset(answer.width, answer.height);
    if (!same) this.cross = null;
    this.showPatch();
    this.showOrtho();
    if (await this.loadSlice()) requestAnimationFrame(() => this.measure(started, "ann-opened"));
    this.restoreDraft();
    // Without anything selected the keys go to the stage, unless the person is typing elsewhere.
    if (!document.activeElement || document.activeElement === document.body || this.root.contains(document.activeElement)) {
      this.stage.focus({ preventScroll: true });
    }
  }

  show(which) {
    if (this.part(which === "empty" ? "empty" : "work").hidden === false) return;
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
    this.part("closed").hidden = !this.patchClosed || this.looking;
    this.showPresence();
    this.showNote();
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
    this.showSpan();
    showSheet(this);
    showStatus(this);
  }

  button(act, place = "tools") { return this.root.querySelector(`.ann-${place} [data-act="${act}"]`); }

  // True once the slice is painted. A picture that is known is painted before this returns.
  async loadSlice() {
    const { id } = this.patch;
    const { z } = this;
    this.scene();
    const shown = this.loadPicture();
    if (!(shown === true || (await shown))) return false;
    this.view.refresh();
    this.root.dataset.slice = `${id}/${z}`;
    this.prepareSlice(id, z);
    this.loadSurroundings();
    this.lookAhead();
    return true;
  }

  scene() {
    const { z, draft, hovered, selected, also, painting, shape, region } = this;
    // What is being painted stands in for the object as the server knows it, on top of the others.
    const live = painting?.z === z ? painting : null;
    const items = live ? [...this.items.filter((item) => item.id !== live.id), live.item] : this.items;
    this.view.tones = this.tones(items);
    this.view.scene = { items, z, draft, hovered, selected, also, shape, region };
    this.drawOrtho();
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
    if (!this.pictures.get(this.patch.id, z)) this.view.refresh(); // masks at once, the picture when it is there
    this.loadSlice();
  }

  // --- looking -----------------------------------------------------------------------------------------------

  hover(point) {
    this.pointer = point;
    this.highlight(point ? this.view.at(point) || null : null);
    showStatus(this);
    this.askIntensities();
  }

  highlight(id) {
    if (id === this.hovered) return;
    const boxes = [this.hovered, id].map((each) => flatBox(this.items.find((item) => item.id === each)));
    this.hovered = id;
    this.scene();
    const box = joinBoxes(boxes);
    if (box) this.showMarks(box);
  }

  // Select an object, and `also` others with it; null selects none.
  select(id, also = []) {
    const changed = [...this.chosen, id, ...also];
    const boxes = changed.map((each) => flatBox(this.items.find((item) => item.id === each)));
    this.selected = id;
    this.also = also;
    this.scene();
    showKinds(this);
    const box = joinBoxes(boxes);
    if (box) this.showMarks(box);
    this.showSpan();
    for (const row of this.root.querySelectorAll("[data-object]")) {
      row.classList.toggle("ann-selected", this.chosen.includes(Number(row.dataset.object)));
    }
    this.unrevealed = true;
    if (!this.stroke) this.revealRow(); // else in the pause after it: the rows that come into sight cost a frame
  }

  // Bring the row of an object that was just selected into sight.
  revealRow() {
    if (!this.unrevealed) return;
    this.unrevealed = false;
    this.root.querySelector(`[data-object="${this.selected}"]`)?.scrollIntoView({ block: "nearest" });
  }

  fit() { this.view.fit(); }
  zoomIn() { this.view.zoom(1.25); }
  zoomOut() { this.view.zoom(0.8); }

  fullscreen() {
    if (document.fullscreenElement) return document.exitFullscreen();
    this.root.requestFullscreen?.();
  }

  toggleSheet() {
    const sheet = this.part("sheet");
    sheet.hidden = !sheet.hidden;
    if (!sheet.hidden) {
      this.beforeSheet = document.activeElement;
      return this.part("sheet-close").focus();
    }
    (this.root.contains(this.beforeSheet) ? this.beforeSheet : this.stage).focus({ preventScroll: true });
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
    if (answer.conflict && this.patch) {
      this.takenOver();
      this.say("Your last change is not saved: the patch was changed in the meantime.", true);
    } else {
      showMessage(this, answer.error, { error: true });
    }
    return true;
  }
}

for (const methods of [drafting, tuning, doubting, painting, shaping, regions, editing, acting, classing, looking, fetching, stacking,
  orthogonal, presence, noting, cursoring, focusing]) {
  Object.defineProperties(Annotator.prototype, Object.getOwnPropertyDescriptors(methods));
}

const page = new Annotator(element.querySelector(".ann"), server, (name, data) => name === "changed" && trigger("changed", data));
page.open(props.value);
watch("value", () => page.open(props.value));
