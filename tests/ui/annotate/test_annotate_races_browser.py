"""Who is faster than the server, or does something else meanwhile: nothing lands elsewhere, and nothing is lost."""

from __future__ import annotations

import pytest

from alapp.rounds.annotate import annotation, clicks
from alapp.storage import annotations
from tests.ui.annotating import (
    Held,
    begin_stroke,
    brush,
    centre,
    drag,
    kinds,
    mask_of,
    message,
    pixels,
    stroke,
    whole,
)

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOLD_LATER = '.ann[data-told="false"]'


def selected(visitor):
    return visitor.page.locator("[data-part=objects] .ann-selected").get_attribute("data-object")


# --- strokes and their objects -------------------------------------------------------------------------------


def test_strokes_reach_their_objects_whenever_the_answers_come(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    held = Held(visitor.page, "paint")
    stroke(visitor, 10, 20, 40)
    visitor.page.keyboard.press("Enter")
    held.wait_for(1)
    begin_stroke(visitor, 30, 20, 40)
    held.let_go()
    visitor.page.wait_for_selector(TOLD_LATER)  # the answer came while the second object is drawn
    visitor.page.mouse.up()
    visitor.page.keyboard.press("Enter")
    held.wait_for(2)
    stroke(visitor, 50, 20, 40)
    held.let_go()
    held.wait_for(3)
    stroke(visitor, 51, 20, 40)
    held.end()
    visitor.saved()
    assert [pixels(store, first, key) for key in (1, 2, 3)] == [{10: 21}, {30: 21}, {50: 21, 51: 21}]
    assert selected(visitor) == "3"


def test_a_new_object_begun_before_a_split_is_answered_keeps_its_strokes(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor, 10)
    drag(visitor, (20, 20), (20, 60))
    visitor.press("Enter", "k")
    held = Held(visitor.page, "split")
    stroke_across(visitor, (5, 40), (35, 40))
    held.wait_for(1)
    visitor.page.keyboard.press("b")
    visitor.page.locator("[data-part=brush-size]").fill("1")
    stroke(visitor, 60, 20, 40)
    held.end()
    visitor.saved()
    stroke(visitor, 61, 20, 40)
    visitor.saved()
    sizes = {key: int(mask_of(store, first, key).sum()) for key in annotation.state(store, first.id).objects}
    assert list(sizes) == [1, 2, 3]
    assert pixels(store, first, 3) == {60: 21, 61: 21}
    assert not mask_of(store, first, 2)[60:].any()


def stroke_across(visitor, start, end):
    mouse = visitor.page.mouse
    mouse.move(*visitor.where(*start))
    mouse.down()
    mouse.move(*visitor.where(*end), steps=4)
    mouse.up()


SHADE = """([x, y]) => {
    const canvas = document.querySelector('.ann canvas');
    const rect = canvas.getBoundingClientRect();
    return [...canvas.getContext('2d').getImageData(Math.round(x - rect.left), Math.round(y - rect.top), 1, 1).data];
}"""


def test_an_undone_stroke_is_gone_whenever_the_next_one_begins(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor, 3)
    for key, y, answered in ((1, 20, False), (3, 60, True)):

        def shade(y=y):
            visitor.page.mouse.move(*visitor.where(90, 5))
            visitor.frame()
            return visitor.page.evaluate(SHADE, visitor.where(y, 70))

        stroke(visitor, y, 20, 40)
        visitor.saved()
        before = shade()
        held = Held(visitor.page, "paint", "undo")
        stroke(visitor, y, 40, 80)
        held.wait_for(1)
        assert shade() != before
        visitor.page.keyboard.press("Control+z")
        if answered:
            held.let_go()
            held.wait_for(2)
        stroke(visitor, y + 10, 20, 40)
        held.end()
        visitor.saved()
        assert shade() == before
        visitor.press("Enter")
        drag(visitor, (y - 10, 60), (y + 15, 60))  # what is not to be seen is not in the way either
        visitor.press("Enter")
        assert pixels(store, first, key) == dict.fromkeys([*range(y - 1, y + 2), *range(y + 9, y + 12)], 23)
        assert pixels(store, first, key + 1) == dict.fromkeys(range(y - 11, y + 17), 3)


def test_a_stroke_that_the_server_refuses_takes_no_other_with_it(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    held = Held(visitor.page, "paint")
    stroke(visitor, 10, 20, 40)
    visitor.page.keyboard.press("Enter")
    held.wait_for(1)
    begin_stroke(visitor, 30, 20, 40)
    held.refuse()
    message(visitor).get_by_text("The disk is full.").wait_for()
    visitor.page.mouse.up()
    held.wait_for(2)
    stroke(visitor, 31, 20, 40)  # more of an object that the page has another id for than the server will have
    held.end()
    visitor.saved()
    assert kinds(store, first) == ["open", "edit", "edit"]
    assert pixels(store, first, 1) == {30: 21, 31: 21}
    assert selected(visitor) == "1"
    visitor.page.keyboard.press("Enter")
    drag(visitor, (50, 20), (50, 40))
    assert pixels(store, first, 2) == {50: 21}


def test_when_the_first_stroke_of_an_object_is_refused_the_second_one_makes_it(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    held = Held(visitor.page, "paint")
    stroke(visitor, 10, 20, 40)
    stroke(visitor, 11, 20, 40)
    held.wait_for(1)
    held.refuse()
    held.end()
    held.wait_for(1)
    visitor.saved()
    assert pixels(store, first, 1) == {11: 21}


def test_strokes_of_two_new_objects_find_them_after_a_reload(world, visitor):
    store, _, (first, _), _ = world
    brush(visitor)
    held = Held(visitor.page, "paint")
    stroke(visitor, 10, 20, 40)
    visitor.page.keyboard.press("Enter")
    stroke(visitor, 30, 20, 40)
    stroke(visitor, 31, 20, 40)
    held.wait_for(1)
    visitor.page.reload()
    held.wait_for(2)
    held.waiting.pop(0)  # it died with its page
    held.end()
    visitor.ready()
    assert [pixels(store, first, key) for key in (1, 2)] == [{10: 21}, {30: 21, 31: 21}]


# --- clicks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_found(monkeypatch):
    """No click finds anything, until this is called."""
    with monkeypatch.context() as patched:
        patched.setattr(clicks, "segment", lambda *arguments, **more: None)
        yield patched.undo


def test_enter_where_nothing_was_found_says_so_and_undo_takes_no_object(world, visitor, nothing_found):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    visitor.press("Enter", "c")
    visitor.click(*centre(part, ids[0]))
    message(visitor).get_by_text("Nothing found here.").wait_for()
    visitor.press("Enter")
    message(visitor).get_by_text("There is nothing to accept yet.").wait_for()
    visitor.press("Control+z")
    assert list(annotation.state(store, first.id).objects) == [1]
    visitor.click(*centre(part, ids[0]))
    nothing_found()
    visitor.click(*centre(part, ids[0]))
    visitor.press("Enter")
    visitor.page.locator("[data-part=objects] [data-object]").nth(1).wait_for()


def test_enter_before_it_is_known_that_nothing_was_found_leaves_the_points(world, visitor, nothing_found):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    visitor.press("Enter", "c")
    held = Held(visitor.page, "click")
    visitor.page.mouse.click(*visitor.where(*centre(part, ids[0])))
    for key in ("Enter", "Control+z"):
        visitor.page.keyboard.press(key)
    held.wait_for(1)
    held.end()
    message(visitor).get_by_text("Nothing found here.").wait_for()
    visitor.saved()
    assert kinds(store, first) == ["open", "edit", "click"]
    nothing_found()
    visitor.click(*centre(part, ids[0]))
    visitor.press("Enter")
    visitor.page.locator("[data-part=objects] [data-object]").nth(1).wait_for()
    assert len(annotations.events(store, first.id)[-2].payload["positive"]) == 2
    visitor.press("b")
    drag(visitor, (94, 20), (94, 40))
    assert pixels(store, first, 3) == {94: 21}


def test_a_stroke_before_the_answer_to_a_click_adds_to_the_clicked_object(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    held = Held(visitor.page, "click")
    visitor.page.mouse.click(*visitor.where(*centre(part, ids[0])))
    held.wait_for(1)
    visitor.page.keyboard.press("b")
    visitor.page.locator("[data-part=brush-size]").fill("1")
    stroke(visitor, 94, 20, 40)
    visitor.page.keyboard.press("Enter")
    stroke(visitor, 2, 20, 40)
    held.end()
    visitor.saved()
    assert kinds(store, first) == ["open", "click", "accept", "edit", "edit"]
    rows = pixels(store, first, 1)
    assert rows.pop(94) == 21
    assert sum(rows.values()) > 50  # what was clicked
    assert pixels(store, first, 2) == {2: 21}


def test_strokes_before_an_accepted_object_is_answered_make_objects_of_their_own(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    held = Held(visitor.page, "accept")
    visitor.click(*centre(part, ids[0]))
    visitor.page.keyboard.press("Enter")
    held.wait_for(1)
    visitor.page.keyboard.press("b")
    visitor.page.locator("[data-part=brush-size]").fill("1")
    stroke(visitor, 94, 20, 40)
    visitor.page.keyboard.press("Enter")
    stroke(visitor, 2, 20, 40)
    held.end()
    visitor.saved()
    stroke(visitor, 3, 20, 40)
    visitor.saved()
    assert not {2, 3, 94} & set(pixels(store, first, 1))
    assert pixels(store, first, 2) == {94: 21}
    assert pixels(store, first, 3) == {2: 21, 3: 21}


def test_a_stroke_after_a_click_that_finds_nothing_makes_an_object(world, visitor, nothing_found):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    held = Held(visitor.page, "click")
    visitor.page.mouse.click(*visitor.where(*centre(part, ids[0])))
    held.wait_for(1)
    visitor.page.keyboard.press("b")
    visitor.page.locator("[data-part=brush-size]").fill("1")
    stroke(visitor, 94, 20, 40)
    held.end()
    visitor.saved()
    assert kinds(store, first) == ["open", "click", "edit"]
    assert pixels(store, first, 1) == {94: 21}
    message(visitor).get_by_text("Nothing found here.").wait_for()


def test_a_correction_whose_point_was_undone_goes_on_after_enter(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter")
    visitor.page.mouse.move(*visitor.where(y + 1, x))
    visitor.press("e")
    visitor.click(y + 1, x)
    visitor.press("Control+z", "Enter")
    message(visitor).get_by_text("There is nothing to accept yet.").wait_for()
    visitor.click(y + 1, x)
    visitor.press("Enter")
    visitor.page.wait_for_selector("[data-object]")
    assert kinds(store, first) == ["open", "click", "accept", "click", "click", "click", "accept"]
    assert list(annotation.state(store, first.id).objects) == [1]


def test_a_click_that_ended_in_an_error_can_be_repeated_after_enter(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    held = Held(visitor.page, "click")
    visitor.page.mouse.click(*visitor.where(*centre(part, ids[0])))
    held.wait_for(1)
    held.refuse()
    held.end()
    message(visitor).get_by_text("The disk is full.").wait_for()
    visitor.press("Enter")
    message(visitor).get_by_text("There is nothing to accept yet.").wait_for()
    visitor.click(*centre(part, ids[0]))
    visitor.press("Enter")
    visitor.page.locator("[data-part=objects] [data-object]").wait_for()
    assert kinds(store, first) == ["open", "click", "accept"]


def test_done_before_the_answer_to_a_click_asks_about_the_object(world, visitor):
    store, _, (first, second), truth = world
    part, ids = whole(truth, first)
    brush(visitor)
    drag(visitor, (2, 20), (2, 40))
    visitor.press("Enter", "c")
    held = Held(visitor.page, "click")
    visitor.page.mouse.click(*visitor.where(*centre(part, ids[0])))
    visitor.page.keyboard.press("d")
    held.wait_for(1)
    held.end()
    visitor.page.get_by_role("button", name="Accept it, then done").click()
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    assert kinds(store, first) == ["open", "edit", "click", "accept", "done"]


def test_escape_closes_a_question_or_an_error_and_no_more(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    visitor.click(*centre(part, ids[0]))
    visitor.press("d")
    message(visitor).get_by_text("not accepted yet").wait_for()
    visitor.press("Escape")
    sync_api.expect(message(visitor)).to_be_hidden()
    held = Held(visitor.page, "accept")
    visitor.page.keyboard.press("Enter")
    held.wait_for(1)
    held.refuse()
    held.end()
    message(visitor).get_by_text("The disk is full.").wait_for()
    visitor.press("Escape")
    sync_api.expect(message(visitor)).to_be_hidden()
    assert kinds(store, first) == ["open", "click"]
    visitor.press("Enter")
    visitor.page.locator("[data-part=objects] [data-object]").wait_for()
    visitor.click(*centre(part, ids[1]))
    visitor.press("Escape")  # without a message it still clears the points
    assert kinds(store, first) == ["open", "click", "accept", "click", "click"]
