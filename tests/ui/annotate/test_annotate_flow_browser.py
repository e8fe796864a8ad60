"""Nothing is lost: reloads in mid-act, two pages on one patch, notes; and the page without a mouse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import annotations, labels
from alapp.ui.theme import THEME
from tests.ui.annotating import Visitor, centre, drag, kinds, mask_of, served, visiting, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Hang:
    """Calls of server functions in `names` that wait; with `delivered` the server gets them, but not the page the
    answer."""

    def __init__(self, page, *names, delivered=False):
        self.page, self.names, self.delivered, self.waiting = page, names, delivered, []
        page.route("**/component_server/**", self.handle)

    def handle(self, route):
        if json.loads(route.request.post_data)["fn_name"] not in self.names:
            return route.continue_()
        if self.delivered:
            route.fetch()
        self.waiting.append(route)

    def wait_for(self, n):
        for _ in range(300):
            if len(self.waiting) >= n:
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"only {len(self.waiting)} calls came")

    def end(self):
        """Let the newest call go on; those before the reload died with their page."""
        self.names = ()
        self.waiting[-1].continue_()


def stroke(visitor, y, x0, x1):
    mouse = visitor.page.mouse
    mouse.move(*visitor.where(y, x0))
    mouse.down()
    mouse.move(*visitor.where(y, x1), steps=4)
    mouse.up()


def brush(visitor, width=1):
    visitor.press("b")
    visitor.page.locator("[data-part=brush-size]").fill(str(width))
    visitor.page.locator("[data-part=stage]").focus()


def test_strokes_on_their_way_survive_a_reload(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    hang = Hang(visitor.page, "paint")
    stroke(visitor, 10, 20, 60)
    hang.wait_for(1)
    stroke(visitor, 11, 20, 40)  # waits for the first one
    assert kinds(store, first) == ["open"]
    visitor.page.reload()
    hang.wait_for(2)
    assert kinds(store, first) == ["open"]
    hang.end()
    visitor.ready()
    assert kinds(store, first) == ["open", "edit", "edit"]
    assert visitor.objects() == 1
    expected = [(10, x) for x in range(20, 61)] + [(11, x) for x in range(20, 41)]
    assert np.array_equal(np.argwhere(mask_of(store, first, 1)), expected)
    assert visitor.page.evaluate("Object.keys(sessionStorage).filter((key) => key.includes('act-')).length") == 0
    visitor.press("d")
    stored = labels.read(store, labels.latest_of_patch(store, first.id, LabelKind.HUMAN))
    assert np.array_equal(np.argwhere(stored), expected)


def test_an_act_whose_answer_got_lost_is_not_done_twice(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    hang = Hang(visitor.page, "paint", delivered=True)
    stroke(visitor, 10, 20, 60)
    hang.wait_for(1)
    assert kinds(store, first) == ["open", "edit"]
    hang.names = ()
    visitor.page.reload()
    visitor.ready()
    assert kinds(store, first) == ["open", "edit"]
    assert visitor.objects() == 1


def test_objects_accepted_before_their_masks_came_survive_a_reload(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    places = [centre(part, key) for key in ids[:2]]
    hang = Hang(visitor.page, "click")
    for y, x in places:
        visitor.page.mouse.click(*visitor.where(y, x))
        visitor.page.keyboard.press("Enter")
    hang.wait_for(1)
    visitor.page.reload()
    hang.wait_for(2)
    hang.end()
    visitor.ready()
    assert kinds(store, first) == ["open", "click", "accept", "click", "accept"]
    assert visitor.objects() == 2
    for key, (y, x) in enumerate(places, 1):
        assert mask_of(store, first, key)[y, x]


def test_who_is_faster_than_the_answers_gets_every_object(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    places = [centre(part, key) for key in ids[:2]]
    hang = Hang(visitor.page, "click")
    for y, x in places:
        visitor.page.mouse.click(*visitor.where(y, x))
        visitor.page.keyboard.press("Enter")
    hang.wait_for(1)
    # What is told lies on the rows that are painted: it must not catch the strokes.
    visitor.page.get_by_text("Working on your click").wait_for()
    visitor.page.keyboard.press("b")
    stroke(visitor, 2, 20, 40)
    stroke(visitor, 3, 20, 40)
    hang.end()
    visitor.page.locator("[data-part=objects] [data-object]").nth(2).wait_for()
    visitor.saved()
    assert kinds(store, first) == ["open", "click", "accept", "click", "accept", "edit", "edit"]
    for key, (y, x) in enumerate([*places, (2, 30)], 1):
        assert mask_of(store, first, key)[y, x]
    assert mask_of(store, first, 3)[3, 30]


def test_what_cannot_be_saved_after_a_reload_is_said(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    hang = Hang(visitor.page, "paint")
    stroke(visitor, 10, 20, 60)
    stroke(visitor, 11, 20, 40)
    hang.wait_for(1)
    visitor.page.reload()
    hang.wait_for(2)
    other = np.zeros((96, 96), bool)
    other[50:60, 50:60] = True
    annotation.accept(store, first.id, "somebody", from_array(other))
    hang.end()
    visitor.page.get_by_text("could not be saved before the page was reloaded").wait_for()
    assert "a stroke (2 times)" in visitor.page.inner_text("[data-part=message-text]")
    assert kinds(store, first) == ["open", "accept"]
    assert visitor.objects() == 1


def test_taken_over_told_and_taken_back(world, chromium, server):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    one, two = Visitor(chromium, server), Visitor(chromium, server)
    banner = two.page.locator("[data-part=presence]")
    assert "open in another tab or by another person; last change" in banner.inner_text()
    one.click(*centre(part, ids[0]))
    # Who looks sees what the other one does.
    two.page.wait_for_selector('.ann[data-revision="2"]', timeout=12_000)
    two.page.get_by_role("button", name="Take over").click()
    two.revision(3)
    one.page.get_by_text("who goes on with it").wait_for(timeout=12_000)
    assert "The points that you set here are kept" in one.page.inner_text("[data-part=presence]")
    two.press("Escape")
    brush(two)
    drag(two, (80, 20), (80, 60))
    one.page.get_by_role("button", name="Take it back").click()
    one.page.get_by_text("The patch is yours now").wait_for()
    one.saved()
    assert one.objects() == 1
    two.page.get_by_text("who goes on with it").wait_for(timeout=12_000)
    one.press("Enter")
    one.page.locator("[data-part=objects] [data-object]").nth(1).wait_for()
    assert mask_of(store, first, 2)[centre(part, ids[0])]
    two.page.get_by_role("button", name="Show the newest").click()
    two.page.locator("[data-part=objects] [data-object]").nth(1).wait_for()
    one.press("n")
    # Nobody is there any more.
    two.page.get_by_text("You can go on here").wait_for(timeout=12_000)
    drag(two, (4, 20), (4, 60))
    assert kinds(store, first)[-1] == "edit"
    one.close()
    two.close()


def test_a_reload_asks_nobody_and_a_duplicated_tab_is_another_one(world, visitor):
    _, _, (first, _), truth = world
    part, ids = whole(truth, first)
    visitor.click(*centre(part, ids[0]))
    visitor.page.reload()
    visitor.ready()
    assert visitor.page.locator("[data-part=presence]").is_hidden()
    session = "sessionStorage.getItem('alapp-session')"
    mine = visitor.page.evaluate(session)
    with visitor.context.expect_page() as opened:
        visitor.page.evaluate("window.open(location.href)")
    copy = opened.value
    copy.wait_for_selector(".ann[data-slice]")
    copy.get_by_text("is open in another tab or by another person").wait_for()
    assert copy.evaluate(session) != mine == visitor.page.evaluate(session)
    copy.close()


def test_a_note_is_saved_shown_and_survives_a_reload(world, visitor):
    store, _, (first, second), _ = world
    page = visitor.page
    page.keyboard.press("j")
    field = page.get_by_role("textbox", name="Note on this patch")
    field.type("<b>blurred</b> in the corner, d u x")
    page.locator("[data-part=note-state]", has_text="saved").wait_for()
    assert annotations.notes(store, [first.id, second.id]) == {first.id: "<b>blurred</b> in the corner, d u x"}
    page.keyboard.press("Escape")
    assert field.is_hidden()
    assert "<b>blurred</b>" in page.locator(f'[data-patch="{first.id}"].ann-patch').get_attribute("title")
    assert page.locator(".ann-noted").count() == 1
    assert page.locator(".ann-has-note").count() == 1
    assert kinds(store, first) == ["open"]

    page.keyboard.press("j")
    field.fill("Written just before the reload")
    page.reload()
    visitor.ready()
    page.wait_for_function("document.querySelector('.ann-has-note')?.title.includes('just before')")
    visitor.saved()
    assert annotations.notes(store, [first.id])[first.id] == "Written just before the reload"
    visitor.press("n")
    page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    page.keyboard.press("j")
    assert field.input_value() == ""
    assert page.locator(".ann-has-note").count() == 0


def arrows(visitor, dy, dx):
    for by, (back, on) in ((dy, ("ArrowUp", "ArrowDown")), (dx, ("ArrowLeft", "ArrowRight"))):
        key = on if by > 0 else back
        for _ in range(abs(by) // 10):
            visitor.page.keyboard.press(f"Shift+{key}")
        for _ in range(abs(by) % 10):
            visitor.page.keyboard.press(key)


def position(visitor):
    place = visitor.page.inner_text("[data-part=position]").split(":")[0]  # the intensity follows
    return [int(word.lstrip("yx ")) for word in place.split(",")]


def go(visitor, y, x):
    at = position(visitor)
    arrows(visitor, int(y) - at[0], int(x) - at[1])
    assert position(visitor) == [y, x]


def test_every_object_can_be_made_without_a_mouse(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    (y, x), page = centre(part, ids[0]), visitor.page
    page.keyboard.press("ArrowDown")
    assert page.locator("[data-part=cursor]").is_visible()
    assert position(visitor) == [48, 48]
    go(visitor, y, x)
    visitor.press("i")
    assert annotations.events(store, first.id)[-1].payload["positive"] == [[y, x]]
    go(visitor, y, x - 9)
    visitor.press("Shift+I")
    assert annotations.events(store, first.id)[-1].payload["negative"] == [[y, x - 9]]
    visitor.press("Enter")
    visitor.revision(4)
    found = mask_of(store, first, 1)
    assert found[y, x]
    assert not found[y, x - 9]

    brush(visitor)
    page.keyboard.press("Escape")
    visitor.press("b")
    go(visitor, 2, 20)
    page.keyboard.press("i")
    arrows(visitor, 0, 15)
    visitor.press("i")
    assert np.array_equal(np.argwhere(mask_of(store, first, 2)), [(2, column) for column in range(20, 36)])

    visitor.press("Escape", "Escape", "l")
    go(visitor, 80, 10)
    for dy, dx in ((0, 10), (10, 0), (0, -10)):
        visitor.press("i")
        arrows(visitor, dy, dx)
    visitor.press("i", "Enter")
    visitor.revision(6)
    assert 81 <= np.count_nonzero(mask_of(store, first, 3)) <= 121

    visitor.press("k")
    go(visitor, 85, 5)
    page.keyboard.press("i")
    arrows(visitor, 0, 20)
    visitor.press("i")
    visitor.revision(7)
    assert visitor.objects() == 4
    # The mouse takes over again.
    page.mouse.move(*visitor.where(30, 30))
    assert page.locator("[data-part=cursor]").is_hidden()


def test_objects_are_walked_by_keys_and_keep_the_focus(world, visitor):
    store, _, (first, _), _ = world
    for row in range(3):
        pixels = np.zeros((96, 96), bool)
        pixels[20 * row + 5 : 20 * row + 12, 40:50] = True
        annotation.accept(store, first.id, "before", from_array(pixels))
    page = visitor.page
    page.reload()
    visitor.ready()
    selected = "document.querySelector('.ann-selected')?.dataset.object"
    visitor.press("Shift+J")
    assert page.evaluate(selected) == "3"
    assert page.inner_text("[data-part=spoken]") == "Object 3, 70 pixels"
    visitor.press("Shift+J", "Shift+J")
    assert page.evaluate(selected) == "1"
    visitor.press("Shift+K")
    assert page.evaluate(selected) == "2"

    options = page.get_by_role("listbox", name="Objects").get_by_role("option")
    assert options.count() == 3
    options.and_(page.locator("[aria-selected=true]")).focus()
    page.keyboard.press("ArrowDown")
    focused = "document.activeElement.dataset.object"
    assert page.evaluate(focused) == page.evaluate(selected) == "1"
    page.keyboard.press("Home")
    assert page.evaluate(focused) == "3"
    visitor.press("u")  # its list is made anew
    assert page.evaluate(focused) == "3"
    visitor.press("Delete")
    assert visitor.objects() == 2
    assert page.evaluate(focused) == "2"


def test_dialogs_hold_the_focus_and_give_it_back(world, visitor):
    page = visitor.page
    page.get_by_role("button", name="Undo").evaluate("(button) => { button.disabled = false; button.focus(); }")
    page.keyboard.press("?")
    inside = "document.activeElement.closest('[role=dialog], [role=alertdialog]')?.dataset.part"
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate(inside) == "sheet"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.act") == "undo"
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("d")
    for _ in range(3):
        page.keyboard.press("Tab")
        assert page.evaluate(inside) == "message"
    page.keyboard.press("Escape")
    assert page.locator("[data-part=message]").is_hidden()
    assert page.evaluate("document.activeElement.dataset.part") == "stage"


def test_every_control_has_a_name_for_screen_readers(world, visitor):
    page = visitor.page
    page.keyboard.press("j")
    page.locator("[data-part=stage]").focus()
    page.keyboard.press("?")
    devtools = visitor.context.new_cdp_session(page)
    tree = devtools.send("Accessibility.getFullAXTree")["nodes"]
    roles = {
        "button",
        "slider",
        "combobox",
        "textbox",
        "searchbox",
        "checkbox",
        "radio",
        "spinbutton",
        "listbox",
        "option",
    }
    roles |= {"dialog", "alertdialog", "application", "toolbar"}
    controls = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(controls) > 30
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


CONTRAST = """() => {
    const pixel = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
    const dot = pixel.getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        dot.clearRect(0, 0, 1, 1);
        dot.fillStyle = colour;
        dot.fillRect(0, 0, 1, 1);
        return [...dot.getImageData(0, 0, 1, 1).data];
    };
    const over = (top, below) => below.map((value, i) => (top[i] * top[3] + value * (255 - top[3])) / 255);
    const ground = (node) => {
        const stack = [];
        for (let at = node; at; at = at.parentElement) stack.unshift(rgba(getComputedStyle(at).backgroundColor));
        return stack.reduce((below, top) => over(top, below), [255, 255, 255]);
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const found = {};
    for (const node of document.querySelectorAll('.ann *')) {
        const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!text || !node.checkVisibility() || node.closest(':disabled, option, .ann-spoken')) continue;
        const style = getComputedStyle(node);
        const back = ground(node);
        let fade = 1;
        for (let at = node; at; at = at.parentElement) fade *= Number(getComputedStyle(at).opacity);
        const colour = rgba(style.color);
        const value = ratio(over([...colour.slice(0, 3), colour[3] * fade], back), back);
        const key = node.className || node.tagName.toLowerCase();
        found[key] = Math.min(found[key] ?? 21, Math.round(value * 100) / 100);
    }
    const stage = document.querySelector('.ann-stage');
    found['focus on the stage'] = ratio(rgba(getComputedStyle(stage).outlineColor).slice(0, 3), ground(stage));
    const probe = document.querySelector('.ann-work');
    probe.style.color = 'var(--ann-focus)';
    const focus = rgba(getComputedStyle(probe).color);
    probe.style.color = '';
    for (const name of ['.ann-side', '.ann-main .ann-tools']) {
        const back = ground(document.querySelector(name));
        found[`focus on ${name}`] = Math.round(ratio(focus.slice(0, 3), back) * 100) / 100;
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_focus_stand_out(world, chromium, theme):
    """WCAG 2.2, level AA: 4.5 for text (1.4.3), 3 for what shows the focus (1.4.11)."""
    store, _, (first, _), truth = world
    annotation.accept(store, first.id, "before", from_array(truth[:96, :96] == whole(truth, first)[1][0]))
    annotation.skip(store, world[2][1].id, "before")
    with (
        served(store, first.project_id, theme=THEME) as url,
        visiting(chromium, f"{url}?__theme={theme}") as visitor,
    ):
        visitor.press("j")
        page = visitor.page
        page.get_by_role("textbox", name="Note on this patch").type("A note")
        page.locator("[data-part=note-state]", has_text="saved").wait_for()
        page.locator("[data-part=stage]").focus()
        page.keyboard.press("d")
        page.keyboard.press("Escape")
        found = page.evaluate(CONTRAST)
        page.keyboard.press("?")
        found = page.evaluate(CONTRAST) | found
        unsaved = "document.querySelector('[data-part=save]').classList.add('ann-unsaved')"
        found["unsaved"] = page.evaluate(f"() => {{ {unsaved}; return ({CONTRAST})(); }}")["ann-save ann-unsaved"]
        dark = page.evaluate("document.body.classList.contains('dark')")
    print(theme, found)  # the numbers, with -s
    assert dark == (theme == "dark")
    assert len(found) > 12
    assert {name: value for name, value in found.items() if value < (3 if name.startswith("focus") else 4.5)} == {}
