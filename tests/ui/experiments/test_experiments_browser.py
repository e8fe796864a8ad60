"""A tiny experiment on the page, in headless Chromium; the network is a stand-in, so its job runs in this process."""

from __future__ import annotations

import os
import time

import pytest

from alapp import jobs, running
from alapp.experiments import control
from alapp.storage import experiments
from alapp.storage.experiments import RunState
from alapp.ui.experiments import experiment_results
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = 40_000


@pytest.fixture
def url(store, fast):
    with pages.app(store) as address:
        yield address


def queued(store):
    end = time.monotonic() + LONG / 1000
    while not (found := jobs.active(store)):
        assert time.monotonic() < end, "no job was queued"
        time.sleep(0.1)
    return found[0]


def shot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_an_experiment_from_its_form_to_its_end(store, page):
    expect = sync_api.expect
    page.get_by_role("tab", name="Experiments").click()
    expect(page.locator("#experiment-ahead")).to_contain_text("runs on 6 images", timeout=LONG)
    page.fill("#experiment-name input, #experiment-name textarea", "tiny")
    page.fill("#experiment-frames input", "2")
    page.fill("#experiment-budgets input, #experiment-budgets textarea", "2, 4, 99")
    page.fill("#experiment-seeds input", "2")
    page.get_by_text("Training and time").click()
    page.fill("#experiment-iterations input", "2")
    page.get_by_label("Core-set", exact=True).uncheck()
    ahead = page.locator("#experiment-ahead")
    expect(ahead).to_contain_text("12 runs on 1 image", timeout=LONG)
    expect(ahead).to_contain_text("Left out: 99")
    shot(page, "form")

    page.click("#experiment-begin")
    status = page.locator("#experiment-status")
    expect(status).to_contain_text("0 of 12 runs are done", timeout=LONG)
    expect(page.locator("#experiment-pause")).to_be_visible(timeout=LONG)
    page.click("#experiment-pause")
    expect(status).to_contain_text("Paused", timeout=LONG)
    page.click("#experiment-resume")
    assert running.run_inline(store, queued(store)).result == {"done": 12, "failed": 0}
    expect(status).to_contain_text("12 of 12 runs are done", timeout=LONG)
    expect(page.locator("#experiment-pause")).to_be_hidden(timeout=LONG)
    expect(page.locator("#experiment-runs")).to_contain_text("pre-trained on pseudo-labels")
    expect(page.locator("#experiment-curve .js-plotly-plot")).to_contain_text("every patch labelled", timeout=LONG)
    expect(page.locator("#experiment-table")).to_contain_text("Automatic", timeout=LONG)
    expect(page.locator("#experiment-differences")).to_contain_text("against Random, 2 labelled patches", timeout=LONG)
    expect(page.locator("#experiment-fresh")).to_be_hidden()
    for what in ("csv", "json", "png"):
        page.click(f"#experiment-{what}")
        expect(page.locator("#experiment-file")).to_contain_text(f".{what}", timeout=LONG)
    shot(page, "done")
    page.emulate_media(color_scheme="dark")
    shot(page, "done_dark")

    pages.reload(page, "Start with a sample")
    page.get_by_role("tab", name="Experiments").click()
    expect(page.locator("#experiment-table")).to_contain_text("Automatic", timeout=LONG)
    cells = page.locator("#experiment-table [role=row]").last.get_by_role("gridcell")
    assert float(cells.nth(list(experiment_results.COLUMNS).index("Objects in them")).inner_text()) > 0

    made = experiments.by_name(store, "tiny")
    broken = experiments.runs(store, made.id)[-1]
    store.execute(
        "UPDATE experiment_run SET state = 'failed', error = 'The disk was full.', result = NULL WHERE id = ?",
        (broken.id,),
    )
    page.get_by_role("tab", name="Apply").click()
    page.get_by_role("tab", name="Experiments").click()
    expect(status).to_contain_text("1 failed", timeout=LONG)
    page.click("#experiment-retry")
    running.run_inline(store, queued(store))
    expect(status).to_contain_text("12 of 12 runs are done.", timeout=LONG)

    page.click("#experiment-delete")
    expect(page.locator("#experiment-asked")).to_contain_text("Delete 'tiny', its results and its models?")
    page.click("#experiment-sure")
    expect(status).to_contain_text("No experiment yet", timeout=LONG)
    page.click("#experiment-undo")
    expect(status).to_contain_text("12 of 12 runs are done.", timeout=LONG)
    assert {run.state for run in experiments.runs(store, experiments.by_name(store, "tiny").id)} == {RunState.DONE}
    assert control.removed(store) is None
