// What this browser tab remembers over a reload.

const DUPLICATE_MS = 120; // a tab of the same browser answers within a few milliseconds

function newSession() {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sessionId() {
  const known = recall("session");
  if (known) return known;
  const made = newSession();
  remember("session", made);
  return made;
}

// A tab that was duplicated begins with a copy of the other one's memory: its id, its drafts, its unsent acts. The
// older tab goes on with them; `renew(id)` is called in the younger one. The promise: it is known who is who.
function detectDuplicate(session, renew) {
  if (!window.BroadcastChannel) return Promise.resolve();
  const channel = new BroadcastChannel("alapp-sessions");
  const nonce = newSession();
  const since = performance.timeOrigin;
  let mine = session;
  return new Promise((resolve) => {
    channel.addEventListener("message", ({ data }) => {
      if (data.session !== mine || data.nonce === nonce) return;
      const older = since < data.since || (since === data.since && nonce < data.nonce);
      if (data.ask && older) return channel.postMessage({ ask: false, session: mine, nonce, since });
      if (older) return;
      forgetAll(["draft-", "act-", "note-"]);
      mine = newSession();
      remember("session", mine);
      renew(mine);
      resolve();
    });
    channel.postMessage({ ask: true, session: mine, nonce, since });
    setTimeout(resolve, DUPLICATE_MS);
  });
}

// The browser may forbid storage, or its space may be used up; the page then works without it. False: not kept.
function remember(key, value) {
  try {
    sessionStorage.setItem(`alapp-${key}`, JSON.stringify(value));
    return true;
  } catch (error) {
    return false;
  }
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

function remembered(prefix) {
  try {
    return Object.keys(sessionStorage).filter((key) => key.startsWith(`alapp-${prefix}`)).map((key) => key.slice(6));
  } catch (error) {
    return [];
  }
}

function forgetAll(prefixes) {
  for (const prefix of prefixes) remembered(prefix).forEach(forget);
}
