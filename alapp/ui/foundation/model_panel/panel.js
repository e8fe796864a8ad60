// The sheet "Models on this computer". All text is set as text, never as HTML; the token leaves its field only to be
// sent, and nothing of it ever comes back. Opened by any element of the page with the class "open-models".

const LOOK_MS = 1000;
const UNREACHABLE = "The app does not answer. Check that it still runs; nothing is lost.";

const make = (tag, className = "", text = "") => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

// Text whose addresses can be clicked.
function setLinked(place, text) {
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(...text.split(/(https:\/\/[^\s]*[^\s.,:;])/).map((part, index) => {
    if (index % 2 === 0) return part;
    const link = make("a", "", part);
    Object.assign(link, { href: part, target: "_blank", rel: "noopener noreferrer" });
    return link;
  }));
}

class ModelPanel {
  constructor(dialog, server, upload, changed) {
    Object.assign(this, { dialog, server, upload, changed });
    this.project = null;
    this.pictures = new Map(); // of tests, by the number of what came out
    this.groups = new Map(); // id: what was made for a group
    this.asked = 0; // number of the newest question; older answers are dropped
    this.states = "";
    this.part("close").addEventListener("click", () => dialog.close());
    this.part("notice-close").addEventListener("click", () => this.say(""));
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the sheet
    document.addEventListener("click", (event) => {
      const opener = event.target.closest?.(".open-models");
      if (opener && dialog.isConnected) this.open(opener);
    });
  }

  part(name) { return this.dialog.querySelector(`[data-part="${name}"]`); }

