// Acts on a patch: undo, delete, suggestions, done. Each is an event of its journal. Methods of Annotator.

const PAUSE_MS = 80; // between two strokes
const LARGE = 1 / 16; // the part of a patch that takes a good part of a frame to draw

const acting = {
  // Send an act on the open patch; its answer says what changed. `over()` is called when the act came to an end, well or
  // not; without `wanted()`, asked when its turn comes, it is not sent.
  send(name, payload, then = () => {}, { over = () => {}, wanted = () => true } = {}) {
    if (!this.patch || this.looking || this.loading) {
      this.hindered();
      return over();
    }
    const { id } = this.patch;
    const refs = [payload.object ?? [], payload.objects ?? []].flat().map((object) => this.refer(object));
    this.link.act(name, () => this.patch?.id === id && wanted() && {
      patch: id, revision: this.patch.revision, ...payload, ...named(payload, refs),
    }, (answer) => {
      over();
      if (this.patch?.id !== id || this.failed(answer)) return;
      this.takeIn(answer);
      then(answer);
    }, { skipped: over });
  },

  // What the server says is so; `touched` is a box that was painted before the answer came.
  takeIn(answer, touched = null) {
    const boxes = [touched];
    const byId = new Map(this.items.map((item) => [item.id, item]));
    for (const id of answer.removed) {
      boxes.push(flatBox(byId.get(id)));
      byId.delete(id);
    }
    for (const raw of answer.items) {
      boxes.push(flatBox(byId.get(raw.id)));
      const item = new Item(raw);
      boxes.push(flatBox(item));
      byId.set(raw.id, item);
    }
    this.items = [...byId.values()];
    boxes.push(...this.takeRegion(answer));
    // What is painted on an object that is gone will make a new one.
    const goes = !byId.has(this.selected) && !this.unborn.has(this.selected) && this.painting?.id !== this.selected;
    if (goes) this.selected = null;
    this.also = this.also.filter((id) => byId.has(id));
    if (!byId.has(this.hovered)) this.hovered = null;
    const { revision, status, can_undo, can_redo, last_id, n_objects } = answer;
    Object.assign(this.patch, { revision, status, can_undo, can_redo, last_id });
    this.recount();
    const entry = this.batch.patches.find((patch) => patch.id === this.patch.id);
    if (entry) Object.assign(entry, { state: status, n_objects });
    this.scene();
    // The object is on the screen as it is, unless the answer says something of others too.
    const painted = touched !== null && answer.items.length === 1 && !answer.removed.length && !("region" in answer);
    this.untold = { box: joinBoxes([this.untold?.box, ...boxes]), painted: painted && (this.untold?.painted ?? true) };
    if (touched === null && !this.stroke) this.tell();
    else this.tellInPause();
  },

  // What an answer to a stroke shows, a long list of objects too, would hold up the next one: it waits for a pause.
  tellInPause() {
    clearTimeout(this.pause);
    this.root.dataset.told = "false";
    this.pause = setTimeout(() => this.stroke || this.tell(), PAUSE_MS);
  },

  // Other objects are selected or under the pointer inside `box`. While someone paints, a large box waits for a pause.
  showMarks(box) {
    const paints = this.tool === brushTool || this.tool === eraseTool;
    const area = (box[2] - box[0]) * (box[3] - box[1]);
    if (!paints || area < LARGE * this.patch.width * this.patch.height) return this.view.mark(box);
    this.unmarked = joinBoxes([this.unmarked, box]);
    this.tellInPause();
  },

  // Show what the answers said and what is not shown yet.
  tell() {
    this.root.dataset.told = "true";
    if (this.unmarked) this.view.mark(this.unmarked);
    this.unmarked = null;
    if (!this.untold) return;
    const { box, painted } = this.untold;
    this.untold = null;
    if (box) this.view.refresh(box, painted);
    this.hoverAnew();
    this.showPatch();
    this.revealRow();
  },

  undo() {
    if (this.loading || this.looking) return void this.hindered(); // its points may be those of somebody else
    const { draft } = this;
    if (!draft?.order.length) {
      if (draft) return this.dropDraft();
      const { last } = this.link;
      // What is being accepted is what is meant: if there turns out to be nothing to accept, no other object goes.
      const accepting = this.accepting.find((each) => each.act === last);
      const wanted = () => !accepting || accepting.accepted || this.accepting.includes(accepting);
      if (!this.patch?.can_undo && !this.link.busy) return;
      this.send("undo", {}, undefined, { wanted });
      // The next stroke is not on what goes.
      if (last?.ref && !last.ref.born && last.ref.waiting === 1 && this.selected === last.ref.id) this.select(null);
      return;
    }
    this.toSlice(draft.z);
    const entries = lastStep(draft.order);
    if (entries === draft.order.length && draft.object === null) return this.clearDraft();
    const box = joinBoxes([flatBox(draft.item), pointsBox(draft)]);
    for (const sign of draft.order.splice(-entries)) {
      if (sign === "box") draft.box = null;
      else draft[sign.replace("+", "")].pop();
    }
    this.view.drawOver(box);
    this.sendClick();
  },

  redo() { this.send("redo", {}); },

  remove() {
    if (this.hindered() || this.blind()) return;
    const objects = this.also.length ? this.chosen : [this.selected || this.hovered].filter(Boolean);
    if (!objects.length) return this.say("Point at an object, or select one, then press Delete.");
    if (objects.includes(this.draft?.object)) this.dropDraft();
    // Who points at one with the mouse goes on with the mouse: the view must not jump to another.
    this.answer(objects.length === 1 ? this.selected : null, () => {
      this.send("remove", { objects });
      if (objects.includes(this.selected)) this.select(null);
    });
  },

  take(objects) { this.send("take", { objects }); },

  takeAll() {
    if (this.hindered() || this.blind()) return false;
    if (!this.items.some((item) => item.suggestion)) return this.say("There is no suggestion left on this patch.");
    this.send("take", { objects: null });
    return true;
  },

  startFrom(start) {
    const id = this.patch.id;
    this.link.idle().then(() => this.openPatch(id, start));
  },

  // --- finishing ---------------------------------------------------------------------------------------------

  // What is done is decided when every answer is there: until then it is not known what was found.
  finish() {
    if (this.hindered() || this.blind()) return;
    lassoTool.finish(this);
    if (!this.link.idling) return this.finishLater();
    if (this.draft?.item) return this.ask("The object that you are clicking is not accepted yet.", [
      ["Accept it, then done", () => { this.acceptDraft(); this.link.idle().then(() => !this.draft && this.finish()); }],
      ["Drop it", () => { this.clearDraft(); this.finish(); }], ["Cancel", () => {}],
    ]);
    const left = this.items.filter((item) => item.suggestion && !this.inRegion(item)).length;
    if (left) return this.ask(`${left} suggestion${left === 1 ? " is" : "s are"} not accepted and would not become labels.`, [
      ["Accept all, then done", () => this.takeAll() && this.close("done")],
      ["Leave out, done", () => this.close("done")],
      ["Not annotated there, done", () => this.markSuggestions(() => this.close("done"))], ["Cancel", () => {}],
    ]);
    const where = this.region ? "where it is annotated" : "on this patch";
    if (this.items.every((item) => item.suggestion)) return this.ask(`There is no object ${where}. Is it really empty?`, [
      ["Yes, it is empty", () => this.close("done")], ["Cancel", () => {}],
    ]);
    this.close("done");
  },

  async finishLater() {
    const { patch } = this;
    if (this.finishing === patch) return;
    this.finishing = patch;
    await this.link.idle();
    this.finishing = null;
    if (this.patch === patch && !this.loading) return this.finish();
    this.say(`${patch.name} is not marked done, because another patch was opened.`, true);
  },

  skip() {
    if (this.hindered()) return;
    lassoTool.finish(this);
    if (this.draft) this.clearDraft();
    this.close("skip");
  },

  reopen() {
    if (this.patchClosed) this.send("finish", { how: "reopen" }, () => this.changed());
    else this.hindered();
  },

  close(how) {
    const { name } = this.patch;
    this.send("finish", { how }, async () => {
      this.changed();
      await this.loadBatch();
      if (this.batch.next) {
        await this.openPatch(this.batch.next);
        this.say(how === "done" ? `${name} is done. Next patch.` : `${name} is skipped. Next patch.`);
      } else {
        this.say("Every patch of this batch is finished. You can train now.");
      }
    });
  },

  changed() { this.trigger("changed", { patch: this.patch.id, status: this.patch.status }); },

  step(by) {
    if (this.finishing) return; // that leads to the next patch
    const order = this.batch.patches.map((patch) => patch.id);
    const at = order.indexOf(this.patch?.id);
    const next = order[(at + by + order.length) % order.length];
    if (next !== undefined && next !== this.patch?.id) this.openPatch(next);
  },
};

// What an act on known objects says of them, as they are called when it is sent. `unborn`: those of them that the
// server did not know yet, by the page's name for them, for an act that is kept over a reload.
function named(payload, refs) {
  const unborn = refs.filter((ref) => !ref.born).map((ref) => ref.page);
  const ids = refs.map((ref) => ref.id);
  return {
    ...(payload.object ? { object: ids[0] } : {}), ...(payload.objects ? { objects: ids } : {}), ...(unborn.length ? { unborn } : {}),
  };
}
