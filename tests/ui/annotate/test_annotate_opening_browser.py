"""Work on a patch while it, another one, or another project is being opened: nothing is lost or lands elsewhere."""

from __future__ import annotations

from contextlib import contextmanager

import gradio as gr
import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.stages.annotate.masks import from_array
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.annotate import annotate
from alapp.ui.page import Page
from tests.ui.annotating import Held, Visitor, begin_stroke, brush, drag, kinds, message, pixels, stroke

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_nothing_is_drawn_while_a_patch_is_being_opened(world, visitor):
    store, _, (first, second), _ = world
    brush(visitor)
    held = Held(visitor.page, "load_patch")
    visitor.page.keyboard.press("n")
    held.wait_for(1)
    stroke(visitor, 10, 20, 40)
    message(visitor).get_by_text("The patch is being opened.").wait_for()
    visitor.page.keyboard.press("d")
    held.end()
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    sync_api.expect(message(visitor)).to_be_hidden()
    visitor.saved()
    assert (kinds(store, first), kinds(store, second)) == (["open"], ["open"])
    drag(visitor, (10, 20), (10, 40))
    assert pixels(store, second, 1) == {10: 21}


def test_a_patch_that_is_opened_anew_loses_no_stroke(world, visitor):
    store, _, (first, _), _ = world
    page = visitor.page
    brush(visitor)
    held = Held(page, "load_patch")
    begin_stroke(visitor, 10, 20, 40)
    page.evaluate(
        """() => {
            const menu = document.querySelector('[data-part=start]');
            menu.value = 'nothing';
            menu.dispatchEvent(new Event('change'));
        }"""
    )
    page.mouse.up()  # it ends, and is saved, before the patch is asked for
    held.wait_for(1)
    assert kinds(store, first) == ["open", "edit"]
    stroke(visitor, 30, 20, 40)
    message(visitor).get_by_text("The patch is being opened.").wait_for()
    held.end()
    visitor.revision(3)
    drag(visitor, (50, 20), (50, 40))
    assert kinds(store, first) == ["open", "edit", "open", "edit"]
    assert visitor.objects() == 2


def test_an_answer_after_another_patch_was_opened_closes_nothing(world, visitor):
    store, _, (first, second), _ = world
    visitor.press("d")
    message(visitor).get_by_text("Is it really empty?").wait_for()
    visitor.press("n")
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    visitor.page.get_by_role("button", name="Yes, it is empty").click()
    visitor.saved()
    assert (kinds(store, first), kinds(store, second)) == (["open"], ["open"])


@contextmanager
def app(chromium, store, project_id, buttons):
    """A visitor on a page with the Annotate tab, and `buttons`: what each sets, by its name: the `project` that is
    shown, or the patch to `open`. A change in the tab refreshes it, as in the whole app."""
    with gr.Blocks() as blocks:
        shown, changed, asked, owner = (gr.State(value) for value in (project_id, 0, None, None))
        with gr.Row():
            made = {name: gr.Button(name) for name in buttons}
        with gr.Tabs() as tabs, gr.Tab("Annotate", id="annotate"):
            tab = annotate.build(Page(store, shown, tabs, changed, asked, owner))
        for name, (what, value) in buttons.items():
            made[name].click(lambda value=value: value, None, shown if what == "project" else asked)
        gr.on([shown.change, changed.change, blocks.load], lambda it: tab.refresh(it)[0], shown, tab.outputs[0])
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    visitor = Visitor(chromium, url)
    try:
        yield visitor
    finally:
        visitor.context.close()
        blocks.close(verbose=False)
    assert not visitor.errors


def answered(name):
    return lambda response: "component_server" in response.url and f'"{name}"' in (response.request.post_data or "")


def test_a_patch_of_an_earlier_round_is_reopened_worked_on_and_opened_again(world, chromium):
    store, made, (first, second), _ = world
    square = np.zeros((96, 96), bool)
    square[5:10, 5:10] = True
    for patch in (first, second):
        annotation.accept(store, patch.id, "before", from_array(square))
        annotation.mark_done(store, patch.id, "before")
    third = next(item for item in catalogue.patches(store, made.id) if item.id not in (first.id, second.id))
    round_rows.add(store, made.id, "random", 1, 0, [(third.id, PatchRole.TRAIN, {})])
    with app(chromium, store, made.id, {"Open it": ("open", first.id)}) as visitor:
        page = visitor.page
        visitor.page.wait_for_selector(f'.ann[data-patch="{third.id}"]')
        page.get_by_role("button", name="Open it").click()
        page.wait_for_selector(f'.ann[data-patch="{first.id}"][data-status="done"]')
        visitor.saved()
        page.locator("[data-part=stage]").focus()
        with page.expect_response(answered("load_batch")):  # of the refresh, since something changed
            page.keyboard.press("r")
        visitor.saved()
        visitor.frame()
        assert page.get_attribute(".ann", "data-patch") == str(first.id)
        brush(visitor)
        drag(visitor, (50, 20), (50, 40))
        assert kinds(store, first) == ["accept", "done", "open", "reopen", "edit"]
        visitor.press("n")
        page.wait_for_selector(f'.ann[data-patch="{third.id}"]')
        page.get_by_role("button", name="Open it").click()
        page.wait_for_selector(f'.ann[data-patch="{first.id}"]')


def test_what_was_drawn_before_another_project_is_opened_is_saved(world, chromium):
    store, made, (first, _), _ = world
    other = catalogue.create_project(store, "other", patch_size=96)
    importing.add_array(store, other.id, "noise", np.random.default_rng(0).integers(0, 255, (96, 96, 1), np.uint8))
    there = catalogue.patches(store, other.id)[0]
    round_rows.add(store, other.id, "random", 1, 0, [(there.id, PatchRole.TRAIN, {})])
    with app(chromium, store, made.id, {"Other project": ("project", other.id)}) as visitor:
        brush(visitor)
        held = Held(visitor.page, "paint")
        for y in (10, 11, 12):
            stroke(visitor, y, 20, 40)
        held.wait_for(1)
        visitor.page.get_by_role("button", name="Other project").click()
        held.end()
        visitor.page.wait_for_selector(f'.ann[data-patch="{there.id}"]')
        visitor.saved()
    assert pixels(store, first, 1) == {10: 21, 11: 21, 12: 21}
