"""Whether all runs of an experiment see the same images."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from alapp import running
from alapp.domain import VoxelSize, silent
from alapp.errors import Cancelled, InputError
from alapp.experiments import control, manifest, runner, sources
from alapp.experiments.lab import Lab
from alapp.experiments.runs import Result
from alapp.experiments.study import Study
from alapp.jobs import JobState
from alapp.rounds import importing
from alapp.storage import catalogue, experiments
from tests.rounds.conftest import discs, project  # noqa: F401  (fixture)

pytestmark = pytest.mark.usefixtures("fast")


def imported(store, project_id, name, seed):
    pixels, labels = discs(seed)
    image = importing.add_array(store, project_id, name, pixels)
    importing.add_reference(store, image, labels)
    return image


@pytest.fixture
def study(store, project):  # noqa: F811
    return Study(sources.of_project(store, project.id), budgets=(2, 4), strategies=("random",), seeds=(0, 1))


@pytest.fixture
def made(store, study):
    """An experiment on a project, half of which is done."""
    made, _ = control.define(store, "discs", study)

    def stop(done, total, message=""):
        if done >= 4:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        runner.run(store, made.id, stop)
    return made


def states(store, made):
    return [run.state for run in experiments.runs(store, made.id)]


def pseudo_labels_fit(lab):
    """Whether the pseudo-labels of each image lie on its bright discs."""
    maps = lab.pseudo("auto", 0, silent)
    return [image.pixels[..., 0][labels > 0].mean() > 150 for image, labels in zip(lab.images.train, maps, strict=True)]


@pytest.mark.parametrize("workers", [1, 2])
def test_images_that_were_added_are_refused(store, project, made, workers):  # noqa: F811
    for seed in (7, 8):
        imported(store, project.id, f"new_{seed}", seed)
    before = states(store, made)
    with pytest.raises(InputError) as told:
        runner.run(store, made.id, silent, workers)
    assert str(told.value) == (
        "The images are not those that this experiment began with: 2 images were added ('new_7' among them). Its runs "
        "could not be compared with each other. Put the images back as they were, or define another experiment."
    )
    assert states(store, made) == before, "what waits goes on once the images are back"
    for image in catalogue.images(store, project.id)[-2:]:
        catalogue.set_image_deleted(store, image.id, True)
    assert runner.run(store, made.id, silent) == {"done": 8, "failed": 0}
    assert {Result.of(run.result).patches for run in experiments.runs(store, made.id)} == {8}


def test_the_job_tells_of_it(store, project, made):  # noqa: F811
    imported(store, project.id, "new", 7)
    job = running.run_inline(store, control.start(store, made.id))
    assert job.state is JobState.FAILED
    assert "1 image was added ('new')" in job.error


def test_an_image_that_was_removed_is_named_and_may_be_imported_again(store, project, study, made):  # noqa: F811
    lab = Lab(runner.folder(store, made), study, store)
    assert pseudo_labels_fit(lab) == [True, True]
    first = catalogue.images(store, project.id)[0]
    catalogue.set_image_deleted(store, first.id, True)
    with pytest.raises(InputError, match=r"1 image was removed \('image_0'\)\. "):
        runner.run(store, made.id, silent)
    imported(store, project.id, "once more", 0)  # the last of its project, where the test image was
    again = Lab(lab.folder, study, store)
    assert [image.name for image in again.images.train] == ["once more", "image_1"]
    assert [image.name for image in again.images.test] == ["image_2"]
    assert again.images.patches == lab.images.patches
    assert pseudo_labels_fit(again) == [True, True]
    assert runner.run(store, made.id, silent) == {"done": 8, "failed": 0}


def test_other_labels_of_an_image_are_refused(store, project, made):  # noqa: F811
    image = catalogue.images(store, project.id)[1]
    importing.add_reference(store, image, np.ones((128, 128), np.int32))
    with pytest.raises(InputError, match=r"1 image was changed in pixels or labels \('image_1'\)\. "):
        runner.run(store, made.id, silent)


def test_an_image_for_testing_counts_too(store, source, tmp_path):
    made = runner.create(store, "discs", Study(source, (2,), ("random",), seeds=(0,), full=False))
    runner.run(store, made.id, silent)
    tifffile.imwrite(tmp_path / "images" / "3.tif", discs(9)[0][..., 0])
    runner.extend(store, made, Study(source, (2,), ("random",), seeds=(0, 1), full=False))
    with pytest.raises(InputError, match=r"pixels or labels \('3'\)"):
        runner.run(store, made.id, silent)


def test_what_is_done_asks_for_no_images(store, source):
    made = runner.create(store, "discs", Study(source, (2,), ("random",), seeds=(0,), full=False))
    runner.run(store, made.id, silent)
    shutil.rmtree(source.images)
    assert runner.run(store, made.id, silent) == {"done": 2, "failed": 0}


def test_other_voxels_and_other_patches_are_refused(source, tmp_path):
    folder = tmp_path / "lab"
    manifest.settled(folder, source)
    with pytest.raises(InputError, match="the voxel size was changed"):
        manifest.settled(folder, replace(source, voxel_size=(None, 0.2, 0.2)))
    with pytest.raises(InputError, match="other patches"):
        manifest.settled(folder, replace(source, patch=32))
    assert manifest.settled(folder, source).voxel_size == VoxelSize()


def test_an_experiment_of_an_older_version_takes_the_images_that_are_there(store, made):
    path = runner.folder(store, made) / manifest.FILE
    known = json.loads(path.read_text())
    path.unlink()
    assert runner.run(store, made.id, silent) == {"done": 8, "failed": 0}
    assert json.loads(path.read_text()) == known
    assert not list(path.parent.glob(".tmp*"))


def test_many_may_settle_the_images_at_once(source, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: manifest.settled(tmp_path / "lab", source), range(8)))
    assert {len(images.patches) for images in found} == {12}
