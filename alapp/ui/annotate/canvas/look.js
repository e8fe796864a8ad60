// How the patch is shown: light, channels, what is drawn. Kept for each project in the browser. Methods of Annotator.

const LOOK = { brightness: 0, contrast: 0, gamma: 0, opacity: 31, filled: true, alone: false, around: true, channels: {} };
const LOOK_LIMITS = { brightness: [-100, 100], contrast: [-95, 95], gamma: [-100, 100], opacity: [5, 100] };
const LOOK_TEXT = {
  brightness: (value) => value, contrast: (value) => value, gamma: (value) => gammaOf(value).toFixed(2), opacity: (value) => `${value} %`,
};
const LOOK_KEYS = ["v", "o", "Shift+o", "w", "q"]; // they work on the panel's sliders and boxes too
const INTENSITY_MS = 90; // the pointer rests so long before its intensity is asked for

// The slider is even in both directions: from 1/4 to 4.
function gammaOf(value) {
  return 4 ** (value / 100);
}

// What was kept may come from another version, or from another hand.
function checkedLook(raw) {
  const look = { ...LOOK, channels: {} };
  if (!raw || typeof raw !== "object") return look;
  for (const [name, [low, high]] of Object.entries(LOOK_LIMITS)) {
    if (Number.isFinite(raw[name]) && raw[name] >= low && raw[name] <= high) look[name] = raw[name];
  }
  for (const name of ["filled", "alone", "around"]) if (typeof raw[name] === "boolean") look[name] = raw[name];
  for (const [index, channel] of Object.entries(raw.channels ?? {})) {
    if (/^\d{1,2}$/.test(index)) look.channels[index] = checkedChannel(channel ?? {});
  }
  return look;
}

