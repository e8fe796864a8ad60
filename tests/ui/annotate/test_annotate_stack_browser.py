"""Stacks on the Annotate page in headless Chromium: propagation, views from the side, slices fetched ahead."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds.annotate import annotation, clicks
from alapp.stages.annotate.masks import from_array
from alapp.storage import labels
from tests.ui.annotate.conftest import ball
from tests.ui.annotating import Held, kinds, opened, to_slice

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def visitor(chromium, stack):
    store, made, _ = stack
    with opened(chromium, store, made.id) as found:
        yield found


def whole(store, patch, identity=1):
    found = np.zeros((10, 64, 64), bool)
    annotation.state(store, patch.id).objects[identity].mask.paint(found, True)
    return found


def calls(visitor):
    """Names of the server functions that are called from now on, with what they got."""
    seen = []

    def note(request):
        if request.url.endswith("component_server/"):
            body = json.loads(request.post_data)
            seen.append((body["fn_name"], body["data"]))

    visitor.page.on("request", note)
    return seen


def test_propagate_correct_and_propagate_again(stack, visitor):
    store, _, (first, second) = stack
    page = visitor.page
    visitor.click(30, 24)
    visitor.press("Enter", "g")
    page.get_by_text("now spans slices 3 to 9").wait_for()
    carried = whole(store, first)
    truth = ball(30, 24)
    assert np.count_nonzero(carried & truth) / np.count_nonzero(carried | truth) > 0.85
    assert "z 3–9" in page.inner_text("[data-part=objects]")
    assert page.locator(".ann-zbar .ann-anchor").count() == 1
    assert page.locator(".ann-zbar .ann-carried").count() == 6

    # Slice 8 is corrected by hand: its left half goes.
    to_slice(visitor, "PageUp", "PageUp", z=7)
    visitor.press("x", "]", "]", "]", "]", "]", "]")
    page.mouse.move(*visitor.where(18, 17))
    page.mouse.down()
    page.mouse.move(*visitor.where(42, 17), steps=6)
    page.mouse.up()
    visitor.saved()
    corrected = whole(store, first)
    assert not corrected[7, 18:42, 17].any()
    assert page.locator(".ann-zbar .ann-anchor").count() == 2
    visitor.press("g")
    visitor.revision(6)
    again = whole(store, first)
    # What the person drew stays, what is between is the mean of both, what is beyond follows the correction.
    assert np.array_equal(again[[5, 7]], corrected[[5, 7]])
    assert np.array_equal(again[:5], corrected[:5])
    assert np.count_nonzero(again[6]) < 0.95 * np.count_nonzero(corrected[6])
    assert annotation.state(store, first.id).objects[1].propagated[:3] == (2, 3, 4)
    visitor.press("Control+z")
    visitor.revision(7)
    assert np.array_equal(whole(store, first), corrected)
    visitor.press("Control+Shift+Z")
    visitor.revision(8)
    assert np.array_equal(whole(store, first), again)
    assert kinds(store, first) == ["open", "click", "accept", "accept", "edit", "accept", "undo", "redo"]
    to_slice(visitor, "Home", z=2)
    to_slice(visitor, "End", z=annotation.state(store, first.id).objects[1].mask.box[3] - 1)
    visitor.press("d")
    page.wait_for_selector(f'.ann[data-patch="{second.id}"]')
    stored = labels.read(store, labels.latest_of_patch(store, first.id, LabelKind.HUMAN))
    assert np.array_equal(stored == 1, again)


def test_one_direction_by_its_key(stack, visitor):
    store, _, (first, _) = stack
    visitor.click(30, 24)
    visitor.press("Enter", "Shift+>")
    visitor.page.get_by_text("now spans slices 6 to 9").wait_for()
    visitor.press("Shift+<")
    visitor.page.get_by_text("now spans slices 3 to 9").wait_for()
    assert annotation.state(store, first.id).objects[1].propagated == (2, 3, 4, 6, 7, 8)


def test_a_suggestion_shows_its_middle_slice(stack, chromium):
    store, made, (first, _) = stack
    truth = np.zeros((10, 64, 128), np.int32)
    truth[1:4, 10:20, 10:20] = 1
    labels.add(store, LabelKind.PSEUDO, truth, project_id=made.id, image_id=first.image_id, backend="x", input_hash="x")
    with opened(chromium, store, made.id) as visitor:
        assert "z 2–4" in visitor.page.inner_text("[data-part=suggestions]")
        visitor.page.click("[data-part=suggestions] [data-object]")
        visitor.page.wait_for_selector('.ann[data-slice$="/2"]')
        assert visitor.page.locator(".ann-zbar .ann-carried").count() == 3


def colours(visitor, part):
    """How many pixels of a panel are not gray."""
    return visitor.page.evaluate(
        """(part) => {
            const canvas = document.querySelector(`[data-part=${part}]`);
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let found = 0;
            for (let i = 0; i < data.length; i += 4) {
                const rgb = data.slice(i, i + 3);
                found += Math.max(...rgb) - Math.min(...rgb) > 40;
            }
            return found;
        }""",
        part,
    )


def test_views_from_the_side_show_the_objects_and_lead_to_a_slice(stack, visitor):
    store, _, (first, _) = stack
    page = visitor.page
    seen = calls(visitor)
    visitor.press("y")
    page.wait_for_function("document.querySelector('[data-part=xz]').width > 300")
    page.wait_for_timeout(400)
    bare = {part: colours(visitor, part) for part in ("xz", "yz")}
    visitor.click(30, 24)
    visitor.press("Enter", "g")
    page.get_by_text("now spans slices 3 to 9").wait_for()
    visitor.until(lambda: all(colours(visitor, part) > bare[part] + 500 for part in bare))
    places = [data for name, data in seen if name == "load_cuts"]
    assert [(each["y"], each["x"]) for each in places][-1] == (30, 24)

    # A slice is three pixels thick, and x is where it is in the image above.
    def press(part, z, place):
        spot = page.evaluate(
            """([part, z, place]) => {
                const rect = document.querySelector(`[data-part=${part}]`).getBoundingClientRect();
                const { scale, left, top } = document.querySelector('.ann').viewTransform();
                const [length, step] = [part === 'xz' ? rect.height : rect.width, 3 * scale];
                const shown = Number(document.querySelector('.ann').dataset.slice.split('/')[1]);
                const all = 10 * step;
                const start = all <= length ? (length - all) / 2
                    : Math.min(0, Math.max(length - all, length / 2 - (shown + 0.5) * step));
                const deep = start + (z + 0.5) * step;
                return part === 'xz' ? [rect.left + left + (place + 0.5) * scale, rect.top + deep]
                    : [rect.left + deep, rect.top + top + (place + 0.5) * scale];
            }""",
            [part, z, place],
        )
        page.mouse.click(*spot)
        page.wait_for_selector(f'.ann[data-slice$="/{z}"]')

    def asked():
        return [(data["y"], data["x"]) for name, data in seen if name == "load_cuts"][-1]

    press("xz", 4, 50)
    visitor.until(lambda: asked() == (30, 50))
    press("yz", 6, 12)
    visitor.until(lambda: asked() == (12, 50))
    before = kinds(store, first)
    visitor.press("y")
    assert not page.locator("[data-part=xz]").is_visible()
    assert kinds(store, first) == before


def test_neighbouring_slices_and_the_next_patch_are_there_before_they_are_asked_for(stack, visitor):
    store, _, (first, second) = stack
    page = visitor.page
    seen = calls(visitor)
    page.wait_for_timeout(200)
    page.wait_for_function("performance.now() > 3000")
    page.wait_for_timeout(2500)
    asked = [(data["patch"], data["z"]) for name, data in seen if name == "load_slice"]
    assert set(asked) <= {(first.id, z) for z in (3, 4, 6, 7)} | {(second.id, 5)}
    # Nothing that was looked at ahead is in the journal.
    assert kinds(store, second) == []
    seen.clear()
    painted = page.evaluate(
        """() => new Promise((resolve) => {
            const ann = document.querySelector('.ann');
            const key = new KeyboardEvent('keydown', { key: '.', bubbles: true });
            ann.querySelector('[data-part=stage]').dispatchEvent(key);
            resolve(ann.dataset.slice);
        })"""
    )
    # It was painted before the key event was over.
    assert painted == f"{first.id}/6"
    visitor.page.evaluate(
        "document.querySelector('.ann').addEventListener('ann-opened', (e) => { window.openedIn = e.detail.ms; })"
    )
    visitor.press("n")
    page.wait_for_selector(f'.ann[data-slice="{second.id}/5"]')
    page.wait_for_function("window.openedIn > 0")
    assert [data for name, data in seen if name == "load_slice" and data["patch"] == second.id and data["z"] == 5] == []
    assert kinds(store, second) == ["open"]


def placed(store, patch, *boxes):
    """Objects that fill 12 x 12 pixels at (y, x) on slices z0 to z1, one for each (z0, z1, y, x)."""
    annotation.begin(store, patch.id, "before", "nothing")
    for z0, z1, y, x in boxes:
        pixels = np.zeros((10, 64, 64), bool)
        pixels[z0:z1, y : y + 12, x : x + 12] = True
        annotation.accept(store, patch.id, "before", from_array(pixels))


def test_keys_are_about_what_lies_under_a_pointer_that_rests(stack, chromium):
    store, made, (first, second) = stack
    placed(store, first, (4, 6, 30, 30), (6, 8, 30, 30), (4, 8, 2, 2))
    placed(store, second, (4, 8, 2, 2))

    def left(patch=first):
        return list(annotation.state(store, patch.id).objects)

    with opened(chromium, store, made.id) as visitor:
        page = visitor.page
        page.wait_for_selector('.ann[data-slice$="/5"]')
        visitor.click(8, 8)  # the third one is selected
        page.mouse.move(*visitor.where(36, 36))
        to_slice(visitor, ".", z=6)
        visitor.press("m")
        assert left() == [1, 3]
        visitor.press("Control+z", "Escape")
        to_slice(visitor, ",", z=5)
        visitor.press("e")
        page.get_by_text("Correcting object 1").wait_for()
        visitor.press("Escape", "Escape")
        to_slice(visitor, ".", z=6)
        visitor.press("Delete")
        assert left() == [1, 3]
        visitor.press("Control+z")
        visitor.press("Delete")  # it lies there again since the answer is here
        assert left() == [1, 3]
        page.mouse.move(*visitor.where(8, 8))
        visitor.press("z", "z", "z", "Delete")  # the place is somewhere else now
        assert left() == [1, 3]
        visitor.press("f", "n")
        page.wait_for_selector(f'.ann[data-slice="{second.id}/5"]')
        visitor.press("Delete")
        assert (left(), left(second)) == ([1, 3], [])


def test_the_wheel_with_alt_moves_through_the_stack(stack, visitor):
    page = visitor.page
    scale = page.evaluate("document.querySelector('.ann').viewTransform().scale")
    page.mouse.move(*visitor.where(30, 30))
    page.keyboard.down("Alt")
    page.mouse.wheel(0, 120)
    page.wait_for_selector('.ann[data-slice$="/6"]')
    page.mouse.wheel(0, -120)
    page.wait_for_selector('.ann[data-slice$="/5"]')
    page.keyboard.up("Alt")
    assert page.evaluate("document.querySelector('.ann').viewTransform().scale") == scale


def test_while_an_object_is_carried_the_page_says_so(stack, visitor, monkeypatch):
    going_on = threading.Event()
    carry = clicks.propagate

    def slowly(*arguments):
        assert going_on.wait(30)
        return carry(*arguments)

    monkeypatch.setattr(clicks, "propagate", slowly)
    visitor.click(30, 24)
    visitor.press("Enter")
    visitor.page.keyboard.press("g")
    visitor.page.get_by_text("Carrying object 1 through the stack…").wait_for()
    going_on.set()
    visitor.page.get_by_text("now spans slices 3 to 9").wait_for()
    visitor.page.wait_for_selector("[data-part=working]", state="hidden")


def test_carrying_can_be_stopped(stack, visitor, monkeypatch):
    going_on = threading.Event()
    carry = clicks.propagate

    def slowly(*arguments):
        assert going_on.wait(30)
        return carry(*arguments)

    monkeypatch.setattr(clicks, "propagate", slowly)
    visitor.click(30, 24)
    visitor.press("Enter")
    visitor.page.keyboard.press("g")
    with visitor.page.expect_response(
        lambda response: "component_server" in response.url and '"stopped":true' in response.text()
    ):
        visitor.page.get_by_role("button", name="Stop", exact=True).click()
    going_on.set()
    visitor.page.get_by_text("You stopped it: the object is as it was before.").wait_for()
    visitor.page.wait_for_selector("[data-part=working]", state="hidden")


def test_carrying_that_waits_for_its_turn_is_taken_back(stack, visitor):
    store, _, (first, _) = stack
    page = visitor.page
    held = Held(page, "accept")
    visitor.click(30, 24)
    for key in ("Enter", "g"):
        page.keyboard.press(key)
    held.wait_for(1)
    page.get_by_text("Carrying object 1 through the stack…").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("You stopped it: the object is as it was before.").wait_for()
    page.wait_for_selector("[data-part=working]", state="hidden")
    held.end()
    visitor.saved()
    assert kinds(store, first) == ["open", "click", "accept"]


def test_a_stop_that_comes_before_the_server_begins_is_asked_again(stack, visitor, monkeypatch):
    store, _, (first, _) = stack
    page = visitor.page
    going_on = threading.Event()
    carry = clicks.propagate

    def slowly(*arguments):
        assert going_on.wait(30)
        return carry(*arguments)

    monkeypatch.setattr(clicks, "propagate", slowly)
    visitor.click(30, 24)
    visitor.press("Enter")
    held = Held(page, "propagate")
    page.keyboard.press("g")
    held.wait_for(1)
    with page.expect_response(is_stop('"stopped":false')):
        page.get_by_role("button", name="Stop", exact=True).click()
    with page.expect_response(is_stop('"stopped":true')):
        held.end()
    going_on.set()
    page.get_by_text("You stopped it: the object is as it was before.").wait_for()
    assert kinds(store, first) == ["open", "click", "accept"]


def is_stop(answer):
    return lambda response: "component_server" in response.url and answer in response.text()
