"""Masks and voxel sizes from the menu of images: the handlers."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
import tifffile

from alapp import jobs
from alapp.domain import ImageRole, LabelKind, VoxelSize
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.running import run_inline
from alapp.storage import catalogue, labels
from alapp.ui.page import Page
from alapp.ui.project import importer, masks_panel, project, sheets, voxel_panel
from tests.rounds.conftest import discs
from tests.ui.project.test_project import VISITOR, seen


@pytest.fixture
def told(monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Info", said.append)
    return said


@pytest.fixture
def tested(store, opened):
    """The project's images and one to test on, "held <out>"."""
    return importing.add_array(store, opened.id, "held <out>", discs(8)[0], role=ImageRole.TEST)


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    tifffile.imwrite(folder / "held <out>.tif", discs(8)[1].astype(np.uint8))
    return folder


def table(store, opened):
    return sheets.images(store, opened, catalogue.images(store, opened.id))


def give(store, opened, text="", chosen=None, dropped=None):
    return masks_panel.start(store, opened.id, chosen, dropped, text, None, 0)


def test_masks_are_given_removed_and_brought_back(store, opened, tested, masks, told):
    assert "No masks yet: it is not scored." in table(store, opened)
    changed, panel, drop, path = give(store, opened, str(masks))
    assert (changed, panel.visible, drop, path) == (1, False, None, "")
    run_inline(store, jobs.active(store, opened.id)[0])
    assert importer.last_report(store, opened.id) == "<p>Added the masks of 1 image.</p>"
    assert "Masks of 12 objects" in table(store, opened)
    assert "No masks yet" not in table(store, opened)
    back = masks_panel.refresh(store, opened.id, catalogue.images(store, opened.id))[1]
    assert not back.visible
    assert masks_panel.remove_masks(store, opened.id, tested.id, 1) == 2
    assert "Removed the masks of held &lt;out&gt;" in told[-1]
    assert "No masks yet" in table(store, opened)
    assert masks_panel.refresh(store, opened.id, catalogue.images(store, opened.id))[1].visible
    assert masks_panel.bring_back(store, opened.id, tested.id, 2) == 3
    assert "Masks of 12 objects" in table(store, opened)


def test_uploaded_masks_outlive_the_page_and_are_removed_after_the_job(store, opened, tested, masks):
    file = masks / "held <out>.tif"
    give(store, opened, dropped=[str(file)])
    file.unlink()
    run_inline(store, jobs.active(store, opened.id)[0])
    assert labels.latest_of_image(store, tested.id, LabelKind.REFERENCE).n_objects == 12
    assert list((store.root / "uploads").iterdir()) == []


def test_a_binary_mask_is_announced(store, opened, tested, masks):
    tifffile.imwrite(masks / "held <out>.tif", (discs(8)[1] > 0).astype(np.uint8) * 255)
    give(store, opened, str(masks))
    run_inline(store, jobs.active(store, opened.id)[0])
    report = importer.last_report(store, opened.id)
    assert "held &lt;out&gt;.tif only tells objects from background, so each of its 12 separate pieces" in report
    assert "Masks of 12 objects" in table(store, opened)


def test_a_single_file_of_another_name_needs_a_chosen_image(store, opened, tested, masks):
    (masks / "held <out>.tif").rename(masks / "a_cp_masks.tif")
    for chosen in (None, catalogue.images(store, opened.id)[0].id):
        with pytest.raises(InputError, match=r"a_cp_masks\.tif is called like no image to test on"):
            give(store, opened, str(masks), chosen)
    give(store, opened, str(masks), tested.id)
    run_inline(store, jobs.active(store, opened.id)[0])
    assert "Masks of 12 objects" in table(store, opened)


