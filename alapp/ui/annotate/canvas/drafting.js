// Clicking an object: points go to the server, a mask comes back, Enter accepts it. Methods of Annotator.

const MOST_POINTS = 400; // of one sign, before the server refuses more
const SLOW_MS = 1000; // after which a click that is not answered says why

const drafting = {
  // The unfinished object, begun if there is none.
  beginDraft() {
    if (this.draft && !this.draft.settled && !this.draft.accepting) return;
    // In a stack, an object that is selected but not yet on this slice goes on here.
    const chosen = this.items.find((item) => item.id === this.selected && !item.suggestion);
    const goesOn = chosen && this.patch.depth > 1 && !chosen.filledOn(this.z);
    this.draft = { z: this.z, positive: [], negative: [], box: null, order: [], object: goesOn ? chosen.id : null, item: null,
      tuning: this.tuning };
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
    const { id } = this.patch;
    const { draft } = this;
    this.saveDraft();
    this.part("start").disabled = true;
    this.link.act("click", () => this.patch?.id === id && {
      patch: id, revision: this.patch.revision, z: draft.z, positive: draft.positive, negative: draft.negative,
      box: draft.box, object: draft.object, overlap: this.part("overlap").value, tuning: draft.tuning,
    }, (answer) => {
      if (this.patch?.id !== id || this.failed(answer)) return;
      this.patch.revision = answer.revision;
      this.root.dataset.revision = answer.revision;
      const before = flatBox(draft.item);
      draft.item = answer.mask ? new Item({ ...answer.mask, id: -1 }) : null;
      if (!draft.item && draft.accepting) {
        // There is nothing to accept: the person goes on with these points.
        draft.accepting = false;
        if (!this.painting) this.patch.next = this.patch.last_id + 1;
      }
      if (this.draft !== draft) return;
      this.view.drawOver(joinBoxes([before, flatBox(draft.item), pointsBox(draft)]));
      this.button("undo").disabled = false;
      if (!draft.item && (draft.positive.length || draft.box)) this.say("Nothing found here. Click inside an object, or on its darker or brighter core.");
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
    if (!this.patch || this.closed) return;
    if (lassoTool.finish(this)) return;
    const { draft } = this;
    if (!draft) {
      const chosen = this.items.find((item) => item.id === this.selected && item.suggestion);
      if (chosen) this.answer(chosen.id, () => this.take([chosen.id]));
      else if (this.tool === brushTool || this.tool === eraseTool) this.select(null);
      return;
    }
    if (draft.accepting) return;
    // The mask may still be on its way: its turn comes after the click's, and whatever is begun meanwhile is another
    // object.
    draft.accepting = true;
    for (const act of this.link.queue) if (act.replaces === "click") act.replaces = null;
    draft.becomes = draft.settled ?? draft.object ?? this.nextId();
    const { id } = this.patch;
    forget(`draft-${id}`); // the act is kept now, and it must not come back as points too
    this.link.act("accept", () => {
      if (this.patch?.id !== id || !draft.item) return null;
      return {
        patch: id, revision: this.patch.revision, box: draft.item.box, runs: draft.item.runs, object: draft.object,
        overlap: this.part("overlap").value,
      };
    }, (answer) => {
      if (this.patch?.id !== id) return;
      if (this.failed(answer)) {
        draft.settled = null;
        draft.accepting = false;
        if (this.draft === draft) this.saveDraft();
        return;
      }
      if (this.draft === draft) this.dropDraft();
      this.takeIn(answer);
      if (draft.settled || this.draft) return;
      // In a stack the object stays selected, so that clicks on the next slice continue it.
      this.select(this.patch.depth > 1 ? draft.object ?? answer.object : null);
    });
  },

  edit() {
    if (this.closed) return;
    const item = this.items.find((other) => other.id === (this.hovered || this.selected));
    if (!item || !item.on(this.z)) return this.say("Point at an object or a suggestion, then press E.");
    const slice = item.slice(this.z);
    const [, y0, x0, , y1, x1] = item.box;
    this.dropDraft();
    this.draft = { z: this.z, positive: [], negative: [], box: null, object: item.id, order: [], tuning: this.tuning,
      item: new Item({ id: -1, box: [this.z, y0, x0, this.z + 1, y1, x1], runs: encodeRuns(slice), size: item.size }) };
    this.select(item.id);
    this.say(`Correcting object ${item.id}: left click adds, right click takes away, Enter accepts.`);
  },

  escape() {
    if (!this.part("sheet").hidden) return this.toggleSheet();
    if (!this.part("look").hidden) return this.toggleLook();
    if (!this.part("note").hidden) return this.toggleNote();
    showMessage(this, "");
    if (this.drag) return this.cancelDrag();
    if (lassoTool.path) return lassoTool.cancel(this);
    if (this.draft) return this.clearDraft();
    if (this.selected) return this.select(null);
    this.setTool("point");
  },

  // Forget the points, here and in the journal.
  clearDraft() {
    const had = this.draft?.order.length;
    this.dropDraft();
    if (!had || this.looking) return;
    const { id } = this.patch;
    const { z } = this;
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
    if (kept.z !== this.z) this.toSlice(kept.z);
    this.draft = { ...kept, item: null };
    this.scene();
    this.sendClick();
  },
};

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
