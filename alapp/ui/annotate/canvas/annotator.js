// The page: what is open, what was clicked, and what the server said. Joins view, link, tools and panels.

const UNREACHABLE = "The app does not answer. Check that it still runs, then try again.";
const LATE_PICTURE = "The picture of this slice is not here yet. Please wait a moment.";
const NO_BATCH = "There is no batch to annotate yet.";
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
    this.draft = null; // the unfinished object
    this.accepting = []; // those that were accepted, until the server has them
    this.selected = null;
    this.hovered = null;
    this.also = []; // further objects that are selected
    this.painting = null; // an object that is drawn here before the server knows it
    this.stroke = null;
    this.unborn = new Map(); // objects that the server does not know yet, see births.js
    this.refs = new Map(); // references to objects that acts were about, see births.js
    this.shape = null;
    this.region = null; // what is marked as not annotated
    this.drag = null;
    this.tool = pointTool;
    this.hinted = new Set();
    this.turn = 0;
    this.opened = Promise.resolve();
    this.view = new View(this.canvas, () => {
      this.hoverAnew();
      showStatus(this);
      this.drawOrtho();
    });
    this.look = { ...LOOK };
    this.channels = [];
    this.loading = false; // a patch is being opened
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
      this.hoverAnew();
      this.drawOrtho();
    }).observe(this.canvas);
    showSheet(this);
    // For tests and benchmarks: where pixel (y, x) lies on the screen.
    root.viewTransform = () => ({ scale: this.view.scale, left: this.view.left, top: this.view.top });
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  // Nothing can be changed: the patch is finished, another page works on it, or what is shown is about to be replaced.
  get closed() { return this.locked || this.loading; }

  get locked() { return this.looking || this.patchClosed; }

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
    this.part("overlap").addEventListener("change", () => this.draft?.order.length && !this.closed && this.sendClick());
  }

  // Why there is nothing to annotate.
  showEmpty(title = NO_BATCH, text = "Select one on the Rounds tab. Its patches then wait for you here.") {
    this.part("empty-title").textContent = title;
    this.part("empty-text").textContent = text;
    this.show("empty");
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
    this.button("propagate").hidden = patch.depth < 2;
    this.showActs();
    showBatch(this);
    showObjects(this);
    showRegion(this);
    this.showSpan();
    showSheet(this);
    showStatus(this);
  }

  button(act, place = "tools") { return this.root.querySelector(`.ann-${place} [data-act="${act}"]`); }

  // Which buttons can be pressed.
  showActs() {
    const { patch } = this;
    for (const name of ["skip", "propagate", ...RESHAPING]) this.button(name).disabled = this.closed;
    for (const name of ["acceptDraft", "finish", "remove"]) this.button(name).disabled = this.closed || !this.sighted;
    this.button("takeAll", "side").disabled = this.closed || !this.sighted;
    for (const button of this.root.querySelectorAll("button[data-tool]")) button.disabled = this.closed;
    this.button("undo").disabled = this.closed || !(patch.can_undo || this.draft?.order.length);
    this.button("redo").disabled = this.closed || !patch.can_redo;
  }

  // Says why nothing can be changed; true if so.
  hindered() {
    if (!this.patch) return true;
    if (!this.closed) return false;
    const button = this.button("takeOver", "presence").textContent;
    const looking = `You only look at this patch. Press “${button}” to work on it here.`;
    const finished = `${this.part("closed-text").textContent} Press R to reopen it.`;
    this.say(this.loading ? LOADING : this.looking ? looking : finished);
    return true;
  }

  scene() {
    const { z, hovered, selected, also, painting, shape, region } = this;
    const drafts = [...this.accepting, this.draft].filter(Boolean);
    // What is being painted stands in for the object as the server knows it, on top of the others.
    const live = painting?.z === z ? painting : null;
    const items = live ? [...this.items.filter((item) => item.id !== live.id), live.item] : this.items;
    this.view.tones = this.tones(items);
    this.view.scene = { items, z, drafts, hovered, selected, also, shape, region };
    this.drawOrtho();
  }

  toSlice(z) {
    if (!this.patch || z < 0 || z >= this.patch.depth || z === this.z) return;
    this.cancelDrag();
    if (!this.closed) lassoTool.finish(this);
    this.z = z;
    this.part("slice").value = z;
    showStatus(this);
    this.scene();
    if (!this.pictures.get(this.patch.id, z)) this.view.refresh(); // masks at once, the picture when it is there
    this.loadSlice();
    this.hoverAnew();
  }

  // --- looking -----------------------------------------------------------------------------------------------

  hover(point) {
    this.pointer = point;
    this.highlight(point ? this.view.at(point) || null : null);
    showStatus(this);
    this.askIntensities();
  }

  // Another slice, view or answer puts another object under a pointer, or crosshair, that rests: keys are about that one.
  hoverAnew() {
    const at = this.cursor ? this.cursorEvent() : this.ringEvent;
    if (this.drag || !at) return;
    this.pointer = this.view.pixel(at);
    this.highlight((this.pointer && this.view.at(this.pointer)) || null);
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
    if (!this.asking || error) showMessage(this, text, { error });
  }

  get asking() { return !this.part("message").hidden && this.part("message-actions").childElementCount > 0; }

  // A question is about the patch that is open: an answer after another one was opened does nothing.
  ask(text, actions) {
    const id = this.patch?.id;
    showMessage(this, text, { actions: actions.map(([label, run]) => [label, () => this.patch?.id === id && run()]) });
  }

  // Shows what went wrong; true if something did.
  failed(answer) {
    if (answer.unreachable) answer = { error: UNREACHABLE };
    if (!answer.error) return false;
    if (answer.conflict && this.patch) {
      this.takenOver();
      this.say("Your last change is not saved: the patch was changed in the meantime.", true);
    } else {
      showMessage(this, answer.error, { error: true });
      if (!this.patch) this.showEmpty("No patch can be shown.", answer.error);
    }
    return true;
  }
}

for (const methods of [opening, births, drafting, tuning, doubting, painting, shaping, regions, editing, acting, classing, looking, fetching,
  stacking, orthogonal, presence, noting, cursoring, focusing]) {
  Object.defineProperties(Annotator.prototype, Object.getOwnPropertyDescriptors(methods));
}

const page = new Annotator(element.querySelector(".ann"), server, (name, data) => name === "changed" && trigger("changed", data));
page.open(props.value);
watch("value", () => page.open(props.value));
