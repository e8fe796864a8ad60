// key, what the sheet says, what it does. "Mod" is Ctrl, or Cmd on a Mac. `once`: a key that is held does it once only.
const KEYS = [
  { keys: ["Enter"], once: true, sheet: "Enter or Space", text: "Accept the object", run: (page) => page.acceptDraft() },
  { keys: ["Escape"], sheet: "Esc", text: "Clear the points, deselect, back to clicks", run: (page) => page.escape() },
  { keys: ["Mod+z"], sheet: "Ctrl+Z", text: "Undo", run: (page) => page.undo() },
  { keys: ["Mod+Shift+z", "Mod+y"], sheet: "Ctrl+Shift+Z", text: "Redo", run: (page) => page.redo() },
  { keys: ["Delete", "Backspace"], once: true, sheet: "Delete", text: "Delete the selected objects, or the one under the pointer", run: (page) => page.remove() },
  { keys: ["Shift+d"], sheet: "Shift+D", text: "Delete all of a kind: objects, suggestions, small ones", run: (page) => page.toggleSweep() },
  { keys: [..."123456789"], sheet: "1 to 9", text: "Kind of the selected objects; with none selected: of new objects", run: (page, key) => page.setKind(Number(key)), kinds: true },
  { keys: ["e"], once: true, sheet: "E", text: "Correct the object or suggestion under the pointer by points", run: (page) => page.edit() },
  { keys: ["a"], once: true, sheet: "A", text: "Accept all suggestions", run: (page) => page.takeAll() },
  { keys: ["Shift+a"], once: true, sheet: "Shift+A", text: "Accept the suggestions that are sure enough", run: (page) => page.takeAbove() },
  { keys: ["Shift+n"], sheet: "Shift+N", text: "Next suggestion, the most doubtful first; Enter accepts, Delete rejects it", run: (page) => page.nextDoubt() },
  { keys: ["Shift+p"], sheet: "Shift+P", text: "Previous suggestion", run: (page) => page.nextDoubt(-1) },
  { keys: ["c"], sheet: "C", text: "Clicks", run: (page) => page.setTool("point") },
  { keys: ["r"], once: true, sheet: "R", text: "Box around an object; on a closed patch: reopen it", run: (page) => (page.locked ? page.reopen() : page.setTool("box")) },
  { keys: ["b"], sheet: "B", text: "Brush", run: (page) => page.setTool("brush") },
  { keys: ["x"], sheet: "X", text: "Eraser", run: (page) => page.setTool("erase") },
  { keys: ["[", "]"], sheet: "[ and ]", text: "Smaller or larger brush", run: (page, key) => page.resizeBrush(key === "]" ? 1 : -1) },
  { keys: ["l"], sheet: "L", text: "Outline: drag around an object, or click its corners", run: (page) => page.setTool("lasso") },
  { keys: ["k"], sheet: "K", text: "Split: draw a line across an object", run: (page) => page.setTool("split") },
  { keys: ["t"], sheet: "T", text: "Ignore: outline a part that you do not annotate", run: (page) => page.setTool("region") },
  { keys: ["m"], once: true, sheet: "M", text: "Merge the selected objects, or the selected one with that under the pointer", run: (page) => page.merge() },
  { keys: ["h"], sheet: "H", text: "Fill the holes of the selected object", run: (page) => page.reshape("fill") },
  { keys: ["u"], sheet: "U", text: "Smooth the selected object", run: (page) => page.reshape("smooth") },
  { keys: ["+", "="], sheet: "+", text: "Grow the selected object by a pixel", run: (page) => page.reshape("grow") },
  { keys: ["-"], sheet: "−", text: "Shrink the selected object by a pixel", run: (page) => page.reshape("shrink") },
  { keys: ["d"], once: true, sheet: "D", text: "Mark the patch done, go to the next", run: (page) => page.finish() },
  { keys: ["s"], once: true, sheet: "S", text: "Skip the patch", run: (page) => page.skip() },
  { keys: ["n"], once: true, sheet: "N", text: "Next patch", run: (page) => page.step(1) },
  { keys: ["p"], once: true, sheet: "P", text: "Previous patch", run: (page) => page.step(-1) },
  { keys: [",", "PageDown"], sheet: ", or PageDown", text: "Slice down", run: (page) => page.toSlice(page.z - 1), volume: true },
  { keys: [".", "PageUp"], sheet: ". or PageUp", text: "Slice up", run: (page) => page.toSlice(page.z + 1), volume: true },
  { keys: [], sheet: "Alt+wheel", text: "Through the slices", volume: true },
  { keys: ["Home"], sheet: "Home", text: "First slice of the selected object", run: (page) => page.toEnd(false), volume: true },
  { keys: ["End"], sheet: "End", text: "Last slice of the selected object", run: (page) => page.toEnd(true), volume: true },
  { keys: ["g"], once: true, sheet: "G", text: "Carry the selected object on from this slice; slices that you made stay", run: (page) => page.propagate(), volume: true },
  { keys: [">", ":"], once: true, sheet: "Shift+.", text: "Carry it up only", run: (page) => page.propagateUp(), volume: true },
  { keys: ["<", ";"], once: true, sheet: "Shift+,", text: "Carry it down only", run: (page) => page.propagateDown(), volume: true },
  { keys: ["y"], sheet: "Y", text: "Views from the side", run: (page) => page.toggleOrtho(), volume: true },
  { keys: ["f"], sheet: "F", text: "Fit the patch to the window", run: (page) => page.view.fit() },
  { keys: ["z"], sheet: "Z", text: "Zoom in", run: (page) => page.view.zoom(1.25) },
  { keys: ["Shift+z"], sheet: "Shift+Z", text: "Zoom out", run: (page) => page.view.zoom(0.8) },
  { keys: ["v"], sheet: "V", text: "View: light, channels, what is drawn", run: (page) => page.toggleLook() },
  { keys: ["o"], sheet: "O", text: "Outlines only, or filled", run: (page) => page.toggleFill() },
  { keys: ["Shift+o"], sheet: "Shift+O", text: "Hide all objects but the selected one and the one under the pointer", run: (page) => page.toggleAlone() },
  { keys: ["w"], sheet: "W", text: "Show or hide the surroundings of the patch", run: (page) => page.toggleAround() },
  { keys: ["q"], sheet: "Q", text: "Ruler: drag to measure a length", run: (page) => page.measureLength() },
  { keys: ["Shift+f"], sheet: "Shift+F", text: "Full screen", run: (page) => page.fullscreen() },
  { keys: Object.keys(STEPS), sheet: "Arrow keys", text: "Move the crosshair; with Shift ten pixels", anytime: true, run: (page, key, event) => page.moveCursor(key, event.shiftKey) },
  { keys: ["i"], once: true, sheet: "I", text: "Click at the crosshair; with brush, box or split: begin there, then end there", anytime: true, run: (page) => page.pressCursor(false) },
  { keys: ["Shift+i"], once: true, sheet: "Shift+I", text: "Right click at the crosshair", anytime: true, run: (page) => page.pressCursor(true) },
  { keys: ["Shift+j", "Shift+k"], sheet: "Shift+J and K", text: "Next or previous suggestion or object in the lists", run: (page, key) => page.cycle(key.toLowerCase() === "j" ? 1 : -1) },
  { keys: ["j"], sheet: "J", text: "Note on this patch", run: (page) => page.toggleNote() },
  { keys: ["?"], sheet: "?", text: "This sheet", run: (page) => page.toggleSheet() },
];