function bindLook(page) {
  const panel = page.part("look");
  page.part("look-button").addEventListener("click", () => page.toggleLook());
  page.part("reset-look").addEventListener("click", () => page.resetLook());
  page.part("measure").addEventListener("click", () => page.measureLength());
  for (const input of panel.querySelectorAll("[data-look]")) {
    const value = () => (input.type === "checkbox" ? input.checked : Number(input.value));
    input.addEventListener("input", () => page.setLook(input.dataset.look, value()));
  }
  panel.addEventListener("keydown", (event) => {
    const typing = event.target.matches("[type=number]");
    if (event.key !== "Escape" && (typing || !LOOK_KEYS.includes(keyName(event)))) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") page.toggleLook();
    else ACTIONS.get(keyName(event)).run(page);
  });
  // A click beside the panel closes it, and does nothing else to the image.
  page.root.addEventListener("pointerdown", (event) => {
    if (panel.hidden || event.button || panel.contains(event.target) || page.part("look-button").contains(event.target)) return;
    page.toggleLook();
    if (event.target !== page.canvas) return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
}

const looking = {
  recallLook() {
    this.look = checkedLook(kept(`look-${this.project}`));
    this.applyLook();
  },

  setLook(name, value) {
    this.look[name] = value;
    this.keepLook();
    this.lookFrame ??= requestAnimationFrame(() => {
      this.lookFrame = null;
      this.applyLook();
      if (name === "around") this.loadSurroundings();
    });
  },

  keepLook() { keep(`look-${this.project}`, this.look); },

  // The view as `look` says; what did not change is not painted anew.
  applyLook() {
    const { look, view } = this;
    const light = { brightness: look.brightness / 100, contrast: look.contrast / 100, gamma: gammaOf(look.gamma) };
    const relit = Object.keys(light).some((name) => light[name] !== view.light[name]);
    const restamped = look.alone !== view.alone;
    Object.assign(view, { filled: look.filled, alone: look.alone, opacity: look.opacity / 100 });
    if (relit) view.adjust(light);
    if (restamped) view.refresh();
    if (!relit && !restamped && view.width) view.draw();
    view.onChange();
    this.showLook();
  },

  showLook() {
    if (this.part("look").hidden) return;
    for (const input of this.part("look").querySelectorAll("[data-look]")) {
      const value = this.look[input.dataset.look];
      if (input.type === "checkbox") input.checked = value;
      else input.value = value;
      const number = input.parentElement.querySelector("output");
      if (number) number.textContent = LOOK_TEXT[input.dataset.look](value);
    }
    showChannels(this);
  },

  toggleLook() {
    const panel = this.part("look");
    if (!this.patch) return;
    panel.hidden = !panel.hidden;
    this.part("look-button").setAttribute("aria-expanded", String(!panel.hidden));
    if (panel.hidden) return this.stage.focus({ preventScroll: true });
    this.showLook();
    panel.querySelector("input:not(:disabled)").focus({ preventScroll: true });
  },

  resetLook() {
    this.look = checkedLook(null);
    this.keepLook();
    this.applyLook();
    this.reloadPicture();
  },

  toggleFill() { this.setLook("filled", !this.look.filled); },

  toggleAlone() {
    this.setLook("alone", !this.look.alone);
    this.say(this.look.alone ? "Other objects are hidden. Point at one to see it; Shift+O shows all." : "All objects are shown.");
  },

  toggleAround() { this.setLook("around", !this.look.around); },

  measureLength() {
    if (!this.part("look").hidden) this.toggleLook();
    this.setTool(this.tool === rulerTool ? "point" : "ruler");
  },

  // --- pictures ----------------------------------------------------------------------------------------------

  // Whether the picture of this slice is shown, and not still that of another one.
  get pictured() { return !this.patch || this.root.dataset.slice === `${this.patch.id}/${this.z}`; },

  // Whether any picture of this patch was shown.
  get sighted() { return !this.patch || Boolean(this.root.dataset.slice?.startsWith(`${this.patch.id}/`)); },

  // Nobody judges what nobody sees: says so, true if the picture of this slice is missing.
  blind() {
    if (this.pictured) return false;
    if (this.missing) this.sayMissing();
    else this.say(LATE_PICTURE);
    return true;
  },

  // True once the slice is painted. A picture that is known is painted before this returns.
  async loadSlice() {
    const { id } = this.patch;
    const { z } = this;
    const here = () => this.patch?.id === id && this.z === z;
    this.missing = "";
    this.scene();
    const coming = this.loadPicture();
    this.stage.classList.toggle("ann-late", coming !== true);
    if (coming !== true) this.endLate ??= this.working(LATE_PICTURE, { canStop: false });
    const shown = coming === true || (await coming);
    if (shown === null) setTimeout(() => here() && this.loadSlice(), RETRY_MS);
    if (shown === false && here()) this.endWait(); // it was said why
    if (!shown) return false;
    const first = !this.sighted;
    this.root.dataset.slice = `${id}/${z}`;
    this.endWait();
    this.stage.classList.remove("ann-late");
    if ([UNREACHABLE, LATE_PICTURE, this.missed].includes(this.part("message-text").textContent)) showMessage(this, "");
    if (first) {
      this.showActs();
      this.showDoubts();
    }
    this.view.refresh();
    this.hoverAnew();
    this.prepareSlice(id, z);
    this.loadSurroundings();
    this.lookAhead();
    return true;
  },

  // The picture that was waited for is here, or will not come.
  endWait() {
    this.endLate?.();
    this.endLate = null;
    if (!this.loading) this.stage.classList.remove("ann-loading"); // else another patch is on its way
  },

  sayMissing() {
    this.missed = `The picture of this slice could not be loaded. ${this.missing}`;
    const { id } = this.patch;
    const again = () => this.patch?.id === id && this.loadSlice();
    showMessage(this, this.missed, { error: true, actions: [["Try again", again]] });
  },

  // The channels as the server wants them.
  lookMessage() { return { channels: Object.entries(this.look.channels).map(([index, channel]) => ({ index: Number(index), ...channel })) }; },

  // The slice that is open, in its windows and colours; false if it is no longer wanted, or could not be had; null if the
  // server did not answer. A picture that is here already is shown at once, not in a later turn.
  loadPicture() {
    const { id } = this.patch;
    const { z } = this;
    const turn = (this.pictureTurn = (this.pictureTurn ?? 0) + 1);
    this.pictures.settings = this.lookMessage();
    const found = this.pictures.get(id, z);
    const show = ({ picture, answer }) => {
      if (this.patch?.id !== id || this.z !== z) return false;
      if (answer.unreachable && this.failed(answer)) return null;
      if (answer.error) {
        this.missing = answer.error;
        this.sayMissing();
        return false;
      }
      this.missing = "";
      // A newer one may have come first.
      if (turn < (this.pictureShown ?? 0)) return true;
      this.pictureShown = turn;
      // What was set while the picture was made stays set.
      this.channels = answer.channels.map((channel, index) => ({ ...channel, ...this.look.channels[index] }));
      this.view.show(picture);
      this.showLook();
      return true;
    };
    return found ? show(found) : this.pictures.load(id, z).then(show);
  },

  // The same slice in other windows or colours: one request in flight, the newest settings win.
  async reloadPicture() {
    this.reloadWanted = true;
    if (this.reloading || !this.patch) return;
    this.reloading = true;
    while (this.reloadWanted) {
      this.reloadWanted = false;
      if (await this.loadPicture()) this.view.draw();
    }
    this.reloading = false;
    this.loadSurroundings();
  },

  async loadSurroundings() {
    if (!this.patch) return;
    if (!this.look.around) return this.view.surround(null);
    const { id } = this.patch;
    const { z } = this;
    const turn = (this.aroundTurn = (this.aroundTurn ?? 0) + 1);
    const answer = await this.link.ask("load_surroundings", { patch: id, z, ...this.lookMessage() });
    const wanted = () => this.patch?.id === id && this.z === z && this.look.around && turn === this.aroundTurn;
    if (!wanted() || this.failed(answer)) return;
    const picture = answer.png && (await decoded(answer.png));
    if (wanted()) this.view.surround(picture, answer.box);
  },

  // The stored intensities under the pointer, once it rests.
  askIntensities() {
    clearTimeout(this.intensityTimer);
    if (!this.pointer || this.drag || !this.patch) return;
    const [y, x] = this.pointer;
    const place = { patch: this.patch.id, z: this.z, y, x };
    this.intensityTimer = setTimeout(async () => {
      const answer = await this.link.ask("load_intensities", place);
      // Without an answer the status line says one number less; acts and pictures tell what is wrong.
      if (!answer.values) return;
      this.intensities = { ...place, values: answer.values };
      showStatus(this);
    }, INTENSITY_MS);
  },
};

// What is known of the pixel under the pointer, for the status line.
function intensityText(page) {
  const { intensities: found, pointer } = page;
  const here = found && found.patch === page.patch?.id && found.z === page.z && found.y === pointer[0] && found.x === pointer[1];
  if (!here) return "";
  const values = found.values.slice(0, 4).map(intensityNumber);
  return `: ${values.join(" / ")}${found.values.length > 4 ? " / …" : ""}`;
}

// Whole numbers as they are, others with four digits.
function intensityNumber(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}
