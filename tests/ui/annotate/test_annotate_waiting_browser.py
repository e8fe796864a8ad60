"""What the person is told while a method that takes seconds gets ready, and after another one was chosen."""

from __future__ import annotations

import threading

import gradio as gr
import pytest

from alapp.rounds.annotate import clicks
from alapp.storage import catalogue
from alapp.ui.annotate import annotate
from alapp.ui.page import Page
from tests.ui.annotating import Visitor, centre, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_click_that_takes_long_says_so(world, visitor, monkeypatch):
    _, _, (first, _), truth = world
    going_on = threading.Event()
    answer = clicks.segment

    def slowly(*arguments, **more):
        assert going_on.wait(60)
        return answer(*arguments, **more)

    monkeypatch.setattr(clicks, "segment", slowly)
    page = visitor.page
    page.mouse.click(*visitor.where(*centre(truth[:96, :96], whole(truth, first)[1][0])))
    page.get_by_text("Working on your click…").wait_for()
    assert page.locator("[data-part=working] button").is_hidden()
    going_on.set()
    visitor.saved()
    page.wait_for_selector("[data-part=working]", state="hidden")


def test_after_another_method_was_chosen_the_slice_is_made_ready_for_it(world, chromium, monkeypatch):
    store, made, (first, _), _ = world
    prepared: list[tuple[int, str]] = []
    going_on = threading.Event()

    def prepare(store, patch_id, z=0):
        method = catalogue.project(store, made.id).click_method
        prepared.append((patch_id, method))
        if method != "auto":
            assert going_on.wait(60)
        return method, ""

    monkeypatch.setattr(clicks, "prepare", prepare)
    with gr.Blocks() as blocks:
        project_id, changed, open_patch, visitor_id = (gr.State(value) for value in (made.id, 0, None, None))
        again = gr.Button("Refresh")
        with gr.Tabs() as tabs, gr.Tab("Annotate", id="annotate"):
            tab = annotate.build(Page(store, project_id, tabs, changed, open_patch, visitor_id))
        for event in (again.click, blocks.load):
            event(lambda: tab.refresh(made.id)[0], None, tab.outputs[0])
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    page = Visitor(chromium, url)
    method = page.page.locator('.ann [data-part="method"]')
    page.page.wait_for_function("() => document.querySelector('.ann [data-part=method]').textContent === 'auto'")
    seen = [each for each in prepared if each[0] == first.id]
    page.page.get_by_role("button", name="Refresh").click()  # nothing has changed
    catalogue.update_project(store, made.id, click_method="watershed")
    page.page.get_by_role("button", name="Refresh").click()
    page.page.wait_for_function("() => document.querySelector('.ann [data-part=method]').textContent.includes('ready')")
    going_on.set()
    page.page.wait_for_function("() => document.querySelector('.ann [data-part=method]').textContent === 'watershed'")
    assert [each for each in prepared if each[0] == first.id] == [*seen, (first.id, "watershed")]
    assert method.inner_text() == "watershed"
    page.close()
    blocks.close(verbose=False)
