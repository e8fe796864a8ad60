"""The settings of a project, in headless Chromium."""

from __future__ import annotations

import threading

import pytest

from alapp.rounds import importing
from alapp.storage import catalogue, models
from tests.ui import pages

WATCH = """() => new MutationObserver(() => {
  window.drawn ||= document.body.innerText.includes("Patch grid on");
}).observe(document.body, { childList: true, characterData: true, subtree: true })"""
"""Sets `drawn` of the page when a grid was shown, be it for a moment."""

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium, store, project):
    """The settings of the project."""
    with pages.app(store) as url, pages.tab(chromium, url) as tab:
        sync_api.expect(tab.locator("#header-project input")).to_have_value("discs")
        tab.get_by_role("button", name="Settings").click()
        yield tab


def test_settings_show_the_preset_that_was_chosen_on_the_train_tab(page):
    expect = sync_api.expect
    expect(page.get_by_role("radio", name="Quick", exact=True)).to_be_checked()
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("radio", name="Standard: ").check()
    page.get_by_role("tab", name="Project").click()
    expect(page.get_by_role("radio", name="Standard", exact=True)).to_be_checked()


def test_what_an_expert_fixed_is_shown_for_the_preset_of_the_settings(store, project, page):
    expect = sync_api.expect
    for preset, each in (("quick", 60), ("standard", 70)):
        summary = {"sentence": "Planned.", "object_diameter_px": 9.0, "overrides": {"iterations": each}}
        made = {"project_id": project.id, "preset": preset, "input_hash": preset, "workspace": preset}
        models.add_plan(store, made | {"summary": summary})
    fixed = page.locator("#plan-iterations").get_by_role("textbox")
    page.get_by_role("tab", name="Train").click()
    page.locator("#experts button").first.click()
    page.get_by_role("radio", name="Quick: ").check()
    page.get_by_role("tab", name="Project").click()
    page.get_by_role("radio", name="Standard", exact=True).check()
    page.get_by_role("tab", name="Train").click()
    expect(page.get_by_role("radio", name="Standard: ")).to_be_checked()
    expect(fixed).to_have_value("70")


def test_the_share_is_kept_when_it_is_changed_by_keys(store, project, page):
    expect = sync_api.expect
    slider = page.get_by_role("slider", name="Share of each batch for validation")
    number = page.get_by_role("spinbutton", name="Share of each batch for validation")

    def kept():
        return catalogue.project(store, project.id).validation_share

    expect(slider).to_have_value("0.2")
    slider.focus()
    expect(slider).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_value("0.3")
    pages.until(lambda: kept() == 0.3, "the share to be kept")
    number.fill("0.4")
    pages.until(lambda: kept() == 0.4, "the number to be kept")
    expect(slider).to_have_value("0.4")


def test_a_grid_that_comes_late_is_not_shown_with_another_project(store, page, monkeypatch):
    expect = sync_api.expect
    catalogue.create_project(store, "the other one")
    pages.reload(page)
    page.get_by_role("button", name="Settings").click()
    draw, go_on = importing.preview_grid, threading.Event()

    def late(*of):
        assert go_on.wait(60)
        return draw(*of)

    monkeypatch.setattr(importing, "preview_grid", late)
    page.evaluate(WATCH)
    page.get_by_role("button", name="Show the grid").click()
    menu = page.locator("#header-project input")
    menu.click()
    page.get_by_role("option", name="the other one").click()
    expect(menu).to_have_value("the other one")
    go_on.set()
    page.wait_for_function("window.drawn")
    expect(page.get_by_text("Patch grid on")).to_be_hidden()
