"""The first half hour of a new user, in headless Chromium with a real worker process."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import LabelKind
from alapp.storage import catalogue, labels
from alapp.supervisor import Supervisor
from alapp.ui import shell
from alapp.ui.security import launch_options
from alapp.ui.theme import CSS, THEME

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def url(store):
    supervisor = Supervisor(store).start()
    demo = shell.build(store)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS, **launch_options())
    yield address
    demo.close(verbose=False)
    for job in jobs.active(store):
        jobs.cancel(store, job.id)
    supervisor.stop()
    end_worker(store)


def end_worker(store):
    import psutil

    from alapp.supervisor import worker_record

    record = worker_record(store.root)
    if record and record.alive:
        process = psutil.Process(record.pid)
        process.terminate()
        process.wait(20)


@pytest.fixture
def page(chromium, url):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.set_default_timeout(40_000)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    tab.goto(url)
    tab.errors = errors
    yield tab
    context.close()
    assert not errors


def reload(tab, ready="Images"):
    """Load the page anew, until its header says `ready`. The browser tells of each request that this cuts off as an
    error, which it is not."""
    before = len(tab.errors)
    tab.reload()
    sync_api.expect(tab.locator("#header-rail")).to_contain_text(ready)
    cut = ("signal is aborted", "Connection errored out")
    tab.errors[before:] = [text for text in tab.errors[before:] if not any(words in text for words in cut)]


def test_from_the_first_visit_to_accepted_pseudo_labels(store, page):
    expect = sync_api.expect
    expect(page.locator("#header-rail")).to_contain_text("Start with a sample")
    page.click("#sample-hela")
    rows = page.locator("#images-table tbody tr")
    expect(rows).to_have_count(8, timeout=120_000)
    expect(page.locator("#header-rail .done")).to_contain_text("Images")
    expect(page.locator("#header-next")).to_have_text("Choose the pseudo-labels")
    expect(page.locator("#job-row")).to_be_hidden()

    reload(page)
    expect(rows).to_have_count(8)
    (project,) = catalogue.projects(store)
    expect(page.locator("#header-project input")).to_have_value(project.name)

    page.click("#header-next")
    page.click("#preview")
    pictures = page.locator("#gallery img")
    expect(pictures).to_have_count(10, timeout=120_000)
    (preview,) = [job for job in jobs.history(store, project.id) if job.kind == "preview"]
    assert len(preview.result["label_maps"]) == 10

    page.click("#accept")
    expect(page.locator("#header-next")).to_have_text("Pre-train on the pseudo-labels", timeout=120_000)
    expect(page.locator("#job-row")).to_be_hidden()
    assert len(labels.latest_by_image(store, project.id, LabelKind.PSEUDO)) == 8
    assert catalogue.project(store, project.id).pseudo_method == "auto"
