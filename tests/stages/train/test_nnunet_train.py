import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from alapp.domain import Preset, VoxelSize, silent
from alapp.errors import Cancelled, InputError, NotReadyError, ResourceError
from alapp.stages.train import workspace as workspace_module
from alapp.stages.train.checkpoints import FINAL, LATEST, PREVIOUS, read_checkpoint
from alapp.stages.train.loading import Batches
from alapp.stages.train.nnunet import NnUNet
from tests.stages.train import nnunet_discs
from tests.stages.train.nnunet_discs import GPU, case, disc_cases, discs, plan_small, stack


def train(workspace, out, iterations=12, cases=None, report=silent, log=lambda entry: None, seed=0, **more):
    cases = disc_cases() if cases is None else cases
    start_from, options = more.get("start_from"), more.get("options")
    return NnUNet("cpu").train(workspace, cases, out, iterations, seed, start_from, report, log, options)


def weights(path):
    return read_checkpoint(path)["network_weights"]


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def stop_at(iteration):
    def report(done, total, message):
        if done >= iteration:
            raise Cancelled("stopped")

    return report


@pytest.fixture(scope="module")
def finished(planned, tmp_path_factory):
    """An uninterrupted run of 12 iterations with its log and reports."""
    root, entries, reports = tmp_path_factory.mktemp("finished"), [], []
    workspace = shutil.copytree(planned, root / "workspace")  # other tests expect that nothing is prepared in theirs
    result = train(workspace, root / "run", report=lambda *step: reports.append(step), log=entries.append)
    return result, entries, reports


def test_training_lowers_the_loss_and_leaves_one_checkpoint(finished):
    result, entries, reports = finished
    assert [(entry.epoch, entry.iteration) for entry in entries] == [(0, 4), (1, 8), (2, 12)]
    assert entries[-1].loss < entries[0].loss
    assert entries[-1].learning_rate < entries[0].learning_rate
    assert [entry.seconds for entry in entries] == sorted(entry.seconds for entry in entries)
    assert reports[-1][:2] == (12, 12)
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)
    assert result.checkpoint.name == FINAL
    assert not [name for name in (LATEST, PREVIOUS) if (result.checkpoint.parent / name).exists()]


def test_a_finished_run_returns_at_once(finished, planned):
    result, _, _ = finished
    changed = result.checkpoint.stat().st_mtime_ns
    said = []
    assert train(planned, result.checkpoint.parent, log=said.append) == result
    assert not said
    assert result.checkpoint.stat().st_mtime_ns == changed
    with pytest.raises(InputError, match="another training"):
        train(planned, result.checkpoint.parent, iterations=13)


def test_same_seed_gives_the_same_network_and_leaves_the_callers_randomness_alone(finished, workspace, tmp_path):
    np.random.seed(5)
    expected = np.random.RandomState(5).rand()
    again = train(workspace, tmp_path / "again")
    assert np.random.rand() == expected
    assert same(weights(again.checkpoint), weights(finished[0].checkpoint))
    other = train(workspace, tmp_path / "other", iterations=4, seed=1)
    assert not same(weights(other.checkpoint), weights(again.checkpoint))


def test_cancelled_run_goes_on_to_the_same_network(finished, workspace, tmp_path):
    out, entries = tmp_path / "run", []
    with pytest.raises(Cancelled):
        train(workspace, out, report=stop_at(8))
    assert (out / LATEST).exists()
    assert (out / PREVIOUS).exists()
    result = train(workspace, out, log=entries.append)
    assert [entry.iteration for entry in entries] == [12]
    assert same(weights(result.checkpoint), weights(finished[0].checkpoint))


