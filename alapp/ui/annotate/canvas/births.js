// Objects that are begun here before the server knows them. Methods of Annotator.
//
// The server numbers its objects, each new one after the last. What is drawn before it answers needs an id at once, so
// the page reserves one that is at least as high, and never the same twice; the true one takes its place when it is
// told. An act therefore names its object by a reference {id, page, born, waiting, slices}, which is read when the act
// is sent: that is after the answer to every act before it. `page` is the id that was reserved, `waiting` how many acts
// are on their way that would make or change the object, `slices` where. All acts on an object share its reference.

const births = {
  // A reference to a new object.
  conceive() {
    const id = Math.max(this.patch.next ?? 0, this.patch.last_id + 1);
    this.patch.next = id + 1;
    const ref = { id, page: id, born: false, waiting: 0, slices: new Set() };
    this.unborn.set(id, ref);
    this.refs.set(id, ref);
    return ref;
  },

  // The half of a split: the server passes over an id whose colour would be that of the other half.
  conceiveHalf() {
    const ref = this.conceive();
    this.patch.next++;
    return ref;
  },

  // A reference to the object that has this id on the page now.
  refer(id) {
    const ref = this.unborn.get(id) ?? this.refs.get(id) ?? { id, page: id, born: true, waiting: 0, slices: new Set() };
    this.refs.set(id, ref);
    return ref;
  },

  // An act is on its way that fills a slice of the object; returns what to call at its end.
  fills(ref, z) {
    ref.waiting++;
    ref.slices.add(z);
    return () => {
      ref.waiting--;
      ref.slices.delete(z);
    };
  },

  // Whether object `id` is on slice z, or will be.
  isOn(id, z) {
    return Boolean(this.items.find((item) => item.id === id)?.filledOn(z) || this.refs.get(id)?.slices.has(z));
  },

  // Whether what an act before took the object away, after this one was begun.
  isGone(ref) { return ref.born && !this.items.some((item) => item.id === ref.id); },

  // What is drawn on an object that is gone makes a new one, as it would have if the answer had come before.
  bearAnew(ref) {
    const { id } = ref;
    const fresh = this.conceive();
    Object.assign(ref, { id: fresh.id, page: fresh.page, born: false });
    this.refs.delete(id);
    this.refs.set(ref.page, ref);
    this.unborn.set(ref.page, ref);
    this.rename(id, ref.page);
  },

  // The server made the object and calls it `truth`.
  bear(ref, truth) {
    if (ref.born) return;
    const { page } = ref;
    Object.assign(ref, { id: truth, born: true });
    this.unborn.delete(page);
    this.refs.delete(page);
    this.refs.set(truth, ref);
    if (truth !== page) this.rename(page, truth);
    // What is kept for a reload names the object too.
    for (const act of this.link.queue) this.link.keep(act, act.build());
  },

  rename(from, to) {
    for (const name of ["selected", "hovered", "outlined"]) if (this[name] === from) this[name] = to;
    this.also = this.also.map((id) => (id === from ? to : id));
    if (this.painting?.id === from) this.painting.id = this.painting.item.id = to;
    if (this.draft?.object === from) this.draft.object = to;
    this.scene();
    this.view.refresh(); // the pixels are known by their ids
  },

  // Nothing is under way any more that would make the object.
  forgo(ref) {
    if (!ref || ref.born || ref.waiting) return;
    this.unborn.delete(ref.page);
    this.refs.delete(ref.page);
    if (this.draft?.object === ref.page) this.draft.object = null;
  },

  // Count on from the server's last id again, once nobody waits for an id.
  recount() {
    if (!this.link.queue.length && !this.unborn.size) this.patch.next = this.patch.last_id + 1;
  },
};

// How an act that adds to an object says which one: without `object` it makes a new one, which the page calls `makes`.
function target(ref) { return ref.born ? { object: ref.id } : { object: null, makes: ref.page }; }
