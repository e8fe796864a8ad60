// The address names the open tab (#rounds), so that a reload stays on it, and Back goes to the one before instead of
// out of the app. Needs waiting.js.
(() => {
  const FIRST = "project";
  const named = () => location.hash.slice(1) || FIRST;
  let open = FIRST;
  let awaited = named(); // the tab that the address asked for, until it is open: Gradio opens the first one before

  // A tab was opened: by a click, by a button that goes to it, or because the address names it.
  alapp.arrived = (tab) => {
    open = tab;
    if (awaited && awaited !== tab) return;
    awaited = null;
    if (named() !== tab) history.pushState(null, "", `#${tab}`);
  };

  // The update that opens the tab which the address names, if it is one of `tabs`.
  alapp.named = (tabs) => {
    const wanted = named();
    if (wanted === open || !tabs.includes(wanted)) {
      awaited = null;
      return { __type__: "update" };
    }
    awaited = wanted;
    return { __type__: "update", selected: wanted };
  };

  // Open “Add images” on the Project tab and go there; the tab may only just be opened.
  alapp.showAdding = (tries = 30) => {
    const folds = [...document.querySelectorAll("#panel-project button.label-wrap")];
    const fold = folds.find((each) => each.textContent.trim().startsWith("Add images") && each.offsetParent);
    if (!fold) return void (tries && setTimeout(alapp.showAdding, 100, tries - 1));
    if (!fold.classList.contains("open")) fold.click();
    setTimeout(() => fold.scrollIntoView({ behavior: "smooth", block: "start" }), 100);
    fold.focus({ preventScroll: true });
  };

  // Back, Forward, or another address typed.
  window.addEventListener("popstate", () => document.querySelector("#go-to-named")?.click());
  // What a person chooses counts, also when the page has not come to the tab of the address yet.
  window.addEventListener("click", (event) => event.isTrusted && (awaited = null), true);
})();
