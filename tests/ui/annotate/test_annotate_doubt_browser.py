"""Going through suggestions, the most doubtful first, and accepting those that are sure."""

from __future__ import annotations

import pytest

from alapp.rounds.annotate import annotation
from tests.ui.annotating import kinds, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]


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
