"""Looking ahead writes nothing, and a stack is cut where it is asked to be."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alapp.domain import LabelKind
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_ahead, annotation_journal, annotation_pictures
from alapp.stages.annotate import masks
from alapp.storage import annotations, catalogue, labels


@pytest.fixture
def stack(store):
    """A patch of 6 x 32 x 32 whose voxels are 4 z + y + x, in an image that is larger."""
    zz, yy, xx = np.mgrid[:6, :64, :96]
    made = catalogue.create_project(store, "stack", patch_size=32, patch_depth=6)
    importing.add_array(store, made.id, "slope", (4 * zz + yy + xx).astype(np.uint8)[..., None])
    return next(item for item in catalogue.patches(store, made.id) if item.box.y and item.box.x)


def picture(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")).astype(int)


def test_cuts_go_through_the_place(store, stack):
    y, x = 7, 20
    found = annotation_pictures.cuts(store, stack.id, y, x)
    xz, yz = picture(found["xz"]), picture(found["yz"])
    assert xz.shape == (6, stack.box.width)
    assert yz.shape == (stack.box.height, 6)
    # The same window as the slices: both cuts meet them in one line.
    for z in range(6):
        slice_ = picture(annotation_pictures.slice_png(store, stack.id, z))
        assert np.array_equal(xz[z], slice_[y])
        assert np.array_equal(yz[:, z], slice_[:, x])


def test_cuts_that_cannot_be(store, stack, project):
    with pytest.raises(InputError, match="lies outside"):
        annotation_pictures.cuts(store, stack.id, stack.box.height, 0)
    flat = catalogue.patches(store, project.id)[0]
    with pytest.raises(InputError, match="one slice only"):
        annotation_pictures.cuts(store, flat.id, 0, 0)


def test_looking_ahead_reads_the_suggestions_once_and_writes_nothing(store, stack, monkeypatch):
    truth = np.zeros((6, 64, 96), np.int32)
    truth[2:4, 40:50, 60:70] = 7
    labels.add(
        store,
        LabelKind.PSEUDO,
        truth,
        project_id=stack.project_id,
        image_id=stack.image_id,
        backend="x",
        input_hash="x",
    )
    assert annotation_ahead.look_ahead(store, stack.id) == {"z": 3}
    assert annotations.events(store, stack.id) == []

    def unread(*_):
        raise AssertionError("The label map of the whole image was read again.")

    monkeypatch.setattr(labels, "read_around", unread)
    assert list(annotation_journal.begin(store, stack.id, "s").suggestions) == [1]
    assert [row.kind for row in annotations.events(store, stack.id)] == ["open"]


def test_a_patch_will_open_on_the_slice_of_its_unfinished_object(store, stack):
    annotation.accept(store, stack.id, "s", masks.from_array(np.ones((3, 3), bool), (1, 2, 2)))
    annotation.click(store, stack.id, "s", positive=[(20, 20)], z=1)
    assert annotation_ahead.look_ahead(store, stack.id) == {"z": 1}
