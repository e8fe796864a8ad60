"""The menu of methods while models arrive and the settings change, in headless Chromium."""

from __future__ import annotations

import pytest

from alapp.domain import BackendState, Status
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS
from alapp.storage import catalogue
from tests.rounds.pseudolabel.test_pseudo import weighty  # noqa: F401
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


def away_and_back(page):
    """Look at another tab, as one does while a model is downloaded."""
    page.get_by_role("tab", name="Rounds").click()
    sync_api.expect(page.locator("#method")).to_be_hidden()
    page.get_by_role("tab", name="Pseudo-labels").click()


def test_the_menu_follows_what_is_on_this_computer(chromium, store, project, weighty, monkeypatch):  # noqa: F811
    expect = sync_api.expect
    here = weighty.models()
    monkeypatch.setattr(weighty, "models", classmethod(lambda cls, modality=None: list(here)))
    with pages.app(store) as url, pages.tab(chromium, url) as page:
        page.get_by_role("tab", name="Pseudo-labels").click()
        method, why, weights = page.locator("#method"), page.locator("#method-why"), page.locator("#method-model input")
        expect(method.get_by_role("radio", name="Automatic (now: Weighty)")).to_be_checked()
        method.get_by_role("radio", name="Weighty", exact=True).check()
        expect(why).to_be_empty()
        weights.click()
        page.get_by_role("option", name="large").click()
        expect(weights).to_have_value("large")

        here.append("huge")
        away_and_back(page)
        weights.click()
        expect(page.get_by_role("option", name="huge")).to_be_visible()
        page.keyboard.press("Escape")
        expect(weights).to_have_value("large")
        expect(method.get_by_role("radio", name="Weighty", exact=True)).to_be_checked()

        gone = Status(BackendState.NOT_INSTALLED, "Not here.", "Install it.")
        monkeypatch.setattr(weighty, "status", classmethod(lambda cls, modality=None: gone))
        away_and_back(page)
        first = method.get_by_role("radio").first
        expect(method).not_to_contain_text("Weighty")
        expect(first).to_be_checked()
        light = method.locator("label").first.inner_text()

        catalogue.update_project(store, project.id, modality="em")
        away_and_back(page)
        em = PSEUDO_LABELLERS.load("em_dark_blobs").title
        expect(method.locator("label").first).to_have_text(f"Automatic (now: {em})")
        assert em not in light
