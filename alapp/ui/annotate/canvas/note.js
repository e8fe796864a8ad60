// A note on the patch: plain text, saved while it is written. Methods of Annotator.

const NOTE_PAUSE_MS = 500;

const noting = {
  bindNote() {
    const field = this.part("note-text");
    field.addEventListener("input", () => {
      // Kept at once, sent after a pause.
      remember(`note-${this.patch.id}`, field.value);
      this.part("note-state").textContent = "saving…";
      clearTimeout(this.noteTimer);
      this.noteTimer = setTimeout(() => this.saveNote(), NOTE_PAUSE_MS);
    });
    field.addEventListener("blur", () => this.saveNote());
    this.part("note").addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this.toggleNote();
      }
    });
  },

  toggleNote() {
    if (!this.patch) return;
    const panel = this.part("note");
    panel.hidden = !panel.hidden;
    this.button("toggleNote").setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden) return this.part("note-text").focus();
    this.saveNote();
    this.stage.focus({ preventScroll: true });
  },

  saveNote() {
    clearTimeout(this.noteTimer);
    const { patch } = this;
    const kept = patch && recall(`note-${patch.id}`);
    if (kept === null || kept === undefined) return;
    this.link.act("save_note", () => ({ patch: patch.id, text: kept }), (answer) => {
      const newer = recall(`note-${patch.id}`);
      if (this.failed(answer)) {
        this.part("note-state").textContent = "not saved";
        return;
      }
      patch.note = answer.note;
      const entry = this.batch.patches.find((each) => each.id === patch.id);
      if (entry) entry.note = answer.note;
      if (newer === kept) forget(`note-${patch.id}`);
      showBatch(this);
      if (this.patch === patch) this.markNote(newer === kept ? "saved" : "saving…");
    }, { replaces: `note-${patch.id}` });
  },

  // The patch was opened, or its note was saved.
  showNote() {
    const { patch } = this;
    const field = this.part("note-text");
    if (field.dataset.patch !== String(patch.id) || (document.activeElement !== field && recall(`note-${patch.id}`) === null)) {
      field.dataset.patch = patch.id;
      // What was written before a reload, and did not reach the server, is newer.
      field.value = recall(`note-${patch.id}`) ?? patch.note ?? "";
      this.markNote("");
      this.saveNote();
    }
    field.readOnly = this.looking;
    if (this.looking) this.part("note-state").textContent = "You only look at this patch.";
  },

  markNote(state) {
    this.part("note-state").textContent = state;
    this.button("toggleNote").classList.toggle("ann-has-note", Boolean(this.patch.note));
    this.button("toggleNote").title = this.patch.note ? `Note (J): ${this.patch.note}` : "Note on this patch (J)";
  },
};
