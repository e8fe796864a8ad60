// Two pages on one patch: the second one is told and looks on; either can take the patch over. Methods of Annotator.

const POLL_MS = 5000;
const HIDDEN_POLL_MS = 60000;

const presence = {
  bindPresence() {
    document.addEventListener("visibilitychange", () => this.poll());
    this.schedulePoll();
  },

  // Out of sight: another window, or another tab of the app. (What fills the screen has a box, but no offsetParent.)
  get unseen() { return document.hidden || !this.root.getClientRects().length; },

  schedulePoll() {
    clearTimeout(this.pollTimer);
    this.pollTimer = setTimeout(() => this.poll(), this.unseen ? HIDDEN_POLL_MS : POLL_MS);
  },

  // Also during an act, which may take longer than a silent page holds its patch: a click with a foundation model, an
  // object carried through a stack.
  async poll() {
    const { patch, turn, link } = this;
    if (patch) {
      const answer = await link.ask("head", { patch: patch.id, hidden: this.unseen });
      // A page that gets no answer hears of it with its next act, which is sent until it is answered.
      if (!answer.unreachable && !answer.error && this.patch === patch && this.turn === turn) {
        await (link.busy ? this.heardInAct(answer) : this.heard(answer));
      }
    }
    this.schedulePoll();
  },

  // During an act revisions say nothing: its own may be written, and its answer be on the way. If somebody took the
  // patch over, the act is going to be refused.
  heardInAct({ mine, elsewhere }) {
    if (elsewhere && !mine) this.takenOver();
  },

  async heard({ revision, mine, elsewhere }) {
    const news = revision > this.patch.revision && !mine;
    if (this.looking && !elsewhere && !this.patchClosed) {
      await this.openPatch(this.patch.id);
      if (!this.looking) this.say("Nobody else has this patch open any more. You can go on here.");
    } else if (this.looking) {
      if (news && this.following) await this.openPatch(this.patch.id);
    } else if (news && this.patchClosed) {
      await this.openPatch(this.patch.id);
    } else if (news || elsewhere) {
      this.takenOver();
    }
  },

  // The patch was just opened.
  arrive({ elsewhere, seconds_ago: ago }) {
    this.looking = this.following = Boolean(elsewhere);
    const since = ago === null || ago === undefined ? "" : `; last change ${agoText(ago)} ago`;
    this.part("presence-text").textContent = `This patch is open in another tab or by another person${since}. You only look.`;
    this.button("lookAnew", "presence").hidden = true;
    this.button("takeOver", "presence").textContent = "Take over";
  },

  // Somebody else changed the patch. What stands here stays, to be looked at.
  takenOver() {
    if (this.looking) return;
    this.cancelDrag();
    this.looking = true;
    this.following = false;
    const points = this.draft?.order.length ? " The points that you set here are kept." : "";
    this.part("presence-text").textContent = `This patch was changed in another tab or by another person, who goes on with it. What you saved is safe.${points}`;
    this.button("lookAnew", "presence").hidden = false;
    this.button("takeOver", "presence").textContent = "Take it back";
    showMessage(this, "");
    this.showPatch();
  },

  async takeOver() {
    const { id } = this.patch;
    if (this.failed(await this.link.ask("claim", { patch: id }))) return;
    await this.openPatch(id);
    if (!this.looking) this.say("The patch is yours now. The other page is told.");
  },

  lookAnew() { return this.openPatch(this.patch.id); },

  showPresence() {
    this.part("presence").hidden = !this.looking;
    this.stage.classList.toggle("ann-looking", Boolean(this.looking));
  },
};

function agoText(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}
