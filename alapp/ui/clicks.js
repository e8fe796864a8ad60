// A button of the page acts once for a double click, and once for a key that is held down: the second click would reach
// it when the first was answered, and create another project, or delete the one that is shown next.
(() => {
  const button = (event) => event.target.closest?.("button.sm, button.md, button.lg");
  const none = (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  window.addEventListener("click", (event) => event.detail > 1 && button(event) && none(event), true);
  window.addEventListener("keydown", (event) => event.repeat && button(event) && none(event), true);
})();
