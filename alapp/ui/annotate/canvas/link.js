// Talks to the server: one request in flight, waiting clicks coalesced, nothing dropped that changes the journal.

const RETRY_MS = 1500;

class Link {
  constructor(server, session, onState) {
    this.server = server;
    this.session = session;
    this.project = null; // set when a project is opened; the server answers only for its own patches
    this.kind = undefined; // of new objects, where a project has several kinds
    this.onState = onState;
    this.queue = [];
    this.busy = false;
    this.failure = "";
    this.unkept = false; // something waits that a reload would lose
    this.idlers = [];
    this.left = remembered("act-").sort(); // acts of an earlier life of this tab, see outbox.js
    window.addEventListener("beforeunload", (event) => {
      // A tab that is closed forgets what it keeps for a reload.
      if (this.failure || this.unkept) event.preventDefault();
    });
  }

  // `build()` gives the payload when its turn comes (null: no longer needed); `done(answer)` takes the result.
  // An act with the same `replaces` that has not been sent yet gives way.
  act(name, build, done, { replaces = null, retry = true } = {}) {
    if (replaces) {
      this.queue.filter((other) => other.replaces === replaces).forEach((other) => forget(other.key));
      this.queue = this.queue.filter((other) => other.replaces !== replaces);
    }
    const { kind } = this; // as it is now, not when the turn comes
    const withKind = () => {
      const payload = build();
      return payload && { kind, ...payload };
    };
    const act = { name, build: withKind, done, replaces, retry, token: newSession() };
    this.keep(act, withKind());
    this.queue.push(act);
    this.run();
  }

  // A reload must not lose an act from the moment on at which the person saw it done.
  keep(act, payload) {
    const kept = act.key ? updateAct(act, payload, this) : keepAct(act, payload, this);
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

  idle() {
    if (!this.busy && !this.queue.length) return Promise.resolve();
    return new Promise((resolve) => this.idlers.push(resolve));
  }

  get saved() { return !this.busy && !this.queue.length && !this.failure; }

  async run() {
    if (this.busy) return;
    this.busy = true;
    this.onState();
    while (this.queue.length) {
      const act = this.queue.shift();
      const payload = act.build();
      if (!payload) {
        forget(act.key);
        continue;
      }
      this.keep(act, payload);
      const message = { project: this.project, ...payload, session: this.session, token: act.token };
      let answer = await (act.retry ? this.untilAnswered(act.name, message) : this.call(act.name, message));
      forget(act.key);
      if (answer.unreachable) answer = { error: "The app does not answer. Check that it still runs, then try again." };
      act.done(answer);
    }
    this.busy = this.unkept = false;
    this.onState();
    this.idlers.splice(0).forEach((resolve) => resolve());
  }
}
