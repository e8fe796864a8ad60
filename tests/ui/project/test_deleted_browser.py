"""Deleting a project, undoing that after a reload, and erasing it, in headless Chromium."""

from __future__ import annotations

import pytest

from alapp.storage import catalogue
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium, store, opened):
    """The app with one project, without a worker."""
    with pages.app(store) as url, pages.tab(chromium, url) as tab:
        yield tab


def test_a_deleted_project_is_brought_back_after_a_reload_and_erased(store, opened, page):
    expect = sync_api.expect
    folder = store.files.project(opened.id)
    rows, fold = page.locator("#images-table tbody tr"), page.locator("#deleted")
    expect(rows).to_have_count(2)
    expect(fold).to_be_hidden()
    page.get_by_text("Rename or delete the open project").click()
    page.click("#delete-project")
    expect(page.get_by_text("No project is open")).to_be_visible()
    expect(page.locator("#deleted-back")).to_be_visible()  # the fold is open, right where it was deleted

    pages.reload(page, ready="Start with a sample")
    expect(page.locator("#deleted-back")).to_be_hidden()
    fold.get_by_text("Deleted projects (1)").click()
    page.click("#deleted-back")
    expect(rows).to_have_count(2)
    expect(fold).to_be_hidden()
    assert [item.id for item in catalogue.projects(store)] == [opened.id]

    page.get_by_text("Rename or delete the open project").click()
    page.click("#delete-project")
    page.click("#deleted-ask")
    expect(page.locator("#deleted-question")).to_contain_text("Erase “discs” for good? Its 2 images")
    page.click("#deleted-no")
    expect(page.locator("#deleted-question")).to_be_hidden()
    page.click("#deleted-ask")
    page.click("#deleted-yes")
    expect(fold).to_be_hidden()
    assert not folder.exists()
    assert catalogue.projects(store, deleted=True) == []