const MOUSE = [
  ["Left click", "This belongs to the object (on an object: select it)"],
  ["Right click", "This does not belong to it; with brush or outline: take away"],
  ["Drag", "Scribble: all along the line belongs to the object, or with the right button does not"],
  ["Ctrl+click", "Start a new object on top of another one"],
  ["Shift+click", "Select several objects"],
  ["Shift+drag", "Box around an object, with any tool"],
  ["Wheel", "Zoom at the pointer"],
  ["Space+drag", "Move the image (or drag with the middle button)"],
  ["Touch and pen", "Two fingers zoom and move; a held finger, the pen's button or its eraser act as a right click"],
];

const ACTIONS = new Map(KEYS.flatMap((entry) => entry.keys.map((key) => [key, entry])));

// Many keyboards have [ and ] behind AltGr, which may look like Ctrl+Alt, or behind Option on a Mac, which looks like Alt.
function isBracketTyped(event) {
  if (!["[", "]"].includes(event.key) || event.metaKey) return false;
  if (/^Mac/.test(navigator.platform)) return event.altKey && !event.ctrlKey;
  return event.getModifierState("AltGraph") || (event.ctrlKey && event.altKey);
}

function keyName(event) {
  const mod = (event.ctrlKey || event.metaKey) && !isBracketTyped(event);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shift = event.shiftKey && /^[a-z]$/.test(key);
  return `${mod ? "Mod+" : ""}${shift ? "Shift+" : ""}${key}`;
}

// What a slider, a box to tick and a menu do with keys. All others mean there what they mean on the image, since the
// mouse leaves the focus on what it used.
const CONTROLS = "input[type=range], input[type=checkbox], select";
const CONTROL_KEYS = new Set([...Object.keys(STEPS), "Home", "End", "PageUp", "PageDown", " "]);

// Whether a key belongs to the field that it was pressed in.
function isOfField(event) {
  const field = event.target;
  if (!field.matches("input, select, textarea")) return false;
  if (!field.matches(CONTROLS) || (field.matches("select") && isUnfolded(field))) return true;
  return CONTROL_KEYS.has(event.key) && !event.ctrlKey && !event.metaKey;
}

// Letters go to the entries of a menu as long as they are to be seen. A browser that does not say so keeps them all.
function isUnfolded(menu) {
  try { return menu.matches(":open"); } catch (error) { return true; }
}

function bindKeys(page) {
  page.root.addEventListener("keydown", (event) => {
    if (isOfField(event)) return;
    if (event.key === " ") {
      // On a button Space presses the button.
      if (event.target.matches("button")) return;
      event.preventDefault();
      if (page.drag && page.drag !== panTool) return; // nor must the object be accepted under a scribble
      page.spaceHeld = true;
      panTool.moved = panTool.moved && event.repeat;
      page.stage.classList.add("ann-grab");
      return;
    }
    if (event.key === "Enter" && event.target.matches("button")) return;
    const entry = ACTIONS.get(keyName(event));
    if (!entry || (event.altKey && !isBracketTyped(event))) return;
    event.preventDefault();
    event.stopPropagation();
    // In the middle of a stroke the object must not change under the brush.
    if (page.drag && page.drag !== panTool && event.key !== "Escape" && !entry.anytime) return;
    if (event.repeat && entry.once) return;
    entry.run(page, event.key, event);
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
