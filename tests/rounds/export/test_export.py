import csv
import io
import json
import zipfile

import numpy as np
import pytest
import tifffile

from alapp.domain import LabelKind, VoxelSize, silent
from alapp.errors import Cancelled, InputError, NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.export import export, export_coco, export_tables
from alapp.rounds.select import selection
from alapp.rounds.train import training
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs


@pytest.fixture
def trained(store, project, fast):
    """A project with one annotated and trained round of four patches, one of them for validation."""
    made = selection.run_select(store, project.id, silent, budget=4)
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in made["patches"]:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")
    training.run_round(store, project.id, silent)
    return project


def exported(store, project, what):
    made = export.run_export(store, project.id, silent, what)
    return store.files.resolve(made["path"])


def test_labels_hold_every_finished_patch_and_every_prediction(store, trained):
    path = exported(store, trained, "labels")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        human = sorted(name for name in names if name.startswith("human/"))
        assert len(human) == 4
        assert sorted(name.replace("patches/", "human/") for name in names if name.startswith("patches/")) == human
        predicted = tifffile.imread(io.BytesIO(archive.read("predicted/image_0.tif")))
        patch = next(
            p
            for p in catalogue.patches(store, trained.id)
            if f"human/{p.image_name}_y{p.box.y}_x{p.box.x}.tif" == human[0]
        )
        mask = tifffile.imread(io.BytesIO(archive.read(human[0])))
        pixels = tifffile.imread(io.BytesIO(archive.read(human[0].replace("human/", "patches/"))))
    newest = labels.latest_of_image(store, catalogue.images(store, trained.id)[0].id, LabelKind.PREDICTED)
    np.testing.assert_array_equal(predicted, labels.read(store, newest))
    np.testing.assert_array_equal(mask, labels.read(store, labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)))
    np.testing.assert_array_equal(pixels, catalogue.read_patch(store, patch)[..., 0])


def test_names_and_place_of_an_export(store, trained, tmp_path):
    path = exported(store, trained, "scores")
    assert path.parent == export.exports_folder(store, trained.id)
    assert path.name.startswith("discs_scores_20")
    given = export.run_export(store, trained.id, silent, "scores", str(tmp_path / "mine.zip"))
    assert given["path"] == str(tmp_path / "mine.zip")
    assert zipfile.is_zipfile(tmp_path / "mine.zip")


def test_measurements_agree_with_the_predictions(store, trained):
    rows = list(csv.DictReader(io.StringIO(exported(store, trained, "measurements").read_text("utf-8-sig"))))
    image = catalogue.images(store, trained.id)[0]
    whole = labels.read(store, labels.latest_of_image(store, image.id, LabelKind.PREDICTED))
    here = {int(row["object"]): row for row in rows if row["image"] == image.name}
    assert sorted(here) == np.unique(whole[whole > 0]).tolist()
    first = min(here)
    pixels = catalogue.read_image(store, image)[..., 0]
    assert int(here[first]["area_px"]) == int((whole == first).sum())
    assert float(here[first]["mean_intensity_channel_0"]) == pytest.approx(pixels[whole == first].mean(), abs=1e-3)
    assert here[first]["area_um2"] == ""


def test_measured_lengths_in_micrometres():
    instances = np.zeros((20, 20), np.int32)
    instances[5:9, 5:11] = 3
    instances[0:2, 0:2] = 4
    pixels = np.full((20, 20, 2), 7.0)
    inner, edge = export_tables.measured("a", "human", instances, pixels, VoxelSize(None, 0.5, 0.5))
    assert (inner["object"], inner["area_px"], inner["area_um2"]) == (3, 24, 6.0)
    assert (inner["y"], inner["x"], inner["mean_intensity_channel_1"]) == (6.5, 7.5, 7.0)
    assert (inner["touches_edge"], edge["touches_edge"]) == (0, 1)
    stack = np.zeros((4, 20, 20), np.int32)
    stack[1:3, 5:9, 5:11] = 1
    (solid,) = export_tables.measured("a", "human", stack, pixels[None].repeat(4, 0), VoxelSize(2.0, 0.5, 0.5))
    assert (solid["volume_voxels"], solid["volume_um3"], solid["slices"], solid["z"]) == (48, 24.0, 2, 1.5)
    assert solid["touches_edge"] == 0


def test_text_that_looks_like_a_formula_is_harmless_in_a_spreadsheet():
    assert export_tables.to_csv([{"image": "=1+1", "n": -2}]).decode("utf-8-sig") == "image,n\r\n'=1+1,-2\r\n"


def decode(segmentation):
    """The mask of uncompressed run lengths, as COCO's own tools read them."""
    height, width = segmentation["size"]
    values = np.arange(len(segmentation["counts"])) % 2
    return np.repeat(values, segmentation["counts"]).reshape(width, height).T.astype(bool)


