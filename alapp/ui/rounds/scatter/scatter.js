// The map itself: draws, moves, and tells the page which patch is meant.

const REACH = 12; // pixels between the pointer and a point that it means
const DRAG = 4; // a pointer that moved less has clicked
const NOTHING = { id: [], x: [], y: [], status: [], round: [], doubt: [], order: [] };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Scatter {
  constructor(root, server, send) {
    Object.assign(this, { root, server, send, points: NOTHING, colourBy: "status", value: {}, at: -1 });
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.stage = this.part("stage");
    this.canvas = this.part("canvas");
    this.card = new Card(this.part, (patch) => this.ask("map_look", { patch }));
    this.listen();
    new ResizeObserver(() => this.fit()).observe(this.stage);
  }

  async ask(name, message = {}) {
    const answer = await this.server[name]({ project: this.value.project, ...message }).catch(() => null);
    return answer || { error: "The app does not answer. Check that it still runs, then reload the page." };
  }

  // A new value of the component.
  async open(value) {
    const before = this.value;
    const opened = value || {};
    const isOf = (other) => other.project === opened.project && other.stamp === opened.stamp;
    this.value = opened;
    if (isOf(before)) return this.draw(); // only the ring moves
    const answer = this.value.project ? await this.ask("map_points") : NOTHING;
    if (!isOf(this.value)) return undefined; // a newer value came meanwhile
    this.card.forget();
    this.part("empty").hidden = !answer.error && answer.id.length > 0;
    if (answer.error || answer.empty) this.part("empty").textContent = answer.error || answer.empty;
    const moved = answer.error || String(answer.x) !== String(this.points.x) || String(answer.y) !== String(this.points.y);
    this.points = answer.error ? NOTHING : { ...answer, order: drawingOrder(answer.status) };
    this.at = -1;
    if (moved) this.fit(); // else the part of the map that the person looks at stays
    this.recolour(this.colourBy);
    this.aim();
    return undefined;
  }

  recolour(colourBy) {
    this.colourBy = colourBy;
    this.root.dataset.colour = colourBy;
    for (const button of this.root.querySelectorAll("[data-colour]")) {
      button.setAttribute("aria-checked", String(button.dataset.colour === colourBy));
    }
    this.looks = looksOf(this.points, colourBy);
    drawLegend(this.part("legend"), this.points, colourBy);
    this.draw();
  }

  fit() {
    this.width = this.stage.clientWidth;
    this.height = this.stage.clientHeight;
    this.view = fitted(this.points, this.width, this.height);
    this.aim();
    this.draw();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    this.card.hide();
    this.view = { scale: view.scale * factor, x: x + (view.x - x) * factor, y: y + (view.y - y) * factor };
    this.aim();
    this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.paint();
    });
  }

  paint() {
    if (!this.width || !this.looks) return; // the tab is not shown
    const ratio = window.devicePixelRatio || 1;
    const size = [this.width, this.height].map((side) => Math.round(side * ratio));
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    for (const at of this.points.order) {
      const [x, y] = placed(this.points, at, this.view);
      if (x > -9 && y > -9 && x < this.width + 9 && y < this.height + 9) drawPoint(context, this.looks[at], x, y);
    }
    this.circle(context, this.points.id.indexOf(this.value.chosen), "#0072b2", 12);
    this.circle(context, this.at, getComputedStyle(this.root).color, 10);
  }

  circle(context, at, colour, radius) {
    if (at < 0) return;
    const [x, y] = placed(this.points, at, this.view);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = 2.5;
    context.stroke();
  }

  // Point at what is under a pointer that rests, after the points moved: it makes no event of its own.
  aim() {
    if (this.rest && !this.held && this.width) this.point(nearestPoint(this.points, this.view, ...this.rest, REACH));
  }

  // Point at a patch, by mouse or by key.
  point(at, spoken = false) {
    this.at = at;
    this.stage.classList.toggle("map-over", at >= 0);
    if (at < 0) this.card.hide();
    else this.card.show(this.points.id[at], ...placed(this.points, at, this.view), this.width, this.height, spoken);
    this.draw();
  }

  // What a click on a patch does: those that were picked open, the others are marked.
  act(at) {
    if (at < 0) return;
    const patch = this.points.id[at];
    this.card.hide();
    if (this.points.status[at] === "unlabelled") this.send("picked", { patch });
    else this.send("opened", { patch });
  }

  listen() {
    for (const button of this.root.querySelectorAll("[data-colour]")) {
      button.addEventListener("click", () => this.recolour(button.dataset.colour));
    }
    for (const button of this.root.querySelectorAll("[data-zoom]")) {
      const factor = Number(button.dataset.zoom);
      button.addEventListener("click", () => (factor ? this.zoom(factor) : this.fit()));
    }
    const { stage } = this;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      const [x, y] = this.whereIs(event);
      this.held = { x, y, moved: false };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => this.move(...this.whereIs(event)));
    stage.addEventListener("pointerup", (event) => {
      const clicked = this.held && !this.held.moved;
      this.held = null;
      stage.classList.remove("map-moving");
      const [x, y] = this.whereIs(event);
      if (clicked) this.act(nearestPoint(this.points, this.view, x, y, REACH));
    });
    stage.addEventListener("pointercancel", () => { this.held = null; });
    stage.addEventListener("pointerleave", () => {
      this.rest = null;
      if (!this.held) this.point(-1);
    });
    stage.addEventListener("blur", () => this.point(-1));
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), ...this.whereIs(event));
    }, { passive: false });
    stage.addEventListener("keydown", (event) => this.key(event));
  }

  whereIs(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  move(x, y) {
    this.rest = [x, y];
    if (!this.held) return this.point(nearestPoint(this.points, this.view, x, y, REACH));
    if (!this.held.moved && Math.hypot(x - this.held.x, y - this.held.y) < DRAG) return undefined;
    this.view = { ...this.view, x: this.view.x + x - this.held.x, y: this.view.y + y - this.held.y };
    this.held = { x, y, moved: true };
    this.stage.classList.add("map-moving");
    return this.point(-1);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.points.id.length) return;
    const arrow = ARROWS[event.key];
    const first = this.points.id.indexOf(this.value.chosen);
    this.rest = null; // the keys point now
    if (arrow) this.point(this.at < 0 ? Math.max(first, 0) : nextPoint(this.points, this.view, this.at, ...arrow), true);
    else if (event.key === "Enter" || event.key === " ") this.act(this.at);
    else if (event.key === "Escape") this.point(-1);
    else if (event.key === "+" || event.key === "=") this.zoom(1.33);
    else if (event.key === "-") this.zoom(0.75);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }
}

function drawingOrder(statuses) {
  const ranks = statuses.map((status) => STATUS_ORDER.indexOf(status));
  return statuses.map((_, at) => at).sort((a, b) => ranks[a] - ranks[b]);
}

const send = (name, data) => (name === "picked" ? trigger("picked", data) : trigger("opened", data));
const map = new Scatter(element.querySelector(".map"), server, send);
map.open(props.value);
watch("value", () => map.open(props.value));
