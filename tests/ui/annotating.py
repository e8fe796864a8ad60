"""The Annotate page in a browser: a visitor, and what is then in the database."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np

from alapp.rounds.annotate import annotation
from alapp.storage import annotations, catalogue
from alapp.ui.annotate import annotate


class Visitor:
    """A browser tab on the page. Every error in its console fails the test. `script` runs before the page's own."""

    def __init__(self, chromium, url, script="", **options):
        self.context = chromium.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.context.add_init_script(script)
        self.page = self.context.new_page()
        # From the start: Chromium under load lets a request pass that is sent right after the first route was set.
        self.page.route("**/component_server/**", lambda route: route.continue_())
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(url)
        self.ready()

    def ready(self):
        self.page.wait_for_selector(".ann[data-slice]")
        self.saved()
        self.frame()

    def saved(self):
        self.page.wait_for_selector('.ann:not([data-told="false"]) [data-part="save"][data-saved="true"]')

    def frame(self):
        """Wait until what changed is drawn."""
        self.page.evaluate(
            "() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"
        )

    def picture(self):
        """What the canvas shows, as an address of data."""
        self.frame()
        return self.page.evaluate("document.querySelector('.ann canvas').toDataURL()")

    def where(self, y, x):
        return self.page.evaluate(
            """([y, x]) => {
                const rect = document.querySelector('.ann canvas').getBoundingClientRect();
                const { scale, left, top } = document.querySelector('.ann').viewTransform();
                return [rect.left + left + (x + 0.5) * scale, rect.top + top + (y + 0.5) * scale];
            }""",
            [int(y), int(x)],
        )

    def click(self, y, x, button="left", modifiers=()):
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.where(y, x), button=button)
        for key in modifiers:
            self.page.keyboard.up(key)
        self.saved()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.saved()
        self.frame()

    def until(self, condition, seconds=30):
        """Wait until what the page shows, or asked the server for, is so."""
        for _ in range(20 * seconds):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not come to that")

    def revision(self, n):
        self.page.wait_for_selector(f'.ann[data-revision="{n}"]')

    def objects(self):
        return self.page.locator(".ann [data-part=objects] [data-object]").count()

    def close(self):
        self.context.close()
        assert not self.errors


@contextmanager
def served(store, project_id, **options):
    """The address of the Annotate page alone, on this project; `options` of `gr.Blocks.launch`."""
    blocks = annotate.standalone(store, project_id)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **options)
    try:
        yield url
    finally:
        blocks.close(verbose=False)


@contextmanager
def visiting(chromium, url, *args, **options):
    """A `Visitor`, who leaves at the end."""
    made = Visitor(chromium, url, *args, **options)
    try:
        yield made
    finally:
        made.context.close()
    assert not made.errors


@contextmanager
def opened(chromium, store, project_id, **options):
    """A `Visitor` on the Annotate page alone."""
    with served(store, project_id) as url, visiting(chromium, url, **options) as made:
        yield made


def drag(visitor, *points, button="left", shift=False):
    mouse, keyboard = visitor.page.mouse, visitor.page.keyboard
    if shift:
        keyboard.down("Shift")
    mouse.move(*visitor.where(*points[0]))
    mouse.down(button=button)
    for point in points[1:]:
        mouse.move(*visitor.where(*point), steps=5)
    mouse.up(button=button)
    if shift:
        keyboard.up("Shift")
    visitor.saved()


def brush(visitor, width=1):
    """Take the brush, so many pixels wide."""
    visitor.press("b")
    visitor.page.locator("[data-part=brush-size]").fill(str(width))
    visitor.page.locator("[data-part=stage]").focus()


def centre(truth, identity):
    y, x = np.argwhere(truth == identity).mean(axis=0).round()
    return int(y), int(x)


def whole(truth, patch):
    """Ids of objects that lie well inside of the patch."""
    part = catalogue.crop(truth, patch)
    ids, counts = np.unique(part, return_counts=True)
    return part, [int(key) for key, n in zip(ids, counts, strict=True) if key and n > 200]


def kinds(store, patch):
    return [row.kind for row in annotations.events(store, patch.id)]


def mask_of(store, patch, identity):
    target = np.zeros((1, *catalogue.read_patch(store, patch).shape[:2]), bool)
    annotation.state(store, patch.id).objects[identity].mask.paint(target, True)
    return target[0]


def begin_stroke(visitor, y, x0, x1):
    mouse = visitor.page.mouse
    mouse.move(*visitor.where(y, x0))
    mouse.down()
    mouse.move(*visitor.where(y, x1), steps=4)


def stroke(visitor, y, x0, x1):
    begin_stroke(visitor, y, x0, x1)
    visitor.page.mouse.up()


def pixels(store, patch, identity):
    """The rows of an object, and how many pixels each of them has."""
    rows, counts = np.unique(np.argwhere(mask_of(store, patch, identity))[:, 0], return_counts=True)
    return dict(zip(rows.tolist(), counts.tolist(), strict=True))


def message(visitor):
    return visitor.page.locator("[data-part=message]")


class Held:
    """Calls of the server functions in `names` that wait, until they are let go, the oldest first."""

    def __init__(self, page, *names):
        self.page, self.names, self.came, self.waiting = page, names, 0, []
        page.route("**/component_server/**", self._handle)

    def _handle(self, route):
        if json.loads(route.request.post_data)["fn_name"] not in self.names:
            return route.continue_()
        self.came += 1
        self.waiting.append(route)

    def wait_for(self, n):
        """Until so many calls came, all together."""
        for _ in range(600):
            if self.came >= n:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"only {self.came} calls came")

    def let_go(self):
        self.waiting.pop(0).continue_()

    def refuse(self, sentence="The disk is full."):
        """The oldest call does not reach the server, and the page is told why."""
        self.waiting.pop(0).fulfill(json={"error": sentence, "conflict": False})

    def end(self):
        """Let go of all of them, and of those to come."""
        self.names = ()
        while self.waiting:
            self.let_go()


def to_slice(visitor, *keys, z):
    """Press keys, and wait until slice `z` of the stack is shown."""
    for key in keys:
        visitor.page.keyboard.press(key)
    visitor.page.wait_for_selector(f'.ann[data-slice$="/{z}"]')
