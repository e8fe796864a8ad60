"""Which model files are kept, what the disk holds, freeing it, and trainings that ran out of memory."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from alapp import doctor, jobs
from alapp.domain import LabelKind, silent
from alapp.errors import InputError, NotReadyError, OutOfMemoryError
from alapp.jobs import JobState
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import lineage, memory, retention, training, training_cases
from alapp.stages.train.base import TrainResult
from alapp.stages.train.cases import identifier
from alapp.stages.train.workspace import DATASET, Layout
from alapp.storage import catalogue, dead_jobs, labels, models
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from alapp.ui.train import disk, train
from alapp.ui.train import models as model_list
from tests.rounds.conftest import discs_project, stand_ins


def answer(store, patch_ids):
    for patch_id in patch_ids:
        patch = catalogue.patch(store, patch_id)
        truth = labels.read(store, labels.latest_of_image(store, patch.image_id, LabelKind.REFERENCE))
        annotation.submit_labels(store, patch_id, catalogue.crop(truth, patch), "oracle")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The state folder of `trained`, made once."""
    store = Store(tmp_path_factory.mktemp("template") / "state")
    project = discs_project(store)
    catalogue.update_project(store, project.id, keep_checkpoints=99)
    pseudo.decide(store, project.id, "log_watershed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stand_ins(monkeypatch)
        training.run_pretrain(store, project.id, silent)
        answer(store, selection.run_select(store, project.id, silent, 5)["patches"])
        for iterations in range(3, 9):
            training.run_round(store, project.id, silent, iterations)
    return store.root, project


@pytest.fixture
def trained(store, template, fast):
    """Pre-trained, and a first round trained with six lengths: seven models, none removed yet."""
    root, project = template
    shutil.copytree(root, store.root, dirs_exist_ok=True)
    return project


def there(store, project):
    """Whether the file of each model is there."""
    return [store.files.resolve(item.path).exists() for item in models.checkpoints(store, project.id)]


def score_only(store, checkpoint_id, f1):
    """Let one model be the best."""
    store.execute("UPDATE score SET tp_50 = 0, fp_50 = 9, fn_50 = 9")
    store.execute("UPDATE score SET tp_50 = 9, fp_50 = 0, fn_50 = 0 WHERE checkpoint_id = ?", (checkpoint_id,))


def test_the_rule_keeps_the_newest_the_best_the_pretrained_and_the_pinned(store, trained):
    found = models.checkpoints(store, trained.id)
    assert there(store, trained) == [True] * 7
    score_only(store, found[2].id, 1.0)
    models.pin_checkpoint(store, found[3].id, True)
    retention.set_kept(store, trained.id, 2)
    reasons = retention.kept(store, trained.id)
    assert [reasons.get(item.id) for item in found] == [
        "pre-trained", None, "best score", "kept by you", None, "among the newest", "in use",
    ]  # fmt: skip
    assert retention.apply(store, trained.id) == 2
    assert there(store, trained) == [True, False, True, True, False, True, True]
    assert [item.removed_at is None for item in models.checkpoints(store, trained.id)] == there(store, trained)
    assert retention.apply(store, trained.id) == 0


def test_what_removed_models_found_stays(store, trained):
    gone = models.checkpoints(store, trained.id)[1]
    scores, maps = models.scores(store, gone.id), labels.of_checkpoint(store, gone.id)
    retention.set_kept(store, trained.id, 1)
    score_only(store, models.checkpoints(store, trained.id)[-1].id, 1.0)
    retention.apply(store, trained.id)
    assert models.checkpoint(store, gone.id).removed_at is not None
    assert len(models.scores(store, gone.id)) == len(scores) > 0
    assert labels.of_checkpoint(store, gone.id) == maps
    assert all(labels.read(store, item).any() for item in maps.values())
    assert not [line for line in doctor.diagnose(store, backends=False) if line.title == "Missing files"]
    assert "file deleted" in model_list.table(lineage.models_of(store, trained.id))


def test_the_next_training_finds_what_it_starts_from(store, trained, fast):
    retention.set_kept(store, trained.id, 1)
    score_only(store, models.checkpoints(store, trained.id)[-1].id, 1.0)
    retention.apply(store, trained.id)
    answer(store, selection.run_select(store, trained.id, silent, 3)["patches"])
    training.run_round(store, trained.id, silent)
    assert fast[0].seen[-1]["start_from"].exists()
    training.run_round(store, trained.id, silent, 9)
    assert fast[0].seen[-1]["start_from"].exists()


def test_the_rule_is_applied_after_each_training(store, trained):
    retention.set_kept(store, trained.id, 1)
    training.run_round(store, trained.id, silent, 9)
    assert there(store, trained)[-1]
    assert not all(there(store, trained))


def test_a_removed_model_comes_back_when_it_is_trained_again(store, trained):
    gone = models.checkpoints(store, trained.id)[1]
    retention.set_kept(store, trained.id, 1)
    score_only(store, models.checkpoints(store, trained.id)[-1].id, 1.0)
    retention.apply(store, trained.id)
    models.pin_checkpoint(store, gone.id, True)
    training.run_round(store, trained.id, silent, gone.iterations)
    assert len(models.checkpoints(store, trained.id)) == 7
    again = models.checkpoint(store, gone.id)
    assert again.removed_at is None
    store.files.verify(again.path, again.sha256)


@pytest.mark.parametrize("number", [0, 2.5, None, "many", 10**6])
def test_a_number_that_cannot_be_kept_is_refused(store, project, number):
    with pytest.raises(InputError, match="between 1 and"):
        retention.set_kept(store, project.id, number)


def prepared(store, project, keys):
    """Preprocessed files of cases with these identifiers."""
    layout = Layout(store.files.project(project.id) / "nnunet" / "quick")
    folder = layout.cases("nnUNetPlans_2d")
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{key}.b2nd" for key in keys]
    for path in made:
        path.write_bytes(b"x" * 1000)
    assert DATASET in made[0].parts
    return made


def test_only_cases_of_superseded_labels_are_removed(store, trained):
    current = training_cases.human_cases(store, trained)[0]
    fresh, stale = prepared(store, trained, [identifier(current), f"{current.key}--0123456789ab"])
    runs = store.files.project(trained.id) / "nnunet" / "quick" / "runs"
    given_up, waiting = runs / ("0" * 16), runs / ("f" * 16)
    for folder, age in ((given_up, 1000), (waiting, -1000)):
        folder.mkdir(parents=True)
        (folder / "checkpoint_latest.pth").write_bytes(b"y" * 500)
        os.utime(folder / "checkpoint_latest.pth", (time.time() - age, time.time() - age))
    found = retention.removable(store, trained.id)
    assert found.cases == (stale,)
    assert (found.case_bytes, found.unfinished_bytes, found.checkpoints) == (1000, 500, ())
    assert retention.free(store, trained.id).total == 1500
    assert fresh.exists()
    assert not stale.exists()
    assert not given_up.exists()
    assert (waiting / "checkpoint_latest.pth").exists()
    assert retention.removable(store, trained.id).total == 0


def test_nothing_is_freed_while_a_job_is_not_finished(store, trained):
    job = jobs.enqueue(store, "train", trained.id)
    for _ in range(2):
        with pytest.raises(NotReadyError, match="Training the round"):
            retention.free(store, trained.id)
        jobs.pause(store, job.id)
    jobs.cancel(store, job.id)
    retention.free(store, trained.id)


def test_the_disk_use_is_that_of_the_files(store, trained):
    prepared(store, trained, ["gt_1--0123456789ab"])
    used = retention.usage(store, trained.id)
    root = store.files.project(trained.id)
    assert sum(used.values()) == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert used["cases"] == 1000
    assert used["images"] == sum(path.stat().st_size for path in (root / "images").iterdir())
    assert all(used[kind] > 0 for kind in ("labels", "models", "probabilities"))


def test_the_page_says_what_would_be_removed_before_it_is(store, trained):
    nothing, answers, *_ = disk.show_removable(store, trained.id)
    assert "Nothing can be removed" in nothing.value
    assert not answers.visible
    retention.set_kept(store, trained.id, 1)
    score_only(store, models.checkpoints(store, trained.id)[-1].id, 1.0)
    question, answers, button, about = disk.show_removable(store, trained.id)
    assert "5 older models" in question.value
    assert "round 1, quick, 3 iterations" in question.value
    assert answers.visible
    assert button.value.startswith("Remove 0.0")
    assert all(there(store, trained))
    for other in (None, [trained.id + 1, about[1]], [trained.id, "Something else."]):
        shown, *_, changed = disk.free(store, trained.id, other, 4)
        assert (shown.value, changed) == (question.value, 4)
        assert retention.removable(store, trained.id).total
    assert disk.free(store, trained.id, about, 4)[-1] == 5
    assert there(store, trained) == [True] + [False] * 5 + [True]


def test_models_are_pinned_and_unpinned(store, trained):
    first, second = (item.id for item in models.checkpoints(store, trained.id)[:2])
    disk.pin(store, trained.id, [second])
    assert [item.pinned for item in models.checkpoints(store, trained.id)][:2] == [False, True]
    disk.pin(store, trained.id, [first])
    assert [item.pinned for item in models.checkpoints(store, trained.id)][:2] == [True, False]


def attempts(fails):
    """A training that runs out of memory `fails` times, and the options it was called with."""
    seen = []

    def once(options):
        seen.append(options)
        if len(seen) <= fails:
            raise OutOfMemoryError("Memory ran out while training.")
        return TrainResult(None, 1, 1.0)

    return once, seen


def change(number):
    return {1: "batches of 2 instead of 4", 2: "windows of 64 × 64 pixels instead of 128 × 128"}.get(number)


def test_a_training_is_made_smaller_twice_and_the_user_is_told(store, project):
    once, seen = attempts(2)
    memory.within_memory(store, project.id, "key", change, once)
    assert seen == [None, {"reduction": 1}, {"reduction": 2}]
    assert [sentence for _, sentence in models.memory_notes(store, project.id, "key")] == [
        "Memory ran out; training went on with batches of 2 instead of 4.",
        "Memory ran out; training went on with windows of 64 × 64 pixels instead of 128 × 128.",
    ]
    # Taken up again, it begins with what fitted.
    once, seen = attempts(0)
    memory.within_memory(store, project.id, "key", change, once)
    assert seen == [{"reduction": 2}]


@pytest.mark.parametrize("most", [change, lambda number: change(number) if number == 1 else None])
def test_it_is_not_tried_for_ever(store, project, most):
    once, seen = attempts(9)
    with pytest.raises(OutOfMemoryError):
        memory.within_memory(store, project.id, "key", most, once)
    assert len(seen) == (3 if most is change else 2)


def test_a_training_that_the_system_ended_goes_on_smaller(store, project):
    once, seen = attempts(0)
    memory.within_memory(store, project.id, "key", change, once, killed=1)
    memory.within_memory(store, project.id, "key", change, once, killed=1)  # interrupted, and taken up again
    assert seen == [{"reduction": 1}] * 2
    ((_, sentence),) = models.memory_notes(store, project.id, "key")
    assert sentence == (
        "The system ended the training, probably because memory ran out; training went on with batches of 2 instead "
        "of 4."
    )


def test_each_start_of_a_training_that_the_system_ends_tries_smaller_portions(store, project):
    class Killed(BaseException):
        pass

    tried = []

    def killed_until_it_fits(options):
        tried.append((options or {}).get("reduction", 0))
        if tried[-1] < 2:
            raise Killed
        return TrainResult(None, 1, 1.0)

    def started():
        """A job that is tried until it ends; the system ends its process because memory ran out."""
        job = jobs.enqueue(store, "train", project.id)
        while job.active:
            job = rows.claim(store, "elsewhere:1:t", job.id)
            try:
                memory.within_memory(store, project.id, "key", change, killed_until_it_fits, job.killed)
            except Killed:
                job = dead_jobs.recover(store, job, out_of_memory=True)
            else:
                rows.finish(store, job.id, job.worker, JobState.DONE)
                job = jobs.get(store, job.id)
        return job.state

    assert started() is JobState.FAILED
    assert tried == [0, 1]
    assert started() is JobState.DONE
    assert tried == [0, 1, 1, 2]
    assert [reduction for reduction, _ in models.memory_notes(store, project.id, "key")] == [1, 2]


def test_the_page_tells_that_memory_ran_out(store, trained):
    job = jobs.enqueue(store, "train", trained.id)
    newest = models.latest_checkpoint(store, trained.id)
    models.add_memory_note(store, trained.id, newest.input_hash, 1, "Memory ran out; training went on smaller.")
    assert "Memory ran out" in train.memory_text(store, trained.id, job)
    jobs.cancel(store, job.id)
    store.execute("DELETE FROM job")
    assert "Memory ran out; training went on smaller." in train.status_text(store, trained.id, None)
