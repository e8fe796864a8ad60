"""The iterations of the next training only, in headless Chromium."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.rounds.pseudolabel import pseudo
from alapp.storage import catalogue
from alapp.ui.train import plan
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium, store, project):
    """The Train tab of a project that can be trained, with the fields for experts, without a worker."""
    catalogue.create_project(store, "the other one")
    for item in catalogue.projects(store):
        pseudo.decide(store, item.id, "log_watershed")
    with pages.app(store) as url, pages.tab(chromium, url) as tab:
        sync_api.expect(tab.locator("#header-project input")).to_have_value("the other one")
        open_project(tab, "discs")
        tab.get_by_role("tab", name="Train").click()
        tab.locator("#experts button").first.click()
        yield tab


def open_project(page, name):
    page.locator("#header-project input").click()
    page.get_by_role("option", name=name).click()
    sync_api.expect(page.locator("#header-project input")).to_have_value(name)


@pytest.mark.parametrize("by", ["header", "tab"])
def test_they_count_once_wherever_the_training_is_started(store, project, page, by):
    expect = sync_api.expect
    field = page.locator("#next-iterations").get_by_role("textbox")
    begin = page.locator("#header-next")
    expect(begin).to_have_text("Pre-train on the pseudo-labels")
    field.fill("70")
    (begin if by == "header" else page.get_by_role("tabpanel").get_by_role("button", name="Pre-train on the")).click()
    expect(field).to_have_value("")
    (job,) = jobs.active(store, project.id)
    assert job.params == {"iterations": 70, "preset": "quick"}


def test_they_are_not_those_of_another_project(page):
    expect = sync_api.expect
    field = page.locator("#next-iterations").get_by_role("textbox")
    field.fill("70")
    open_project(page, "the other one")
    expect(field).to_have_value("")


def test_an_empty_field_is_left_to_who_may_be_typing():
    assert plan.forget_iterations(2, 1, "50") == (2, "")
    for meant_for, written in ((1, ""), (1, None), (2, "50"), (None, "50")):
        assert plan.forget_iterations(2, meant_for, written)[1] not in ("", "50")
