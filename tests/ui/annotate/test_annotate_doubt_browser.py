"""Going through suggestions, the most doubtful first, and accepting those that are sure."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.storage import catalogue, labels
from alapp.storage import rounds as round_rows
from tests.ui.annotating import kinds, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZE = 128


@pytest.fixture
def predicted(store):
    """A patch whose model found four discs, 95, 80, 60 and 40 % sure, and two discs as one object, 99 % sure."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    found = np.zeros((SIZE, SIZE), np.int32)
    sure = np.zeros((SIZE, SIZE))
    for key, (y, x, p) in enumerate([(20, 20, 0.6), (20, 60, 0.95), (60, 20, 0.4), (60, 60, 0.8)], start=1):
        found[np.hypot(yy - y, xx - x) < 10] = key
        sure[found == key] = p
    both = (np.hypot(yy - 100, xx - 40) < 11) | (np.hypot(yy - 100, xx - 58) < 11)
    found[both], sure[both] = 5, 0.99
    made = catalogue.create_project(store, "doubt", patch_size=SIZE)
    image = importing.add_array(store, made.id, "cells", (50 + 150 * (found > 0)).astype(np.uint8)[..., None])
    predicted = labels.add(
        store, LabelKind.PREDICTED, found, project_id=made.id, image_id=image.id, backend="nnunet", input_hash="x"
    )
    labels.add_probability(store, predicted, sure)
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    return store, made, patch


@pytest.fixture
def visitor(predicted, chromium):
    store, made, _ = predicted
    with opened(chromium, store, made.id) as found:
        yield found


def listed(visitor):
    return [int(row.get_attribute("data-object")) for row in visitor.page.locator("[data-part=suggestions] li").all()]


def selected(visitor):
    return [int(row.get_attribute("data-object")) for row in visitor.page.locator(".ann-object.ann-selected").all()]


def test_the_doubtful_come_first_and_keys_go_through_them(predicted, visitor):
    store, _, patch = predicted
    assert listed(visitor) == [5, 3, 1, 4, 2]
    assert visitor.page.locator("[data-part=suggestions] li").first.inner_text().split("\n")[1] == "two in one?"
    assert "1 looks suspicious" in visitor.page.locator("[data-part=suspects]").inner_text()
    visitor.press("Shift+N")
    assert selected(visitor) == [5]
    visitor.press("Delete")
    visitor.revision(2)
    assert selected(visitor) == [3]
    visitor.press("Enter")
    visitor.revision(3)
    assert selected(visitor) == [1]
    visitor.press("Shift+N", "Shift+N", "Shift+P")
    assert selected(visitor) == [4]
    now = annotation.state(store, patch.id)
    assert (sorted(now.objects), sorted(now.suggestions)) == ([3], [1, 2, 4])
    visitor.press("Control+z")
    visitor.revision(4)
    assert listed(visitor) == [3, 1, 4, 2]


def test_accepting_above_a_confidence_leaves_the_suspicious_to_the_person(predicted, visitor):
    store, _, patch = predicted
    button = visitor.page.locator("[data-part=above-button]")
    assert button.inner_text() == "Accept 2 of at least 80 %"
    visitor.page.locator("[data-part=above]").fill("55")
    assert button.inner_text() == "Accept 3 of at least 55 %"
    visitor.page.locator(".ann-stage").focus()
    visitor.press("Shift+A")
    visitor.revision(2)
    assert sorted(annotation.state(store, patch.id).objects) == [1, 2, 4]
    assert kinds(store, patch) == ["open", "take"]
    assert listed(visitor) == [5, 3]
    visitor.page.reload()
    visitor.ready()
    assert visitor.page.locator("[data-part=above]").input_value() == "55"
    assert button.is_disabled()


def test_rejecting_with_the_mouse_leaves_the_view_where_it_is(predicted, visitor):
    visitor.page.mouse.move(*visitor.where(60, 20))
    visitor.press("Delete")
    visitor.revision(2)
    assert listed(visitor) == [5, 1, 4, 2]
    assert selected(visitor) == []
