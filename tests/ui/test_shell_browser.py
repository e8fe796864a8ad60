"""What the page itself does, in headless Chromium: which tab is refreshed, and what a double click is."""

from __future__ import annotations

import re
import threading

import pytest

from alapp import jobs
from alapp.storage import catalogue
from alapp.ui.results import results
from alapp.ui.train import train
from tests.conftest import PATIENCE
from tests.ui import pages

HELD = """() => document.querySelector("#delete-project").dispatchEvent(
    new KeyboardEvent("keydown", {key: "Enter", repeat: true, bubbles: true, cancelable: true})
)"""
"""Tells whether a key that is held down acts on the button."""

BELOW = """each => {
    while (/, 0\\)|transparent/.test(getComputedStyle(each).backgroundColor)) each = each.parentElement;
    return getComputedStyle(each).backgroundColor;
}"""
"""The colour behind an element."""

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium, store, opened):
    """The app with one project, without a worker."""
    with pages.app(store) as url, pages.tab(chromium, url) as tab:
        sync_api.expect(tab.locator("#header-rail")).to_contain_text("Images")
        yield tab


@pytest.fixture
def second(store, opened):
    """A second project, which the page opens with."""
    return catalogue.create_project(store, "second")


def counted(monkeypatch, module):
    """The calls of the refresh of a tab."""
    calls, refresh = [], module.refresh

    def told(store, project_id):
        made = refresh(store, project_id)
        calls.append(project_id)
        return made

    monkeypatch.setattr(module, "refresh", told)
    return calls


def test_a_tab_that_was_left_before_it_was_filled_is_not_taken_for_the_open_one(store, opened, page, monkeypatch):
    of_train, of_results = counted(monkeypatch, train), counted(monkeypatch, results)
    asked, goes_on, refresh = threading.Event(), threading.Event(), results.refresh

    def late(*values):
        asked.set()
        assert goes_on.wait(PATIENCE / 1000)
        return refresh(*values)

    monkeypatch.setattr(results, "refresh", late)
    page.get_by_role("tab", name="Results").click()
    pages.until(asked.is_set, "the Results tab to be asked for")
    page.get_by_role("tab", name="Train").click()
    pages.until(lambda: of_train, "the Train tab to be filled")
    goes_on.set()
    pages.until(lambda: of_results, "the Results tab to be filled")
    sync_api.expect(page.locator("#results-nothing")).to_contain_text("Results appear here")
    before = len(of_train)
    jobs.cancel(store, jobs.enqueue(store, "map", opened.id).id)
    pages.until(lambda: len(of_train) > before, "the open tab to be refreshed when a job ends")


def test_a_tab_takes_no_choice_that_its_filling_would_take_back(page, monkeypatch):
    expect = sync_api.expect
    asked, goes_on, refresh = threading.Event(), threading.Event(), train.refresh

    def late(*values):
        asked.set()
        assert goes_on.wait(PATIENCE / 1000)
        return refresh(*values)

    monkeypatch.setattr(train, "refresh", late)
    standard = page.get_by_role("radio", name="Standard: ")
    page.get_by_role("tab", name="Train").click()
    pages.until(asked.is_set, "the Train tab to be asked for")
    box = standard.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(standard).not_to_be_checked()
    threading.Timer(0.5, goes_on.set).start()
    standard.check()
    expect(standard).to_be_checked()


def test_a_tab_that_is_held_for_two_reasons_waits_for_both(page):
    clicks = "() => getComputedStyle(document.querySelector('#panel-train')).pointerEvents"
    page.get_by_role("tab", name="Train", exact=True).click()
    sync_api.expect(page.get_by_role("button", name="Nothing to train yet")).to_be_visible()
    page.wait_for_function(f"({clicks})() === 'auto'")
    page.evaluate("alapp.hold('train', 'train'); alapp.hold('train', 'new project'); alapp.release('new project')")
    assert page.evaluate(clicks) == "none"
    page.evaluate("alapp.release('train')")
    assert page.evaluate(clicks) == "auto"


