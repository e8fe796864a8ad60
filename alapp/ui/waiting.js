// A tab that waits for what it is filled with takes no clicks: the answer would take back what they chose.
window.alapp = (() => {
  const LONGEST = 10000; // ms: an answer that never comes must not lock a tab
  const held = new Map();
  const sheet = document.head.appendChild(document.createElement("style"));
  const show = () => {
    const panels = [...held.keys()].map((tab) => `#panel-${tab}`).join(", ");
    sheet.textContent = panels && `${panels} { pointer-events: none; animation: al-waiting .2s .4s forwards; }`;
  };
  const release = (tab) => {
    clearTimeout(held.get(tab));
    held.delete(tab);
    show();
  };
  const hold = (tab) => {
    clearTimeout(held.get(tab));
    held.set(tab, setTimeout(release, LONGEST, tab));
    show();
  };
  return { hold, release };
})();
