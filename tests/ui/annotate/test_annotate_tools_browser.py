"""The drawing tools of the Annotate page in headless Chromium."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from tests.ui.annotating import Visitor, centre, drag, kinds, mask_of, opened, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def decoded(picture):
    """int (Y, X, 4) of what `Visitor.picture` gives."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1])))).astype(int)


def on_line(mask, y, x0, x1):
    return mask[y, x0 : x1 + 1]


def test_brush_erase_undo_and_reload(world, visitor):
    store, _, (first, _), _ = world
    visitor.press("b", "[", "[", "[", "[", "[", "[", "[", "[")
    assert visitor.page.inner_text("[data-part=brush-number]") == "1 px"
    before = visitor.picture()
    visitor.page.mouse.move(*visitor.where(10, 20))
    visitor.page.mouse.down()
    visitor.page.mouse.move(*visitor.where(10, 60), steps=4)
    # What is painted is seen before anything was sent.
    assert visitor.picture() != before
    assert kinds(store, first) == ["open"]
    visitor.page.mouse.up()
    visitor.saved()
    assert kinds(store, first) == ["open", "edit"]
    found = mask_of(store, first, 1)
    assert np.array_equal(np.argwhere(found), [(10, x) for x in range(20, 61)])

    drag(visitor, (14, 20), (14, 60))
    drag(visitor, (10, 30), (10, 40), button="right")
    assert visitor.objects() == 1
    found = mask_of(store, first, 1)
    assert not on_line(found, 10, 30, 40).any()
    assert on_line(found, 10, 41, 60).all()
    assert on_line(found, 14, 20, 60).all()
    shown = visitor.picture()
    visitor.press("Control+z")
    visitor.revision(5)
    assert on_line(mask_of(store, first, 1), 10, 20, 60).all()
    visitor.page.reload()
    visitor.ready()
    visitor.press("Control+Shift+Z")
    visitor.revision(6)
    assert np.array_equal(mask_of(store, first, 1), found)
    visitor.press("Control+z", "Control+z", "Control+z")
    visitor.revision(9)
    assert visitor.objects() == 0
    assert visitor.picture() != shown

    # With the eraser the object goes when nothing of it is left.
    visitor.press("Control+Shift+Z", "x", "]", "]", "]", "]", "]", "]")
    drag(visitor, (10, 15), (10, 65))
    assert visitor.objects() == 0


def test_the_screen_is_as_if_drawn_anew(world, visitor):
    # Answers to strokes are drawn only where they differ from what was painted.
    visitor.press("b")
    for y in (10, 30, 50):
        visitor.page.mouse.move(*visitor.where(y, 10))
        visitor.page.mouse.down()
        visitor.page.mouse.move(*visitor.where(y + 15, 60), steps=4)
        visitor.page.mouse.up()
        visitor.press("Enter")  # before the answer
    visitor.saved()
    visitor.page.mouse.move(*visitor.where(90, 90))
    drag(visitor, (30, 10), (80, 40), button="right")
    drag(visitor, (70, 10), (20, 60))
    shown = visitor.picture()
    visitor.page.get_by_role("button", name="Fit", exact=True).click()
    visitor.page.mouse.move(*visitor.where(20, 60))
    # Where lines were drawn in pieces a corner may be shaded differently.
    assert np.count_nonzero(np.abs(decoded(visitor.picture()) - decoded(shown)).max(axis=2) > 40) < 200


