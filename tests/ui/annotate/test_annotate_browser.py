"""The Annotate page in headless Chromium: what the person does, and what is then in the database."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import gradio as gr
import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds.annotate import annotation
from alapp.storage import annotations, catalogue, labels
from alapp.ui.annotate import annotate, canvas
from alapp.ui.page import Page
from tests.ui.annotating import Visitor, centre, kinds, mask_of, opened, visiting, whole

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_from_the_click_to_the_label_map(world, visitor):
    store, _, (first, second), truth = world
    part, ids = whole(truth, first)
    colours = visitor.picture()
    visitor.click(*centre(part, ids[0]))
    assert kinds(store, first) == ["open", "click"]
    assert visitor.picture() != colours
    visitor.press("Enter")
    visitor.revision(3)
    target = part == ids[0]
    found = mask_of(store, first, 1)
    assert np.count_nonzero(found & target) / np.count_nonzero(found | target) > 0.8
    assert annotation.state(store, first.id).objects[1].source == "watershed"

    visitor.click(*centre(part, ids[1]))
    visitor.press("Space")
    visitor.revision(5)
    assert visitor.objects() == 2
    visitor.press("Control+z")
    visitor.revision(6)
    assert visitor.objects() == 1
    visitor.press("Control+Shift+Z")
    visitor.revision(7)
    assert kinds(store, first)[2:] == ["accept", "click", "accept", "undo", "redo"]

    visitor.page.reload()
    visitor.ready()
    assert visitor.objects() == 2
    visitor.press("Control+z")
    visitor.revision(8)
    assert visitor.objects() == 1
    visitor.press("Control+Shift+Z")
    visitor.revision(9)

    visitor.press("d")
    visitor.page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    stored = labels.latest_of_patch(store, first.id, LabelKind.HUMAN)
    assert stored.n_objects == 2
    assert annotation.patch_states(store, [first.id])[first.id] == annotation.DONE
    assert "1 of 2 finished" in visitor.page.inner_text(".ann-strip")


def test_points_are_exact_at_any_zoom_size_and_pixel_ratio(world, chromium, server):
    store, _, (first, _), _ = world
    visitor = Visitor(chromium, server, device_scale_factor=2)
    page = visitor.page

    def point(y, x):
        visitor.click(y, x)
        sent = annotations.events(store, first.id)[-1].payload["positive"]
        visitor.press("Escape")
        assert sent == [[y, x]]

    point(0, 0)
    point(95, 95)
    page.mouse.move(*visitor.where(40, 50))
    for _ in range(8):
        page.mouse.wheel(0, -240)
    page.wait_for_function("document.querySelector('.ann').viewTransform().scale > 15")
    point(40, 50)
    point(41, 51)
    page.set_viewport_size({"width": 1440, "height": 700})
    page.wait_for_timeout(200)
    point(41, 50)
    x, y = visitor.where(40, 50)
    page.mouse.move(x, y)
    page.mouse.down(button="middle")
    page.mouse.move(x + 31, y + 17, steps=3)
    page.mouse.up(button="middle")
    point(40, 50)
    page.keyboard.press("f")
    point(94, 1)
    visitor.close()


def test_an_unfinished_object_and_its_points_survive_a_reload(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.click(y, min(95, x + 14), button="right")
    visitor.page.reload()
    visitor.ready()
    assert kinds(store, first) == ["open", "click", "click"]
    visitor.press("Enter")
    visitor.revision(4)
    assert annotations.events(store, first.id)[2].payload["negative"] == [[y, min(95, x + 14)]]
    assert visitor.objects() == 1


def test_undo_takes_points_back_before_objects(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter")
    visitor.click(*centre(part, ids[1]))
    visitor.press("Control+z")
    assert annotations.events(store, first.id)[-1].payload["positive"] == []
    assert visitor.objects() == 1
    visitor.press("Control+z")
    visitor.revision(6)
    assert visitor.objects() == 0


def test_select_correct_and_delete(world, visitor):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    visitor.click(y, x)
    visitor.press("Enter")
    visitor.click(y, x)
    assert kinds(store, first) == ["open", "click", "accept"]
    assert visitor.page.locator(".ann-selected").count() == 1
    visitor.press("e")
    visitor.click(y, x - 8, button="right")
    visitor.press("Enter")
    visitor.revision(5)
    assert visitor.objects() == 1
    assert not mask_of(store, first, 1)[y, x - 8]
    assert annotation.state(store, first.id).objects[1].corrected
    visitor.page.mouse.move(*visitor.where(y, x))
    visitor.press("Delete")
    visitor.revision(6)
    assert visitor.objects() == 0


def test_suggestions_are_accepted_at_once_or_asked_about(world, chromium):
    store, made, (first, second), truth = world
    image = catalogue.image(store, first.image_id)
    labels.add(store, LabelKind.PSEUDO, truth, project_id=made.id, image_id=image.id, backend="x", input_hash="x")
    with opened(chromium, store, made.id) as visitor:
        page = visitor.page
        count = page.locator("[data-part=suggestions] [data-object]").count()
        assert count == np.count_nonzero(np.unique(catalogue.crop(truth, first)))
        visitor.press("d")
        page.get_by_text("would not become labels").wait_for()
        page.get_by_role("button", name="Cancel").click()
        visitor.press("a")
        visitor.revision(2)
        assert visitor.objects() == count
        visitor.press("d")
        page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
        stored = labels.read(store, labels.latest_of_patch(store, first.id, LabelKind.HUMAN))
        assert np.array_equal(stored > 0, catalogue.crop(truth, first) > 0)
        visitor.press("d")
        page.get_by_role("button", name="Leave out, done").click()
        page.get_by_text("Every patch of this batch is finished").wait_for()
        assert labels.latest_of_patch(store, second.id, LabelKind.HUMAN).n_objects == 0
        visitor.press("r")
        page.wait_for_selector('.ann[data-status="started"]')


UNINFORMED = """
    const { setTimeout } = window;
    window.setTimeout = (act, ms, ...rest) => setTimeout(act, ms === 5000 ? 3600000 : ms, ...rest);
