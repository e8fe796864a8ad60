"""Coming to the Annotate tab: keys work, and nothing is judged or denied before it is seen."""

from __future__ import annotations

from contextlib import contextmanager

import gradio as gr
import pytest

from alapp.rounds.annotate import annotation
from alapp.storage import catalogue
from alapp.ui.annotate import annotate
from alapp.ui.page import Page
from tests.ui import pages
from tests.ui.annotating import Held, kinds, message, opened, served, visiting

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect = sync_api.expect

NEXT = "Annotate the next patch"
FOCUSED = "document.activeElement.dataset.part || document.activeElement.textContent.trim()"


@contextmanager
def elsewhere(chromium, store, project_id):
    """A page on another tab, with a button and a field above the tabs, as the app has them in its header."""
    with gr.Blocks() as blocks:
        shown, changed, asked, owner = (gr.State(value) for value in (project_id, 0, None, None))
        gr.Textbox(label="Name")
        following = gr.Button(NEXT)
        with gr.Tabs(selected="other") as tabs:
            with gr.Tab("Other", id="other"):
                gr.Markdown("Something else")
            with gr.Tab("Annotate", id="annotate") as mine:
                tab = annotate.build(Page(store, shown, tabs, changed, asked, owner))
        following.click(lambda: gr.Tabs(selected="annotate"), None, tabs)
        mine.select(lambda it: tab.refresh(it)[0], shown, tab.outputs[0])
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        with pages.tab(chromium, url) as page:
            page.get_by_text("Something else").wait_for()
            yield page
    finally:
        blocks.close(verbose=False)


@pytest.fixture
def apart(predicted, chromium):
    """A visitor of `predicted` on another tab than Annotate."""
    store, made, _ = predicted
    with elsewhere(chromium, store, made.id) as page:
        yield page


def arrive(page, role="button", name=NEXT):
    page.get_by_role(role, name=name).click()


def selected(page):
    return page.locator(".ann-object.ann-selected")


# --- keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "name"), [("button", NEXT), ("tab", "Annotate")])
def test_keys_work_on_arrival_and_on_coming_back(apart, role, name):
    arrive(apart, role, name)
    apart.wait_for_selector(".ann[data-slice]")
    apart.keyboard.press("Shift+N")
    expect(selected(apart)).to_have_attribute("data-object", "5")
    apart.get_by_role("tab", name="Other").click()
    expect(apart.locator(".ann")).to_be_hidden()
    arrive(apart, role, name)
    expect(apart.locator("[data-part=stage]")).to_be_focused()
    apart.keyboard.press("Shift+N")
    expect(selected(apart)).to_have_attribute("data-object", "3")


def test_who_goes_through_the_tabs_by_keys_stays_among_them(apart):
    tab = apart.get_by_role("tab", name="Annotate")
    apart.get_by_role("tab", name="Other").click()
    apart.keyboard.press("Shift+Tab")
    while not tab.evaluate("(tab) => tab === document.activeElement"):
        apart.keyboard.press("Tab")
    apart.keyboard.press("Enter")
    apart.wait_for_selector(".ann[data-slice]")
    expect(tab).to_be_focused()


def test_who_types_meanwhile_is_not_disturbed(apart):
    held = Held(apart, "load_patch")
    arrive(apart)
    held.wait_for(1)
    apart.get_by_label("Name").click()
    held.end()
    apart.wait_for_selector(".ann[data-slice]")
    apart.keyboard.type("bob")
    expect(apart.get_by_label("Name")).to_have_value("bob")


def test_another_patch_leaves_the_focus_on_a_button_that_was_reached_by_keys(world, visitor):
    _, _, (_, second), _ = world
    page = visitor.page
    page.keyboard.press("Shift+Tab")
    button = page.evaluate(FOCUSED)
    assert button != "stage"
    page.keyboard.press("n")
    page.wait_for_selector(f'.ann[data-slice^="{second.id}/"]')
    visitor.saved()
    assert page.evaluate(FOCUSED) == button


# --- what is not here yet ------------------------------------------------------------------------------------


def test_a_batch_that_is_on_its_way_is_not_denied(apart):
    title = apart.locator("[data-part=empty-title]")
    held = Held(apart, "load_batch")
    arrive(apart)
    held.wait_for(1)
    expect(title).to_have_text("Opening the batch …")
    held.names = ("load_patch",)
    held.let_go()
    held.wait_for(2)
    expect(title).to_have_text("Opening the batch …")
    held.end()
    apart.wait_for_selector(".ann[data-slice]")
    expect(title).to_be_hidden()


def test_the_page_does_not_deny_a_batch_before_it_knows_the_project(store, chromium):
    with gr.Blocks() as blocks:
        shown, changed, asked, owner = (gr.State(value) for value in (None, 0, None, None))
        with gr.Tabs() as tabs, gr.Tab("Annotate", id="annotate"):
            tab = annotate.build(Page(store, shown, tabs, changed, asked, owner))
        gr.Button("Tell").click(lambda: tab.refresh(None)[0], None, tab.outputs[0])
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        with pages.tab(chromium, url) as page:
            title = page.locator("[data-part=empty-title]")
            expect(title).to_have_text("Opening the batch …")
            page.get_by_role("button", name="Tell").click()
            expect(title).to_have_text("There is no batch to annotate yet.")
    finally:
        blocks.close(verbose=False)


