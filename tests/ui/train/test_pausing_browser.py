"""A training is paused, the page and the worker are started anew, and it goes on: Chromium, worker and nnU-Net."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.jobs import JobState
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import plan_in_use, training_cases
from alapp.storage import catalogue, models
from alapp.supervisor import worker_record

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
LONG = 60_000


@pytest.fixture
def project(store, project):
    """Ready for the pre-training, with short epochs, so that a pause does not wait for long; before the page opens."""
    pseudo.decide(store, project.id, "log_watershed")
    pseudo.run_all(store, project.id, silent)
    project = catalogue.project(store, project.id)
    plan = plan_in_use.ensure_plan(store, project, training_cases.pseudo_cases(store, project), silent)
    path = store.root / plan.workspace / "plan.json"
    content = json.loads(path.read_text())
    content["nnunet"]["configurations"][content["configuration"]]["batch_size"] = 2
    path.write_text(json.dumps({**content, "iterations_per_epoch": 4}))
    return project


@pytest.fixture
def address(project, url):
    return url


def epochs(store, project):
    return [row["epoch"] for run in models.training_runs(store, project.id).values() for row in run]


def until(condition, what, seconds=280):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"timed out: {what}"
        time.sleep(0.1)


def shot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_a_training_is_paused_and_goes_on(store, project, address, page):
    expect = sync_api.expect
    expect(page.locator("#header-next")).to_have_text("Pre-train on the pseudo-labels", timeout=LONG)
    page.click("#header-next")
    until(lambda: len(epochs(store, project)) >= 2, "two epochs")
    expect(page.locator("#job")).to_contain_text(re.compile("left"), timeout=LONG)
    shot(page, "running")
    page.click("#job-pause")
    expect(page.locator("#job")).to_contain_text("is paused", timeout=LONG)
    expect(page.locator("#job-pause")).to_be_hidden(timeout=LONG)
    expect(page.locator("#job-resume")).to_be_visible(timeout=LONG)
    expect(page.locator("#job-cancel")).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Resume the training")).to_be_enabled(timeout=LONG)
    expect(page.locator("#header-next")).to_have_text("Resume: pre-training on pseudo-labels", timeout=LONG)
    shot(page, "paused")
    (job,) = [job for job in jobs.history(store, project.id) if job.kind == "pretrain"]
    assert job.state is JobState.PAUSED
    before = epochs(store, project)
    until(lambda: worker_record(store.root) is None, "the worker to free its memory")

    # Not a reload: that breaks off a request of the page, which the page reports as an error.
    page = page.context.new_page()
    page.goto(address)
    expect(page.locator("#job")).to_contain_text("is paused", timeout=LONG)
    assert epochs(store, project) == before
    page.click("#job-resume")
    until(lambda: len(epochs(store, project)) > len(before), "one more epoch")
    assert epochs(store, project)[: len(before)] == before
    assert jobs.get(store, job.id).attempts == 1
    log = next((store.root / "projects").glob("*/nnunet/*/runs/*/training_log.txt")).read_text()
    assert f"goes on after epoch {before[-1]}" in log
    page.click("#job-cancel")
    expect(page.locator("#job-row")).to_be_hidden(timeout=LONG)
    assert catalogue.project(store, project.id)
    assert jobs.get(store, job.id).state is JobState.CANCELLED
