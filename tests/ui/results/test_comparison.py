"""The comparison of whole images reads no more of a label map than it draws."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind
from alapp.rounds import importing
from alapp.storage import catalogue, labels, models
from alapp.storage.files import Files
from alapp.ui.parts import gallery, sampled
from alapp.ui.results import comparison


@pytest.fixture(params=[(1500, 70), (7, 90, 70)], ids=["2D", "3D"])
def predicted(request, store):
    """An image, the id of a model that found 3 objects in it, and these."""
    project = catalogue.create_project(store, "p", patch_size=32, patch_depth=2)
    image = importing.add_array(store, project.id, "a", np.zeros((*request.param, 1), np.uint8))
    found = np.zeros(request.param, np.int32)
    found[..., 5:60, 5:30], found[..., 5:60, 40:60], found[2, ..., 65:] = 3, 9, 200
    of = {"project_id": project.id, "preset": "quick", "input_hash": ""}
    plan = models.add_plan(store, {**of, "workspace": "", "summary": {}})
    made = {"plan_id": plan.id, "iterations": 1, "n_cases": 1, "seed": 0, "seconds": 1, "path": "", "sha256": ""}
    checkpoint = models.add_checkpoint(store, {**of, **made})
    labels.add(
        store, LabelKind.PREDICTED, found, project_id=project.id, image_id=image.id, checkpoint_id=checkpoint.id,
        backend="b", input_hash="h",
    )  # fmt: skip
    sampled._read.cache_clear()
    return catalogue.image(store, image.id), checkpoint.id, found


@pytest.fixture
def unpacked(monkeypatch):
    """Sizes of what is read of label maps."""
    sizes, real = [], Files.read_labels

    def watched(self, path, window=None):
        found = real(self, path, window)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(Files, "read_labels", watched)
    monkeypatch.setattr(labels, "_AT_ONCE", 9000)
    return sizes


def test_little_of_a_map_is_in_memory_at_a_time(store, predicted, unpacked):
    image, checkpoint_id, found = predicted
    shown = comparison._stack(store, checkpoint_id, image.project_id, ("image", image.id))
    assert "3 objects" in shown.caption
    assert unpacked == []
    z = 2 if image.is_3d else None
    drawn = shown.draw(z)
    whole = gallery.Comparison("a", shown.pixels, found, None, "", channels=shown.channels).draw(z)
    assert np.array_equal(drawn, whole)
    gallery._whole.__wrapped__(store, image, checkpoint_id, 64)
    assert unpacked
    assert max(unpacked) <= 9000


def test_the_same_slice_is_read_once(store, predicted, unpacked):
    image, checkpoint_id, _ = predicted
    view, z = ("image", image.id), 2 if image.is_3d else None
    first = comparison._stack(store, checkpoint_id, image.project_id, view).draw(z)
    count = len(unpacked)
    assert np.array_equal(comparison._stack(store, checkpoint_id, image.project_id, view).draw(z), first)
    assert not np.array_equal(comparison._stack(store, checkpoint_id, image.project_id, view).draw(z, False), first)
    assert len(unpacked) == count


@pytest.mark.parametrize("predicted", [(7, 90, 70)], indirect=True, ids=["3D"])
def test_slices_differ(store, predicted):
    image, checkpoint_id, _ = predicted
    shown = comparison._stack(store, checkpoint_id, image.project_id, ("image", image.id))
    assert not np.array_equal(shown.draw(2), shown.draw(3))
