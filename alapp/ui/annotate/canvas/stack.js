// Stacks: through the slices, and objects through the stack. Methods of Annotator.

const THUMB_PX = 16; // the slider's handle, which does not reach beyond its ends
const STOP_AGAIN_MS = 100;
const STOPPED = "You stopped it: the object is as it was before.";
const WHEEL_STEP = 60; // a trackpad sends many small steps

const stacking = {
  get isStack() { return this.patch?.depth > 1; },

  get shownObject() { return this.items.find((item) => item.id === this.selected); },

  // Alt+wheel: one slice a notch.
  wheelSlice(event) {
    if (!this.isStack) return;
    this.wheeled = (this.wheeled ?? 0) + event.deltaY * (event.deltaMode ? 40 : 1);
    const steps = Math.trunc(this.wheeled / WHEEL_STEP);
    if (!steps) return;
    this.wheeled = 0;
    this.toSlice(Math.min(this.patch.depth - 1, Math.max(0, this.z + Math.sign(steps))));
  },

  toEnd(last) {
    const item = this.shownObject;
    if (!this.isStack) return;
    if (!item) return this.say("Select an object first; then this goes to its first or last slice.");
    this.toSlice(last ? item.box[3] - 1 : item.box[0]);
  },

  propagateUp() { this.propagate("up"); },
  propagateDown() { this.propagate("down"); },

  propagate(direction = "both") {
    if (!this.isStack || this.hindered()) return;
    if (this.draft) this.toSlice(this.draft.z);
    const object = this.settle() ?? this.selected;
    if (!object) return this.say("Select an object first, then press G.");
    this.endCarrying = this.working(`Carrying object ${object} through the stack…`);
    const ref = this.refer(object);
    this.select(object); // now: when the answer comes, another one may be in hand
    this.send("propagate", { object, z: this.z, direction }, (answer) => {
      const grown = answer.items.find((raw) => raw.id === ref.id);
      if (grown) this.say(`Object ${grown.id} now spans slices ${grown.box[0] + 1} to ${grown.box[3]}.`);
    });
    this.link.idle().then(this.endCarrying);
  },

  // A foundation model takes seconds for a slice that it has not seen yet.
  async stopWorking() {
    const waited = this.link.withdraw("propagate");
    const { sent } = this.link;
    if (sent?.name !== "propagate") {
      this.endCarrying?.();
      if (waited) this.say(STOPPED);
      return;
    }
    this.part("working-text").textContent = "Stopping after this slice…";
    const patch = this.patch.id;
    // The server may not have begun yet.
    while (this.link.sent === sent && !(await this.link.ask("stop", { patch })).stopped) {
      await new Promise((resolve) => setTimeout(resolve, STOP_AGAIN_MS));
    }
  },

  // Says what goes on until the function that it returns is called; nothing flashes up for a moment only.
  working(text, { after = 250, canStop = true } = {}) {
    const bar = this.part("working");
    const mine = {};
    const timer = setTimeout(() => {
      if (!bar.hidden && !canStop) return; // what can be stopped stays in sight
      this.barOf = mine;
      this.part("working-text").textContent = text;
      bar.querySelector("button").hidden = !canStop;
      bar.hidden = false;
    }, after);
    return () => {
      clearTimeout(timer);
      if (this.barOf === mine) bar.hidden = true;
    };
  },

  // Under the slider: on which slices the selected object is, and which of them a person made.
  showSpan() {
    const bar = this.part("z-bar");
    const item = this.isStack ? this.shownObject : null;
    for (const act of ["propagateDown", "propagateUp"]) {
      this.root.querySelector(`[data-act="${act}"]`).disabled = this.closed || !item || item.suggestion;
    }
    if (!item) return bar.replaceChildren();
    const { depth } = this.patch;
    const cells = [];
    for (let z = item.box[0]; z < item.box[3]; z++) {
      if (!item.filledOn(z)) continue;
      const carried = item.propagated.includes(z);
      const cell = make("span", carried || item.suggestion ? "ann-carried" : "ann-anchor");
      cell.style.left = `calc(${THUMB_PX / 2}px + (100% - ${THUMB_PX}px) * ${z / (depth - 1)})`;
      cell.style.width = `calc((100% - ${THUMB_PX}px) / ${depth - 1})`;
      cell.style.background = item.suggestion ? "" : this.view.tone(item.id);
      cell.title = `Slice ${z + 1}: ${item.suggestion ? "suggested" : carried ? "carried here" : "yours, stays"}`;
      cells.push(cell);
    }
    bar.replaceChildren(...cells);
  },
};

// "z 3–9", counted as the page counts slices; nothing for a picture of one slice.
function spanText(page, item) {
  if (!page.isStack) return "";
  const [first, last] = [item.box[0] + 1, item.box[3]];
  return first === last ? `z ${first}` : `z ${first}–${last}`;
}

function middleSlice(item) { return Math.floor((item.box[0] + item.box[3] - 1) / 2); }
