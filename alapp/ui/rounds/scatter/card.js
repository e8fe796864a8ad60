// The card beside the pointer: what is known of a patch. Pictures are fetched when the pointer rests, and kept.

const REST_MS = 60;
const MOST_CARDS = 300;

class Card {
  // `ask(patch)` gives the answer of map_look.
  constructor(part, ask) {
    this.part = part;
    this.ask = ask;
    this.known = new Map(); // oldest first
    this.patch = null;
  }

  forget() {
    this.known.clear();
    this.hide();
  }

  hide() {
    this.patch = null;
    clearTimeout(this.waiting);
    this.part("card").hidden = true;
  }

  // Show what is known of a patch beside (x, y) on a stage that is `width` x `height` pixels large; `spoken`: read it out.
  show(patch, x, y, width, height, spoken = false) {
    this.place = { x, y, width, height };
    if (patch === this.patch) return this.move();
    this.hide();
    this.patch = patch;
    if (this.known.has(patch)) return this.fill(this.known.get(patch), spoken);
    this.waiting = setTimeout(async () => {
      const answer = await this.ask(patch);
      if (!answer.error) {
        this.known.set(patch, answer);
        if (this.known.size > MOST_CARDS) this.known.delete(this.known.keys().next().value);
      }
      if (patch === this.patch) this.fill(answer, spoken); // the pointer may have gone on
    }, REST_MS);
  }

  fill(answer, spoken) {
    const words = answer.error ? { name: answer.error } : answer;
    for (const name of ["name", "state", "reason", "doubt", "action"]) {
      this.part(name).textContent = words[name] || "";
      this.part(name).hidden = !words[name];
    }
    this.part("picture").hidden = !answer.picture;
    if (answer.picture) this.part("picture").src = answer.picture;
    this.part("card").hidden = false;
    if (spoken) {
      this.part("spoken").textContent = [words.name, words.state, words.reason, words.doubt].filter(Boolean).join(". ");
    }
    this.move();
  }

  move() {
    const { x, y, width, height } = this.place;
    const card = this.part("card");
    const left = x + 16 + card.offsetWidth <= width ? x + 16 : Math.max(0, x - 16 - card.offsetWidth);
    const top = Math.min(Math.max(y - card.offsetHeight / 2, 0), Math.max(0, height - card.offsetHeight));
    Object.assign(card.style, { left: `${left}px`, top: `${top}px` });
  }
}
