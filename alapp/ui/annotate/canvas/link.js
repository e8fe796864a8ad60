// Talks to the server: one request in flight, waiting clicks coalesced, nothing dropped that changes the journal.

const RETRY_MS = 1500;
const PATIENCE_MS = 1000; // with something to save, after which a tab that is closed asks

class Link {
  constructor(server, session, onState) {
    this.server = server;
    this.session = session;
    this.project = null; // set when a project is opened; the server answers only for its own patches
    this.kind = undefined; // of new objects, where a project has several kinds
    this.onState = onState;
    this.queue = [];
    this.sent = null; // the act whose answer is awaited
    this.busy = false;
    this.failure = "";
    this.unkept = false; // something waits that a reload would lose
    this.idlers = [];
    this.left = remembered("act-").sort(); // acts of an earlier life of this tab, see outbox.js
    window.addEventListener("beforeunload", (event) => {
      // A tab that is closed forgets what it keeps for a reload.
      const waits = !this.idling && performance.now() - this.since > PATIENCE_MS;
      if (this.failure || this.unkept || waits) event.preventDefault();
    });
  }

  // `build(sending)` gives the payload, with `sending` when its turn has come and before that to be kept for a reload
  // (null: no longer needed, then `skipped()` is called; or not known yet); `done(answer)`
  // takes the result. An act with the same `replaces` that has not been sent yet gives way. `makes`: see births.js.
  act(name, build, done, { replaces = null, retry = true, makes = null, skipped = () => {} } = {}) {
    if (replaces) {
      this.queue.filter((other) => other.replaces === replaces).forEach((other) => forget(other.key));
      this.queue = this.queue.filter((other) => other.replaces !== replaces);
    }
    const { kind, project } = this; // as they are now, not when the turn comes
    const withKind = (sending = false) => {
      const payload = build(sending);
      return payload && { kind, ...payload };
    };
    const act = { name, build: withKind, done, replaces, retry, makes, skipped, kind, project, token: newSession() };
    this.keep(act, withKind());
    this.queue.push(act);
    this.run();
    return act;
  }

  // The act that was done last, if it is not answered.
  get last() { return this.queue.at(-1) ?? this.sent; }

  // Take acts back whose turn has not come; true if there were any.
  withdraw(name) {
    const waiting = this.queue.filter((act) => act.name === name);
    this.queue = this.queue.filter((act) => act.name !== name);
    for (const act of waiting) {
      forget(act.key);
      act.skipped();
    }
    return waiting.length > 0;
  }

  // A reload must not lose an act from the moment on at which the person saw it done.
  keep(act, payload) {
    const kept = act.key ? updateAct(act, payload, this.session) : keepAct(act, payload, this.session);
    if (!kept) this.unkept = true;
  }

  // Ask until the server answers.
  async untilAnswered(name, payload) {
    let answer = await this.call(name, payload);
    while (answer.unreachable) {
      this.failure = "the app does not answer; trying again";
      this.onState();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      answer = await this.call(name, payload);
    }
    if (this.failure) {
      this.failure = "";
      this.onState();
    }
    return answer;
  }

  // A question that changes nothing: not queued behind acts.
  async ask(name, payload) {
    return this.call(name, { project: this.project, ...payload, session: this.session });
  }

  async call(name, payload) {
    try {
      const answer = await this.server[name](payload);
      return answer === undefined || answer === null ? { error: "", unreachable: true } : answer;
    } catch (error) {
      return { error: "", unreachable: true };
    }
  }

  get idling() { return !this.busy && !this.queue.length; }

  idle() {
    if (this.idling) return Promise.resolve();
    return new Promise((resolve) => this.idlers.push(resolve));
  }

  get saved() { return this.idling && !this.failure; }

  async run() {
    if (this.busy) return;
    this.busy = true;
    this.since = performance.now();
    this.onState();
    while (this.queue.length) {
      const act = this.queue.shift();
      const payload = act.build(true);
      if (!payload) {
        forget(act.key);
        act.skipped();
        continue;
      }
      this.keep(act, payload);
      this.sent = act;
      const message = { project: act.project, ...payload, session: this.session, token: act.token };
      let answer = await (act.retry ? this.untilAnswered(act.name, message) : this.call(act.name, message));
      this.sent = null;
      forget(act.key);
      if (answer.unreachable) answer = { error: UNREACHABLE };
      act.done(answer);
    }
    this.busy = this.unkept = false;
    this.onState();
    this.idlers.splice(0).forEach((resolve) => resolve());
  }
}
