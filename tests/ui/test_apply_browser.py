"""Applying the model in headless Chromium, with a real worker process and a real small network."""

from __future__ import annotations

import pytest
import tifffile

from alapp import jobs
from alapp.supervisor import Supervisor
from alapp.ui import shell
from alapp.ui.security import launch_options
from alapp.ui.theme import CSS, THEME
from tests.rounds.conftest import discs
from tests.rounds.trained import trained_project
from tests.ui.test_journey_browser import end_worker, page  # noqa: F401  (fixture)

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def url(store):
    trained_project(store, iterations=10)
    supervisor = Supervisor(store).start()
    demo = shell.build(store)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, theme=THEME, css=CSS, **launch_options())
    yield address
    demo.close(verbose=False)
    for job in jobs.active(store):
        jobs.cancel(store, job.id)
    supervisor.stop()
    end_worker(store)


def test_a_folder_and_then_dropped_images(store, page, tmp_path):  # noqa: F811
    expect = sync_api.expect
    folder = tmp_path / "new images"
    folder.mkdir()
    for seed in (60, 61):
        tifffile.imwrite(folder / f"cells_{seed}.tif", discs(seed)[0][..., 0])
    (folder / "broken.tif").write_bytes(b"not an image at all")

    page.get_by_role("tab", name="Apply").click()
    results = page.locator("#apply-results")
    page.fill("#apply-path textarea, #apply-path input", str(folder))
    page.click("#apply-start")
    expect(results.locator("tr")).to_have_count(3, timeout=200_000)
    expect(results).to_contain_text("cells_60.tif")
    expect(results).to_contain_text("broken.tif: broken.tif cannot be read")
    expect(page.locator("#apply-status")).to_contain_text("Found the objects in 2 images")

    page.fill("#apply-path textarea, #apply-path input", str(tmp_path / "nowhere"))
    page.click("#apply-start")
    expect(page.get_by_text("There is no file or folder")).to_be_visible()

    page.fill("#apply-path textarea, #apply-path input", "")
    page.set_input_files("#apply-drop input[type=file]", str(folder / "cells_60.tif"))
    expect(page.locator("#apply-drop")).to_contain_text("cells_60")
    page.click("#apply-start")
    expect(page.locator("#apply-files")).to_contain_text(".zip", timeout=200_000)
    expect(results.locator("tr")).to_have_count(2)