def test_without_a_batch_the_page_says_so(store, chromium):
    made = catalogue.create_project(store, "bare")
    with elsewhere(chromium, store, made.id) as page:
        arrive(page)
        expect(page.locator("[data-part=empty-title]")).to_have_text("There is no batch to annotate yet.")


def test_nothing_is_accepted_before_it_is_seen(predicted, apart):
    store, _, patch = predicted
    held = Held(apart, "load_slice")
    arrive(apart)
    held.wait_for(1)
    working = apart.locator("[data-part=working]")
    expect(working).to_contain_text("The picture of this slice is not here yet.")
    expect(apart.locator(".ann-stage")).to_contain_class("ann-loading")
    judging = [
        apart.locator(f'[data-act="{act}"]') for act in ("takeAll", "takeAbove", "acceptDraft", "remove", "finish")
    ]
    for button in judging:
        expect(button).to_be_disabled()
    apart.keyboard.press("Shift+N")
    expect(selected(apart)).to_have_count(1)
    for key in ("a", "Shift+A", "Enter", "Delete", "Shift+D", "d"):
        apart.keyboard.press(key)
        expect(message_of(apart)).to_contain_text("The picture of this slice is not here yet.")
        apart.keyboard.press("Escape")
        apart.keyboard.press("Shift+N")
    held.end()
    apart.wait_for_selector(".ann[data-slice]")
    expect(working).to_be_hidden()
    expect(apart.locator(".ann-stage")).not_to_contain_class("ann-loading")
    for button in judging:
        expect(button).to_be_enabled()
    assert kinds(store, patch) == ["open"]
    apart.keyboard.press("a")
    apart.wait_for_selector('.ann[data-revision="2"]')
    assert kinds(store, patch) == ["open", "take"]


def message_of(page):
    return page.locator("[data-part=message]")


def test_a_picture_that_cannot_be_had_is_asked_for_again_when_the_person_says_so(predicted, apart):
    store, _, patch = predicted
    held = Held(apart, "load_slice")
    arrive(apart)
    held.wait_for(1)
    held.refuse("The disk is full.")
    told = message_of(apart)
    expect(told).to_contain_text("The picture of this slice could not be loaded. The disk is full.")
    expect(apart.locator("[data-part=working]")).to_be_hidden()
    apart.keyboard.press("Escape")
    expect(told).to_be_hidden()
    apart.keyboard.press("a")  # the reason comes back
    expect(told).to_contain_text("The disk is full.")
    told.get_by_role("button", name="Try again").click()
    held.wait_for(2)
    held.end()
    apart.wait_for_selector(".ann[data-slice]")
    expect(told).to_be_hidden()
    assert kinds(store, patch) == ["open"]


# --- what may only be looked at ------------------------------------------------------------------------------

ACTS = ("a", "Shift+A", "Enter", "Delete", "Shift+D", "e", "m", "h", "b", "d", "s", "Control+z", "Control+Shift+z", "i")


def refused(visitor, words):
    for key in ACTS:
        visitor.page.keyboard.press(key)
        expect(message(visitor)).to_contain_text(words)
        visitor.page.keyboard.press("Escape")
        expect(message(visitor)).to_be_hidden()
    visitor.page.mouse.click(*visitor.where(5, 100))
    expect(message(visitor)).to_contain_text(words)
    for act in ("takeAll", "takeAbove", "propagate"):
        expect(visitor.page.locator(f'[data-act="{act}"]')).to_be_disabled()


def test_who_only_looks_is_told_why_nothing_happens(predicted, chromium):
    store, made, patch = predicted
    with served(store, made.id) as url, visiting(chromium, url) as one, visiting(chromium, url) as two:
        two.page.locator("[data-part=presence]").wait_for()
        refused(two, "You only look at this patch. Press “Take over” to work on it here.")
        two.press("j")
        expect(two.page.locator("[data-part=note-state]")).to_have_text("You only look at this patch.")
        assert kinds(store, patch) == ["open"]
        one.press("a")
        one.revision(2)


def test_on_a_finished_patch_the_person_is_told_how_to_reopen_it(predicted, chromium):
    store, made, patch = predicted
    annotation.skip(store, patch.id, "before")
    with opened(chromium, store, made.id) as visitor:
        told = ACTS[: ACTS.index("Control+z")]
        for key in told:
            visitor.page.keyboard.press(key)
            expect(message(visitor)).to_contain_text("This patch is skipped. Press R to reopen it.")
            visitor.page.keyboard.press("Escape")
        expect(visitor.page.locator('[data-act="takeAll"]')).to_be_disabled()


# --- room ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1024, 700)])
def test_five_suggestions_are_seen_as_long_as_there_is_no_object(predicted, chromium, width, height):
    store, made, _ = predicted
    with opened(chromium, store, made.id) as visitor:
        visitor.page.set_viewport_size({"width": width, "height": height})
        visitor.frame()
        rooms = "({ clientHeight: room, parentElement: box }) => [room, box.scrollHeight - box.clientHeight]"
        shown, cut = visitor.page.locator("[data-part=suggestions]").evaluate(rooms)
        assert shown >= 115
        assert cut <= 0
        visitor.press("Shift+N", "Enter")
        visitor.revision(2)
        assert visitor.page.locator("[data-part=objects]").evaluate("(list) => list.clientHeight") >= 60
        assert visitor.page.locator("[data-part=suggestions]").evaluate("(list) => list.clientHeight") >= 70