def test_nothing_is_queued_without_something_to_do(store, opened, masks):
    with pytest.raises(InputError, match="There is no image to test on yet"):
        give(store, opened, str(masks))
    importing.add_array(store, opened.id, "held", discs(8)[0], role=ImageRole.TEST)
    with pytest.raises(InputError, match="Drop masks, or type a file"):
        give(store, opened)
    for act in (masks_panel.remove_masks, masks_panel.bring_back):
        with pytest.raises(InputError, match="Choose an image to test on"):
            act(store, opened.id, catalogue.images(store, opened.id)[0].id, 0)
    with pytest.raises(InputError, match="demo"):
        masks_panel.start(store, opened.id, None, None, str(masks), VISITOR, 0)
    assert jobs.active(store) == []


def test_images_to_test_on_are_imported_with_their_masks(store, opened, masks, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("held <out>", "bare"):
        tifffile.imwrite(images / f"{name}.tif", discs(8)[0][..., 0])
    sheet, paths = seen(images, store)
    tifffile.imwrite(masks / "of another one.tif", np.zeros((128, 128), np.uint8))

    def start(role, text):
        importer.start_import(store, opened.id, paths, sheet, role, None, None, 0, text)
        return jobs.active(store, opened.id)[0]

    (masks / "held <out>.tif").rename(masks / "gone.tif")
    with pytest.raises(InputError, match=r"None of the 2 files in .* is called like one of these images"):
        start("test", str(masks))
    (masks / "gone.tif").rename(masks / "held <out>.tif")
    run_inline(store, start("test", str(masks)))
    assert importer.last_report(store, opened.id) == "<p>Imported 2 images. Added the masks of 1 image.</p>"
    assert table(store, opened).count("No masks yet") == 1
    catalogue.set_image_deleted(store, catalogue.images(store, opened.id)[-1].id, True)
    job = start("train", str(masks))  # the field is hidden then, whatever is left in it
    assert "masks" not in job.params


def test_the_button_for_masks_needs_an_image_to_test_on(store, opened):
    with gr.Blocks():
        tab = project.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    ids = [component.elem_id for component in tab.outputs]
    for shown in (False, True):
        updates = dict(zip(ids, tab.refresh(opened.id), strict=True))
        assert updates["masks-ask"].visible is shown
        importing.add_array(store, opened.id, f"held {shown}", discs(8)[0], role=ImageRole.TEST)


def test_a_voxel_size_is_corrected_after_the_import(store, opened, told):
    one, two = catalogue.images(store, opened.id)
    panel, _, z, _, x, asked = voxel_panel.look(store, opened.id, one.id)
    assert (panel.visible, z.visible, x.value, asked) == (True, False, "", one.id)
    panel, changed = voxel_panel.keep(store, opened.id, asked, "7", "", "0,25", 0)
    assert (panel.visible, changed) == (False, 1)
    assert catalogue.image(store, one.id).voxel_size == VoxelSize(None, 0.25, 0.25)  # z was hidden
    assert not catalogue.image(store, two.id).voxel_size.known
    assert told[-1].startswith(
        "image_0: y was left empty and is taken to be 0.25 µm, like x. The voxel size of image_0"
    )
    assert "0.25 × 0.25" in table(store, opened)
    voxel_panel.keep(store, opened.id, asked, "", "0.5", "0.5", 0, everywhere=True)
    assert [image.voxel_size.x for image in catalogue.images(store, opened.id)] == [0.5, 0.5]
    assert "The voxel size of 2 images was changed." in told[-1]
    with pytest.raises(InputError, match="must be a number"):
        voxel_panel.keep(store, opened.id, asked, "", "inf", "1", 0)
    catalogue.set_image_deleted(store, one.id, True)
    for chosen in (one.id, 0, None):
        with pytest.raises(InputError, match="Choose an image in the menu"):
            voxel_panel.look(store, opened.id, chosen)


def test_a_voxel_size_that_was_only_looked_at_stays(store, opened):
    image = catalogue.images(store, opened.id)[0]
    exact = VoxelSize(None, 0.10833333333333334, 2.0)
    catalogue.set_voxel_size(store, [image.id], exact)
    _, _, _, y, x, asked = voxel_panel.look(store, opened.id, image.id)
    assert (y.value, x.value) == ("0.10833333333333334", "2")
    voxel_panel.keep(store, opened.id, asked, "", y.value, x.value, 0)
    assert catalogue.image(store, image.id).voxel_size == exact
