"""Nothing is lost: reloads in mid-act, two pages on one patch, notes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import annotations, labels
from tests.ui.annotating import Visitor, brush, centre, drag, kinds, mask_of, whole

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


def test_a_page_that_fills_the_screen_is_seen(world, visitor):
    page, told = visitor.page, []

    def note(request):
        body = json.loads(request.post_data) if "component_server" in request.url else {}
        if body.get("fn_name") == "head":
            told.append(body["data"]["hidden"])

    def hidden():
        told.clear()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        visitor.until(lambda: told)
        return told[-1]

    page.on("request", note)
    assert hidden() is False
    visitor.press("Shift+F")
    page.wait_for_function("document.fullscreenElement?.matches('.ann')")
    assert hidden() is False
    visitor.press("Shift+F")
    page.wait_for_function("!document.fullscreenElement")
    page.evaluate("document.querySelector('.ann').parentElement.style.display = 'none'")  # as in another tab of the app
    assert hidden() is True


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
