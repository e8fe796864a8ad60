"""The map of patches in Chromium: hovering, colours, clicks and keys."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from alapp.domain import silent
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import mapping, selection
from alapp.ui.rounds import patch_map
from tests.conftest import PATIENCE
from tests.rounds.conftest import discs_project
from tests.rounds.test_loop import run_round
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

MARGIN = 26  # as in points.js


@pytest.fixture
def project(store):
    return discs_project(store)


@pytest.fixture
def begun(store, project, fast):
    """A trained round, its map, and a second batch."""
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 5)
    selection.run_select(store, project.id, silent, budget=3)
    mapping.run_map(store, project.id, silent)
    return project


@pytest.fixture
def page(chromium, store, begun):
    with pages.app(store) as url, pages.tab(chromium, url, height=1000) as tab:
        tab.get_by_role("tab", name="Rounds").click()
        yield tab


def apart(points, status):
    """The patch of this status whose point is farthest from all others, so that the pointer meets no other one."""
    where = np.column_stack([points["x"], points["y"]])
    between = np.linalg.norm(where[:, None] - where[None], axis=2)
    np.fill_diagonal(between, np.inf)
    alone = [near if one == status else -1.0 for near, one in zip(between.min(axis=1), points["status"], strict=True)]
    return points["id"][int(np.argmax(alone))]


def place(points, patch_id, box):
    """Where a patch is drawn on the page: the rule of `fitted` in points.js."""
    at = points["id"].index(patch_id)
    spans = [max(points[axis]) - min(points[axis]) for axis in "xy"]
    scale = min((box["width"] - 2 * MARGIN) / spans[0], (box["height"] - 2 * MARGIN) / spans[1])
    x = box["x"] + box["width"] / 2 + scale * (points["x"][at] - (max(points["x"]) + min(points["x"])) / 2)
    y = box["y"] + box["height"] / 2 - scale * (points["y"][at] - (max(points["y"]) + min(points["y"])) / 2)
    return x, y


def test_hover_colours_click_and_keys(store, begun, page):
    expect = sync_api.expect
    points = patch_map.points(store, {"project": begun.id})
    free, waiting = (apart(points, status) for status in ("unlabelled", "selected"))
    legend, card = page.locator(".map-legend"), page.locator(".map-card")
    expect(legend).to_contain_text("selected now")
    expect(legend).to_contain_text("validation")
    canvas = page.locator(".map-stage canvas")

    def rest_on(patch_id, words):
        """Rest the pointer on a patch until its card says `words`: what loads meanwhile may move the map."""
        expect(canvas).to_be_visible()
        for _ in range(20):
            page.mouse.move(*place(points, patch_id, canvas.bounding_box()))
            with contextlib.suppress(AssertionError):
                return expect(card).to_contain_text(words, timeout=PATIENCE / 20)
        return expect(card).to_contain_text(words)

    rest_on(waiting, "Round 2, ")
    expect(card).to_contain_text("Why: ")
    expect(card.locator("img")).to_have_js_property("naturalWidth", 160)
    rest_on(free, "Not selected in any round")

    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    page.wait_for_timeout(200)  # the card is hidden while the map zooms; the pointer still rests on the patch
    expect(card).to_be_visible()
    expect(card).to_contain_text("Not selected in any round")
    page.get_by_role("button", name="Fit").click()

    page.get_by_role("radio", name="round", exact=True).click()
    expect(legend).to_contain_text("round 1")
    expect(legend).to_contain_text("never picked")
    page.get_by_role("radio", name="doubt", exact=True).click()
    expect(legend).to_contain_text("mean doubt")
    expect(legend).to_contain_text("0.00")
    expect(page.get_by_role("radio", name="doubt", exact=True)).to_have_attribute("aria-checked", "true")

    page.mouse.click(*place(points, free, canvas.bounding_box()))
    expect(page.locator("#rounds-panel")).to_contain_text("Not selected in any round")

    page.locator(".map-stage").focus()
    for key in ("Home", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator(".map-spoken")).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()

    page.mouse.click(*place(points, waiting, canvas.bounding_box()))
    expect(page.get_by_role("tab", name="Annotate")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".ann[data-patch]")).to_have_attribute("data-patch", str(waiting), timeout=60_000)
