// Acts that the server has not acknowledged, kept by the browser tab: after a reload or a crash they are sent again.
// The server knows an act that it has by its token, so none happens twice.

const ACT_TEXT = {
  accept: "an object", paint: "a stroke", merge: "a merge", split: "a split", reshape: "a change of shape", take: "accepted suggestions",
  remove: "a deletion", undo: "an undo", redo: "a redo", propagate: "an object carried through the stack", save_note: "a note", classify: "a change of kind",
  mark_region: "a part that is not annotated",
};

let lastKept = 0;

// `payload` as it will be sent, or null if it depends on an answer that is still awaited.
function keepAct(act, payload, session) {
  // Keys sort by time, also after the clock was set back.
  lastKept = Math.max(lastKept + 1, Date.now());
  act.key = `act-${String(lastKept).padStart(15, "0")}`;
  return updateAct(act, payload, session);
}

function updateAct({ key, name, token, project, kind, makes }, payload, session) {
  return remember(key, { name, token, project, session, kind, makes, payload: payload || null });
}

// Send what an earlier life of this tab left, in order. Returns a sentence on what could not be saved, or "".
async function resendKept(link, project) {
  const behind = new Set(); // patches that were changed elsewhere
  const lost = [];
  const errors = [];
  const revisions = new Map();
  const made = new Map(); // by patch and the page's id: what the server calls an object, see births.js
  let click = null;
  for (const key of link.left) {
    const kept = recall(key);
    if (!kept || kept.project !== project) continue;
    const payload = kept.payload ?? acceptOf(kept, click);
    if (payload && behind.has(payload.patch)) lost.push(kept.name);
    else if (payload) {
      // Only the first act knows which revision it follows; the others follow it.
      if (payload.revision !== undefined) payload.revision = revisions.get(payload.patch) ?? payload.revision;
      const born = nameTruly(payload, made);
      const answer = await link.untilAnswered(kept.name, { project, ...payload, session: kept.session, token: kept.token });
      if (answer.conflict) {
        behind.add(payload.patch);
        lost.push(kept.name);
      } else if (answer.error) errors.push(answer.error);
      else {
        if (answer.revision !== undefined) revisions.set(payload.patch, answer.revision);
        if (born) made.set(born, answer.object);
      }
      if (kept.name === "click") click = { payload, mask: answer.mask };
    }
    forget(key);
  }
  link.left = link.left.filter((key) => recall(key));
  return [lostText(lost), ...errors].filter(Boolean).join(" ");
}

// An accept that waited for the mask of the click before it takes the mask from that click's answer.
function acceptOf({ name, kind, makes }, click) {
  if (name !== "accept" || !click?.mask) return null;
  const { patch, revision, object, overlap } = click.payload;
  return { patch, revision, box: click.mask.box, runs: click.mask.runs, object, overlap, kind, makes };
}

// Objects that were made since the act was kept go by the server's ids now. Returns what the object that the act makes
// is to be found by in `made`, or null.
function nameTruly(payload, made) {
  const key = (id) => `${payload.patch}/${id}`;
  const truly = (id) => (payload.unborn?.includes(id) ? made.get(key(id)) ?? id : id);
  if (payload.objects) payload.objects = payload.objects.map(truly);
  const makes = payload.object == null ? payload.makes ?? null : null;
  if (makes === null) payload.object = payload.object == null ? payload.object : truly(payload.object);
  else if (made.has(key(makes))) payload.object = made.get(key(makes));
  else return key(makes);
  return null;
}

function lostText(names) {
  const counts = new Map();
  // Points are not counted: they are kept as the draft.
  for (const name of names) if (ACT_TEXT[name]) counts.set(name, (counts.get(name) || 0) + 1);
  if (!counts.size) return "";
  const parts = [...counts].map(([name, n]) => (n > 1 ? `${ACT_TEXT[name]} (${n} times)` : ACT_TEXT[name]));
  return `This could not be saved before the page was reloaded, because the patch was changed elsewhere in the meantime: ${parts.join(", ")}. Please do it again.`;
}
