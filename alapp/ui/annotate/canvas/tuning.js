// How a click is meant: smaller or larger object, tighter or looser border. Methods of Annotator.

const TUNING = ["granularity", "looseness"];

const tuning = {
  get tuning() {
    return Object.fromEntries(TUNING.map((name) => [name, Number(this.part(name).value) / 100]));
  },

  bindTuning() {
    this.showTuning(recall("tuning") ?? {});
    for (const name of TUNING) {
      this.part(name).addEventListener("input", () => {
        remember("tuning", this.tuning);
        this.retune();
      });
    }
  },

  showTuning(values) {
    for (const name of TUNING) this.part(name).value = Math.round(100 * (values[name] ?? 0));
  },

  resetTuning() {
    this.showTuning({});
    remember("tuning", this.tuning);
    this.retune();
  },

  // The unfinished object anew, as the sliders say.
  retune() {
    if (!this.draft?.order.length || this.closed) return;
    this.draft.tuning = this.tuning;
    this.sendClick();
  },
};
