// Clicking an object: points go to the server, a mask comes back, Enter accepts it. Methods of Annotator.

const MOST_POINTS = 400; // of one sign, before the server refuses more
const NOTHING_YET = "There is nothing to accept yet. Click inside an object, or press Esc to clear the points.";
const SLOW_MS = 1000; // after which a click that is not answered says why

const drafting = {
  // The unfinished object of this slice, begun if there is none. One that was left on another slice is accepted.
  beginDraft() {
    if (this.draft?.z === this.z) return;
    const left = this.settle();
    if (left !== null) this.select(left);
    // In a stack, an object that is selected but not yet on this slice goes on here.
    const chosen = this.known(this.selected) && !this.items.find((item) => item.id === this.selected)?.suggestion;
    const goesOn = chosen && this.isStack && !this.isOn(this.selected, this.z);
    this.draft = { z: this.z, positive: [], negative: [], box: null, order: [], object: goesOn ? this.selected : null,
      item: null, tuning: this.tuning };
    showKinds(this);
  },

  addPoint([y, x], negative, started) {
    this.beginDraft();
    this.draft[negative ? "negative" : "positive"].push([y, x]);
    this.draft.order.push(negative ? "negative" : "positive");
    this.scene();
    this.view.drawOver();
    this.sendClick(started);
  },

  // The rest of a scribble that began with a point: one step to undo.
  addScribble(points, negative, started) {
    if (!this.draft || !points.length) return;
    const sign = negative ? "negative" : "positive";
    const room = MOST_POINTS - this.draft[sign].length;
    if (room < 1) return this.say("This object has as many points as it can have. Accept it, then correct it with E.");
    while (points.length > room) points = points.filter((_, i) => i % 2);
    this.draft[sign].push(...points);
    this.draft.order.push(...points.map(() => `${sign}+`));
    this.scene();
    this.view.drawOver();
    this.sendClick(started);
  },

  // A box (y0, x0, y1, x1), along the edges of pixels; a second one takes the place of the first.
  addBox(box, started) {
    this.beginDraft();
    if (!this.draft.box) this.draft.order.push("box");
    this.draft.box = box;
    this.scene();
    this.view.drawOver();
    this.sendClick(started);
  },

  sendClick(started = performance.now()) {
    if (this.looking) return; // a click would take the patch over
    const { id } = this.patch;
    const { draft } = this;
    const turn = (draft.asked = (draft.asked ?? 0) + 1);
    const ref = draft.object === null ? null : this.refer(draft.object);
    this.saveDraft();
    this.part("start").disabled = true;
    this.link.act("click", () => this.patch?.id === id && {
      patch: id, revision: this.patch.revision, z: draft.z, positive: draft.positive, negative: draft.negative,
      box: draft.box, ...objectOf(ref), overlap: this.part("overlap").value, tuning: draft.tuning,
    }, (answer) => {
      draft.heard = turn;
      if (this.patch?.id !== id || this.failed(answer)) return;
      this.patch.revision = answer.revision;
      this.root.dataset.revision = answer.revision;
      const before = flatBox(draft.item);
      draft.item = answer.mask ? new Item({ ...answer.mask, id: -1 }) : null;
      if (this.draft !== draft && !this.accepting.includes(draft)) return;
      this.view.drawOver(joinBoxes([before, flatBox(draft.item), pointsBox(draft)]));
      this.button("undo").disabled = false;
      if (!draft.item && prompted(draft)) this.say("Nothing found here. Click inside an object, or on its darker or brighter core.");
      requestAnimationFrame(() => this.measure(started));
    }, { replaces: "click" });
    this.answered?.();
    this.answered = this.working("Working on your click… The first one on a slice takes longest.", { after: SLOW_MS, canStop: false });
    this.link.idle().then(this.answered);
  },

  // From the event to the first frame after the mask was drawn; the benchmarks read it.
  measure(started, name = "ann-painted") {
    const painted = new MessageChannel();
    painted.port1.onmessage = () => this.root.dispatchEvent(new CustomEvent(name, {
      detail: { ms: performance.now() - started },
    }));
    painted.port2.postMessage(null);
  },

  acceptDraft() {
    if (this.hindered()) return;
    if (lassoTool.finish(this)) return;
    const { draft } = this;
    if (!draft) {
      const chosen = this.items.find((item) => item.id === this.selected && item.suggestion);
      if (chosen && !this.blind()) this.answer(chosen.id, () => this.take([chosen.id]));
      else if (!chosen && (this.tool === brushTool || this.tool === eraseTool)) this.select(null);
      return;
    }
    if (!draft.item && !awaited(draft)) return this.say(NOTHING_YET);
    this.sendAccept(draft);
  },

  // The mask may still be on its way: its turn comes after the click's, and whatever is begun meanwhile is another
  // object, as it is after the answer. In a stack the object stays selected, so that clicks on the next slice continue
  // it; `selects` false: the selection stays as it is.
  sendAccept(draft, selects = true) {
    for (const act of this.link.queue) if (act.replaces === "click") act.replaces = null;
    const ref = (draft.ref = draft.object === null ? this.conceive() : this.refer(draft.object));
    const end = this.fills(ref, draft.z);
    const { id } = this.patch;
    this.draft = null;
    this.accepting.push(draft);
    this.part("start").disabled = this.closed;
    forget(`draft-${id}`); // the act is kept now, and it must not come back as points too
    showKinds(this);
    if (selects) this.select(this.isStack ? ref.id : null);
    else this.scene();
    const over = () => {
      end();
      this.accepting = this.accepting.filter((each) => each !== draft);
    };
    draft.act = this.link.act("accept", () => {
      if (this.patch?.id !== id || awaited(draft) || !draft.item) return null;
      return {
        patch: id, revision: this.patch.revision, box: draft.item.box, runs: draft.item.runs, ...target(ref),
        overlap: this.part("overlap").value,
      };
    }, (answer) => {
      if (this.patch?.id !== id) return;
      over();
      if (this.failed(answer)) return this.notAccepted(draft);
      draft.accepted = true;
      this.bear(ref, answer.object);
      this.redraw(draft);
      this.takeIn(answer);
    }, { makes: ref.born ? null : ref.page, skipped: () => {
      if (this.patch?.id !== id) return;
      over();
      this.nothingToAccept(draft);
    } });
    draft.act.ref = ref;
  },

  // The answer to the click had no mask: the person goes on with these points.
  nothingToAccept(draft) {
    this.notAccepted(draft);
    if (this.draft === draft && !prompted(draft)) this.say(NOTHING_YET); // else the answer to the click said why
    if (this.draft !== draft) this.say("Nothing was found at an object that you accepted, so it is not there. Click it anew.", true);
  },

  // It is unfinished again, unless another one was begun.
  notAccepted(draft) {
    this.forgo(draft.ref);
    if (this.selected && !this.known(this.selected)) this.select(null);
    this.recount();
    if (!this.draft) {
      this.draft = draft;
      this.saveDraft();
    }
    this.redraw(draft);
  },

  // Draw what an unfinished object shows, or showed, anew.
  redraw(draft) {
    this.scene();
    const box = joinBoxes([flatBox(draft.item), pointsBox(draft)]);
    if (box) this.view.drawOver(box);
  },

  edit() {
    if (this.hindered()) return;
    const item = this.items.find((other) => other.id === (this.hovered || this.selected));
    if (!item || !item.on(this.z)) return this.say("Point at an object or a suggestion, then press E.");
    const slice = item.slice(this.z);
    const [, y0, x0, , y1, x1] = item.box;
    if (this.draft?.object === item.id) this.dropDraft();
    else this.settle();
    this.draft = { z: this.z, positive: [], negative: [], box: null, object: item.id, order: [], tuning: this.tuning,
      item: new Item({ id: -1, box: [this.z, y0, x0, this.z + 1, y1, x1], runs: encodeRuns(slice), size: item.size }) };
    this.select(item.id);
    this.say(`Correcting object ${item.id}: left click adds, right click takes away, Enter accepts.`);
  },

  escape() {
    if (!this.part("sheet").hidden) return this.toggleSheet();
    if (!this.part("look").hidden) return this.toggleLook();
    if (!this.part("note").hidden) return this.toggleNote();
    // A question that is not answered, or an error, is closed and no more: what is drawn stays.
    const heeded = this.asking || (!this.part("message").hidden && this.part("message").classList.contains("ann-error"));
    showMessage(this, "");
    if (heeded) return;
    if (this.drag) return this.cancelDrag();
    if (lassoTool.path) return lassoTool.cancel(this);
    if (this.draft) return this.clearDraft();
    if (this.selected) return this.select(null);
    if (!this.locked || this.tool === rulerTool) this.setTool("point");
  },

  // Forget the points, here and in the journal.
  clearDraft() {
    if (this.loading) return;
    const had = this.draft?.order.length;
    const z = this.draft?.z ?? this.z;
    if (z !== this.z) this.say(`The unfinished object on slice ${z + 1} is cleared.`);
    this.dropDraft();
    if (!had || this.looking) return;
    const { id } = this.patch;
    this.link.act("click", () => this.patch?.id === id && {
      patch: id, revision: this.patch.revision, z, positive: [], negative: [], box: null, object: null,
    }, (answer) => {
      if (this.patch?.id !== id || this.failed(answer)) return;
      this.patch.revision = answer.revision;
      this.root.dataset.revision = answer.revision;
    }, { replaces: "click" });
  },

  dropDraft() {
    const box = joinBoxes([flatBox(this.draft?.item), this.draft && pointsBox(this.draft)]);
    this.draft = null;
    if (!this.looking) forget(`draft-${this.patch.id}`);
    this.part("start").disabled = this.closed;
    showKinds(this);
    this.scene();
    if (box) this.view.drawOver(box);
  },

  asDraft(raw) {
    const item = raw.mask ? new Item({ ...raw.mask, id: -1 }) : null;
    const order = [...(raw.box ? ["box"] : []), ...raw.positive.map(() => "positive"), ...raw.negative.map(() => "negative")];
    return { z: raw.z, positive: raw.positive, negative: raw.negative, box: raw.box, object: raw.object, tuning: raw.tuning, item, order };
  },

  saveDraft() {
    const { z, positive, negative, box, object, order, tuning } = this.draft;
    remember(`draft-${this.patch.id}`, { z, positive, negative, box, object, order, tuning });
  },

  // Points that were set but never reached the server, before a reload.
  restoreDraft() {
    const kept = recall(`draft-${this.patch.id}`);
    if (!kept || this.closed) return;
    const stored = this.draft;
    const prompts = (draft) => JSON.stringify([draft.positive, draft.negative, draft.box ?? null, draft.tuning]);
    if (stored && prompts(stored) === prompts(kept)) {
      stored.order = kept.order;
      return;
    }
    this.draft = { ...kept, item: null, object: this.known(kept.object) ? kept.object : null };
    this.toSlice(kept.z);
    this.scene();
    this.sendClick();
  },
};

