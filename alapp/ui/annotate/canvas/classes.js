// Kinds of objects, where a project has several, and deleting all of a kind. Methods of Annotator.

// The colours of objects, and two more: there are up to nine kinds. (Tol, 2021, for the last one.)
const KIND_PALETTE = [...PALETTE, "#BBBBBB", "#882255"];
const KIND_RGB = KIND_PALETTE.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const kindColour = (kind) => KIND_PALETTE[(kind - 1) % KIND_PALETTE.length];

const classing = {
  // {kind, name} of each; none where a project has one kind only.
  get kinds() { return this.batch.kinds ?? []; },

  kindName(kind) { return this.kinds.find((each) => each.kind === kind)?.name ?? ""; },

  // The objects that a choice of kind is for; none: for new objects.
  get toClassify() {
    if (!this.draft) return this.chosen;
    return this.draft.object === null ? [] : [this.draft.object];
  },

  // The kind of objects that are drawn from now on.
  useKind(kind) {
    this.kind = kind;
    this.link.kind = this.kinds.length ? kind : undefined;
    if (this.kinds.length) remember(`kind-${this.project}`, kind);
  },

  // After the batch was loaded: the kinds may have changed in the settings.
  restoreKind() {
    const kept = recall(`kind-${this.project}`);
    this.useKind(this.kindName(kept) ? kept : this.kinds[0]?.kind ?? 1);
    showKinds(this);
    const names = JSON.stringify(this.kinds);
    if (this.patch && this.named !== names) {
      this.scene();
      this.view.refresh();
      showObjects(this);
      showSheet(this);
    }
    this.named = names;
  },

  setKind(kind) {
    const name = this.kindName(kind);
    if (!name || !this.patch) return;
    const objects = this.toClassify;
    if (!objects.length) {
      this.useKind(kind);
      showKinds(this);
      return this.say(`New objects are of the kind “${name}”.`);
    }
    if (this.hindered()) return;
    if (objects.every((id) => this.items.find((item) => item.id === id)?.kind === kind)) return;
    this.send("classify", { objects, kind }, () => this.say(
      objects.length > 1 ? `${objects.length} objects are now “${name}”.` : `Object ${objects[0]} is now “${name}”.`,
    ));
  },

  toggleByKind() {
    this.byKind = !this.byKind;
    remember("by-kind", this.byKind);
    this.scene();
    this.view.refresh();
    showObjects(this);
  },

  // Red, green, blue of each object by id, where the colour tells the kind; else null.
  tones(items) {
    if (!this.byKind || !this.kinds.length) return null;
    const known = new Map(this.items.map((item) => [item.id, item.kind]));
    return new Map(items.map(({ id }) => [id, KIND_RGB[((known.get(id) ?? this.kind) - 1) % KIND_RGB.length]]));
  },

  // --- deleting all of a kind --------------------------------------------------------------------------------

  toggleSweep(open = this.part("sweep").hidden) {
    if (open && (this.hindered() || this.blind())) return;
    if (open && !this.items.length) return this.say("There is nothing to delete here.");
    this.part("sweep").hidden = !open;
    this.part("sweep-open").setAttribute("aria-expanded", String(open));
    showSweep(this);
    if (open) this.part("sweep").querySelector("[data-part=sweep-list] button").focus();
    else this.stage.focus({ preventScroll: true });
  },

  // What can be deleted at once: [what the button says, the question, the objects].
  get sweeps() {
    const objects = this.items.filter((item) => !item.suggestion);
    const suggestions = this.items.filter((item) => item.suggestion);
    return [
      ["All objects", `Delete ${allOf(objects, "object")}?`, objects],
      ["All suggestions", `Delete ${allOf(suggestions, "suggestion")}?`, suggestions],
      ...this.kinds.map(({ kind, name }) => {
        const found = objects.filter((item) => item.kind === kind);
        return [`All “${name}”`, `Delete ${allOf(found, "object")} of the kind “${name}”?`, found];
      }),
    ].filter(([, , items]) => items.length);
  },

  get small() {
    const below = Number(this.part("sweep-size").value);
    return this.items.filter((item) => item.size < below);
  },

  sweepSmall() {
    const found = this.small;
    const parts = [["object", false], ["suggestion", true]]
      .map(([word, suggestion]) => [word, found.filter((item) => Boolean(item.suggestion) === suggestion).length])
      .filter(([, n]) => n).map(([word, n]) => count(n, word));
    const below = Number(this.part("sweep-size").value);
    remember("smaller", below);
    if (!found.length) return this.say(`Nothing here is smaller than ${count(below, this.unit)}.`);
    this.sweep(`Delete ${parts.join(" and ")} smaller than ${count(below, this.unit)}?`, found);
  },

  get unit() { return this.patch?.depth > 1 ? "voxel" : "pixel"; },

  // Asks, then deletes exactly what was counted.
  sweep(question, items) {
    const { id } = this.patch;
    const objects = items.map((item) => item.id);
    this.toggleSweep(false);
    this.ask(question, [
      [`Delete ${objects.length}`, () => {
        if (this.patch?.id !== id || this.hindered()) return;
        if (objects.includes(this.draft?.object)) this.dropDraft();
        this.send("remove", { objects }, () => this.say(`${objects.length} deleted. Ctrl+Z brings back all of them.`));
      }],
      ["Cancel", () => {}],
    ]);
  },
};

