// Suggestions, the most doubtful first: go through them, or accept those that are sure. Methods of Annotator.

const FLAG_TEXT = { merged: "two in one?", large: "very large", small: "very small" };
const FLAG_TITLE = {
  merged: "It has a waist: maybe two objects were taken for one.",
  large: "Much larger than the other objects of the image.",
  small: "Much smaller than the other objects of the image.",
};

// Suspicious ones first, then by rising confidence; ones without (older journals) stay in their order, last.
function byDoubt(a, b) {
  return Number(!a.flag) - Number(!b.flag) || (a.confidence ?? 1) - (b.confidence ?? 1) || a.id - b.id;
}

const doubting = {
  get suggestions() { return this.items.filter((item) => item.suggestion).sort(byDoubt); },

  // Suggestions that are at least as sure as the slider says, and not suspicious.
  get sure() {
    const least = Number(this.part("above").value) / 100;
    return this.suggestions.filter((item) => !item.flag && item.confidence !== null && item.confidence >= least);
  },

  bindDoubts() {
    this.part("above").value = Math.round(100 * (recall("above") ?? 0.8));
    this.part("above").addEventListener("input", (event) => {
      remember("above", Number(event.target.value) / 100);
      this.showDoubts();
    });
  },

  showDoubts() {
    const { suggestions } = this;
    this.part("above-row").hidden = !suggestions.some((item) => item.confidence !== null);
    const n = this.sure.length;
    const least = this.part("above").value;
    this.part("above-button").textContent = `Accept ${n} of at least ${least} %`;
    this.part("above-button").disabled = this.closed || !this.sighted || !n;
    this.part("above").setAttribute("aria-valuetext", `${least} %, ${n} suggestion${n === 1 ? "" : "s"}`);
    const suspects = suggestions.filter((item) => item.flag).length;
    this.part("suspects").hidden = !suspects;
    this.part("suspects").textContent = `${suspects} look${suspects === 1 ? "s" : ""} suspicious: Shift+N goes through them first.`;
  },

  takeAbove() {
    if (this.hindered() || this.blind()) return;
    const chosen = this.sure.map((item) => item.id);
    if (!chosen.length) return this.say("No suggestion is as sure as that. Move the slider to the left.");
    this.take(chosen);
  },

  // The suggestion after the selected one, or the most doubtful; it is brought into sight.
  nextDoubt(by = 1) {
    const { suggestions } = this;
    if (!suggestions.length) return this.say("There is no suggestion left on this patch.");
    const at = suggestions.findIndex((item) => item.id === this.selected);
    const next = suggestions[at < 0 ? 0 : (at + by + suggestions.length) % suggestions.length];
    this.goTo(next);
  },

  goTo(item) {
    if (!item.on(this.z)) this.toSlice(Math.floor((item.box[0] + item.box[3] - 1) / 2));
    this.select(item.id);
    this.view.reveal(flatBox(item));
    this.announce(`${item.suggestion ? "Suggestion" : "Object"} ${item.id}, ${item.size} ${this.patch.depth > 1 ? "voxels" : "pixels"}`);
  },

  // Accept or reject suggestion `id` by `act`, and go on to the next one, so that keys alone go through all.
  answer(id, act) {
    const { suggestions } = this;
    const at = suggestions.findIndex((item) => item.id === id);
    act();
    const next = at < 0 ? null : suggestions[at + 1] ?? suggestions[0];
    if (next && next.id !== id) this.goTo(next);
  },
};
