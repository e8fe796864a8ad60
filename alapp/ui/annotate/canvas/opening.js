// Opening projects and patches, one after the other; what was done before is saved before. Methods of Annotator.

const LOADING = "The patch is being opened. Please wait a moment.";
const OPENING = ["Opening the batch …", "Its patches will be here in a moment."];
const FREE_MS = 30; // after which it is looked again whether a drag is over

const opening = {
  // Called at mount and whenever the server sets the value: {project, patch, rev}. One after the other, so that a
  // refresh does not overtake the patch that was asked for before it.
  open(value) {
    this.opened = this.opened.then(() => this.openValue(value)).catch((error) => console.error(error));
    return this.opened;
  },

  async openValue(value) {
    const before = this.project;
    // What was done in a project is sent while it is open.
    if (this.patch && before !== (value?.project ?? null)) await this.handsOff();
    this.project = this.link.project = value?.project ?? null;
    if (this.project === null) {
      this.patch = null;
      this.loading = false;
      return value?.rev ? this.showEmpty() : this.showEmpty(...OPENING); // nobody said yet which project is open
    }
    if (!this.patch) this.showEmpty(...OPENING);
    if (before !== this.project) this.recallLook();
    const wanted = value.patch ?? recall(`patch-${this.project}`);
    const { clicks, title } = this.batch;
    await Promise.all([this.alone, this.loadBatch()]);
    const lost = await resendKept(this.link, this.project);
    // A mere refresh must not take the work out of the person's hands, whichever round it belongs to.
    const { patch } = this;
    const here = this.inBatch(patch?.id) || (patch?.fromElsewhere && title === this.batch.title);
    if (value.patch == null && before === this.project && here) {
      if (clicks !== this.batch.clicks) this.clicksChanged();
      if (!this.root.contains(document.activeElement)) this.takeFocus(); // the header's button leads here again
      return;
    }
    // A finished batch stays open to look at and to reopen. A patch that cannot be opened must not hide the others.
    const patches = this.batch.patches.map((each) => each.id);
    const order = [value.patch, this.inBatch(wanted) ? wanted : null, this.batch.next, ...patches];
    const ids = [...new Set(order)].filter((each) => each !== null && each !== undefined);
    if (!ids.length) {
      this.patch = null;
      this.loading = false;
      return this.batch.failed || this.showEmpty();
    }
    for (const each of ids) if ((await this.openPatch(each)) !== false || this.patch) break;
    if (lost) showMessage(this, lost, { error: true });
  },

  inBatch(id) { return this.batch.patches.some((patch) => patch.id === id); },

  async loadBatch() {
    const answer = await this.askUntilAnswered("load_batch", { project: this.project });
    if (this.failed(answer)) {
      if (this.batch.project !== this.project) this.batch = { title: "", patches: [], failed: true };
      return;
    }
    this.batch = { ...answer, project: this.project };
    this.restoreKind();
    showBatch(this);
  },

  // A page that shows nothing yet has nothing else to do than to wait for the app.
  async askUntilAnswered(name, message) {
    let answer = await this.link.ask(name, message);
    while (answer.unreachable && !this.patch) {
      this.failed(answer);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      answer = await this.link.ask(name, message);
    }
    return answer;
  },

  // False if it cannot be opened. `started`: when it was asked for, for the measurement.
  async openPatch(id, start = null, started = performance.now()) {
    if (this.link.failure) {
      this.loading = false;
      return this.say("The last change is not saved yet, so this patch stays open.", true);
    }
    const turn = ++this.turn;
    await this.handsOff();
    if (turn !== this.turn) return null;
    this.stage.classList.add("ann-loading");
    // The picture comes along with the objects, if it can be told which slice it will be.
    const likely = this.patch && (this.patch.id === id ? this.z : this.opensOn.get(id) ?? Math.floor(this.patch.depth / 2));
    this.pictures.settings = this.lookMessage();
    if (likely !== null) this.pictures.load(id, likely);
    const answer = await this.askUntilAnswered("load_patch", { patch: id, start });
    if (turn !== this.turn) return null;
    this.loading = false;
    if (this.part("message-text").textContent === LOADING) showMessage(this, "");
    if (this.failed(answer)) {
      this.stage.classList.remove("ann-loading");
      if (this.patch) this.showPatch();
      return false;
    }
    const same = this.patch?.id === id;
    this.cancelDrag();
    lassoTool.cancel(this);
    this.patch = answer;
    this.patch.fromElsewhere = !this.inBatch(id); // of an earlier round: opened on purpose
    this.arrive(answer);
    this.items = answer.items.map((raw) => new Item(raw));
    this.selected = this.hovered = null;
    this.also = [];
    this.painting = this.stroke = this.outlined = this.untold = this.unmarked = null;
    this.unborn = new Map();
    this.refs = new Map();
    this.accepting = [];
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
    // A question about the patch before does nothing any more.
    if (!same && this.part("message").contains(document.activeElement)) this.stage.focus({ preventScroll: true });
    this.takeFocus();
    if (await this.loadSlice()) requestAnimationFrame(() => this.measure(started, "ann-opened"));
    this.restoreDraft();
    return true;
  },

  // From here on until a patch is open nothing is drawn: it would be drawn on what is about to go. Resolves when what
  // was begun before is over and saved.
  async handsOff() {
    if (this.patch && !this.closed) lassoTool.finish(this); // corners that were clicked are an outline
    this.loading = true;
    if (this.dragPointer === CURSOR_POINTER) this.cancelDrag(); // its end is another key, which may never come
    while (this.drag || !this.link.idling) {
      if (this.drag) await new Promise((resolve) => setTimeout(resolve, FREE_MS));
      await this.link.idle();
    }
  },
};