function count(n, word) { return `${n.toLocaleString("en-US")} ${word}${n === 1 ? "" : "s"}`; }

function allOf(items, word) { return items.length === 1 ? `the only ${word}` : `all ${count(items.length, word)}`; }

function bindClasses(page) {
  page.kind = 1;
  page.byKind = recall("by-kind") === true;
  page.part("sweep-size").value = recall("smaller") ?? 50;
  page.part("sweep-open").addEventListener("click", () => page.toggleSweep());
  page.part("sweep-close").addEventListener("click", () => page.toggleSweep(false));
  page.part("sweep-size").addEventListener("input", () => showSweep(page));
  page.part("sweep-form").addEventListener("submit", (event) => {
    event.preventDefault();
    page.sweepSmall();
  });
  // Its keys are its own: Enter and Space press a button, Delete edits the number.
  page.part("sweep").addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") page.toggleSweep(false);
  });
}

// The row of kinds: which one new objects get, or which one the selected objects have.
function showKinds(page) {
  const { kinds } = page;
  page.part("kinds-box").hidden = !kinds.length;
  if (!kinds.length) return;
  const objects = page.patch ? page.toClassify : [];
  const known = new Set(objects.map((id) => page.items.find((item) => item.id === id)?.kind ?? page.kind));
  const shown = objects.length ? (known.size === 1 ? [...known][0] : null) : page.kind;
  const title = objects.length > 1 ? `Kind of ${objects.length} objects` : objects.length ? `Kind of object ${objects[0]}` : "Kind of new objects";
  page.part("kinds-title").textContent = title;
  page.part("kinds").setAttribute("aria-label", title);
  page.part("kinds").replaceChildren(...kinds.map(({ kind, name }) => {
    const button = make("button", "ann-button ann-kind");
    button.type = "button";
    button.dataset.kind = kind;
    button.title = `${name} (${kind})`;
    button.setAttribute("aria-pressed", String(kind === shown));
    const swatch = make("span", "ann-swatch");
    swatch.style.background = kindColour(kind);
    button.append(swatch, make("span", "ann-name", name), make("kbd", "", `${kind}`));
    button.addEventListener("click", () => {
      page.setKind(kind);
      page.stage.focus({ preventScroll: true });
    });
    return button;
  }));
  page.part("kinds").querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
  page.root.querySelector("[data-act=toggleByKind]").setAttribute("aria-pressed", String(page.byKind));
}

function showSweep(page) {
  page.part("sweep-open").disabled = page.closed || !page.items.length;
  if (page.closed || !page.items.length) page.part("sweep").hidden = true;
  if (page.part("sweep").hidden) return page.part("sweep-open").setAttribute("aria-expanded", "false");
  page.part("sweep-list").replaceChildren(...page.sweeps.map(([label, question, items]) => {
    const button = make("button", "ann-button ann-sweep-row");
    button.type = "button";
    button.append(make("span", "ann-name", label), make("span", "ann-count", items.length.toLocaleString("en-US")));
    button.addEventListener("click", () => page.sweep(question, items));
    return button;
  }));
  page.part("sweep-unit").textContent = page.patch.depth > 1 ? "vx" : "px";
  page.part("sweep-small").textContent = page.small.length.toLocaleString("en-US");
}