// How a click says which object it continues; one that is still to be made has a name of the page, see births.js.
function objectOf(ref) {
  if (!ref || ref.born) return { object: ref?.id ?? null };
  return ref.waiting ? { object: ref.page, unborn: [ref.page] } : { object: null };
}

// Whether anything says where the object is.
function prompted(draft) { return draft.positive.length > 0 || Boolean(draft.box); }

// Whether the mask of an unfinished object is on its way.
function awaited(draft) { return (draft.asked ?? 0) !== (draft.heard ?? 0); }

// How many entries of an order of prompts the last step made: a scribble is many points, the later ones marked "+".
function lastStep(order) {
  let count = 1;
  while (count < order.length && order.at(-count).endsWith("+")) count++;
  return count;
}

function pointsBox(draft) {
  const corners = draft.box ? [draft.box.slice(0, 2), draft.box.slice(2)] : [];
  const points = [...draft.positive, ...draft.negative, ...corners];
  if (!points.length) return null;
  const [ys, xs] = [points.map((p) => p[0]), points.map((p) => p[1])];
  // Points are drawn at a fixed size on the screen, so at low zoom they cover more of the image.
  const r = 24;
  return [Math.min(...ys) - r, Math.min(...xs) - r, Math.max(...ys) + r, Math.max(...xs) + r];
}
