"""The page without a mouse, for screen readers, and for eyes that need contrast."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import annotations
from alapp.ui.theme import THEME
from tests.ui.annotating import brush, centre, mask_of, served, visiting, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


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