  open(opener) {
    if (this.dialog.open) return;
    this.opener = opener;
    this.wanted = opener.dataset.model || "";
    this.say("");
    this.dialog.showModal();
    this.part("title").focus();
    this.look();
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  closed() {
    clearInterval(this.timer);
    this.asked += 1;
    // What a person typed and did not send is not kept: it may be a token.
    for (const field of this.dialog.querySelectorAll('input[type="password"]')) field.value = "";
    if (this.opener?.isConnected) this.opener.focus({ preventScroll: true });
  }

  say(text, bad = false) {
    this.part("notice").hidden = !text;
    this.part("notice").classList.toggle("mp-bad", bad);
    this.part("notice").setAttribute("role", bad ? "alert" : "status");
    this.part("notice-text").textContent = text;
  }

  async call(name, message) {
    try {
      return (await this.server[name]({ ...message, project: this.project })) ?? { error: UNREACHABLE, unreachable: true };
    } catch (error) {
      return { error: UNREACHABLE, unreachable: true };
    }
  }

  async look() {
    if (this.looking || this.acting) return;
    this.looking = true;
    const turn = (this.asked += 1);
    const found = await this.call("look", {});
    this.looking = false;
    if (turn !== this.asked || !this.dialog.open) return;
    if (found.error) {
      this.lost = true;
      return this.say(found.error, true);
    }
    if (this.lost) this.say("");
    this.lost = false;
    this.show(found);
  }

  // Do something; what came of it is said in the notice, and the list is looked at again. What was asked before is not
  // shown any more: it would undo what the person sees done.
  async act(name, message, button) {
    if (button) button.disabled = true;
    this.acting = name !== "bring"; // which may take minutes, while downloads go on
    this.asked += 1;
    const answer = await this.call("act", { act: name, ...message });
    this.acting = false;
    if (button?.isConnected) button.disabled = false;
    this.say(answer.error || answer.said || "", Boolean(answer.error));
    this.asked += 1;
    this.looking = false;
    await this.look();
    return !answer.error;
  }

  show(found) {
    this.part("about").textContent = found.about;
    this.closedTo = found.closed;
    this.dialog.classList.toggle("mp-closed", Boolean(found.closed));
    for (const group of found.groups) this.showGroup(group);
    const states = JSON.stringify(found.groups.map((group) => group.models.map((model) => [model.name, model.state])));
    if (this.states && states !== this.states) this.changed();
    this.states = states;
    if (this.wanted) this.point(this.wanted);
    this.wanted = "";
  }

  point(name) {
    const row = [...this.dialog.querySelectorAll(".mp-model")].find((each) => each.dataset.name === name);
    if (!row) return;
    const fold = row.closest("details");
    if (fold) fold.open = true;
    row.classList.add("mp-shown");
    row.scrollIntoView({ block: "center" });
  }

  showGroup(group) {
    let made = this.groups.get(group.id);
    if (!made) this.groups.set(group.id, (made = this.makeGroup(group)));
    made.about.textContent = group.about;
    made.extra(group);
    const [first, others] = [group.models.filter((each) => each.first), group.models.filter((each) => !each.first)];
    this.showRows(made.list, first);
    this.showRows(made.rest, others);
    made.fold.hidden = !others.length;
    made.summary.textContent = `${others.length} more`;
  }

  makeGroup(group) {
    const root = make("section", "mp-group");
    const about = make("p", "mp-muted");
    const list = make("div", "mp-list");
    const fold = make("details", "mp-others");
    const summary = make("summary");
    const rest = make("div", "mp-list");
    fold.append(summary, rest);
    root.append(make("h3", "", group.title), about);
    const kinds = { own: () => this.makeImport(root), cellsam: () => this.makeAccess(root) };
    const extra = kinds[group.id]?.() ?? (() => {});
    root.append(list, fold);
    this.part("body").append(root);
    return { root, about, list, fold, summary, rest, extra };
  }

  // Rows are kept as long as what they show stays the same, so that a button does not vanish under the pointer.
  showRows(list, models) {
    const before = new Map([...list.children].map((row) => [row.dataset.name, row]));
    const rows = models.map((model) => {
      const text = JSON.stringify(model);
      const known = before.get(model.name);
      if (known?.shown === text) return known;
      const row = known?.frame && known.frame === frameOf(model) ? this.refill(known, model) : this.makeRow(model);
      row.shown = text;
      return row;
    });
    if (rows.length === list.children.length && rows.every((row, index) => row === list.children[index])) return;
    const focused = document.activeElement?.dataset?.key;
    const pointed = [...list.children].find((row) => row.classList.contains("mp-shown"))?.dataset.name;
    list.replaceChildren(...rows);
    for (const row of rows) row.classList.toggle("mp-shown", row.dataset.name === pointed);
    if (!focused || (document.activeElement && document.activeElement !== document.body && this.dialog.contains(document.activeElement) && document.activeElement !== this.dialog)) return;
    const again = [...this.dialog.querySelectorAll("[data-key]")].find((each) => each.dataset.key === focused);
    (again && !again.disabled ? again : this.part("title")).focus({ preventScroll: true });
  }

  // Only the progress went on: the row stays, with its button under the pointer.
  refill(row, model) {
    row.querySelector(".mp-bar i").style.width = `${(100 * model.progress.share).toFixed(1)}%`;
    row.querySelector(".mp-bar").setAttribute("aria-valuenow", (100 * model.progress.share).toFixed(0));
    row.querySelector("[data-progress]").textContent = model.progress.text;
    return row;
  }

  makeRow(model) {
    const row = make("article", "mp-model");
    row.dataset.name = model.name;
    row.frame = frameOf(model);
    row.classList.toggle("mp-off", model.state !== "ready");
    const title = make("h4", "", model.title);
    if (model.code) title.append(make("code", "", model.code));
    title.append(make("span", `mp-chip${{ ready: " mp-ready", broken: " mp-broken" }[model.state] ?? ""}`, model.state));
    row.append(title, make("span", "mp-size", model.size), make("p", "mp-wide", model.suits));
    for (const line of [model.licence, model.why, model.speed]) if (line) row.append(make("p", "mp-wide mp-muted", line));
    if (model.progress) row.append(this.makeProgress(model));
    if (model.failed) row.append(make("p", "mp-failed", model.failed));
    const acts = make("div", "mp-acts");
    for (const [name, text] of model.acts) acts.append(this.makeButton(model, name, text));
    if (acts.childElementCount) row.append(acts);
    if (model.result) row.append(this.makeResult(model.result));
    return row;
  }

  makeButton(model, name, text) {
    const button = make("button", `mp-button${["download", "undo"].includes(name) ? " mp-primary" : ""}`, text);
    button.type = "button";
    button.dataset.key = `${name} ${model.name}`;
    button.dataset.act = name;
    button.setAttribute("aria-label", `${text}: ${model.title}`);
    button.disabled = Boolean(this.closedTo);
    button.title = this.closedTo;
    button.addEventListener("click", () => this.act(name, { model: model.name }, button));
    return button;
  }

  makeProgress(model) {
    const line = make("div", "mp-progress");
    const bar = make("div", "mp-bar");
    bar.setAttribute("role", "progressbar");
    bar.append(make("i"));
    const words = make("span", "", model.progress.text);
    words.dataset.progress = "";
    line.append(bar, words);
    bar.firstChild.style.width = `${(100 * model.progress.share).toFixed(1)}%`;
    return line;
  }

  // A file that the person chooses, sent to the app, which checks and keeps it.
  choose(button) {
    const field = make("input");
    field.type = "file";
    field.dataset.part = "own-file";
    field.addEventListener("change", async () => {
      const [file] = field.files;
      if (!file) return;
      button.disabled = true;
      this.say(`Copying ${file.name} to the app …`);
      try {
        const { path } = await this.upload(file);
        this.say(`Checking ${file.name} …`);
        await this.act("bring", { path, uploaded: true }, button);
      } catch (error) {
        this.say(`${file.name} could not be copied to the app. Type its path instead, or try again.`, true);
      }
      button.disabled = Boolean(this.closedTo);
    });
    field.click();
  }

  makeResult(result) {
    const figure = make("div", "mp-result");
    const picture = make("img");
    picture.alt = result.text;
    figure.append(picture, make("p", "", result.text));
    const known = this.pictures.get(result.picture);
    if (known) picture.src = known;
    else {
      this.call("picture", { map: result.picture }).then((answer) => {
        if (!answer.picture) return picture.remove();
        this.pictures.set(result.picture, answer.picture);
        picture.src = answer.picture;
      });
    }
    return figure;
  }

  makeImport(root) {
    const form = make("form", "mp-form");
    const path = make("input");
    Object.assign(path, { type: "text", placeholder: "Path of the file on this computer", autocomplete: "off", spellcheck: false });
    path.setAttribute("aria-label", "Path of the file on this computer");
    path.dataset.part = "own-path";
    const go = make("button", "mp-button", "Import this path");
    go.dataset.key = "import-path";
    const choose = make("button", "mp-button", "Choose a file …");
    choose.type = "button";
    choose.dataset.key = "import-file";
    choose.addEventListener("click", () => this.choose(choose));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.say(`Checking ${path.value} …`);
      if (await this.act("bring", { path: path.value }, go)) path.value = "";
    });
    form.append(path, go, choose);
    root.append(form);
    return () => this.close([path, go, choose]);
  }

  // CellSAM: the licence, and the access token that its download needs.
  makeAccess(root) {
    const box = make("div", "mp-box");
    const terms = make("p", "mp-muted");
    const tick = make("label", "mp-tick");
    const check = make("input");
    check.type = "checkbox";
    check.dataset.part = "licence";
    tick.append(check, make("span", "", "My use is academic and non-commercial, and I accept the licence."));
    check.addEventListener("change", () => this.act(check.checked ? "accept" : "withdraw", { model: check.dataset.model }, check));
    const words = make("p", "mp-muted");
    words.dataset.part = "token-words";
    const form = make("form", "mp-form");
    const field = make("input");
    Object.assign(field, { type: "password", placeholder: "Access token of DeepCell", autocomplete: "off", spellcheck: false });
    field.setAttribute("aria-label", "Access token of DeepCell");
    field.dataset.part = "token";
    const keep = make("button", "mp-button", "Store the token");
    keep.dataset.key = "token-keep";
    const drop = make("button", "mp-button", "Remove the token");
    drop.type = "button";
    drop.dataset.key = "token-drop";
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const token = field.value;
      field.value = ""; // never shown again, whatever comes of it
      await this.act("token", { token }, keep);
    });
    drop.addEventListener("click", () => this.act("token", { token: "" }, drop));
    form.append(field, keep, drop);
    box.append(make("h4", "", "Licence and access"), terms, tick, words, form);
    root.append(box);
    return (group) => {
      setLinked(terms, group.terms.text);
      check.dataset.model = group.terms.model;
      if (document.activeElement !== check || !check.disabled) check.checked = group.terms.accepted;
      setLinked(words, group.token.text);
      drop.hidden = !group.token.stored;
      this.close([check, field, keep, drop]);
      check.disabled ||= group.terms.fixed;
    };
  }

  close(controls) {
    for (const each of controls) {
      each.disabled = Boolean(this.closedTo);
      each.title = this.closedTo;
    }
  }
}

// Everything of a row but how far its progress is.
function frameOf(model) {
  return model.progress ? JSON.stringify({ ...model, progress: true }) : "";
}

const panel = new ModelPanel(element.querySelector("dialog"), server, upload, () => trigger("changed", {}));
panel.project = props.value?.project ?? null;
watch("value", () => { panel.project = props.value?.project ?? null; });
