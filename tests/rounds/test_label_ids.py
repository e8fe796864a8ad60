"""Objects with large ids, as maps of connectomics have them, wherever label maps come in."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from alapp.domain import LabelKind, PatchRole
from alapp.errors import InputError
from alapp.rounds import importing, simulate
from alapp.rounds.annotate import annotation
from alapp.rounds.select import oracle
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows

IDS = ((7, 3_000_000_000), (2**32, 2**32 + 7), (5_000_000_000, 7), (2**63 + 1, 1_500_000_000))


def two_squares(ids, dtype=np.uint64):
    found = np.zeros((64, 64), dtype)
    found[5:15, 5:15] = ids[0]
    found[30:50, 30:40] = ids[1]
    return found


def sizes(found):
    values, counts = np.unique(found, return_counts=True)
    return sorted(counts[values != 0].tolist())


@pytest.fixture
def image(store):
    made = catalogue.create_project(store, "connectome", patch_size=64)
    return importing.add_array(store, made.id, "slice", np.zeros((64, 64, 1), np.uint8))


@pytest.fixture
def patch(store, image):
    (patch,) = catalogue.patches(store, image.project_id)
    round_rows.add(store, image.project_id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    return patch


@pytest.mark.parametrize("ids", IDS)
def test_no_object_of_a_reference_is_lost(store, image, patch, ids):
    importing.add_reference(store, image, two_squares(ids))
    known = labels.latest_of_image(store, image.id, LabelKind.REFERENCE)
    assert (known.n_objects, sizes(labels.read(store, known))) == (2, [100, 200])
    oracle.answer(store, image.project_id, [patch.id])
    answer = labels.latest_of_patch(store, patch.id, LabelKind.HUMAN)
    assert (answer.n_objects, sizes(labels.read(store, answer))) == (2, [100, 200])


@pytest.mark.parametrize("ids", IDS)
def test_no_object_of_a_submitted_map_is_lost(store, patch, ids):
    made = annotation.submit_labels(store, patch.id, two_squares(ids), "file")
    assert (made.n_objects, sizes(labels.read(store, made))) == (2, [100, 200])
    assert len(annotation.state(store, patch.id).objects) == 2


@pytest.mark.parametrize(("ids", "dtype"), [*((ids, np.uint64) for ids in IDS), ((7, 3_000_000_000), np.uint32)])
@pytest.mark.parametrize("depth", [1, 3])
def test_no_object_of_a_label_file_is_lost(tmp_path, ids, dtype, depth):
    truth = two_squares(ids, dtype)
    stack = truth if depth == 1 else np.stack([truth] * depth)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"[-stack.ndim :]})
    found = simulate.read_reference(tmp_path / "a.tif")
    assert (found.dtype, found.shape, sizes(found)) == (np.int32, stack.shape, [100 * depth, 200 * depth])


@pytest.mark.parametrize(("value", "why"), [(np.float32(1.5), "float32"), (np.int32(-1), "negative")])
def test_what_is_no_label_map_is_refused_before_anything_is_kept(store, image, patch, tmp_path, value, why):
    wrong = np.full((64, 64), value)
    with pytest.raises(InputError, match=f"The reference map of slice holds {why}"):
        importing.add_reference(store, image, wrong)
    assert labels.latest_of_image(store, image.id, LabelKind.REFERENCE) is None
    before = annotation.state(store, patch.id).revision
    with pytest.raises(InputError, match=f"The label map of .* holds {why}"):
        annotation.submit_labels(store, patch.id, wrong, "file")
    assert annotations.head(store, patch.id)[0] == before
    tifffile.imwrite(tmp_path / "a.tif", wrong)
    with pytest.raises(InputError, match=f"a.tif holds {why}"):
        simulate.read_reference(tmp_path / "a.tif")
