"""The list of files to import, in headless Chromium: values are edited, columns and rows stay."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.storage import catalogue
from alapp.ui.project import importer
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


@pytest.fixture
def page(chromium, store):
    """The app with an empty project, without a worker."""
    catalogue.create_project(store, "mine")
    with pages.app(store) as url, pages.tab(chromium, url) as tab:
        yield tab


def middle(place):
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_no_column_or_row_can_be_added_or_deleted(store, page, tmp_path):
    expect = sync_api.expect
    for name in ("one", "two"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((40, 40), np.uint8))
    page.locator("#import-path textarea, #import-path input").fill(str(tmp_path / "*.tif"))
    page.click("#import-look")
    sheet = page.locator("#found")
    expect(sheet.get_by_text("two.tif").first).to_be_visible()

    header, cell = sheet.get_by_test_id("header-5"), sheet.get_by_test_id("cell-0-6")  # y of the first file

    def no_menu_at(place):
        page.mouse.click(*middle(place))
        page.mouse.click(*middle(place), button="right")
        assert not [text for text in page.get_by_role("menu").all_inner_texts() if text]
        expect(page.get_by_role("menu").and_(page.locator(":visible"))).to_have_count(0)
        expect(sheet.locator(".cell-menu-button:visible")).to_have_count(0)

    no_menu_at(header)  # before a cell is chosen, which would take the keys that follow
    page.mouse.dblclick(*middle(header))
    page.keyboard.type("depth")
    page.keyboard.press("Enter")
    expect(header).to_have_text("z (µm)")

    no_menu_at(cell)
    cell.dblclick()
    editor = cell.get_by_role("textbox")
    expect(editor).to_be_focused()
    editor.fill("0.25")
    editor.press("Enter")
    expect(cell).to_contain_text("0.25")
    page.click("#import-start")
    expect(sheet).to_be_hidden()
    (job,) = jobs.active(store)
    assert [file["voxel_size"]["y"] for file in job.params["files"]] == [0.25, None]


def test_a_file_that_is_taken_out_of_the_drop_zone_is_not_imported(store, page, tmp_path):
    expect = sync_api.expect
    for name in ("one", "two", "three"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((40, 40), np.uint8))
    zone, sheet = page.locator("#drop"), page.locator("#found")
    zone.locator("input[type=file]").set_input_files([tmp_path / f"{name}.tif" for name in ("one", "two", "three")])
    expect(sheet.get_by_test_id("cell-2-0")).to_contain_text("three.tif")
    cell = sheet.get_by_test_id("cell-2-6")  # y of the third file
    cell.dblclick()
    editor = cell.get_by_role("textbox")
    expect(editor).to_be_focused()
    editor.fill("0.25")
    editor.press("Enter")
    expect(cell).to_contain_text("0.25")

    zone.get_by_role("button", name="Remove this file").nth(1).click()
    expect(sheet.get_by_test_id("cell-2-0")).to_have_count(0)
    expect(sheet.get_by_test_id("cell-1-0")).to_contain_text("three.tif")
    expect(sheet.get_by_test_id("cell-1-6")).to_contain_text("0.25")
    page.click("#import-start")
    expect(sheet).to_be_hidden()
    (job,) = jobs.active(store)
    assert [(file["path"][-8:], file["voxel_size"]["y"]) for file in job.params["files"]] == [
        ("/one.tif", None),
        ("hree.tif", 0.25),
    ]


def test_without_files_in_the_drop_zone_there_is_nothing_to_import(page, tmp_path):
    expect = sync_api.expect
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((40, 40), np.uint8))
    zone, sheet = page.locator("#drop"), page.locator("#found")
    for _ in range(2):  # the same file again is looked at again
        zone.locator("input[type=file]").set_input_files([tmp_path / "one.tif"])
        expect(sheet.get_by_test_id("cell-0-0")).to_contain_text("one.tif")
        zone.get_by_role("button", name="Clear").click()  # the × of a file that lies there alone
        expect(sheet).to_be_hidden()


def test_files_that_are_dropped_while_others_are_copied_are_not_forgotten(store, page, tmp_path, monkeypatch):
    expect = sync_api.expect
    for name in ("one", "two"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((40, 40), np.uint8))
    zone, sheet = page.locator("#drop"), page.locator("#found")
    copy, go_on = shutil.copyfile, threading.Event()

    def slowly(source, target):
        assert go_on.wait(60)
        copy(source, target)

    monkeypatch.setattr(importer.shutil, "copyfile", slowly)
    zone.locator("input[type=file]").set_input_files([tmp_path / "one.tif"])
    expect(sheet.get_by_test_id("cell-0-0")).to_contain_text("one.tif")
    page.click("#import-start")
    zone.locator("input[type=file]").set_input_files([tmp_path / "two.tif"])
    expect(sheet.get_by_test_id("cell-1-0")).to_contain_text("two.tif")
    go_on.set()
    expect(sheet.get_by_test_id("cell-1-0")).to_have_count(0)
    expect(sheet.get_by_test_id("cell-0-0")).to_contain_text("two.tif")
    (job,) = jobs.active(store)
    assert [file["path"][-8:] for file in job.params["files"]] == ["/one.tif"]