def test_a_brush_touches_no_older_object_unless_told(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter", "b")
    old = mask_of(store, first, 1)
    start = (1, 1) if not old[:4, :4].any() else (94, 94)
    drag(visitor, start, (y, x))
    assert np.array_equal(mask_of(store, first, 1), old)
    assert not (mask_of(store, first, 2) & old).any()
    visitor.press("Control+z")
    visitor.page.select_option("[data-part=overlap]", "replace")
    drag(visitor, start, (y, x))
    drawn = mask_of(store, first, 3)
    assert drawn[y, x]
    assert np.array_equal(mask_of(store, first, 1), old & ~drawn)


def test_a_stroke_goes_on_from_the_unfinished_object(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("b")
    drag(visitor, (y, x), (y, min(95, x + 20)))
    assert kinds(store, first) == ["open", "click", "accept", "edit"]
    found = mask_of(store, first, 1)
    assert found[y, min(95, x + 20)]
    assert np.count_nonzero(found & (part == ids[0])) > 0.7 * np.count_nonzero(part == ids[0])


def test_split_and_merge_at_twice_the_pixel_ratio(world, chromium, server):
    store, _, (first, _), truth = world
    visitor = Visitor(chromium, server, device_scale_factor=2)
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter", "k")
    old = mask_of(store, first, 1)
    visitor.page.set_viewport_size({"width": 1500, "height": 900})
    visitor.page.wait_for_timeout(200)
    drag(visitor, (max(0, y - 14), x), (min(95, y + 14), x))
    visitor.page.get_by_text("Object 1 is now 1 and 2.").wait_for()
    halves = [mask_of(store, first, key) for key in (1, 2)]
    assert np.array_equal(halves[0] | halves[1], old)
    assert min(half.sum() for half in halves) > 0.3 * old.sum()
    sides = sorted(np.argwhere(half)[:, 1].mean() for half in halves)
    assert sides[0] < x < sides[1]
    visitor.press("Control+z")
    visitor.revision(5)
    assert np.array_equal(mask_of(store, first, 1), old)
    visitor.press("Control+Shift+Z", "c")
    visitor.click(y, x - 4)
    visitor.click(y, x + 4, modifiers=["Shift"])
    assert visitor.page.locator("[data-part=objects] .ann-selected").count() == 2
    visitor.press("m")
    visitor.revision(7)
    assert visitor.objects() == 1
    assert kinds(store, first)[2:] == ["accept", "edit", "undo", "redo", "edit"]
    visitor.close()


def test_an_unfinished_object_is_merged_or_split_only_if_it_is_meant(world, chromium):
    store, made, (first, _), truth = world
    part, ids = whole(truth, first)
    places = [centre(part, key) for key in ids]
    annotation.begin(store, first.id, "before", "nothing")
    for key in ids[1:3]:
        annotation.accept(store, first.id, "before", from_array(part == key))

    def owners(*points):
        found = annotation.state(store, first.id).objects
        return [next((key for key in found if mask_of(store, first, key)[point]), None) for point in points]

    def cut(visitor, y, x):
        visitor.press("k")
        drag(visitor, (y - 14, x), (min(95, y + 14), x))
        visitor.press("c")
        return owners((y, x - 5), (y, x + 5))

    with opened(chromium, store, made.id) as visitor:
        visitor.click(*places[0])
        for place in places[1:3]:
            visitor.click(*place, modifiers=["Shift"])
        visitor.press("m")
        assert owners(*places[:3]) == [3, 1, 1]
        visitor.press("Control+z", "Escape")
        visitor.click(*places[3])
        one, other = cut(visitor, *places[1])
        assert {one, other} > {1}
        assert owners(places[3]) == [4]
        visitor.click(*places[4])
        one, other = cut(visitor, *places[4])
        assert min(one, other) > 5
        assert one != other


def test_a_box_is_a_prompt_that_clicks_correct(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    target = part == ids[0]
    rows, columns = np.flatnonzero(target.any(axis=1)), np.flatnonzero(target.any(axis=0))
    box = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    drag(visitor, (box[0], box[1]), (rows[-1], columns[-1]), shift=True)
    assert annotations.events(store, first.id)[-1].payload["box"] == box
    visitor.page.reload()
    visitor.ready()
    visitor.press("r")
    y, x = centre(part, ids[0])
    visitor.click(y, x - 7, button="left")
    event = annotations.events(store, first.id)[-1]
    assert (event.payload["box"], event.payload["positive"]) == (box, [[y, x - 7]])
    visitor.press("Control+z")
    visitor.press("Enter")
    found = mask_of(store, first, 1)
    assert np.count_nonzero(found & target) / np.count_nonzero(found | target) > 0.75


def test_a_closed_patch_is_not_drawn_on(world, visitor):
    store, _, (first, second), _ = world
    visitor.press("b", "s")
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    visitor.press("p")
    visitor.page.wait_for_selector(f'.ann[data-patch="{first.id}"][data-status="skipped"]')
    drag(visitor, (10, 20), (10, 60))
    visitor.press("+", "m")
    assert kinds(store, first) == ["open", "skip"]
    visitor.press("r")
    visitor.page.wait_for_selector('.ann[data-status="started"]')
    drag(visitor, (10, 20), (10, 60))
    assert kinds(store, first) == ["open", "skip", "reopen", "edit"]


def test_escape_in_the_middle_of_a_stroke_takes_it_back(world, visitor):
    store, _, (first, _), _ = world
    visitor.press("b")
    visitor.page.mouse.move(*visitor.where(10, 20))
    before = visitor.picture()
    visitor.page.mouse.down()
    visitor.page.mouse.move(*visitor.where(10, 60), steps=4)
    visitor.page.keyboard.press("Escape")
    visitor.page.mouse.up()
    visitor.page.mouse.move(*visitor.where(90, 90))
    assert visitor.picture() == before
    assert kinds(store, first) == ["open"]
    visitor.press("b")
    drag(visitor, (30, 20), (30, 60))
    assert kinds(store, first) == ["open", "edit"]


def test_an_outline_is_an_object(world, visitor):
    store, _, (first, _), _ = world
    visitor.press("l")
    drag(visitor, (20, 20), (20, 40), (50, 40), (50, 20), (21, 20))
    found = mask_of(store, first, 1)
    assert np.count_nonzero(found) == pytest.approx(600, rel=0.08)
    assert found[22:49, 22:39].all()
    # Corners, clicked one by one.
    for corner in [(60, 60), (60, 80), (80, 80)]:
        visitor.click(*corner)
    assert visitor.objects() == 1
    visitor.press("Enter")
    assert visitor.objects() == 2
    triangle = mask_of(store, first, 2)
    assert np.count_nonzero(triangle) == pytest.approx(200, rel=0.12)
    visitor.page.mouse.move(*visitor.where(60, 60))
    visitor.press("+", "-", "u")
    drag(visitor, (60, 60), (60, 70), (70, 70), button="right")
    assert not mask_of(store, first, 2)[62, 68]
    assert np.array_equal(mask_of(store, first, 1), found)


def test_the_brush_paints_on_the_slice_that_is_shown(store, chromium):
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=4)
    importing.add_array(store, made.id, "gray", np.full((4, 64, 64, 1), 90, np.uint8))
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    with opened(chromium, store, made.id) as visitor:
        visitor.press("b")
        drag(visitor, (20, 20), (20, 40))
        visitor.press(".")
        visitor.page.wait_for_selector('.ann[data-slice$="/3"]')
        drag(visitor, (24, 20), (24, 40))
        visitor.press("k")
        drag(visitor, (5, 30), (45, 30))
        item = annotation.state(store, patch.id).objects
        assert sorted(item) == [1, 2]
        assert all((each.mask.box[0], each.mask.box[3]) == (2, 4) for each in item.values())


def test_a_scribble_is_many_points_and_one_step(world, visitor):
    store, _, (patch, _), truth = world
    part, ids = whole(truth, patch)
    y, x = centre(part, ids[0])
    drag(visitor, (y, x - 5), (y, x + 5))
    draft = annotation.state(store, patch.id).draft
    assert len(draft.positive) > 3
    assert {point[0] for point in draft.positive} == {float(y)} or {point[0] for point in draft.positive} == {y}
    drag(visitor, (y - 12, x - 12), (y - 12, x + 4), button="right")
    draft = annotation.state(store, patch.id).draft
    assert len(draft.negative) > 3
    visitor.press("Control+z")
    draft = annotation.state(store, patch.id).draft
    assert (len(draft.positive) > 3, draft.negative) == (True, ())
    visitor.press("Control+z")
    assert annotation.state(store, patch.id).draft is None


def test_the_sliders_say_how_a_click_is_meant(world, visitor):
    store, _, (patch, _), truth = world
    part, ids = whole(truth, patch)
    y, x = centre(part, ids[0])
    visitor.click(y, x)

    def size():
        visitor.saved()
        visitor.press("Enter")
        visitor.page.wait_for_selector(".ann [data-part=objects] [data-object]")
        now = annotation.state(store, patch.id)
        found = np.count_nonzero(mask_of(store, patch, max(now.objects)))
        visitor.press("Control+z")
        return found

    plain = size()
    visitor.page.locator("[data-part=looseness]").fill("80")
    visitor.page.locator(".ann-stage").focus()
    visitor.click(y, x)
    loose = size()
    visitor.page.locator("[data-part=looseness]").fill("-80")
    visitor.page.locator(".ann-stage").focus()
    visitor.click(y, x)
    assert annotation.state(store, patch.id).draft.tuning.looseness == -0.8
    visitor.page.reload()
    visitor.ready()
    assert annotation.state(store, patch.id).draft.tuning.looseness == -0.8
    tight = size()
    assert tight < plain < loose
    visitor.page.locator('[data-act="resetTuning"]').click()
    visitor.click(y, x)
    assert size() == plain


def test_there_is_an_end_to_scribbling_before_the_server_refuses(world, visitor):
    store, _, (patch, _), truth = world
    part, ids = whole(truth, patch)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    page = visitor.page
    for _ in range(30):
        if page.get_by_text("as many points as it can have").is_visible():
            break
        page.mouse.move(*visitor.where(y, x - 3))
        page.mouse.down()
        for turn in range(8):
            page.mouse.move(*visitor.where(y - 20 + 40 * (turn % 2), x + 20 * (turn % 3)), steps=12)
        page.mouse.up()
        visitor.saved()
    else:
        pytest.fail("there was no end")
    assert 300 < len(annotation.state(store, patch.id).draft.positive) <= 410
    assert page.locator("[data-part=message].ann-error").count() == 0
