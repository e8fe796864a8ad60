"""Kinds of objects in headless Chromium: in the settings, on the canvas, in the label map; and deleting all of one."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds.annotate import annotation, annotation_classes, annotation_edits
from alapp.stages.annotate import masks
from alapp.storage import annotations, catalogue, labels
from alapp.ui.annotate import annotate
from tests.ui import pages
from tests.ui.annotating import Held, centre, kinds, visiting, whole

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
NAME = "<i>damaged</i>"


@pytest.fixture
def two_kinds(world):
    store, made, patches, truth = world
    annotation_classes.set_names(store, made.id, f"healthy, {NAME}")
    return store, made, patches, truth


@pytest.fixture
def guest(two_kinds, chromium, server):
    with visiting(chromium, server) as made:
        yield made


def classes(store, patch):
    return {key: item.kind for key, item in annotation.state(store, patch.id).objects.items()}


def chosen_kind(visitor):
    return visitor.page.locator('.ann-kind[aria-pressed="true"]').get_attribute("data-kind")


def test_two_kinds_from_the_click_to_the_label_map(two_kinds, guest):
    store, _, (first, second), truth = two_kinds
    part, ids = whole(truth, first)
    assert guest.page.inner_text("[data-part=kinds-title]") == "Kind of new objects"
    assert guest.page.locator(".ann-kind .ann-name").all_inner_texts() == ["healthy", NAME]
    guest.click(*centre(part, ids[0]))
    guest.press("Enter")
    guest.press("2")
    assert chosen_kind(guest) == "2"
    guest.click(*centre(part, ids[1]))
    guest.press("Enter")
    assert classes(store, first) == {1: 1, 2: 2}
    assert guest.page.locator("[data-object] .ann-source").all_inner_texts() == [NAME, "healthy"]

    guest.click(*centre(part, ids[0]))
    assert guest.page.inner_text("[data-part=kinds-title]") == "Kind of object 1"
    assert chosen_kind(guest) == "1"
    before = guest.picture()
    guest.page.click("[data-act=toggleByKind]")
    single = guest.picture()
    assert single != before
    guest.press("2")
    assert classes(store, first) == {1: 2, 2: 2}
    assert chosen_kind(guest) == "2"
    assert guest.picture() != single
    guest.press("Control+z")
    assert classes(store, first) == {1: 1, 2: 2}
    assert guest.picture() == single
    guest.press("Control+Shift+Z", "Control+z")
    assert kinds(store, first)[-4:] == ["classify", "undo", "redo", "undo"]

    guest.page.reload()
    guest.ready()
    assert chosen_kind(guest) == "2"
    guest.press("d")
    guest.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    stored = labels.latest_of_patch(store, first.id, LabelKind.HUMAN)
    assert stored.params["classes"] == {"1": 1, "2": 2}
    assert np.unique(labels.read(store, stored)).tolist() == [0, 1, 2]


def test_a_stroke_and_an_outline_get_the_kind_too(two_kinds, guest):
    store, _, (first, _), _ = two_kinds
    guest.press("2", "b")
    guest.page.mouse.move(*guest.where(10, 10))
    guest.page.mouse.down()
    guest.page.mouse.move(*guest.where(10, 30), steps=3)
    guest.page.mouse.up()
    guest.saved()
    assert classes(store, first) == {1: 2}
    guest.press("1")
    assert classes(store, first) == {1: 1}
    guest.press("Escape", "l")
    guest.page.mouse.move(*guest.where(50, 50))
    guest.page.mouse.down()
    for corner in [(50, 80), (80, 80), (80, 50)]:
        guest.page.mouse.move(*guest.where(*corner), steps=3)
    guest.page.mouse.up()
    guest.saved()
    assert classes(store, first) == {1: 1, 2: 2}


def test_an_object_that_was_accepted_before_its_mask_came_keeps_its_kind_over_a_reload(two_kinds, guest):
    store, _, (first, _), truth = two_kinds
    part, ids = whole(truth, first)
    held = Held(guest.page, "click")
    guest.page.mouse.click(*guest.where(*centre(part, ids[0])))
    for key in ("2", "Enter", "1"):
        guest.page.keyboard.press(key)
    held.wait_for(1)
    guest.page.reload()
    held.wait_for(2)
    held.waiting.pop(0)  # it died with its page
    held.end()
    guest.ready()
    assert classes(store, first) == {1: 2}


def test_the_kind_of_an_object_is_the_one_chosen_when_it_was_accepted(two_kinds, guest):
    """Enter, then a key at once: the object is accepted while the next choice is already made."""
    store, _, (first, _), truth = two_kinds
    part, ids = whole(truth, first)
    guest.page.mouse.click(*guest.where(*centre(part, ids[0])))
    guest.page.keyboard.press("Enter")
    guest.page.keyboard.press("2")
    guest.saved()
    guest.page.mouse.click(*guest.where(*centre(part, ids[1])))
    guest.page.keyboard.press("Enter")
    guest.saved()
    assert classes(store, first) == {1: 1, 2: 2}


def test_several_objects_change_at_once(two_kinds, guest):
    store, _, (first, _), truth = two_kinds
    part, ids = whole(truth, first)
    for identity in ids[:3]:
        guest.click(*centre(part, identity))
        guest.press("Enter")
    guest.page.click('[data-object="1"]')
    guest.page.click('[data-object="3"]', modifiers=["Shift"])
    assert guest.page.inner_text("[data-part=kinds-title]") == "Kind of 2 objects"
    guest.page.click('[data-kind="2"]')
    guest.saved()
    assert classes(store, first) == {1: 2, 2: 1, 3: 2}
    guest.press("Control+z")
    assert classes(store, first) == {1: 1, 2: 1, 3: 1}


def test_with_one_kind_nothing_is_shown(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    visitor.press("2")
    visitor.click(*centre(part, ids[0]))
    visitor.press("Enter")
    visitor.click(*centre(part, ids[0]))
    visitor.press("1", "2")
    assert classes(store, first) == {1: 1}
    assert not visitor.page.locator("[data-part=kinds-box]").is_visible()
    visitor.press("?")
    assert "Kind of" not in visitor.page.inner_text(".ann")
    assert annotations.events(store, first.id)[-1].kind == "accept"


WRONG = [{"kind": 3}, {"kind": 0}, {"kind": "2"}, {"kind": 1.5}, {"kind": None}, {"objects": []}]


@pytest.mark.parametrize("wrong", WRONG)
def test_kinds_that_are_none(two_kinds, wrong):
    store, _, (first, _), _ = two_kinds
    functions = {function.__name__: function for function in annotate.server_functions(store)}
    message = {"project": first.project_id, "patch": first.id, "session": "s", "revision": 0, "token": "t"}
    message |= {"box": [0, 0, 0, 1, 2, 3], "runs": [1, 5], "tool": "brush", "objects": [1], "kind": 2} | wrong
    names = ["classify"] if "objects" in wrong else ["classify", "accept", "paint"]
    for name in names:
        assert "Reload" in functions[name](message)["error"]
    assert kinds(store, first) == []


# --- deleting all of a kind --------------------------------------------------------------------------------


def square(y, x, size):
    pixels = np.zeros((96, 96), bool)
    pixels[y : y + size, x : x + size] = True
    return masks.from_array(pixels)


@pytest.fixture
def crowd(two_kinds):
    """Three objects, one of them small and one of the second kind, and two suggestions, one of them small."""
    store, _, (first, _), _ = two_kinds
    suggested = np.zeros((1, 96, 96), np.int32)
    suggested[0, 60:80, 60:80], suggested[0, 90:92, 90:92] = 1, 2
    opened = {"start": "pseudo", "shape": [1, 96, 96]}
    annotations.append(store, first.id, 0, "open", opened, masks.pack_labels(suggested), "s")
    annotation_edits.paint(store, first.id, "s", square(5, 5, 10))
    annotation_edits.paint(store, first.id, "s", square(30, 5, 10), kind=2)
    annotation_edits.paint(store, first.id, "s", square(50, 5, 3))
    return store, first


def left(store, patch):
    now = annotation.state(store, patch.id)
    return sorted(now.objects), sorted(now.suggestions)


@pytest.mark.parametrize(
    ("row", "question", "rest"),
    [
        ("All objects", "Delete all 3 objects?", ([], [1, 2])),
        ("All suggestions", "Delete all 2 suggestions?", ([3, 4, 5], [])),
        (f"All “{NAME}”", f"Delete the only object of the kind “{NAME}”?", ([3, 5], [1, 2])),
    ],
)
def test_all_of_a_kind_go_after_a_question_and_come_back_at_once(crowd, guest, row, question, rest):
    store, first = crowd
    guest.press("Shift+D")
    guest.page.locator(".ann-sweep-row").filter(has_text=row).click()
    assert guest.page.inner_text("[data-part=message-text]") == question
    guest.page.get_by_role("button", name="Cancel").click()
    guest.saved()
    assert left(store, first) == ([3, 4, 5], [1, 2])
    guest.page.click("[data-part=sweep-open]")
    guest.page.locator(".ann-sweep-row").filter(has_text=row).click()
    guest.page.locator("[data-part=message-actions] button").first.click()
    guest.saved()
    assert left(store, first) == rest
    assert kinds(store, first)[-1] == "delete"
    guest.press("Control+z")
    assert left(store, first) == ([3, 4, 5], [1, 2])


def test_small_ones_go_by_a_typed_number(crowd, guest):
    store, first = crowd
    guest.press("Shift+D")
    guest.page.fill("[data-part=sweep-size]", "100")
    assert guest.page.inner_text("[data-part=sweep-small]") == "2"
    guest.page.fill("[data-part=sweep-size]", "101")
    assert guest.page.inner_text("[data-part=sweep-small]") == "4"
    guest.page.fill("[data-part=sweep-size]", "10")
    guest.page.press("[data-part=sweep-size]", "Enter")
    text = guest.page.inner_text("[data-part=message-text]")
    assert text == "Delete 1 object and 1 suggestion smaller than 10 pixels?"
    guest.page.locator("[data-part=message-actions] button").first.click()
    guest.saved()
    assert left(store, first) == ([3, 4], [1])
    guest.press("Control+z")
    assert left(store, first) == ([3, 4, 5], [1, 2])


def test_an_answer_after_another_patch_was_opened_deletes_nothing(crowd, guest):
    store, first = crowd
    guest.press("Shift+D")
    guest.page.locator(".ann-sweep-row").first.click()
    guest.page.locator(".ann-patch").nth(1).click()
    guest.page.wait_for_selector(f'.ann:not([data-patch="{first.id}"])')
    guest.page.locator("[data-part=message-actions] button").first.click()
    guest.saved()
    assert left(store, first) == ([3, 4, 5], [1, 2])


# --- settings ----------------------------------------------------------------------------------------------


def test_the_kinds_are_named_in_the_settings(world, chromium):
    store, made, (first, _), _ = world
    annotation_edits.paint(store, first.id, "s", square(5, 5, 10))
    with pages.app(store) as url, pages.tab(chromium, url) as page:
        page.get_by_text("Settings", exact=True).first.click()
        field = page.locator("#kinds textarea")
        sync_api.expect(field).to_have_value("objects")
        target = page.get_by_label("What are you segmenting?")
        target.fill("nuclei")
        target.blur()
        sync_api.expect(field).to_have_value("nuclei")
        field.fill("healthy nuclei,\ndead nuclei")
        field.blur()
        sync_api.expect(field).to_have_value("healthy nuclei, dead nuclei")
        assert annotation_classes.names(catalogue.project(store, made.id)) == {1: "healthy nuclei", 2: "dead nuclei"}
        field.fill("a, a")
        field.blur()
        page.get_by_text("There are two kinds called").wait_for()
        assert len(annotation_classes.names(catalogue.project(store, made.id))) == 2
        page.get_by_role("tab", name="Annotate").click()
        page.wait_for_selector(".ann[data-slice]")
        shown = page.locator(".ann-kind .ann-name")
        sync_api.expect(shown).to_have_text(["healthy nuclei", "dead nuclei"])
        row = page.locator("[data-part=objects] .ann-source")
        sync_api.expect(row).to_have_text(["healthy nuclei"])
        page.get_by_role("tab", name="Project").click()
        field.fill("living nuclei, dead nuclei")
        field.blur()
        page.get_by_text("is now called").wait_for()
        page.get_by_role("tab", name="Annotate").click()
        sync_api.expect(shown).to_have_text(["living nuclei", "dead nuclei"])
        sync_api.expect(row).to_have_text(["living nuclei"])
