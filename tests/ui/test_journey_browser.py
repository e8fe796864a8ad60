"""The first half hour of a new user, in headless Chromium with a real worker process."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import LabelKind
from alapp.storage import catalogue, labels
from tests.ui.pages import reload

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_from_the_first_visit_to_accepted_pseudo_labels(store, page):
    expect = sync_api.expect
    expect(page.locator("#header-rail")).to_contain_text("Start with a sample")
    page.click("#sample-hela")
    rows = page.locator("#images-table tbody tr")
    expect(rows).to_have_count(8, timeout=120_000)
    expect(page.locator("#header-rail .done")).to_contain_text("Images")
    expect(page.locator("#header-next")).to_have_text("Choose the pseudo-labels")
    expect(page.locator("#job-row")).to_be_hidden()

    reload(page)
    expect(rows).to_have_count(8)
    (project,) = catalogue.projects(store)
    expect(page.locator("#header-project input")).to_have_value(project.name)

    page.click("#header-next")
    page.click("#preview")
    pictures = page.locator("#gallery img")
    expect(pictures).to_have_count(10, timeout=120_000)
    (preview,) = [job for job in jobs.history(store, project.id) if job.kind == "preview"]
    assert len(preview.result["label_maps"]) == 10

    page.click("#accept")
    expect(page.locator("#header-next")).to_have_text("Pre-train on the pseudo-labels", timeout=120_000)
    expect(page.locator("#job-row")).to_be_hidden()
    assert len(labels.latest_by_image(store, project.id, LabelKind.PSEUDO)) == 8
    assert catalogue.project(store, project.id).pseudo_method == "auto"
