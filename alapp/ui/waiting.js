// A tab that waits for what it is filled with takes no clicks: the answer would take back what they chose.
window.alapp = (() => {
  const LONGEST = 10000; // ms: an answer that never comes must not lock a tab
  const held = new Map(); // a tab that was opened may be held as well because of the project: each ends for itself
  const sheet = document.head.appendChild(document.createElement("style"));
  const show = () => {
    const panels = [...held.values()].map(({ tab }) => `#panel-${tab}`).join(", ");
    sheet.textContent = panels && `${panels} { pointer-events: none; animation: al-waiting .2s .4s forwards; }`;
  };
  const release = (reason) => {
    clearTimeout(held.get(reason)?.timer);
    held.delete(reason);
    show();
  };
  const hold = (tab, reason) => {
    clearTimeout(held.get(reason)?.timer);
    held.set(reason, { tab, timer: setTimeout(release, LONGEST, reason) });
    show();
  };
  return { hold, release };
})();
