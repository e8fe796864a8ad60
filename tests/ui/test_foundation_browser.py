"""The sheet "Models on this computer" in headless Chromium: states, licence and token, and the choice for clicks."""

from __future__ import annotations

import pytest

from alapp.stages.foundation import access
from alapp.storage import catalogue
from alapp.ui import shell
from alapp.ui.security import launch_options
from alapp.ui.theme import CSS, THEME

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 40_000
TOKEN = "secret-token-1234"


@pytest.fixture(autouse=True)
def _patience():
    sync_api.expect.set_options(timeout=PATIENCE)
    yield
    sync_api.expect.set_options(timeout=5_000)


@pytest.fixture
def url(store, project):
    demo = shell.build(store)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS, **launch_options())
    yield address
    demo.close(verbose=False)


@pytest.fixture
def page(chromium, url):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    tab.goto(url)
    sync_api.expect(tab.locator("#images-table tbody tr")).to_have_count(2)
    yield tab
    context.close()
    assert not errors


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
