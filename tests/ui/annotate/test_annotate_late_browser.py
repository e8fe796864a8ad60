"""The same acts lead to the same labels, whether the server's answers come at once or late."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.rounds.annotate import annotation
from tests.ui.annotating import (
    Held,
    Visitor,
    begin_stroke,
    brush,
    centre,
    drag,
    kinds,
    mask_of,
    message,
    opened,
    pixels,
    stroke,
    to_slice,
    whole,
)

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(params=[False, True], ids=["at once", "late"])
def late(request):
    return request.param


class Answers:
    """Answers to the acts in `names`: held until the end, or at once."""

    def __init__(self, visitor, late, *names):
        self.visitor, self.held = visitor, Held(visitor.page, *names) if late else None

    def settle(self):
        """After an act: its answer is here, unless it is late."""
        if not self.held:
            self.visitor.saved()

    def end(self):
        if self.held:
            self.held.end()
        self.visitor.saved()


def objects(store, patch):
    return {key: pixels(store, patch, key) for key in annotation.state(store, patch.id).objects}


def click(visitor, part, identity):
    visitor.page.mouse.click(*visitor.where(*centre(part, identity)))


def two_objects(world, visitor, late):
    """One object that is selected, and one that was clicked and accepted after it."""
    _, _, (first, _), truth = world
    part, ids = whole(truth, first)
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    visitor.press("c")
    visitor.click(*centre(part, ids[0]))
    answers = Answers(visitor, late, "accept")
    visitor.page.keyboard.press("Enter")
    answers.settle()
    visitor.page.mouse.move(*visitor.where(94, 60))
    return answers


def test_a_stroke_after_an_accepted_object_is_a_new_one(world, visitor, late):
    store, _, (first, _), _ = world
    answers = two_objects(world, visitor, late)
    visitor.page.keyboard.press("b")
    stroke(visitor, 94, 20, 40)
    answers.settle()
    stroke(visitor, 93, 20, 40)
    answers.end()
    found = objects(store, first)
    assert (found[1], found[3]) == ({2: 21}, {93: 21, 94: 21})
    assert not {2, 93, 94} & set(found[2])


@pytest.mark.parametrize("key", ["Delete", "+"])
def test_a_key_after_an_accepted_object_changes_no_other(world, visitor, late, key):
    store, _, (first, _), _ = world
    answers = two_objects(world, visitor, late)
    visitor.page.keyboard.press(key)
    answers.end()
    assert objects(store, first)[1] == {2: 21}
    assert kinds(store, first) == ["open", "edit", "click", "accept"]


def test_a_click_on_an_object_after_an_accepted_one_selects_it(world, visitor, late):
    store, _, (first, _), _ = world
    answers = two_objects(world, visitor, late)
    visitor.page.mouse.click(*visitor.where(2, 30))
    answers.end()
    assert visitor.page.locator("[data-part=objects] .ann-selected").get_attribute("data-object") == "1"
    assert kinds(store, first) == ["open", "edit", "click", "accept"]


def test_what_is_drawn_after_delete_is_a_new_object(world, visitor, late):
    store, _, (first, _), _ = world
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    answers = Answers(visitor, late, "remove")
    visitor.page.keyboard.press("Delete")
    answers.settle()
    for y in (30, 31):
        stroke(visitor, y, 20, 40)
        answers.settle()
    answers.end()
    assert list(objects(store, first).values()) == [{30: 21, 31: 21}]


def test_what_is_drawn_over_an_object_that_is_being_deleted_is_a_new_object(world, visitor, late):
    store, _, (first, _), _ = world
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    answers = Answers(visitor, late, "remove")
    visitor.page.keyboard.press("Delete")
    answers.settle()
    stroke(visitor, 2, 30, 50)
    answers.end()
    assert list(objects(store, first).values()) == [{2: 21}]


@pytest.mark.parametrize("held", ["paint", "undo"])
def test_what_is_drawn_after_undo_is_a_new_object(world, visitor, late, held):
    store, _, (first, _), _ = world
    brush(visitor)
    answers = Answers(visitor, late and held == "paint", "paint")
    stroke(visitor, 2, 20, 40)
    answers.settle()
    if held == "undo":
        answers = Answers(visitor, late, "undo")
    visitor.page.keyboard.press("Control+z")
    answers.settle()
    for y in (30, 31):
        stroke(visitor, y, 20, 40)
        answers.settle()
    answers.end()
    assert list(objects(store, first).values()) == [{30: 21, 31: 21}]
    assert kinds(store, first) == ["open", "edit", "undo", "edit", "edit"]


def test_an_outline_far_from_an_unfinished_object_is_one_of_its_own(world, visitor, late):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    answers = Answers(visitor, late, "click")
    click(visitor, part, ids[0])
    answers.settle()
    y, x = centre(part, ids[0])
    far = np.array([5, 5]) if y > 40 else np.array([75, 5])
    visitor.page.keyboard.press("l")
    mouse = visitor.page.mouse
    mouse.move(*visitor.where(*far))
    mouse.down()
    for corner in ((0, 12), (12, 12), (12, 0), (0, 0)):
        mouse.move(*visitor.where(*(far + corner)), steps=3)
    mouse.up()
    answers.end()
    assert kinds(store, first) == ["open", "click", "accept", "edit"]
    assert mask_of(store, first, 1)[y, x]
    assert not mask_of(store, first, 1)[tuple(far + 6)]
    assert mask_of(store, first, 2)[tuple(far + 6)]


def test_a_reload_before_the_answer_to_a_correction_keeps_the_correction(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    visitor.click(*centre(part, ids[0]))
    held = Held(visitor.page, "click")
    click(visitor, part, ids[1])
    visitor.page.keyboard.press("Enter")
    held.wait_for(1)
    visitor.page.on("dialog", lambda dialog: dialog.accept())
    visitor.page.reload()
    held.wait_for(2)
    held.waiting.pop(0)  # it died with its page
    held.end()
    visitor.ready()
    mask = mask_of(store, first, 1)
    assert all(mask[centre(part, each)] for each in ids[:2])


# --- stacks --------------------------------------------------------------------------------------------------


@pytest.fixture
def in_stack(chromium, stack):
    store, made, _ = stack
    with opened(chromium, store, made.id) as found:
        yield found


def slices(store, patch):
    return {
        key: sorted(set(np.argwhere(mask_in(store, patch, key))[:, 0].tolist()))
        for key in annotation.state(store, patch.id).objects
    }


def mask_in(store, patch, identity):
    found = np.zeros((10, 64, 64), bool)
    annotation.state(store, patch.id).objects[identity].mask.paint(found, True)
    return found


def test_an_object_goes_on_over_slices(stack, in_stack, late):
    store, _, (first, _) = stack
    page = in_stack.page
    answers = Answers(in_stack, late, "accept")
    for step in range(3):
        if step:
            to_slice(in_stack, ".", z=5 + step)
        page.mouse.click(*in_stack.where(30, 24))
        page.keyboard.press("Enter")
        answers.settle()
    answers.end()
    assert slices(store, first) == {1: [5, 6, 7]}


def test_an_object_goes_on_and_no_other_that_was_selected_before(stack, in_stack, late):
    store, _, (first, _) = stack
    page = in_stack.page
    brush(in_stack)
    drag(in_stack, (2, 5), (2, 15))
    in_stack.press("c", "Escape")
    in_stack.page.mouse.click(*in_stack.where(2, 10))
    answers = Answers(in_stack, late, "accept")
    page.keyboard.press("Escape")
    for step in range(2):
        if step:
            to_slice(in_stack, ".", z=6)
        page.mouse.click(*in_stack.where(30, 24))
        page.keyboard.press("Enter")
        answers.settle()
    answers.end()
    assert slices(store, first) == {1: [5], 2: [5, 6]}


def test_an_unfinished_object_waits_on_its_slice(stack, in_stack):
    store, _, (first, _) = stack
    in_stack.click(30, 24)
    to_slice(in_stack, ".", z=6)
    to_slice(in_stack, ",", z=5)
    in_stack.saved()
    assert kinds(store, first) == ["open", "click"]
    in_stack.press("Enter")
    assert slices(store, first) == {1: [5]}
    in_stack.press("Escape")
    in_stack.click(30, 24 + 20)
    to_slice(in_stack, ".", z=6)
    in_stack.press("Control+z")
    in_stack.page.wait_for_selector('.ann[data-slice$="/5"]')  # where what is undone was done
    assert slices(store, first) == {1: [5]}


def test_a_click_on_another_slice_accepts_the_unfinished_object_and_continues_it(stack, in_stack, late):
    store, _, (first, _) = stack
    answers = Answers(in_stack, late, "click")
    in_stack.page.mouse.click(*in_stack.where(30, 24))
    answers.settle()
    to_slice(in_stack, ".", z=6)
    in_stack.page.mouse.click(*in_stack.where(30, 24))
    in_stack.page.keyboard.press("Enter")
    answers.end()
    assert slices(store, first) == {1: [5, 6]}
    assert kinds(store, first) == ["open", "click", "accept", "click", "accept"]


def test_a_late_answer_does_not_select_anew(stack, in_stack):
    store, _, (first, _) = stack
    page = in_stack.page

    def select(*objects):
        for each in objects:
            page.locator(f'[data-part=objects] [data-object="{each}"]').click(modifiers=["Shift"] * (each > 1))

    in_stack.click(30, 24)
    in_stack.press("g")
    assert page.locator("[data-part=objects] .ann-selected").get_attribute("data-object") == "1"
    in_stack.press("Control+z")
    brush(in_stack)
    for new, (name, key, chosen) in enumerate(
        [("propagate", "g", [1]), ("reshape", "+", [1]), ("merge", "m", [1, 2])], start=2
    ):
        select(*chosen)
        held = Held(page, name)
        page.keyboard.press(key)
        held.wait_for(1)
        page.keyboard.press("Enter")
        stroke(in_stack, 40 + 5 * new, 30, 50)
        held.end()
        in_stack.saved()
        stroke(in_stack, 41 + 5 * new, 30, 50)  # more of the new one
        in_stack.saved()
        rows = np.argwhere(mask_in(store, first, new)[5])[:, 0]
        assert sorted(set(rows.tolist())) == [40 + 5 * new, 41 + 5 * new]


TO_SLICE_1 = "(slider) => { slider.value = 1; slider.dispatchEvent(new Event('input')); }"


def test_nothing_is_clicked_on_a_slice_whose_picture_is_not_here(stack, in_stack):
    store, _, (first, _) = stack
    page = in_stack.page
    to_slice(in_stack, ".", z=6)  # the slices around are fetched ahead
    held = Held(page, "load_slice")
    for _ in range(3):
        page.keyboard.press(".")
    page.locator("[data-part=slice]").evaluate(TO_SLICE_1)
    held.wait_for(1)
    page.mouse.click(*in_stack.where(30, 24))
    message(in_stack).get_by_text("The picture of this slice is not here yet.").wait_for()
    assert page.locator("[data-part=stage]").get_attribute("class").split().count("ann-late") == 1
    held.names = ()
    while held.waiting:
        held.waiting.pop(0).abort()
    page.wait_for_selector('.ann[data-slice$="/1"]')  # it is asked for again
    in_stack.saved()
    assert kinds(store, first) == ["open"]
    page.mouse.click(*in_stack.where(30, 24))
    in_stack.saved()
    assert annotation.state(store, first.id).draft.z == 1
    in_stack.errors[:] = [text for text in in_stack.errors if "Failed to load resource" not in text]


# --- leaving -------------------------------------------------------------------------------------------------


def corners(visitor):
    visitor.page.keyboard.press("l")
    for corner in ((5, 5), (5, 20), (20, 20), (20, 5)):
        visitor.page.mouse.click(*visitor.where(*corner))


@pytest.mark.parametrize("key", ["d", "n", "s"])
def test_an_outline_whose_corners_are_clicked_is_an_object_when_the_patch_is_left(world, visitor, key):
    store, _, (first, second), _ = world
    brush(visitor)
    drag(visitor, (94, 20), (94, 40))
    visitor.press("Enter")
    corners(visitor)
    visitor.page.keyboard.press(key)
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    visitor.saved()
    closing = {"d": ["done"], "s": ["skip"], "n": []}[key]
    assert kinds(store, first) == ["open", "edit", "edit", *closing]
    assert mask_of(store, first, 2)[10, 10]


def test_a_key_that_is_held_marks_one_patch_done(world, visitor):
    store, _, (first, second), _ = world
    for each in range(2):
        brush(visitor)
        drag(visitor, (94, 20), (94, 40))
        visitor.press("Enter", "n")
        visitor.page.wait_for_selector(f'.ann[data-patch="{(second, first)[each].id}"]')
        visitor.saved()
    visitor.page.keyboard.down("d")
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    visitor.saved()
    for _ in range(5):
        visitor.page.keyboard.down("d")  # it repeats
        visitor.frame()
    visitor.page.keyboard.up("d")
    visitor.saved()
    assert kinds(store, first)[-1] == "done"
    assert "done" not in kinds(store, second)


def test_space_in_a_scribble_does_not_accept_the_object(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    begin_stroke(visitor, y, x - 4, x)
    visitor.page.keyboard.press("Space")
    visitor.page.mouse.move(*visitor.where(y, x + 6), steps=4)
    visitor.page.mouse.up()
    visitor.saved()
    assert set(kinds(store, first)[1:]) == {"click"}
    assert max(point[1] for point in annotation.state(store, first.id).draft.positive) > x


def test_a_tab_that_is_closed_asks_while_something_waits_to_be_saved(world, visitor):
    asked = []
    visitor.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    brush(visitor)
    held = Held(visitor.page, "paint")
    stroke(visitor, 10, 20, 40)
    held.wait_for(1)
    visitor.page.wait_for_timeout(1200)  # what is saved within a second needs no question
    visitor.page.close(run_before_unload=True)
    for _ in range(400):
        if asked:
            break
        visitor.page.wait_for_timeout(50)
    assert asked == ["beforeunload"]
    held.end()
    visitor.saved()


REFUSES = """
    const fetched = window.fetch;
    const answer = JSON.stringify({ error: "A stored file is damaged." });
    window.fetch = (...request) => {
        const body = String(request[1]?.body);
        if (!body.includes('"load_patch"') || !body.includes('"patch":PATCH,')) return fetched(...request);
        return Promise.resolve(new Response(answer, { headers: { "content-type": "application/json" } }));
    };
"""


def test_a_patch_that_cannot_be_opened_does_not_hide_the_others(world, chromium, server):
    _, _, (first, second), _ = world
    script = REFUSES.replace("PATCH", str(first.id))
    visitor = Visitor(chromium, server, script)
    try:
        assert visitor.page.get_attribute(".ann", "data-patch") == str(second.id)
    finally:
        visitor.context.close()
    assert not visitor.errors
