// What this browser tab remembers over a reload.

function sessionId() {
  const known = recall("session");
  if (known) return known;
  const made = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  remember("session", made);
  return made;
}

// The browser may forbid storage; the page then works without it.
function remember(key, value) {
  try { sessionStorage.setItem(`alapp-${key}`, JSON.stringify(value)); } catch (error) { /* nothing is kept */ }
}

function recall(key) {
  try { return JSON.parse(sessionStorage.getItem(`alapp-${key}`)); } catch (error) { return null; }
}

function forget(key) {
  try { sessionStorage.removeItem(`alapp-${key}`); } catch (error) { /* nothing was kept */ }
}

// What the browser keeps after the tab is closed.
function keep(key, value) {
  try { localStorage.setItem(`alapp-${key}`, JSON.stringify(value)); } catch (error) { /* nothing is kept */ }
}

function kept(key) {
  try { return JSON.parse(localStorage.getItem(`alapp-${key}`)); } catch (error) { return null; }
}
