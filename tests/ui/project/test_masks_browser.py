"""Masks of images to test on, voxel sizes, and names with markup, in headless Chromium."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from alapp.domain import ImageRole, LabelKind
from alapp.rounds import importing
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs
from tests.ui import pages

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser

NAME = "x<GFP>y & <img src=/from-a-name>"


@pytest.fixture
def tested(store, opened):
    """An image to test on with markup in its name."""
    return importing.add_array(store, opened.id, NAME, discs(8)[0], role=ImageRole.TEST)


@pytest.fixture
def page(chromium, store, tested):
    """The app with this project, and a worker."""
    with pages.app(store, worker=True) as url, pages.tab(chromium, url) as tab:
        yield tab


def choose(page, name):
    page.locator("#remove-name input").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_a_test_image_is_given_masks_which_are_removed_and_brought_back(store, tested, page, tmp_path):
    expect = sync_api.expect
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    file = tmp_path / "any name.tif"
    tifffile.imwrite(file, discs(8)[1].astype(np.uint8))
    table, toast = page.locator("#images-table"), page.get_by_test_id("toast-body")
    expect(table).to_contain_text("No masks yet: it is not scored")
    page.click("#masks-ask")
    choose(page, NAME)
    page.locator("#masks-drop input[type=file]").set_input_files([file])
    expect(page.locator("#masks-drop")).to_contain_text("any name")
    page.click("#masks-add")
    expect(table).to_contain_text("Masks of 12 objects")
    expect(page.locator("#masks-panel")).to_be_hidden()
    assert labels.latest_of_image(store, tested.id, LabelKind.REFERENCE).n_objects == 12

    page.click("#masks-ask")
    expect(page.locator("#masks-back")).to_be_hidden()
    choose(page, NAME)
    page.click("#masks-remove")
    expect(toast.first).to_contain_text(f"Removed the masks of {NAME}, and the scores against them.")
    expect(table).to_contain_text("No masks yet")
    choose(page, NAME)
    page.click("#masks-back")
    expect(table).to_contain_text("Masks of 12 objects")
    expect(toast.filter(has_text="has its masks again")).to_contain_text(f"{NAME} has its masks again.")
    assert not [url for url in asked if "from-a-name" in url]


def test_a_voxel_size_is_corrected_and_an_error_shows_the_name_as_it_is(store, tested, page):
    expect = sync_api.expect
    choose(page, NAME)
    page.click("#voxel-ask")
    size = page.locator("#voxel-x input, #voxel-x textarea")
    size.fill("inf")
    page.click("#voxel-one")
    toast = page.get_by_test_id("toast-body").filter(has_text="Please check").or_(page.get_by_test_id("toast-body"))
    expect(toast.first).to_contain_text(f"{NAME}: the voxel size in x must be a number of micrometres; it is inf.")
    size.fill("0.25")
    page.click("#voxel-one")
    expect(page.locator("#images-table")).to_contain_text("0.25 × 0.25")
    expect(page.locator("#voxel-panel")).to_be_hidden()
    assert catalogue.image(store, tested.id).voxel_size.y == 0.25


def test_masks_can_be_named_when_images_to_test_on_are_imported(page, tmp_path):
    expect = sync_api.expect
    for folder, part in (("images", 0), ("masks", 1)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "held.tif", discs(9)[part].reshape(128, 128).astype(np.uint8))
    page.get_by_role("button", name="Add images").click()
    page.locator("#import-path textarea, #import-path input").fill(str(tmp_path / "images"))
    page.click("#import-look")
    field = page.locator("#import-masks textarea, #import-masks input")
    expect(page.locator("#import-start")).to_be_visible()
    expect(field).to_be_hidden()
    page.get_by_role("radio", name="to test on").check()
    field.fill(str(tmp_path / "masks"))
    page.click("#import-start")
    expect(page.locator("#import-report")).to_contain_text("Imported 1 image. Added the masks of 1 image.")
    expect(page.locator("#images-table")).to_contain_text("Masks of 12 objects: it is scored by the first training.")
