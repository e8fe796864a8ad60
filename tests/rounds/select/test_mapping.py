"""The map of patches: coordinates and doubt are made once, kept in files, and made again only when they are stale."""

import numpy as np
import pytest

from alapp.domain import LabelKind, silent
from alapp.errors import Cancelled
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import mapping, selection
from alapp.rounds.train import training
from alapp.storage import catalogue, labels


@pytest.fixture
def picked(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    return selection.run_select(store, project.id, silent, budget=5)["patches"]


@pytest.fixture
def trained(store, project, picked):
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in picked:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")
    training.run_round(store, project.id, silent)
    return picked


def files(store, project):
    return sorted(path.name for path in (store.files.project(project.id) / "embeddings").glob("map-*.npy"))


def test_before_the_first_selection_there_is_no_map(store, project):
    assert mapping.patch_map(store, project.id) == []
    assert mapping.missing(store, project.id) == ""
    mapping.run_map(store, project.id, silent)


def test_the_map_tells_what_was_done_with_each_patch(store, project, trained):
    points = mapping.patch_map(store, project.id)
    assert {point.status for point in points} == {"labelled", "unlabelled", "validation"}
    assert [point.patch_id for point in points if point.round_number == 1] == sorted(trained)
    assert all(point.doubt is None for point in points)


def test_a_map_is_made_once_and_is_the_same_the_second_time(store, project, picked):
    first = mapping.missing(store, project.id)
    assert first
    mapping.run_map(store, project.id, silent)
    assert mapping.missing(store, project.id) == ""
    (drawn,) = files(store, project)
    path = store.files.project(project.id) / "embeddings" / drawn
    before, stamp = np.load(path), path.stat().st_mtime_ns
    mapping.run_map(store, project.id, silent)
    assert path.stat().st_mtime_ns == stamp
    path.unlink()
    assert mapping.missing(store, project.id) == first
    mapping.run_map(store, project.id, silent)
    np.testing.assert_array_equal(np.load(path), before)


def test_the_doubt_is_that_of_the_model_in_use_and_old_files_go(store, project, trained):
    mapping.run_map(store, project.id, silent)
    assert len(files(store, project)) == 2
    stale = store.files.project(project.id) / "embeddings" / "map-doubt-0123.npy"
    np.save(stale, np.zeros(3, np.float32))
    (made,) = [name for name in files(store, project) if name.startswith("map-doubt") and name != stale.name]
    (stale.parent / made).unlink()
    assert mapping.missing(store, project.id)
    mapping.run_map(store, project.id, silent)
    assert not stale.exists()
    doubts = [point.doubt for point in mapping.patch_map(store, project.id)]
    # The stand-in is certain of every pixel.
    assert doubts == [0.0] * 12
    assert mapping.doubt_of(store, catalogue.patches(store, project.id)[0]) == 0.0


def test_a_cancelled_map_leaves_nothing_half_made(store, project, trained):
    def stop(done, total, message=""):
        if "unsure" in message:
            raise Cancelled("The work was cancelled.")

    with pytest.raises(Cancelled):
        mapping.run_map(store, project.id, stop)
    assert [name[:6] for name in files(store, project)] == ["map-2d"]
    assert mapping.missing(store, project.id)