"""
"""The page does not ask every five seconds whether another one works on its patch."""


def test_two_tabs_cannot_overwrite_each_other(world, chromium, server):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    one, two = Visitor(chromium, server, UNINFORMED), Visitor(chromium, server)
    one.click(*centre(part, ids[0]))
    one.press("Enter")
    one.revision(3)
    two.page.get_by_text("is open in another tab or by another person").wait_for()
    two.click(*centre(part, ids[1]))
    two.press("Control+z", "Delete", "a", "d")
    assert kinds(store, first) == ["open", "click", "accept"]
    two.page.get_by_role("button", name="Take over").click()
    two.revision(4)
    two.saved()
    assert two.objects() == 1
    # The first one does not know it yet: its stale act is refused.
    one.click(*centre(part, ids[1]))
    one.page.get_by_text("Your last change is not saved").wait_for()
    assert kinds(store, first) == ["open", "click", "accept", "claim"]
    two.click(*centre(part, ids[1]))
    two.press("Enter")
    two.revision(6)
    assert two.objects() == 2
    one.close()
    two.close()


def test_who_only_looks_leaves_an_unfinished_object_alone(world, chromium, server):
    store, _, (first, _), truth = world
    part, ids = whole(truth, first)
    y, x = centre(part, ids[0])
    with visiting(chromium, server) as one, visiting(chromium, server) as two:
        one.click(y, x)
        one.press("Enter")
        one.page.mouse.move(*one.where(y + 1, x))
        one.press("e")
        one.click(y + 1, x)
        two.page.reload()
        two.ready()
        assert two.page.locator("[data-part=presence]").is_visible()
        two.page.mouse.move(*two.where(y, x))
        shown, written = two.picture(), kinds(store, first)
        two.press("Control+z", "Control+Shift+z", "Delete", "e", "m", "+", "Enter")
        two.page.locator("[data-part=looseness]").fill("80")
        two.page.select_option("[data-part=overlap]", "replace")
        two.saved()
        assert two.picture() == shown
        assert kinds(store, first) == written
        one.press("Enter")
        one.revision(5)


def test_another_tab_opens_a_patch_here(world, chromium):
    store, made, (_, second), _ = world
    with gr.Blocks() as blocks:
        project_id, changed, open_patch, visitor_id = (gr.State(value) for value in (made.id, 0, None, None))
        with gr.Tabs(selected="rounds") as tabs:
            with gr.Tab("Rounds", id="rounds"):
                button, count = gr.Button("Open it"), gr.Number(label="Changes")
            with gr.Tab("Annotate", id="annotate"):
                annotate.build(Page(store, project_id, tabs, changed, open_patch, visitor_id))
        button.click(lambda: (gr.Tabs(selected="annotate"), second.id), None, [tabs, open_patch])
        changed.change(lambda number: number, changed, count)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.goto(url)
    page.get_by_role("button", name="Open it").click()
    page.wait_for_selector(f'.ann[data-patch="{second.id}"][data-slice]')
    shown = page.evaluate("document.querySelector('.ann').viewTransform()")
    assert shown["scale"] > 3
    assert shown["left"] > 0
    page.keyboard.press("s")
    page.get_by_text("is skipped").wait_for()
    page.get_by_role("tab", name="Rounds").click()
    page.wait_for_function("document.querySelector('input[type=number]').value === '1'")
    page.close()
    blocks.close(verbose=False)


def test_user_text_stays_text_and_nothing_is_cut_at_1280(visitor):
    page = visitor.page
    assert "<b>cells</b> ${1+1} {{value}} y0 x0" in page.inner_text("[data-part=patch-name]")
    wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    tools = page.evaluate(
        """() => [...document.querySelectorAll('.ann-tools button')].filter((b) => b.offsetParent).map((b) => {
            const [me, box] = [b.getBoundingClientRect(), b.closest('.ann-tools').getBoundingClientRect()];
            const inside = me.left >= box.left && me.right <= box.right && me.bottom <= box.bottom;
            return inside && b.scrollWidth <= b.clientWidth;
        })"""
    )
    assert tools
    assert all(tools)
    page.keyboard.press("?")
    assert page.get_by_text("Undo", exact=True).is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_text("Undo", exact=True).is_visible()


class TestServer:
    """The functions that the browser may call, called with what a browser should not send."""

    @pytest.fixture
    def call(self, world):
        functions = {function.__name__: function for function in annotate.server_functions(world[0])}
        return lambda name, message: functions[name](message)

    def test_every_call_of_the_script_has_its_function(self, call, world):
        functions = {function.__name__ for function in annotate.server_functions(world[0])}
        source = canvas.script()
        called = set(re.findall(r'\.(?:act|ask|askUntilAnswered|send)\("(\w+)"', source))
        assert called == functions

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            {},
            {"patch": "1"},
            {"patch": -1},
            {"patch": True},
            {"patch": 1, "session": "", "revision": 0, "token": "t"},
            {"patch": 1, "session": "s" * 65, "revision": 0, "token": "t"},
        ],
    )
    def test_nonsense_is_a_sentence(self, call, world, message):
        looks, acts = (
            ("load_batch", "load_patch", "look_ahead", "load_cuts", "head", "claim", "save_note"),
            ("click", "accept", "take", "remove", "undo", "propagate", "finish"),
        )
        for name in (*looks, *acts, "paint", "merge", "split", "reshape", "mark_region"):
            assert call(name, message)["error"].endswith("Reload it.")
        assert kinds(world[0], world[2][0]) == []

    @pytest.mark.parametrize(
        "mask",
        [
            {"box": [0, 0, 0, 1, 2, 2], "runs": [0, 5]},
            {"box": [0, 0, 0, 1, 2, 2], "runs": [4]},
            {"box": [0, 0, 0, 1, 2, 2], "runs": [0, -4, 8]},
            {"box": [0, 0, 0, 1, 200, 2], "runs": [0, 400]},
            {"box": [0, 2, 2, 1, 2, 2], "runs": []},
            {"box": [0, 0, 0, 1, 2], "runs": [0, 2]},
            {"box": [0, 0, 0, 1, 2, 2.5], "runs": [0, 4]},
            {"box": None, "runs": None},
        ],
    )
    def test_a_mask_that_is_none(self, call, world, mask):
        store, _, (first, _), _ = world
        answer = call(
            "accept",
            {"project": first.project_id, "patch": first.id, "session": "s", "revision": 0, "token": "t", **mask},
        )
        assert "error" in answer
        assert not annotation.state(store, first.id).objects

    @pytest.mark.parametrize(
        "points", [[[1]], [[1, "2"]], [[1, float("nan")]], [[1, 500]], [[-3, 1]], "x", [[1, 1]] * 501]
    )
    def test_points_that_are_none(self, call, world, points):
        first = world[2][0]
        message = {
            "project": first.project_id,
            "patch": first.id,
            "session": "s",
            "revision": 0,
            "token": "t",
            "z": 0,
            "negative": [],
        }
        assert "error" in call("click", {**message, "positive": points})

    @pytest.mark.parametrize(
        ("name", "wrong"),
        [
            ("paint", {"tool": "spray"}),
            ("paint", {"runs": [0, 7]}),
            ("paint", {"object": -1}),
            ("merge", {"objects": []}),
            ("merge", {"objects": ["1", "2"]}),
            ("split", {"line": [[1, 1]]}),
            ("split", {"line": [[1, 1], [1e9, 1]]}),
            ("reshape", {"how": "melt"}),
            ("click", {"box": [1, 2, 3]}),
            ("click", {"box": [10, 10, 10, 20]}),
            ("click", {"box": [0, 0, 20, 999]}),
        ],
    )
    def test_edits_that_are_none(self, call, world, name, wrong):
        first = world[2][0]
        message = {"project": first.project_id, "patch": first.id, "session": "s", "revision": 0, "token": "t", "z": 0}
        message |= {"positive": [], "negative": [], "box": [0, 0, 0, 1, 2, 3], "runs": [1, 5], "tool": "brush"}
        message |= {"object": None} if name == "paint" else {"object": 1}
        assert "error" in call(name, {**message, "objects": [1, 2], "line": [[0, 0], [9, 9]], "how": "fill", **wrong})
        assert kinds(world[0], first) == []

    def test_an_accepted_mask_comes_back_and_a_repeated_request_is_one_object(self, call, world):
        store, _, (first, _), _ = world
        message = {"project": first.project_id, "patch": first.id, "session": "s", "revision": 0, "token": "t"}
        message |= {"box": [0, 0, 0, 1, 2, 3], "runs": [1, 5]}
        once, twice = call("accept", message), call("accept", message)
        assert once == twice
        assert once["items"][0]["runs"] == [1, 5]
        assert kinds(store, first) == ["accept"]
        json.dumps(once)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_script_parses(tmp_path):
    path = tmp_path / "annotator.js"
    path.write_text(
        f"function load(element, trigger, props, server, watch) {{\n{canvas.script()}\n}}", encoding="utf-8"
    )
    subprocess.run(["node", "--check", str(path)], check=True)