def test_the_address_keeps_the_tab(page):
    expect = sync_api.expect

    def is_open(name):
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")

    for name in ("Rounds", "Train"):
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(f"#{name.lower()}$"))
    pages.reload(page)
    is_open("Train")
    expect(page.get_by_role("button", name="Nothing to train yet")).to_be_visible()  # it was filled, too
    page.go_back()
    is_open("Rounds")
    expect(page.locator("#rounds-strategy input")).to_be_enabled()
    page.go_back()
    is_open("Project")
    page.go_forward()
    is_open("Rounds")
    expect(page.locator("#header-next")).to_have_text("Choose the pseudo-labels")
    page.click("#header-next")  # goes to another tab, too
    is_open("Pseudo-labels")
    expect(page).to_have_url(re.compile("#pseudo$"))
    page.go_back()
    is_open("Rounds")
    page.evaluate("location.hash = '#nowhere'")
    is_open("Rounds")


def test_narrow_windows_hide_and_squeeze_nothing(page):
    expect = sync_api.expect
    picture, rail, button = page.locator(".sheet img").first, page.locator("#header-rail"), page.locator("#header-next")
    expect(picture).to_be_visible()
    for width in (1024, 420):
        page.set_viewport_size({"width": width, "height": 700})
        page.wait_for_timeout(300)
        assert picture.evaluate("each => each.getBoundingClientRect().width") == 44
    steps, at = rail.bounding_box(), button.bounding_box()
    assert steps["y"] >= at["y"] + at["height"] or at["y"] >= steps["y"] + steps["height"]
    assert at["x"] + at["width"] <= 420


def test_the_open_tab_can_be_read(page):
    tab = page.get_by_role("tab", name="Project", exact=True)
    for dark in (False, True):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        page.wait_for_timeout(500)  # colours change gradually
        text = tab.evaluate("each => getComputedStyle(each).color")
        below = tab.evaluate(BELOW)
        assert contrast(text, below) >= 4.5, (dark, text, below)


def contrast(*colours):
    """Of two colours as CSS tells them: WCAG 2.2, 1.4.3."""
    light = []
    for colour in colours:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        light.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_import_your_images_shows_where(chromium, store):
    expect = sync_api.expect
    catalogue.create_project(store, "empty")
    with pages.app(store) as url, pages.tab(chromium, url, height=500) as tab:
        expect(tab.locator("#header-next")).to_have_text("Import your images")
        fold = tab.locator("#panel-project button.label-wrap", has_text="Add images")
        expect(fold).to_have_class(re.compile("open"))
        fold.click()
        expect(fold).not_to_have_class(re.compile("open"))
        tab.evaluate("scrollTo(0, 0)")
        tab.click("#header-next")
        expect(fold).to_have_class(re.compile("open"))
        expect(fold).to_be_in_viewport()


def test_a_double_click_deletes_one_project(store, opened, second, page):
    """Its second click comes when the next project is shown."""
    expect = sync_api.expect
    expect(page.locator("#images-table")).to_contain_text("second has no images yet")
    page.get_by_text("Rename or delete the open project").click()
    page.click("#delete-project")
    expect(page.locator("#images-table")).to_contain_text("discs: 2 images")
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    assert not page.evaluate(HELD)
    page.get_by_label("New name").fill("still there")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(page.locator("#images-table")).to_contain_text("still there: 2 images")
    assert [item.id for item in catalogue.projects(store)] == [opened.id]


def test_the_menu_of_projects_stays_open_while_a_job_goes_on(store, opened, second, page):
    expect = sync_api.expect
    menu, options = page.locator("#header-project input"), page.get_by_role("option")
    job = jobs.enqueue(store, "preview", opened.id)
    expect(page.locator("#images-table")).to_contain_text("second has no images yet")
    menu.click()
    page.get_by_role("option", name="discs").click()
    expect(page.locator("#job")).to_contain_text("waiting for its turn")
    menu.click()
    menu.press("Control+A")
    menu.press_sequentially("sec")
    expect(options).to_have_count(1)
    store.execute("UPDATE job SET message = 'half of it' WHERE id = ?", (job.id,))
    expect(page.locator("#job")).to_contain_text("half of it")
    assert menu.input_value() == "sec"
    assert options.count() == 1
    options.click()
    expect(page.locator("#images-table")).to_contain_text("second has no images yet")
