// What is likely to be looked at next is fetched while nothing else goes on. Methods of Annotator.

const QUIET_MS = 300; // without an act before something is fetched ahead
const SETTLE_MS = 80; // on a slice before it is made ready for clicks: who leafs through a stack clicks on few

const fetching = {
  // Make the slice that is shown ready for clicks, one at a time: a foundation model takes seconds.
  async prepareSlice(id, z) {
    this.part("method").textContent = "getting ready for clicks…";
    const here = () => this.patch?.id === id && this.z === z;
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    await this.preparing;
    if (!here()) return;
    this.preparing = this.link.ask("prepare_slice", { patch: id, z });
    const answer = await this.preparing;
    if (!here()) return;
    this.part("method").textContent = answer.method || "";
    if (!this.failed(answer) && answer.note && answer.note !== this.noted) this.say(answer.note);
    this.noted = answer.note;
  },

  // Another method answers clicks from now on: what the one before knew of the slices is of no use to it.
  clicksChanged() {
    this.readied.clear();
    this.prepareSlice(this.patch.id, this.z);
  },

  // The slices around this one, then the patches that D and N lead to. Any other slice or patch ends it.
  async lookAhead() {
    const { id } = this.patch;
    const { z } = this;
    const on = async () => {
      await this.quiet();
      return this.patch?.id === id && this.z === z;
    };
    for (const near of [z + 1, z - 1, z + 2, z - 2]) {
      if (near < 0 || near >= this.patch.depth || this.pictures.get(id, near)) continue;
      if (!(await on())) return;
      await this.pictures.load(id, near);
    }
    for (const next of this.comingPatches()) {
      if (!(await on())) return;
      const answer = await this.link.ask("look_ahead", { patch: next });
      if (answer.z === undefined) return;
      this.opensOn.set(next, answer.z);
      if (!(await on())) return;
      await this.pictures.load(next, answer.z);
      if (this.readied.has(next)) continue;
      if (!(await on())) return;
      this.readied.add(next);
      await this.link.ask("prepare_slice", { patch: next, z: answer.z });
    }
  },

  comingPatches() {
    const { patches } = this.batch;
    const others = patches.filter((patch) => patch.id !== this.patch.id);
    const toDo = others.find((patch) => patch.state === "open" || patch.state === "started");
    const at = patches.findIndex((patch) => patch.id === this.patch.id);
    const after = at < 0 ? null : patches[(at + 1) % patches.length];
    return [...new Set([toDo, after].filter((patch) => patch && patch.id !== this.patch.id).map((patch) => patch.id))];
  },

  // Resolves when no act was under way, and nothing was drawn, for a while.
  async quiet() {
    do {
      await this.link.idle();
      await this.preparing;
      await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    } while (this.drag || !this.link.saved);
  },
};
