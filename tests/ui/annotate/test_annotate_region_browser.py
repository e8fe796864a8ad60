"""Partial annotation on the Annotate page, in headless Chromium."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_region
from alapp.stages.annotate import journal
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows
from tests.ui.annotating import centre, drag, kinds, opened, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def region(store, patch):
    """bool (Z, Y, X): what is not annotated now."""
    found = np.zeros((patch.box.depth, patch.box.height, patch.box.width), bool)
    mask = journal.not_annotated(annotation.state(store, patch.id))
    if mask:
        mask.paint(found, True)
    return found


def stored(store, patch):
    """The human labels of a patch and its region."""
    human = labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)
    return human, labels.read(store, human), annotation_region.pixels_of(store, human)


def test_a_region_is_marked_corrected_undone_and_stored(world, visitor):
    store, _, (first, second), truth = world
    page = visitor.page
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter", "t")
    plain = visitor.picture()
    drag(visitor, (0, 0), (0, 95), (48, 95), (48, 0))
    assert kinds(store, first) == ["open", "click", "accept", "ignore"]
    assert visitor.picture() != plain
    marked = region(store, first)[0]
    objects = journal.to_labels(annotation.state(store, first.id), (1, 96, 96))[0] > 0
    assert np.array_equal(marked[2:46, 2:94], ~objects[2:46, 2:94])
    assert not marked[50:].any()
    share = int(100 * marked.mean())
    assert page.inner_text("[data-part=region-share]") == f"{share}% of the patch"

    # A right drag takes a part away; corners work like those of an outline; every act is a step of undo.
    drag(visitor, (0, 0), (0, 30), (48, 30), (48, 0), button="right")
    assert not region(store, first)[0][2:46, 2:28].any()
    for corner in [(60, 60), (60, 80), (80, 80)]:
        visitor.click(*corner)
    visitor.press("Enter")
    assert region(store, first)[0][62, 75]
    visitor.press("Control+z", "Control+z")
    assert np.array_equal(region(store, first)[0], marked)
    page.reload()
    visitor.ready()
    visitor.press("Control+z")
    assert page.locator("[data-part=region-item]").is_hidden()
    visitor.press("Control+Shift+Z")
    assert page.locator("[data-part=region-item]").is_visible()

    visitor.press("d")
    page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    assert page.locator("[data-part=region-item]").is_hidden()
    human, found, left_out = stored(store, first)
    assert (human.n_objects, human.params["empty"]) == (1, False)
    assert human.params["not_annotated"] == pytest.approx(marked.mean())
    assert np.array_equal(left_out, marked)
    assert np.array_equal(found > 0, objects)
    row = annotation_region.map_of(store, human)
    assert (row.kind, row.patch_id) == (LabelKind.IGNORED, first.id)
    assert f"{share}% not annotated" in page.inner_text(f'.ann-patch[data-patch="{first.id}"]')

    # Done again without the region: the old one does not count any more.
    visitor.press("p")
    page.wait_for_selector(f'.ann[data-patch="{first.id}"]')
    page.get_by_role("button", name="Reopen").click()
    page.wait_for_selector('.ann[data-status="started"]')
    page.get_by_role("button", name="Take the mark away").click()
    page.wait_for_selector("[data-part=region-item]", state="hidden")
    visitor.press("d")
    page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    human, _, left_out = stored(store, first)
    assert left_out is None
    assert human.params["ignored"] is None


def test_suggestions_that_are_left_can_be_left_out(world, chromium):
    store, made, (first, second), truth = world
    image = catalogue.image(store, first.image_id)
    labels.add(store, LabelKind.PSEUDO, truth, project_id=made.id, image_id=image.id, backend="x", input_hash="x")
    with opened(chromium, store, made.id) as visitor:
        page = visitor.page
        part, ids = whole(truth, first)
        visitor.click(*centre(part, ids[0]))
        visitor.press("Enter")
        visitor.press("d")
        page.get_by_role("button", name="Not annotated there, done").click()
        page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
        human, found, left_out = stored(store, first)
        assert human.n_objects == 1
        assert not (left_out & (found > 0)).any()
        others = (part > 0) & (part != part[centre(part, ids[0])])
        assert left_out[others].all()
        assert not left_out[0 if not part[:8, :8].any() else 95, 0]

        # On the second patch everything is in the region: only the objects are asked about.
        visitor.press("t")
        drag(visitor, (0, 0), (0, 95), (80, 95), (80, 0))
        drag(visitor, (78, 0), (78, 95), (95, 95), (95, 0))
        visitor.press("d")
        page.get_by_text("There is no object where it is annotated").wait_for()
        page.get_by_role("button", name="Cancel").click()
        visitor.press("a")
        page.get_by_role("button", name="Ignore all but the objects").click()
        visitor.saved()
        visitor.press("d")
        page.get_by_text("Every patch of this batch is finished").wait_for()
        _, found, left_out = stored(store, second)
        assert np.array_equal(found > 0, catalogue.crop(truth, second) > 0)
        assert left_out.any()


def test_an_empty_patch_is_called_so(world, visitor):
    store, _, (first, second), _ = world
    visitor.press("d")
    visitor.page.get_by_role("button", name="Yes, it is empty").click()
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    assert "empty, checked" in visitor.page.inner_text(f'.ann-patch[data-patch="{first.id}"]')
    visitor.press("p")
    visitor.page.wait_for_selector(f'.ann[data-patch="{first.id}"]')
    assert visitor.page.get_by_text("This patch is empty, checked.").is_visible()
    human, found, left_out = stored(store, first)
    assert human.params["empty"] is True
    assert not found.any()
    assert left_out is None


def test_a_region_counts_for_its_slice_or_for_all(store, chromium):
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=4)
    importing.add_array(store, made.id, "gray", np.full((4, 64, 64, 1), 90, np.uint8))
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    with opened(chromium, store, made.id) as visitor:
        visitor.press("t")
        drag(visitor, (10, 10), (10, 30), (30, 30), (30, 10))
        assert region(store, patch)[:, 20, 20].tolist() == [False, False, True, False]
        visitor.page.get_by_label("On all slices").check()
        drag(visitor, (40, 10), (40, 30), (60, 30), (60, 10))
        assert region(store, patch)[:, 50, 20].tolist() == [True] * 4
        assert annotations.events(store, patch.id)[-1].payload["box"][0::3] == [0, 4]