@pytest.mark.parametrize("where", [(slice(0, 3), slice(0, 2)), (slice(4, 9), slice(5, 7)), (slice(2, 4), slice(3, 6))])
def test_run_lengths_give_the_mask_back(where):
    mask = np.zeros((9, 7), bool)
    mask[where] = True
    mask[where[0].start, where[1].start] = False
    corner = (where[0].start, where[1].start)
    encoded = export_coco.run_lengths(mask[where], corner, mask.shape)
    assert sum(encoded["counts"]) == mask.size
    np.testing.assert_array_equal(decode(encoded), mask)


def test_coco_describes_every_object(store, trained):
    with zipfile.ZipFile(exported(store, trained, "coco")) as archive:
        predicted = json.loads(archive.read("predicted.json"))
        human = json.loads(archive.read("human_train.json"))
        held = json.loads(archive.read("human_validation.json"))
        names = set(archive.namelist())
    assert (len(human["images"]), len(held["images"]), len(predicted["images"])) == (3, 1, 3)
    assert {image["file_name"] for made in (human, held, predicted) for image in made["images"]} <= names
    image = catalogue.images(store, trained.id)[0]
    whole = labels.read(store, labels.latest_of_image(store, image.id, LabelKind.PREDICTED))
    objects = [item for item in predicted["annotations"] if item["image_id"] == 1]
    assert len(objects) == len(np.unique(whole)) - 1
    rebuilt = np.zeros(whole.shape, np.int32)
    for item, label in zip(objects, np.unique(whole)[1:], strict=True):
        mask = decode(item["segmentation"])
        x, y, width, height = item["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == item["area"]
        rebuilt[mask] = label
    np.testing.assert_array_equal(rebuilt, whole)


def test_scores_have_the_curve_the_images_and_the_rounds(store, trained):
    with zipfile.ZipFile(exported(store, trained, "scores")) as archive:
        tables = {
            name: list(csv.DictReader(io.StringIO(archive.read(name).decode("utf-8-sig"))))
            for name in archive.namelist()
        }
    assert [row["round"] for row in tables["learning_curve.csv"]] == ["1"]
    assert tables["learning_curve.csv"][0]["labelled_patches"] == "4"
    assert float(tables["learning_curve.csv"][0]["validation_f1_50"]) > 0.5
    assert tables["learning_curve.csv"][0]["validation_n"] == "1"
    assert [row["image"] for row in tables["images.csv"]] == ["image_0", "image_1", "image_2"]
    assert tables["rounds.csv"][0]["done"] == "4"


def test_bundle_says_what_is_missing(store, project, fast):
    made = selection.run_select(store, project.id, silent, budget=1)
    annotation.submit_labels(store, made["patches"][0], np.eye(64, dtype=np.int32), "oracle")
    with zipfile.ZipFile(exported(store, project, "bundle")) as archive:
        names = archive.namelist()
        assert any(name.startswith("labels/human/") for name in names)
        assert "measurements/measurements.csv" in names
        missing = archive.read("missing.txt").decode()
    assert "Model: There is no model to export yet." in missing


@pytest.mark.parametrize("what", list(export.FORMATS))
def test_nothing_to_export(store, project, what):
    with pytest.raises(NotReadyError, match=r"yet|nothing"):
        export.run_export(store, project.id, silent, what)
    assert not list(export.exports_folder(store, project.id).glob("*"))


def test_unknown_format(store, project):
    with pytest.raises(InputError, match="no export called 'xls'"):
        export.run_export(store, project.id, silent, "xls")


def test_cancelling_leaves_no_file(store, trained):
    def stop(done, total, message=""):
        if done >= 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        export.run_export(store, trained.id, stop, "labels")
    assert not list(export.exports_folder(store, trained.id).glob("*"))


def test_stacks_keep_their_axes_and_scale(store, fast):
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=3)
    plane, truth = discs(5, size=64)
    size = VoxelSize(1.0, 0.25, 0.25)
    image = importing.add_array(store, made.id, "deep", np.stack([plane] * 3), voxel_size=size)
    importing.add_reference(store, image, np.stack([truth] * 3))
    chosen = selection.run_select(store, made.id, silent, budget=1)
    annotation.submit_labels(store, chosen["patches"][0], np.stack([truth] * 3), "oracle")
    with zipfile.ZipFile(exported(store, made, "labels")) as archive:
        content = archive.read("human/deep_z0_y0_x0.tif")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.series[0].axes == "ZYX"
        assert file.asarray().shape == (3, 64, 64)
        top, bottom = file.pages[0].tags["XResolution"].value
        assert top / bottom == pytest.approx(40_000)
