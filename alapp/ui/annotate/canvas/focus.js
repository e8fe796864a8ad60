// Work without a mouse: rows of objects, the order of objects, dialogs that hold the focus. Methods of Annotator.

const FIELDS = "input, textarea, select, [contenteditable]"; // that keep the focus, outside of the page

const focusing = {
  bindFocus() {
    this.announcer = make("div", "ann-spoken");
    this.announcer.setAttribute("role", "status");
    this.announcer.dataset.part = "spoken";
    this.root.append(this.announcer);
    for (const [name, label] of [["suggestions", "Suggestions"], ["objects", "Objects"]]) bindRows(this, this.part(name), label);
    for (const name of ["sheet", "message", "note"]) holdFocus(this.part(name));
    this.bindArrival();
  },

  // When the tab is opened, the focus is on what was pressed for it, where no key of the image works.
  bindArrival() {
    let shown = false;
    new ResizeObserver(() => {
      const now = this.root.getClientRects().length > 0;
      if (now === shown) return;
      shown = now;
      const { activeElement: pressed } = document;
      // Who goes through the bar of tabs by keys goes on there.
      this.cameFrom = now && !pressed?.matches("[role=tab]:focus-visible") ? pressed : null;
      if (now && this.patch && !this.loading) this.takeFocus();
    }).observe(this.root);
  },

  // A patch is shown: keys go to the image, unless the person types, or works by keys, somewhere else.
  takeFocus() {
    const { activeElement: active } = document;
    const came = active === this.cameFrom;
    this.cameFrom = null;
    if (active && active !== document.body) {
      if (!this.root.contains(active) && active.matches(FIELDS)) return;
      if (!came && active.matches(":focus-visible")) return;
    }
    this.stage.focus({ preventScroll: true });
  },

  announce(text) { this.announcer.textContent = text; },

  // Select the next or previous one in the order of the lists: suggestions, then objects.
  cycle(by) {
    if (!this.patch || this.drag) return;
    const ids = [...this.root.querySelectorAll("[data-object]")].map((row) => Number(row.dataset.object));
    if (!ids.length) return this.say("There is no object or suggestion on this patch yet.");
    const at = ids.indexOf(this.selected);
    // One that was just accepted or deleted is gone: go on where it was.
    const from = at >= 0 ? at + by : by > 0 ? this.cycledAt ?? 0 : (this.cycledAt ?? 0) - 1;
    this.cycledAt = (from + ids.length) % ids.length;
    this.goTo(this.items.find((item) => item.id === ids[this.cycledAt]));
  },
};

// The rows of a list can be walked with the arrow keys; all other keys mean what they mean on the image.
function bindRows(page, list, label) {
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", label);
  list.setAttribute("aria-multiselectable", "true");
  let focused = null;
  const rows = () => [...list.querySelectorAll("[data-object]")];
  const dress = () => {
    const all = rows();
    const entry = all.find((row) => row.dataset.object === focused) ?? all.find((row) => row.classList.contains("ann-selected")) ?? all[0];
    for (const row of all) {
      const selected = String(row.classList.contains("ann-selected"));
      const stop = row === entry ? 0 : -1;
      if (row.getAttribute("role") !== "option") row.setAttribute("role", "option");
      if (row.getAttribute("aria-selected") !== selected) row.setAttribute("aria-selected", selected);
      if (row.tabIndex !== stop) row.tabIndex = stop;
    }
    list.setAttribute("aria-hidden", String(!all.length));
    return entry;
  };
  // The lists are made anew with every change: the focus stays where it was.
  new MutationObserver((changes) => {
    const held = focused !== null && !list.contains(document.activeElement);
    const entry = dress();
    if (!held || !changes.some((change) => change.removedNodes.length)) return;
    if (document.activeElement === document.body || !document.activeElement) (entry ?? page.stage).focus({ preventScroll: true });
  }).observe(list, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
  list.addEventListener("focusin", (event) => { focused = event.target.closest("[data-object]")?.dataset.object ?? null; });
  list.addEventListener("focusout", (event) => {
    // A row that is taken away loses the focus to nobody.
    if (event.relatedTarget) focused = null;
  });
  list.addEventListener("keydown", (event) => {
    const row = event.target.closest("[data-object]");
    const at = rows().indexOf(row);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows().length - 1 }[event.key];
    if (at < 0 || to === undefined || event.target !== row) return;
    event.preventDefault();
    event.stopPropagation();
    const next = rows()[Math.min(rows().length - 1, Math.max(0, to))];
    next.focus();
    page.goTo(page.items.find((item) => item.id === Number(next.dataset.object)));
  });
  dress();
}

// Tab stays inside of a dialog that is open.
function holdFocus(box) {
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Tab") return;
    const stops = [...box.querySelectorAll("button, textarea, input, select, [tabindex='0']")].filter((each) => !each.disabled && each.offsetParent);
    if (!stops.length) return;
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (document.activeElement !== edge) return;
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0]).focus();
  });
}
