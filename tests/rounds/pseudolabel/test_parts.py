"""Slices of a stack outlive a pause of their labelling."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, silent
from alapp.errors import Paused
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.stages.pseudolabel.log_watershed import LogWatershed
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs

SLICES = 6


@pytest.fixture
def project(store):
    """A stack of six slices, of which each differs."""
    made = catalogue.create_project(store, "stack", patch_size=64)
    image = discs(0)[0].astype(np.int16)
    pixels = np.stack([image + z for z in range(SLICES)]).clip(0, 255).astype(np.uint8)
    importing.add_array(store, made.id, "stack", pixels)
    pseudo.decide(store, made.id, "log_watershed", {"diameter": 14})
    return made


@pytest.fixture
def looked(monkeypatch):
    """One entry for each slice that is labelled."""
    seen, real = [], LogWatershed.label_plane

    def label_plane(self, plane, params):
        seen.append(params["diameter"])
        return real(self, plane, params)

    monkeypatch.setattr(LogWatershed, "label_plane", label_plane)
    return seen


def paused_at(number):
    def report(done, total, message=""):
        if f"slice {number} of" in message:
            raise Paused("paused")

    return report


def kept(store, project):
    folder = store.files.project(project.id) / "labels"
    return sorted(folder.glob(".tmp-parts-*/*/*.tif"))


def pause(store, project, number=5):
    with pytest.raises(Paused):
        pseudo.run_all(store, project.id, paused_at(number))


def result(store, project):
    (item,) = labels.latest_by_image(store, project.id, LabelKind.PSEUDO).values()
    return labels.read(store, item)


def test_slices_that_are_finished_are_not_labelled_again_after_a_pause(store, project, looked):
    pause(store, project)
    assert (len(looked), len(kept(store, project))) == (4, 4)
    pseudo.run_all(store, project.id, silent)
    assert len(looked) == SLICES
    stack = np.asarray(catalogue.read_image(store, catalogue.images(store, project.id)[0]))
    assert np.array_equal(result(store, project), LogWatershed().label(stack, {"diameter": 14}))
    assert not list((store.files.project(project.id) / "labels").glob(".tmp*"))


def test_a_slice_whose_file_is_damaged_is_labelled_again(store, project, looked):
    pause(store, project)
    kept(store, project)[0].write_bytes(b"")
    pseudo.run_all(store, project.id, silent)
    assert len(looked) == SLICES + 1


def test_slices_of_another_choice_are_not_taken_and_go(store, project, looked):
    pause(store, project)
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 20})
    pause(store, project, 3)
    assert looked == [14] * 4 + [20] * 2
    assert len(kept(store, project)) == 2
