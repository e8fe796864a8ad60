"""Classes of objects: their names in the settings, acts, the label map, and the exports."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_classes, annotation_edits, annotation_view
from alapp.rounds.annotate.annotation_classes import classify, names, parse, renumbered, set_names
from alapp.rounds.export import export
from alapp.stages.annotate import masks
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows

ME = "session-1"
SIZE = 32
COLOURS = {1: "red", 2: "green", 3: "blue"}


def rectangle(y, x, height=8, width=8):
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[y : y + height, x : x + width] = True
    return masks.from_array(pixels)


@pytest.fixture
def patch(store):
    made = catalogue.create_project(store, "kinds", patch_size=SIZE, target="mitochondria")
    importing.add_array(store, made.id, "gray", np.zeros((SIZE, SIZE, 1), np.uint8))
    found = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(found.id, PatchRole.TRAIN, {})])
    return found


def named(store, patch, text=None):
    if text is not None:
        set_names(store, patch.project_id, text)
    return names(catalogue.project(store, patch.project_id))


def kinds(store, patch):
    return {key: item.kind for key, item in annotation.state(store, patch.id).objects.items()}


# --- settings ----------------------------------------------------------------------------------------------


def test_one_class_is_called_what_is_segmented(store, patch):
    assert named(store, patch) == {1: "mitochondria"}
    assert named(store, patch, " mitochondria ") == {1: "mitochondria"}
    catalogue.update_project(store, patch.project_id, target="granules")
    assert named(store, patch) == {1: "granules"}
    catalogue.update_project(store, patch.project_id, target="")
    assert named(store, patch) == {1: "objects"}


def test_names_are_read_from_commas_and_lines():
    assert parse(" healthy,damaged\n  cut   off ,, \n") == ["healthy", "damaged", "cut off"]
    assert parse("") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a, b, A", "two kinds called “A”"),
        (",".join("abcdefghij"), "at most 9 .* you named 10"),
        ("a, " + "b" * 41, "longer than 40"),
    ],
)
def test_names_that_cannot_be(store, patch, text, words):
    with pytest.raises(InputError, match=words):
        set_names(store, patch.project_id, text)
    assert named(store, patch) == {1: "mitochondria"}


def test_without_objects_the_names_are_free(store, patch):
    assert named(store, patch, "a, b, c") == {1: "a", 2: "b", 3: "c"}
    assert named(store, patch, "c, a") == {1: "c", 2: "a"}
    assert named(store, patch, "") == {1: "mitochondria"}


def test_objects_keep_their_class_when_names_change(store, patch):
    named(store, patch, "red, green, blue")
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0), kind=3)
    assert named(store, patch, "blue, green, red") == COLOURS
    assert named(store, patch, "red, blue") == {1: "red", 3: "blue"}
    assert named(store, patch, "red, violet") == {1: "red", 3: "violet"}
    assert named(store, patch, "pink, red, violet") == {1: "red", 2: "pink", 3: "violet"}
    assert named(store, patch, "Red, pink, violet") == {1: "Red", 2: "pink", 3: "violet"}
    assert kinds(store, patch) == {1: 3}
    with pytest.raises(InputError, match=r"“violet” cannot be removed.*rename it"):
        set_names(store, patch.project_id, "red, pink")
    with pytest.raises(InputError, match="“Red” cannot be removed"):
        set_names(store, patch.project_id, "pink, violet")
    assert named(store, patch) == {1: "Red", 2: "pink", 3: "violet"}


@pytest.mark.parametrize("how", ["painted", "accepted", "classified"])
def test_a_class_that_undo_could_bring_back_stays(store, patch, how):
    named(store, patch, "red, green")
    if how == "painted":
        annotation_edits.paint(store, patch.id, ME, rectangle(0, 0), kind=2)
    elif how == "accepted":
        annotation.accept(store, patch.id, ME, rectangle(0, 0), kind=2)
    else:
        annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
        classify(store, patch.id, ME, [1], 2)
    annotation.undo(store, patch.id, ME)
    with pytest.raises(InputError, match="“green” cannot be removed"):
        set_names(store, patch.project_id, "red")
    annotation.redo(store, patch.id, ME)
    assert kinds(store, patch) == {1: 2}
    assert 2 in named(store, patch)


words = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=9, unique=True)


@given(words, words, st.sets(st.integers(1, 9), min_size=1))
def test_no_change_of_names_moves_an_object_to_a_name_that_stands_for_another_class(old, new, used):
    known = dict(enumerate(old, 1))
    used &= set(known)
    try:
        made = renumbered(known, new, used)
    except InputError:
        assert set(old) - set(new)
        return
    assert sorted(made.values()) == sorted(new)
    assert set(made) <= set(range(1, 10))
    if used:
        assert used | {1} <= set(made)
        for number, name in known.items():
            assert name not in new or made[number] == name


# --- acts --------------------------------------------------------------------------------------------------


def test_new_objects_get_their_class_and_edits_keep_it(store, patch):
    named(store, patch, "red, green, blue")
    annotation.accept(store, patch.id, ME, rectangle(0, 0), kind=2)
    annotation_edits.paint(store, patch.id, ME, rectangle(16, 0), kind=3)
    annotation_edits.paint(store, patch.id, ME, rectangle(20, 0), object_id=2, kind=1)
    annotation.accept(store, patch.id, ME, rectangle(0, 0, 9, 8), object_id=1, kind=1)
    assert kinds(store, patch) == {1: 2, 2: 3}
    annotation_edits.split(store, patch.id, ME, 2, ((18.5, -2), (18.5, 12)))
    assert kinds(store, patch) == {1: 2, 2: 3, 3: 3}
    annotation_edits.reshape(store, patch.id, ME, 3, "grow")
    annotation_edits.merge(store, patch.id, ME, [1, 2])
    assert kinds(store, patch) == {1: 2, 3: 3}


def test_changing_the_class_is_one_step_of_undo(store, patch):
    named(store, patch, "red, green")
    for x in (0, 10, 20):
        annotation_edits.paint(store, patch.id, ME, rectangle(0, x))
    change = classify(store, patch.id, ME, [1, 3, 3], 2)
    assert kinds(store, patch) == {1: 2, 2: 1, 3: 2}
    assert [(item["id"], item["kind"]) for item in annotation_view.changes(change)["items"]] == [(1, 2), (3, 2)]
    annotation.undo(store, patch.id, ME)
    assert kinds(store, patch) == {1: 1, 2: 1, 3: 1}
    annotation.redo(store, patch.id, ME)
    assert kinds(store, patch) == {1: 2, 2: 1, 3: 2}
    assert annotation.effort(store, 1).corrected == 0


def test_a_suggestion_is_accepted_with_its_class(store, patch):
    named(store, patch, "red, green")
    suggested = np.zeros((1, SIZE, SIZE), np.int32)
    suggested[0, :8, :8], suggested[0, 20:, 20:] = 1, 2
    opened = {"start": "pseudo", "shape": [1, SIZE, SIZE]}
    annotations.append(store, patch.id, 0, "open", opened, masks.pack_labels(suggested), ME)
    classify(store, patch.id, ME, [2], 2)
    annotation.accept_suggestions(store, patch.id, ME)
    assert kinds(store, patch) == {1: 1, 2: 2}


def test_an_unfinished_object_outlives_a_change_of_class(store, patch):
    named(store, patch, "red, green")
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    annotation.click(store, patch.id, ME, positive=[(20, 20)])
    classify(store, patch.id, ME, [1], 2)
    assert annotation.state(store, patch.id).draft.positive == ((20, 20),)


def test_what_cannot_be_classified(store, patch):
    named(store, patch, "red, green")
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    for act, words in [
        (lambda: classify(store, patch.id, ME, [7], 2), "gone"),
        (lambda: classify(store, patch.id, ME, [1], 1), "of this kind already"),
        (lambda: classify(store, patch.id, ME, [1], 3), "removed in the settings"),
        (lambda: annotation.accept(store, patch.id, ME, rectangle(20, 20), kind=3), "removed in the settings"),
        (lambda: annotation_edits.paint(store, patch.id, ME, rectangle(20, 20), kind=3), "removed in the settings"),
    ]:
        with pytest.raises(InputError, match=words):
            act()
    assert annotation.state(store, patch.id).revision == 1


# --- the label map and the exports -------------------------------------------------------------------------


def done(store, patch):
    annotation.mark_done(store, patch.id, ME)
    return labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)


def test_a_label_map_of_one_class_says_nothing_about_it(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    made = done(store, patch)
    assert "classes" not in made.params
    assert annotation_classes.of_objects(made) == {}
    assert annotation_view.batch(store, patch.project_id)["kinds"] == []


@pytest.fixture
def two(store, patch):
    """A finished patch with a red and two green objects, ids 1, 2 and 3; the name of the second is new."""
    named(store, patch, "red, green")
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 10), kind=2)
    annotation_edits.paint(store, patch.id, ME, rectangle(20, 20), kind=2)
    found = done(store, patch)
    named(store, patch, "red, =leaf")
    return found


def archive(store, patch, what):
    made = export.run_export(store, patch.project_id, silent, what)
    return zipfile.ZipFile(store.files.resolve(made["path"]))


def table(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def test_the_label_map_keeps_ids_and_says_the_classes(store, patch, two):
    assert two.params["classes"] == {"1": 1, "2": 2, "3": 2}
    assert annotation_classes.of_objects(two) == {1: 1, 2: 2, 3: 2}
    assert np.unique(labels.read(store, two)).tolist() == [0, 1, 2, 3]
    assert annotation_view.batch(store, patch.project_id)["kinds"] == [
        {"kind": 1, "name": "red"},
        {"kind": 2, "name": "=leaf"},
    ]


def test_imported_labels_are_of_class_1(store, patch):
    named(store, patch, "red, green")
    pixels = np.zeros((SIZE, SIZE), np.int32)
    pixels[:4, :4], pixels[10:, 10:] = 5, 6
    made = annotation.submit_labels(store, patch.id, pixels, "oracle")
    assert annotation_classes.of_objects(made) == {5: 1, 6: 1}


def test_coco_has_a_category_for_each_class(store, patch, two):
    with archive(store, patch, "coco") as found:
        content = json.loads(found.read("human_train.json"))
        assert "kinds of objects" in found.read("README.txt").decode()
    assert content["categories"] == [
        {"id": 1, "name": "red", "supercategory": ""},
        {"id": 2, "name": "=leaf", "supercategory": ""},
    ]
    assert [(item["category_id"], item["bbox"]) for item in content["annotations"]] == [
        (1, [0, 0, 8, 8]),
        (2, [10, 0, 8, 8]),
        (2, [20, 20, 8, 8]),
    ]


def test_coco_is_read_by_its_own_tools(store, patch, two, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    with archive(store, patch, "coco") as found:
        (tmp_path / "human.json").write_bytes(found.read("human_train.json"))
    read = coco.COCO(str(tmp_path / "human.json"))
    assert len(read.getAnnIds(catIds=read.getCatIds(["=leaf"]))) == 2
    (red,) = read.loadAnns(read.getAnnIds(catIds=[1]))
    assert read.annToMask(red).sum() == 64


def predicted(store, patch):
    pixels = np.zeros((SIZE, SIZE), np.int32)
    pixels[:8, :8] = 1
    owner = {"project_id": patch.project_id, "image_id": patch.image_id}
    labels.add(store, LabelKind.PREDICTED, pixels, **owner, backend="nnunet", input_hash="x")


def test_what_the_network_found_gets_no_class_name(store, patch, two):
    predicted(store, patch)
    with archive(store, patch, "coco") as found:
        content = json.loads(found.read("predicted.json"))
    assert content["categories"] == [{"id": 1, "name": "mitochondria", "supercategory": ""}]
    assert [item["category_id"] for item in content["annotations"]] == [1]


def test_tables_have_the_class_names(store, patch, two):
    with archive(store, patch, "labels") as found:
        assert "classes.csv" in found.read("README.txt").decode()
        rows = table(found.read("human/classes.csv"))
        assert f"human/{rows[0]['file']}" in found.namelist()
    assert [(row["object"], row["class"]) for row in rows] == [("1", "red"), ("2", "'=leaf"), ("3", "'=leaf")]
    predicted(store, patch)
    made = export.run_export(store, patch.project_id, silent, "measurements")
    rows = table(store.files.resolve(made["path"]).read_bytes())
    assert [(row["source"], row["object"], row["class"]) for row in rows] == [
        ("predicted", "1", ""),
        ("human", "1", "red"),
        ("human", "2", "'=leaf"),
        ("human", "3", "'=leaf"),
    ]


def test_with_one_class_the_exports_are_as_before(store, patch):
    annotation_edits.paint(store, patch.id, ME, rectangle(0, 0))
    done(store, patch)
    with archive(store, patch, "labels") as found:
        assert "human/classes.csv" not in found.namelist()
        assert "classes" not in found.read("README.txt").decode()
    made = export.run_export(store, patch.project_id, silent, "measurements")
    assert "class" not in table(store.files.resolve(made["path"]).read_bytes())[0]
    with archive(store, patch, "coco") as found:
        assert "kinds of objects" not in found.read("README.txt").decode()
        assert json.loads(found.read("human_train.json"))["categories"][0]["name"] == "mitochondria"
