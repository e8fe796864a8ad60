"""The sheet "Models on this computer" in headless Chromium: states, licence and token, and the choice for clicks."""

from __future__ import annotations

import threading

import pytest

from alapp import jobs
from alapp.jobs import JobState
from alapp.running import run_inline
from alapp.stages.foundation import access, download
from alapp.stages.foundation import catalogue as published
from alapp.storage import catalogue
from tests.conftest import PATIENCE
from tests.rounds.annotate.test_click_methods import _installed  # noqa: F401  (fixture)
from tests.stages.foundation.server import Behaviour, serving
from tests.stages.foundation.test_download import CONTENT, model_of
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOKEN = "secret-token-1234"


@pytest.fixture
def url(store, project):
    with pages.app(store) as address:
        yield address


@pytest.fixture
def server(store, monkeypatch):
    """Serves vit_b_lm, one small file here, and runs what is queued."""
    monkeypatch.setattr(download, "MARGIN", 0)
    monkeypatch.setattr(download, "CHUNK", 4_096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ended = threading.Event()

    def work():
        while not ended.wait(0.05):
            for job in jobs.active(store):
                if job.state is JobState.QUEUED:
                    run_inline(store, job)

    worker = threading.Thread(target=work, daemon=True)
    with serving(Behaviour(CONTENT)) as running:
        monkeypatch.setitem(published.MODELS, "vit_b_lm", model_of(running.url))
        worker.start()
        yield running
        running.pause = 0.0
        ended.set()
        worker.join(PATIENCE / 1000)


@pytest.fixture
def page(chromium, url):
    with pages.tab(chromium, url, harmless=pages.was_cut_short) as tab:
        sync_api.expect(tab.locator("#images-table tbody tr")).to_have_count(2)
        yield tab


def open_sheet(page):
    page.get_by_role("tab", name="Pseudo-labels").click()
    page.locator("button.open-models:visible").click()
    sync_api.expect(row(page, "vit_t_lm")).to_be_visible()


def row(page, name):
    return page.locator(f'.mp-model[data-name="{name}"]')


def focused(page):
    return page.evaluate("document.activeElement.textContent.trim()")


def test_it_opens_with_states_and_closes_with_escape_and_the_button(page):
    open_sheet(page)
    sync_api.expect(row(page, "vit_t_lm")).to_contain_text("Creative Commons")
    assert focused(page) == "Models on this computer"
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("dialog.mp")).to_be_hidden()
    assert focused(page) == "Models on this computer …"
    page.keyboard.press("Enter")
    sync_api.expect(row(page, "vit_t_lm")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    sync_api.expect(page.locator("dialog.mp")).to_be_hidden()
    assert focused(page) == "Models on this computer …"


def test_licence_and_token(page):
    open_sheet(page)
    page.locator('[data-part="licence"]').check()
    sync_api.expect(page.locator(".mp-notice")).to_contain_text("You accepted the licence of CellSAM")
    field = page.locator('[data-part="token"]')
    assert field.get_attribute("type") == "password"
    field.fill(TOKEN)
    field.press("Enter")
    sync_api.expect(page.locator('[data-part="token-words"]')).to_contain_text("stored, for you only")
    assert access.token() == TOKEN
    assert access.accepted("cellsam_v1.2")
    assert field.input_value() == ""

    page.reload()
    open_sheet(page)
    sync_api.expect(page.locator('[data-part="licence"]')).to_be_checked()
    sync_api.expect(page.locator('[data-part="token-words"]')).to_contain_text("stored, for you only")
    assert TOKEN not in page.content()
    assert field.input_value() == ""
    page.get_by_role("button", name="Remove the token").click()
    sync_api.expect(page.locator('[data-part="token-words"]')).to_contain_text("needs an access token")
    assert access.token() == ""


def test_a_click_model_that_is_not_here_leads_to_the_sheet(page, store, project):
    page.get_by_role("button", name="Settings").click()
    page.locator("#click-method input").click()
    page.get_by_role("option", name="vit_b_lm").click()
    note = page.locator("#click-method-note")
    sync_api.expect(note).to_contain_text("cannot answer clicks yet")
    sync_api.expect(page.locator("#click-method input")).to_have_value("Automatic · now built-in (seeded watershed)")
    assert catalogue.project(store, project.id).click_method == "auto"
    note.locator(".open-models").click()
    sync_api.expect(row(page, "vit_b_lm")).to_have_class("mp-model mp-off mp-shown")


def test_download_cancel_remove_and_undo_in_two_pages(page, server, url):
    expect = sync_api.expect
    server.pause = 4.0  # between two of some fifty blocks: it does not end by itself
    open_sheet(page)
    model = row(page, "vit_b_lm")
    assert server.asked == []
    model.locator('[data-act="download"]').click()
    expect(model).to_contain_text("Downloading vit_b_lm")
    expect(model.locator(".mp-chip")).to_have_text("downloading")

    page.reload()
    open_sheet(page)
    expect(model.locator(".mp-chip")).to_have_text("downloading")
    other = page.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(url)
    open_sheet(other)
    expect(row(other, "vit_b_lm").locator(".mp-chip")).to_have_text("downloading")
    row(other, "vit_b_lm").locator('[data-act="cancel"]').click()
    expect(model.locator(".mp-chip")).to_have_text("weights missing")
    assert list(published.MODELS["vit_b_lm"].folder.iterdir()) == []
    other.close()

    server.pause = 0.0
    model.locator('[data-act="download"]').click()
    expect(model.locator(".mp-chip")).to_have_text("ready")
    model.locator('[data-act="remove"]').click()
    expect(page.locator(".mp-notice")).to_contain_text("this can be undone")
    expect(model.locator(".mp-chip")).to_have_text("weights missing")
    model.locator('[data-act="undo"]').click()
    expect(model.locator(".mp-chip")).to_have_text("ready")


def test_a_file_that_is_no_model_is_refused_in_words(page, tmp_path):
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"no model" * 100)
    open_sheet(page)
    page.locator('[data-part="own-path"]').fill(str(garbage))
    page.get_by_role("button", name="Import this path").click()
    notice = page.locator(".mp-notice")
    sync_api.expect(notice).to_contain_text("garbage.pt cannot be read as a PyTorch checkpoint")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files({"name": "other.pt", "mimeType": "application/octet-stream", "buffer": b"nonsense" * 9})
    sync_api.expect(notice).to_contain_text("other.pt cannot be read as a PyTorch checkpoint")


def test_the_public_demo_offers_nothing_and_says_why(page, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/demo")
    open_sheet(page)
    sync_api.expect(page.locator('[data-part="about"]')).to_contain_text("all visitors share one computer")
    for control in ("[data-act]", "[data-part=token]", "[data-part=licence]", "[data-part=own-path]"):
        sync_api.expect(page.locator(f".mp {control}:visible")).to_have_count(0)
