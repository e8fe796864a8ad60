"""Effort on the Results tab and what is measured, on the real page in headless Chromium; and their texts."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.rounds.annotate import annotation, annotation_edits
from alapp.rounds.annotate.agreement import Agreement
from alapp.rounds.annotate.savings import TimeSaved
from alapp.stages.annotate import masks
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.results import effort
from alapp.ui.rounds import rounds
from tests.ui import pages


def rectangle(y, x):
    pixels = np.zeros((64, 64), bool)
    pixels[y : y + 8, x : x + 8] = True
    return masks.from_array(pixels)


@pytest.fixture
def worked(store, project, monkeypatch):
    """A batch of two, the second a control patch; three objects drawn in 30 seconds on the first."""
    clock = [1000.0]
    monkeypatch.setattr(annotations, "time", lambda: clock[0])
    patches = catalogue.patches(store, project.id)[:2]
    picks = [(patch.id, PatchRole.TRAIN, {"sentence": "far away"}) for patch in patches]
    round_rows.add(store, project.id, "random", 2, 0, picks, control=[patches[1].id])
    annotation.begin(store, patches[0].id, "me")
    for y in (0, 20, 40):
        clock[0] += 10
        annotation_edits.paint(store, patches[0].id, "me", rectangle(y, 10))
    annotation.mark_done(store, patches[0].id, "me")
    return patches


def test_the_section_is_empty_before_any_work(store, project):
    for which in (project.id, None):
        section, *texts, table = effort.refresh(store, which)
        assert not section.visible
        assert texts == [""] * 4
        assert not table.visible


def test_the_section_is_shown_once_somebody_has_worked(store, worked):
    section, cards, *_ = effort.refresh(store, worked[0].project_id)
    assert section.visible
    assert "3" in cards


def test_rows_are_numbers_so_that_they_sort(store, worked):
    (row,) = effort.patch_rows(store, worked[0].project_id)
    assert row == [worked[0].name, 1, "done", "nothing", 30, 3, 10.0, 3, 0, 0, 3, 0]
    assert len(row) == len(effort.COLUMNS)


def test_what_is_told_about_the_saving():
    off = effort.saved_text(TimeSaved(3, 0, 2.0, None), wanted=False)
    assert "Not measured" in off
    few = effort.saved_text(TimeSaved(9, 1, 2.0, 8.0), wanted=True)
    assert "Not enough data yet: 1 patch without suggestions and 9 with them" in few
    good = effort.saved_text(TimeSaved(9, 6, 2.0, 8.0, 0.75, (0.6, 0.8)), wanted=True)
    assert "suggestions save 75% of the time (95% interval of the saving: 60% to 80%)." in good
    assert "chance" not in good
    bad = effort.saved_text(TimeSaved(9, 6, 9.0, 8.0, -0.125, (-0.3, 0.1)), wanted=True)
    assert "suggestions cost 12% of the time" in bad
    assert "may be chance" in bad


def test_what_is_told_about_agreement():
    assert "Not measured" in effort.agreement_text(Agreement(0), wanted=False)
    assert "Not enough data yet: 2 patches annotated twice. It takes 3." in effort.agreement_text(Agreement(2), True)
    text = effort.agreement_text(Agreement(4, 0.91, (0.85, 0.97), 0.8), wanted=True)
    assert "0.91 (0.85 to 0.97)" in text
    assert "0.80 (mean IoU)" in text


def test_the_shares_are_remembered(store, project):
    rounds.keep_shares(store, project.id, 0.1, 0.2)
    now = catalogue.project(store, project.id)
    assert (now.control_share, now.repeat_share) == (0.1, 0.2)
    assert [share for _, share in rounds.share_choices()] == [0.0, 0.1, 0.2]


@pytest.mark.browser
def test_the_page_shows_the_effort_and_takes_what_to_measure(store, worked, chromium):
    sync_api = pytest.importorskip("playwright.sync_api")
    expect = sync_api.expect
    with pages.app(store) as url, pages.tab(chromium, url) as page:
        expect(page.locator("#header-rail")).to_contain_text("Images")
        page.get_by_role("tab", name="Results").click()
        expect(page.get_by_text("clicks and strokes for each object")).to_be_visible(timeout=40_000)
        expect(page.locator("#results-effort")).to_contain_text(worked[0].name)

        page.get_by_role("tab", name="Rounds").click()
        page.click("#rounds-measure button")
        page.get_by_label("Patches to draw without suggestions").click()
        page.get_by_role("option", name="10% of the batch").click()
        for _ in range(100):
            if catalogue.project(store, worked[0].project_id).control_share:
                break
            page.wait_for_timeout(100)
        assert catalogue.project(store, worked[0].project_id).control_share == 0.1

        page.get_by_role("tab", name="Annotate").click()
        page.click(f"button[data-patch='{worked[1].id}']")
        expect(page.locator("[data-part=start-note]")).to_contain_text("starts from nothing")
        page.click(f"button[data-patch='{worked[0].id}']")
        expect(page.locator("[data-part=start-note]")).to_be_hidden()
