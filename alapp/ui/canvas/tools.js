// Tools are small objects: pointer handlers over (page, event). The page asks the active one first.

// Left click: this belongs to the object. Right click: this does not.
const pointTool = {
  name: "Points",
  press(page, event) {
    const point = page.view.pixel(event);
    if (!point || page.closed) return;
    const negative = event.button === 2;
    if (!negative && !page.draft && !event.ctrlKey && !event.metaKey) {
      const id = page.view.at(point);
      if (id) return page.select(id === page.selected ? null : id);
    }
    page.addPoint(point, negative, event.timeStamp);
  },
};

// Drag with the middle button, or with Space held.
const panTool = {
  name: "Pan",
  start(page, event) {
    this.at = [event.clientX, event.clientY];
    this.moved = false;
    page.stage.classList.add("ann-grabbing");
    page.canvas.setPointerCapture(event.pointerId);
  },
  move(page, event) {
    const [x, y] = this.at;
    this.at = [event.clientX, event.clientY];
    this.moved = true;
    page.view.pan(event.clientX - x, event.clientY - y);
  },
  end(page, event) {
    this.at = null;
    page.stage.classList.remove("ann-grabbing");
    page.canvas.releasePointerCapture(event.pointerId);
  },
};

function bindPointer(page) {
  const { canvas, view } = page;
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    page.stage.focus({ preventScroll: true });
    if (event.button === 1 || page.spaceHeld) return panTool.start(page, event);
    if (event.button === 0 || event.button === 2) page.tool.press(page, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (panTool.at) return panTool.move(page, event);
    page.hover(view.pixel(event));
  });
  canvas.addEventListener("pointerup", (event) => panTool.at && panTool.end(page, event));
  canvas.addEventListener("pointercancel", (event) => panTool.at && panTool.end(page, event));
  canvas.addEventListener("pointerleave", () => page.hover(null));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event);
  }, { passive: false });
}

// key, what the sheet says, what it does. "Mod" is Ctrl, or Cmd on a Mac.
const KEYS = [
  { keys: ["Enter"], sheet: "Enter or Space", text: "Accept the object", run: (page) => page.acceptDraft() },
  { keys: ["Escape"], sheet: "Esc", text: "Clear the points, deselect", run: (page) => page.escape() },
  { keys: ["Mod+z"], sheet: "Ctrl+Z", text: "Undo", run: (page) => page.undo() },
  { keys: ["Mod+Shift+z", "Mod+y"], sheet: "Ctrl+Shift+Z", text: "Redo", run: (page) => page.redo() },
  { keys: ["Delete", "Backspace"], sheet: "Delete", text: "Delete the object under the pointer, or the selected one", run: (page) => page.remove() },
  { keys: ["e"], sheet: "E", text: "Correct the object or suggestion under the pointer by points", run: (page) => page.edit() },
  { keys: ["a"], sheet: "A", text: "Accept all suggestions", run: (page) => page.takeAll() },
  { keys: ["d"], sheet: "D", text: "Mark the patch done, go to the next", run: (page) => page.finish() },
  { keys: ["s"], sheet: "S", text: "Skip the patch", run: (page) => page.skip() },
  { keys: ["r"], sheet: "R", text: "Reopen a patch that was done or skipped", run: (page) => page.reopen() },
  { keys: ["n"], sheet: "N", text: "Next patch", run: (page) => page.step(1) },
  { keys: ["p"], sheet: "P", text: "Previous patch", run: (page) => page.step(-1) },
  { keys: [","], sheet: ",", text: "Slice down", run: (page) => page.toSlice(page.z - 1), volume: true },
  { keys: ["."], sheet: ".", text: "Slice up", run: (page) => page.toSlice(page.z + 1), volume: true },
  { keys: ["g"], sheet: "G", text: "Carry the selected object through the stack", run: (page) => page.propagate(), volume: true },
  { keys: ["f"], sheet: "F", text: "Fit the patch to the window", run: (page) => page.view.fit() },
  { keys: ["+", "="], sheet: "+", text: "Zoom in", run: (page) => page.view.zoom(1.25) },
  { keys: ["-"], sheet: "−", text: "Zoom out", run: (page) => page.view.zoom(0.8) },
  { keys: ["o"], sheet: "O", text: "Outlines only, or filled", run: (page) => page.toggleFill() },
  { keys: ["Shift+f"], sheet: "Shift+F", text: "Full screen", run: (page) => page.fullscreen() },
  { keys: ["?"], sheet: "?", text: "This sheet", run: (page) => page.toggleSheet() },
];

const MOUSE = [
  ["Left click", "This belongs to the object (on an object: select it)"],
  ["Right click", "This does not belong to it"],
  ["Ctrl+click", "Start a new object on top of another one"],
  ["Wheel", "Zoom at the pointer"],
  ["Space+drag", "Move the image (or drag with the middle button)"],
];

const ACTIONS = new Map(KEYS.flatMap((entry) => entry.keys.map((key) => [key, entry])));

function keyName(event) {
  const mod = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && /^[a-z]$/.test(key);
  return `${mod ? "Mod+" : ""}${shift ? "Shift+" : ""}${key}`;
}

function bindKeys(page) {
  page.root.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea")) return;
    if (event.key === " ") {
      // On a button Space presses the button.
      if (event.target.matches("button")) return;
      event.preventDefault();
      page.spaceHeld = true;
      panTool.moved = panTool.moved && event.repeat;
      page.stage.classList.add("ann-grab");
      return;
    }
    if (event.key === "Enter" && event.target.matches("button")) return;
    const entry = ACTIONS.get(keyName(event));
    if (!entry || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    entry.run(page);
  });
  page.root.addEventListener("keyup", (event) => {
    if (event.key !== " " || !page.spaceHeld) return;
    page.spaceHeld = false;
    page.stage.classList.remove("ann-grab");
    if (!panTool.moved) page.acceptDraft();
    panTool.moved = false;
  });
  page.stage.addEventListener("blur", () => {
    page.spaceHeld = false;
    page.stage.classList.remove("ann-grab");
  });
}
