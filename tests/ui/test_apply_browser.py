"""Applying the model in headless Chromium, with a real worker process and a real small network."""

from __future__ import annotations

import pytest
import tifffile

from tests.rounds.conftest import discs
from tests.rounds.trained import trained_project

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def trained(store):
    return trained_project(store, iterations=10)


def test_a_folder_and_then_dropped_images(store, trained, page, tmp_path):
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