def test_truncated_checkpoint_falls_back_to_the_one_before(finished, workspace, tmp_path):
    out, entries = tmp_path / "run", []
    with pytest.raises(Cancelled):
        train(workspace, out, report=stop_at(8))
    content = (out / LATEST).read_bytes()
    (out / LATEST).write_bytes(content[: len(content) // 2])
    result = train(workspace, out, log=entries.append)
    assert [entry.iteration for entry in entries] == [8, 12]
    assert same(weights(result.checkpoint), weights(finished[0].checkpoint))


def test_unfinished_run_with_other_cases_starts_over(workspace, tmp_path):
    entries = []
    with pytest.raises(Cancelled):
        train(workspace, tmp_path / "run", report=stop_at(4))
    train(workspace, tmp_path / "run", iterations=8, cases=disc_cases(2), log=entries.append)
    assert [entry.iteration for entry in entries] == [4, 8]


def test_killed_process_is_resumed(finished, workspace, tmp_path):
    out, entries = tmp_path / "run", []
    command = [sys.executable, nnunet_discs.__file__, str(workspace), str(out), "4000"]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        deadline = time.monotonic() + 120
        while not (out / PREVIOUS).exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not (out / FINAL).exists()
    epochs = max(
        checkpoint["current_epoch"] for name in (LATEST, PREVIOUS) if (checkpoint := read_checkpoint(out / name))
    )

    def stop_after_an_epoch(entry):
        entries.append(entry)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        train(workspace, out, iterations=4000, log=stop_after_an_epoch)
    assert entries[0].epoch == epochs
    assert entries[0].iteration == 4 * (epochs + 1)


def test_fine_tuning_starts_from_all_weights(finished, workspace, tmp_path):
    start = finished[0].checkpoint
    tuned = train(workspace, tmp_path / "run", 1, start_from=start, options={"learning_rate": 1e-9}).checkpoint
    for name, value in weights(start).items():
        torch.testing.assert_close(weights(tuned)[name], value, atol=1e-6, rtol=0)


def test_weights_of_another_network_are_refused(finished, tmp_path):
    plan_small(tmp_path / "rgb", disc_cases(channels=3))
    with pytest.raises(InputError, match="another network configuration"):
        train(tmp_path / "rgb", tmp_path / "run", cases=disc_cases(channels=3), start_from=finished[0].checkpoint)


def test_cases_of_weight_zero_are_never_drawn(workspace, tmp_path):
    image, labels = discs(0)
    poison = case("pl_bad", np.full_like(image, 1e30), labels)
    options = {"weights": {"pl_bad": 0.0}}
    good = disc_cases()
    assert train(workspace, tmp_path / "run", 4, cases=[*good, poison], options=options).iterations == 4
    with pytest.raises(InputError, match="positive"):
        train(workspace, tmp_path / "x", 4, cases=good, options={"weights": {one.key: 0.0 for one in good}})


def test_empty_small_and_black_cases_train(workspace, tmp_path):
    image, labels = discs(0)
    odd = [
        case("empty", image, np.zeros_like(labels)),
        case("small", image[:20, :30], labels[:20, :30]),
        case("black", np.zeros_like(image), np.zeros_like(labels)),
    ]
    entries = []
    train(workspace, tmp_path / "run", 8, cases=odd, log=entries.append)
    assert np.isfinite([entry.loss for entry in entries]).all()


def test_batches_can_be_made_ahead(workspace, tmp_path):
    entries = []
    train(workspace, tmp_path / "run", 8, log=entries.append, options={"threads": 2})
    assert [entry.iteration for entry in entries] == [4, 8]
    with pytest.raises(Cancelled):
        train(workspace, tmp_path / "stopped", 8, report=stop_at(4), options={"threads": 2})


def test_order_of_the_cases_does_not_matter(finished, planned):
    result, _, _ = finished
    assert train(planned, result.checkpoint.parent, cases=disc_cases()[::-1]) == result


def test_stack_trains_in_3d(tmp_path):
    voxel = VoxelSize(z=1.0, y=0.5, x=0.5)
    cases = [case(f"gt_{i}", *stack(i, slices=8, size=32), voxel=voxel) for i in range(2)]
    summary = plan_small(tmp_path / "w", cases, Preset.QUICK, GPU)
    assert summary.configuration == "3d_fullres"
    result = train(tmp_path / "w", tmp_path / "run", 2, cases=cases)
    prob = NnUNet("cpu").predict(tmp_path / "w", result.checkpoint, cases[0].load()[0], silent)
    assert prob.shape == (3, 8, 32, 32)


def test_nothing_to_train_on_is_said(workspace, tmp_path):
    with pytest.raises(NotReadyError, match="no labelled patch"):
        train(workspace, tmp_path / "run", cases=[])
    with pytest.raises(NotReadyError, match="not configured"):
        train(tmp_path / "nowhere", tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "Memory ran out while training"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "Memory ran out"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "Memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device"), "is full"),
    ],
)
def test_lack_of_memory_or_disk_is_a_sentence(tmp_path, error, sentence):
    with pytest.raises(ResourceError, match=sentence), workspace_module.resources(tmp_path, "training"):
        raise error


def test_other_errors_are_not_disguised(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), workspace_module.resources(tmp_path, "training"):
        raise RuntimeError("a bug")


def test_batches_ahead_come_in_order_and_stop():
    class Counter:
        made = 0

        def generate_train_batch(self):
            self.made += 1
            return {"number": self.made}

    counter = Counter()
    batches = Batches(counter, threads=1)
    assert [next(batches)["number"] for _ in range(5)] == [1, 2, 3, 4, 5]
    batches.close()
    assert counter.made <= 7


def test_log_of_the_run_is_kept(finished):
    log = (finished[0].checkpoint.parent / "training_log.txt").read_text()
    assert "epoch 2: iteration 12" in log


def test_summary_is_json(planned):
    assert json.loads((planned / "plan.json").read_text())["summary"]["border_px"] == 1
