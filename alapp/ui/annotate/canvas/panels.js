// What stands around the canvas: patches, objects, messages, key sheet. User text goes in through textContent.

const ROLE_TEXT = { train: "for training", validation: "for validation: never trained on" };
const STATE_TEXT = { open: "to do", started: "begun", done: "done", skipped: "skipped" };
const SOURCE_TEXT = { model: "from the model", pseudo: "pseudo-label", hand: "drawn" };

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function showBatch(page) {
  const { batch } = page;
  page.part("batch-title").textContent = batch.title || "No batch yet";
  const closed = batch.patches.filter((patch) => patch.state === "done" || patch.state === "skipped").length;
  page.part("batch-count").textContent = batch.patches.length ? `${closed} of ${batch.patches.length} finished` : "";
  page.part("batch-bar").style.width = batch.patches.length ? `${(100 * closed) / batch.patches.length}%` : "0";
  const list = page.part("patches");
  const entries = batch.patches.map((patch, index) => {
    const entry = make("button", `ann-patch ann-state-${patch.state}`);
    entry.type = "button";
    entry.dataset.patch = patch.id;
    entry.title = [patch.name, patch.reason, ROLE_TEXT[patch.role], patch.note && `Note: ${patch.note}`].filter(Boolean).join(" — ");
    if (patch.id === page.patch?.id) entry.setAttribute("aria-current", "true");
    const mark = make("span", "ann-mark", { done: "✓", skipped: "⤼", started: "◐", open: "○" }[patch.state]);
    mark.setAttribute("aria-hidden", "true");
    const words = make("span", "ann-words");
    words.append(make("span", "ann-name", `${index + 1}. ${patch.name}`));
    const detail = make("span", "ann-detail", STATE_TEXT[patch.state]);
    if (patch.n_objects) detail.textContent += `, ${patch.n_objects} object${patch.n_objects === 1 ? "" : "s"}`;
    if (patch.state === "done") detail.textContent = doneText(patch);
    words.append(detail);
    entry.append(mark, words);
    if (patch.note) entry.append(Object.assign(make("span", "ann-noted", "✎"), { ariaLabel: "has a note" }));
    if (patch.role === "validation") entry.append(make("span", "ann-role", "val"));
    entry.addEventListener("click", (event) => page.openPatch(patch.id, null, event.timeStamp));
    return entry;
  });
  list.replaceChildren(...entries);
  list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

// Why a patch of the batch opens without suggestions; nothing for the others.
function startNote(patch) {
  if (patch?.role === "validation") return "This patch judges the model, so it starts from nothing unless you choose otherwise.";
  if (patch?.control) return "You wanted to measure what suggestions save, so this patch starts from nothing: please draw it from scratch.";
  return "";
}

function showObjects(page) {
  const objects = page.items.filter((item) => !item.suggestion);
  const { suggestions } = page;
  page.part("object-count").textContent = objects.length;
  page.part("suggestion-count").textContent = suggestions.length;
  page.part("suggestion-box").hidden = !suggestions.length;
  arrange(page.part("objects"), objects.map((item) => keptRow(page, item)).reverse());
  arrange(page.part("suggestions"), suggestions.map((item) => keptRow(page, item)));
  page.part("no-objects").hidden = objects.length > 0 || suggestions.length > 0;
  page.showDoubts();
  showKinds(page);
  showSweep(page);
}

const madeRows = new WeakMap(); // by item: an object that changes is another item

// The row of an object, made anew only where it would look different: an act must not cost hundreds of rows.
function keptRow(page, item) {
  const look = `${page.view.tone(item.id)} ${page.kindName(item.kind)} ${item.suggestion}`;
  let kept = madeRows.get(item);
  if (kept?.look !== look) madeRows.set(item, (kept = { look, row: objectRow(page, item) }));
  kept.row.classList.toggle("ann-selected", page.chosen.includes(item.id));
  return kept.row;
}

// Make `rows` the children of a list; what is there already stays where it is.
function arrange(list, rows) {
  const wanted = new Set(rows);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  let at = list.firstElementChild;
  for (const row of rows) {
    if (row === at) at = at.nextElementSibling;
    else list.insertBefore(row, at);
  }
}

function objectRow(page, item) {
  const row = make("li", "ann-object");
  row.dataset.object = item.id;
  const swatch = make("span", item.suggestion ? "ann-swatch ann-dashed" : "ann-swatch");
  if (!item.suggestion) swatch.style.background = page.view.tone(item.id);
  const unit = page.patch.depth > 1 ? "vx" : "px";
  row.append(swatch, make("span", "ann-id", `${item.id}`));
  const source = item.corrected ? "corrected" : SOURCE_TEXT[item.source] || "";
  const doubt = FLAG_TEXT[item.flag] || (item.confidence === null ? "" : `${Math.round(100 * item.confidence)} % sure`);
  const kind = item.suggestion && item.kind === 1 ? "" : page.kindName(item.kind);
  const about = [spanText(page, item), doubt || kind || source].filter(Boolean).join(" · ");
  row.append(make("span", item.flag ? "ann-source ann-flag" : "ann-source", about));
  row.title = [kind, source, doubt, FLAG_TITLE[item.flag]].filter(Boolean).join(", ");
  row.append(make("span", "ann-size", `${item.size.toLocaleString("en-US")} ${unit}`));
  row.addEventListener("click", (event) => {
    if (event.shiftKey || event.ctrlKey || event.metaKey) return page.selectAlso(item.id);
    page.select(item.id);
    if (!item.on(page.z)) page.toSlice(middleSlice(item));
    page.crossTo(middlePlace(item));
  });
  row.addEventListener("pointerenter", () => page.highlight(item.id));
  row.addEventListener("pointerleave", () => page.highlight(null));
  return row;
}

function showSheet(page) {
  const sheet = page.part("sheet-rows");
  const rows = [...MOUSE, ...KEYS.filter((entry) => (!entry.volume || page.patch?.depth > 1) && (!entry.kinds || page.kinds.length)).map((e) => [e.sheet, e.text])];
  sheet.replaceChildren(...rows.map(([key, text]) => {
    const row = make("div", "ann-key-row");
    row.append(make("kbd", "", key), make("span", "", text));
    return row;
  }));
}

// A message over the canvas; `actions` are [text, handler]; without any it goes after a while, unless an error.
function showMessage(page, text, { error = false, actions = [] } = {}) {
  const bar = page.part("message");
  clearTimeout(page.messageTimer);
  if (!text && bar.contains(document.activeElement)) page.stage.focus({ preventScroll: true });
  bar.hidden = !text;
  bar.classList.toggle("ann-error", error);
  bar.setAttribute("role", error ? "alert" : "status");
  page.part("message-text").textContent = text || "";
  const buttons = actions.map(([label, run], index) => {
    const button = make("button", index ? "ann-button" : "ann-button ann-primary", label);
    button.type = "button";
    button.addEventListener("click", () => {
      showMessage(page, "");
      page.stage.focus({ preventScroll: true });
      run();
    });
    return button;
  });
  if (buttons.length) bar.setAttribute("role", "alertdialog");
  page.part("message-actions").replaceChildren(...buttons);
  if (buttons.length) buttons[0].focus();
  if (text && !error && !actions.length) page.messageTimer = setTimeout(() => showMessage(page, ""), 5000);
}

function showStatus(page) {
  const { patch, view, link } = page;
  const at = page.pointer ? `y ${page.pointer[0]}, x ${page.pointer[1]}${intensityText(page)}` : "";
  page.part("position").textContent = at;
  page.part("zoom").textContent = patch ? `${Math.round(view.scale * 100)} %` : "";
  page.part("slice-text").textContent = patch && patch.depth > 1 ? `slice ${page.z + 1} of ${patch.depth}` : "";
  page.part("size").textContent = patch ? sizeText(patch) : "";
  const save = page.part("save");
  const waiting = link.unkept ? "saving… keep this page open" : "saving…";
  save.textContent = link.failure ? `not saved: ${link.failure}` : link.saved ? "all saved" : waiting;
  save.className = `ann-save ${link.failure ? "ann-unsaved" : ""}`;
  save.dataset.saved = String(link.saved);
}

function sizeText(patch) {
  const { voxel_size: voxel } = patch;
  const pixels = `${patch.width} × ${patch.height} px`;
  return voxel.x && voxel.y ? `${pixels} (${(patch.width * voxel.x).toFixed(1)} × ${(patch.height * voxel.y).toFixed(1)} µm)` : pixels;
}
