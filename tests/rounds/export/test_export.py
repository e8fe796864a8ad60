import csv
import io
import json
import zipfile

import numpy as np
import PIL.Image
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
def annotated(store, project, fast):
    """A project with one annotated round of four patches, one of them for validation."""
    made = selection.run_select(store, project.id, silent, budget=4)
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in made["patches"]:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")
    return project


@pytest.fixture
def trained(store, annotated):
    """`annotated`, with a model of the round."""
    training.run_round(store, annotated.id, silent)
    return annotated


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


def test_objects_that_the_first_or_the_last_slice_cuts_are_marked():
    stack = np.zeros((5, 20, 20), np.int32)
    stack[0:2, 2:5, 2:5], stack[1:4, 8:12, 8:12], stack[3:5, 14:17, 14:17], stack[2, 0:3, 10] = 1, 2, 3, 4
    rows = export_tables.measured("a", "human", stack, np.zeros((5, 20, 20, 1)), VoxelSize())
    assert [row["touches_first_or_last_slice"] for row in rows] == [1, 0, 1, 0]
    assert [row["touches_edge"] for row in rows] == [0, 0, 0, 1]
    (flat,) = export_tables.measured("a", "human", stack[3] // 3, np.zeros((20, 20, 1)), VoxelSize())
    assert "touches_first_or_last_slice" not in flat


def test_small_units_leave_more_than_zero():
    instances = np.zeros((2, 20, 20), np.int32)
    instances[:, 5:9, 5:11] = 1
    pixels = np.full((2, 20, 20, 1), 3.2e-5, np.float32)
    size = VoxelSize(0.012, 0.0031, 0.0031)
    (solid,) = export_tables.measured("a", "human", instances, pixels, size)
    assert solid["mean_intensity_channel_0"] == pytest.approx(3.2e-5, rel=1e-5)
    assert solid["volume_um3"] == pytest.approx(48 * size.z * size.y * size.x, rel=1e-5)
    (flat,) = export_tables.measured("a", "human", instances[0], pixels[0], VoxelSize(None, 0.0031, 0.0031))
    assert flat["area_um2"] == pytest.approx(24 * 0.0031**2, rel=1e-5)
    values = [0.0, -1.2345678e-7, 0.12345678, 65_535.123456, 123_456_789.123456, float("inf")]
    assert [export_tables.rounded(value) for value in values] == [
        0.0, -1.23457e-7, 0.123457, 65_535.1235, 123_456_789.1235, float("inf")
    ]  # fmt: skip


def test_the_mean_of_a_large_object_in_real_numbers_of_several_channels():
    pixels = np.full((1000, 1000, 2), [1000.1, 3e-5], np.float32)
    (whole,) = export_tables.measured("a", "human", np.ones((1000, 1000), np.int32), pixels, VoxelSize())
    means = [whole[f"mean_intensity_channel_{channel}"] for channel in (0, 1)]
    assert means == pytest.approx([1000.1, 3e-5], rel=1e-5)


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


@pytest.fixture
def alike(store, fast):
    """A trained project whose images differ in what the old file names left out; one patch of each is annotated."""
    made = catalogue.create_project(store, "图像 1", patch_size=64)
    for seed, name in enumerate(("cell (1)", "cell 1", "细胞", "图像", "Zelle_ä", "zelle_Ä", "cell 1_y0_x0")):
        pixels, truth = discs(seed, size=64)
        image = importing.add_array(store, made.id, name, pixels)
        importing.add_reference(store, image, truth)
    references = labels.latest_by_image(store, made.id, LabelKind.REFERENCE)
    for patch_id in selection.run_select(store, made.id, silent, budget=7)["patches"]:
        patch = catalogue.patch(store, patch_id)
        annotation.submit_labels(store, patch_id, labels.read(store, references[patch.image_id]), "oracle")
    training.run_round(store, made.id, silent)
    return made


NAMES = ["cell-1", "cell-1_2", "细胞", "图像", "Zelle_ä", "zelle_Ä_2", "cell-1_y0_x0"]


def test_images_whose_names_are_alike_have_files_of_their_own(store, alike):
    images = catalogue.images(store, alike.id)
    newest = {image.name: labels.latest_of_image(store, image.id, LabelKind.PREDICTED) for image in images}
    path = exported(store, alike, "labels")
    assert path.name.startswith("图像-1_labels_")
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        assert len({member.casefold() for member in members}) == len(members)
        rows = list(csv.DictReader(io.StringIO(archive.read("predicted.csv").decode("utf-8-sig"))))
        assert [row["file"] for row in rows] == [f"{name}.tif" for name in NAMES]
        for row in rows:
            mask = tifffile.imread(io.BytesIO(archive.read(f"predicted/{row['file']}")))
            np.testing.assert_array_equal(mask, labels.read(store, newest[row["image"]]))
        assert {f"human/{name}_y0_x0.tif" for name in NAMES} <= set(members)
        people = list(csv.DictReader(io.StringIO(archive.read("patches.csv").decode("utf-8-sig"))))
        files = {image.name: f"{name}_y0_x0.tif" for image, name in zip(images, NAMES, strict=True)}
        assert {row["image"]: row["file"] for row in people} == files


def test_coco_has_a_file_for_every_image_and_patch(store, alike):
    with zipfile.ZipFile(exported(store, alike, "coco")) as archive:
        sets = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
        members = archive.namelist()
        entries = [image for made in sets for image in made["images"]]
        assert len({member.casefold() for member in members}) == len(members)
        assert sorted(image["file_name"] for image in entries) == sorted(m for m in members if m.endswith(".tif"))
        assert len(entries) == 14
        for entry in entries:
            seed = [image.name for image in catalogue.images(store, alike.id)].index(entry["image"])
            pixels = tifffile.imread(io.BytesIO(archive.read(entry["file_name"])))
            np.testing.assert_array_equal(pixels, discs(seed, size=64)[0][..., 0])


def test_coco_has_colours_as_programs_for_photographs_expect_them(store, fast):
    made = catalogue.create_project(store, "colours", patch_size=64)
    plane, truth = discs(5, size=64)
    pixels = np.concatenate([plane, 255 - plane, plane // 2], axis=-1)
    importing.add_reference(store, importing.add_array(store, made.id, "rgb", pixels), truth)
    chosen = selection.run_select(store, made.id, silent, budget=1)
    annotation.submit_labels(store, chosen["patches"][0], truth, "oracle")
    with zipfile.ZipFile(exported(store, made, "coco")) as archive:
        assert "RGB" in archive.read("README.txt").decode()
        picture = PIL.Image.open(io.BytesIO(archive.read("images/human/rgb_y0_x0.tif")))
        assert (picture.mode, picture.n_frames) == ("RGB", 1)
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_exports_of_the_same_second_do_not_replace_each_other(store, trained, tmp_path):
    made = [export.run_export(store, trained.id, silent, "measurements", str(tmp_path))["path"] for _ in range(3)]
    assert len(set(made)) == 3


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
    # four patches are labelled, of which the one for validation is scored
    assert sum(int(row["scored_patches"]) for row in tables["images.csv"]) == 1
    assert tables["rounds.csv"][0]["done"] == "4"


def test_scores_of_a_model_that_has_predicted_nothing_yet(store, annotated):
    def stop(done, total, message=""):
        if message.startswith("Predicting"):
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        training.run_round(store, annotated.id, stop)
    with zipfile.ZipFile(exported(store, annotated, "scores")) as archive:
        assert archive.namelist() == ["learning_curve.csv", "rounds.csv"]


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
        assert top / bottom == pytest.approx(4)
        assert {"unit": "um", "spacing": 1.0}.items() <= file.imagej_metadata.items()
