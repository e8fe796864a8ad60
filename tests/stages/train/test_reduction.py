"""Smaller portions, the check of the disk, and what a training says while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from alapp.domain import Box, silent
from alapp.errors import Cancelled, DiskFullError, OutOfMemoryError, Paused
from alapp.stages.train import checkpoints, predict, reduction
from alapp.stages.train.checkpoints import LATEST, PREVIOUS, read_checkpoint
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.predict import ObjectPredictor
from alapp.stages.train.trainer import ObjectTrainer
from alapp.stages.train.watching import SafePoints, TrainingDice
from tests.stages.train import nnunet_discs
from tests.stages.train.nnunet_discs import disc_cases

ROOT = Path(__file__).parents[3]


def plan_of(batch: int, window: list[int], strides: list[list[int]]) -> dict:
    kwargs = {"strides": strides}
    configuration = {"batch_size": batch, "patch_size": window, "architecture": {"arch_kwargs": kwargs}}
    return {"configuration": "2d", "nnunet": {"configurations": {"2d": configuration}}}


def train(workspace, out, iterations=12, report=silent, log=lambda entry: None, options=None):
    return NnUNet("cpu").train(workspace, disc_cases(), out, iterations, 0, None, report, log, options)


def stop_at(iteration, error=Cancelled):
    def report(done, total, message):
        if done >= iteration:
            raise error("stopped")

    return report


FIVE_STAGES = [[1, 1], *([[2, 2]] * 4)]


def test_the_batch_shrinks_first_and_then_the_window():
    plan = plan_of(4, [128, 128], FIVE_STAGES)
    assert [reduction.portions(plan, n) for n in range(3)] == [(4, (128, 128)), (2, (128, 128)), (2, (64, 64))]
    assert reduction.difference(plan, 1) == "batches of 2 instead of 4"
    assert reduction.difference(plan, 2) == "windows of 64 × 64 pixels instead of 128 × 128"


def test_a_window_keeps_two_pixels_at_the_bottom_of_the_network():
    plan = plan_of(2, [48, 32], FIVE_STAGES)
    assert reduction.portions(plan, 1) == (2, (48, 32))
    assert reduction.difference(plan, 1) is None
    flat = plan_of(2, [16, 128, 128], [[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    assert reduction.portions(flat, 1) == (2, (8, 64, 64))


def test_a_reduced_plan_leaves_the_first_as_it_is():
    plan = plan_of(5, [128, 128], FIVE_STAGES)
    smaller = reduction.reduced(plan, 1)["nnunet"]["configurations"]["2d"]
    assert (smaller["batch_size"], smaller["patch_size"]) == (2, [128, 128])
    assert plan["nnunet"]["configurations"]["2d"]["batch_size"] == 5


def test_a_training_goes_on_in_smaller_portions(workspace, tmp_path, monkeypatch):
    """What memory cannot hold is the batch of 4 windows: the run goes on with 2, from its last epoch."""
    path = workspace / "plan.json"
    plan = json.loads(path.read_text())
    plan["nnunet"]["configurations"][plan["configuration"]]["batch_size"] = 4
    path.write_text(json.dumps(plan))
    sizes, entries = [], []
    real = ObjectTrainer.train_step

    def train_step(self, batch):
        sizes.append(batch["data"].shape[0])
        if len(sizes) > 5 and batch["data"].shape[0] > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return real(self, batch)

    monkeypatch.setattr(ObjectTrainer, "train_step", train_step)
    with pytest.raises(OutOfMemoryError, match="Memory ran out"):
        train(workspace, tmp_path / "run", log=entries.append)
    assert NnUNet("cpu").reduction(workspace, 1) == "batches of 2 instead of 4"
    train(workspace, tmp_path / "run", log=entries.append, options={"reduction": 1})
    assert [entry.iteration for entry in entries] == [4, 8, 12]
    assert sizes == [4] * 6 + [2] * 8


def test_what_helps_when_memory_runs_out_is_told(workspace, tmp_path, monkeypatch):
    def train_step(self, batch):
        raise MemoryError

    monkeypatch.setattr(ObjectTrainer, "train_step", train_step)
    with pytest.raises(OutOfMemoryError) as told:
        train(workspace, tmp_path / "run")
    assert str(told.value) == (
        "Memory ran out while training. Close other programs and try again, or make the plan anew with fewer “Windows "
        "a batch” or a smaller “Window”, under “For experts” on the Train tab."
    )


def test_a_full_disk_is_told_before_the_training(workspace, tmp_path, monkeypatch):
    free = reduction.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(reduction.shutil, "disk_usage", lambda path: free._replace(free=50 * 2**20))
    with pytest.raises(DiskFullError, match="52 MB free, but this training needs"):
        train(workspace, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_disk_that_fills_up_leaves_nothing_half_written(workspace, tmp_path, monkeypatch):
    out, entries = tmp_path / "run", []
    real = os.fsync

    def fsync(descriptor):
        if entries:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFullError, match="is full"):
        train(workspace, out, log=entries.append)
    assert len(entries) == 1
    assert sorted(path.name for path in out.iterdir()) == [PREVIOUS, "training_log.txt"]
    monkeypatch.setattr(os, "fsync", real)
    train(workspace, out, log=entries.append)
    assert [entry.iteration for entry in entries] == [4, 8, 12]


def test_two_damaged_checkpoints_start_over_and_the_log_says_so(workspace, tmp_path, caplog):
    out = tmp_path / "run"
    with pytest.raises(Cancelled):
        train(workspace, out, report=stop_at(8))
    for name, share in ((LATEST, 0.9), (PREVIOUS, 0.0)):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: int(share * len(content))])
    entries = []
    train(workspace, out, log=entries.append)
    assert [entry.iteration for entry in entries] == [4, 8, 12]
    assert "starts from the beginning" in (out / "training_log.txt").read_text()
    assert "starts from the beginning" in caplog.text


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_checkpoint_cut_anywhere_is_not_read(workspace, tmp_path, kept):
    out = tmp_path / "run"
    with pytest.raises(Cancelled):
        train(workspace, out, report=stop_at(4))
    content = (out / LATEST).read_bytes()
    (out / LATEST).write_bytes(content[:kept])
    assert read_checkpoint(out / LATEST) is None


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")])
def test_memory_that_runs_out_while_a_checkpoint_is_read_costs_no_progress(workspace, tmp_path, monkeypatch, error):
    out = tmp_path / "run"
    with pytest.raises(Cancelled):
        train(workspace, out, report=stop_at(4))

    def fails(*_, **__):
        raise error

    with monkeypatch.context() as full:
        full.setattr(checkpoints.torch, "load", fails)
        with pytest.raises(OutOfMemoryError, match="Memory ran out while training"):
            train(workspace, out)
    entries = []
    train(workspace, out, log=entries.append)
    assert [entry.iteration for entry in entries] == [8, 12]


def test_a_process_killed_while_it_writes_a_checkpoint_is_resumed(workspace, tmp_path):
    out, entries = tmp_path / "run", []
    script = (
        "import os, runpy, sys, time\n"
        "real = os.fsync\n"
        "def fsync(descriptor):\n"
        "    if os.path.exists(sys.argv[2] + '/checkpoint_previous.pth'):\n"
        "        open(sys.argv[2] + '/writing', 'w').close(); time.sleep(300)\n"
        "    real(descriptor)\n"
        "os.fsync = fsync\n"
        "sys.argv = sys.argv[:1] + sys.argv[1:]\n"
        f"runpy.run_path({nnunet_discs.__file__!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", script, str(workspace), str(out), "4000"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        deadline = time.monotonic() + 120
        while not (out / "writing").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert list(out.glob(".tmp-*"))
    assert not (out / LATEST).exists()
    assert read_checkpoint(out / PREVIOUS)["current_epoch"] == 1

    def stop(entry):
        entries.append(entry)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        train(workspace, out, iterations=4000, log=stop)
    assert [entry.epoch for entry in entries] == [1]
    assert not list(out.glob(".tmp-*"))


def test_a_pause_waits_for_the_end_of_the_epoch(workspace, tmp_path):
    out, entries = tmp_path / "run", []

    def report(done, total, message):
        if done == 10:  # in the middle of the third epoch
            raise Paused("paused")

    with pytest.raises(Paused):
        train(workspace, out, 24, report=report, log=entries.append)
    assert [entry.iteration for entry in entries] == [4, 8, 12]
    assert read_checkpoint(out / LATEST)["current_epoch"] == 3
    train(workspace, out, 24, log=entries.append)
    assert [entry.iteration for entry in entries] == [4, 8, 12, 16, 20, 24]


def test_safe_points_hold_a_pause_back_but_nothing_else():
    def report(done, total, message):
        if message:
            raise {"pause": Paused, "cancel": Cancelled}[message]("now")

    points = SafePoints(report)
    points(1, 9, "pause")
    points(2, 9)
    with pytest.raises(Cancelled) as cancelled:
        points(2, 9, "cancel")
    assert not isinstance(cancelled.value, Paused)
    with pytest.raises(Paused):
        points.safe(3, 9)


def test_the_dice_is_that_of_the_hard_answers():
    network = torch.nn.Identity()
    dice = TrainingDice(network)
    rng = np.random.default_rng(0)
    answer, truth = rng.integers(0, 3, (2, 8, 8)), rng.integers(0, 3, (2, 8, 8))
    truth[0, :2] = 3  # not annotated
    for iteration in range(10):
        dice.start(iteration, 5, 10)
        network(torch.nn.functional.one_hot(torch.from_numpy(answer), 3).permute(0, 3, 1, 2).float())
        dice.add([torch.from_numpy(truth[:, None]).float()])
    seen = truth < 3
    parts = [
        2 * ((answer == c) & (truth == c)).sum() / (((answer == c) & seen).sum() + (truth == c).sum()) for c in (1, 2)
    ]
    assert dice.value() == pytest.approx(np.mean(parts))
    dice.close()


def test_the_dice_counts_the_end_of_each_epoch_only():
    network = torch.nn.Identity()
    dice = TrainingDice(network)
    good = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]])
    truth = torch.ones(1, 1, 1, 2)
    for iteration in range(25):
        dice.start(iteration, 25, 60)
        network(good if iteration >= 20 else good.flip(1))
        dice.add(truth)
    assert dice.value() == 1.0
    dice.start(25, 25, 60)
    assert dice.value() is None
    for iteration in range(50, 60):  # a short last epoch
        dice.start(iteration, 25, 60)
        network(good)
        dice.add(truth)
    assert dice.value() == 1.0


def test_every_epoch_has_a_dice(workspace, tmp_path):
    entries = []
    train(workspace, tmp_path / "run", iterations=40, log=entries.append)
    assert all(0 <= entry.dice <= 1 for entry in entries)
    assert entries[-1].dice > entries[0].dice


def test_prediction_takes_fewer_windows_when_memory_runs_out(workspace, tmp_path, monkeypatch):
    checkpoint = train(workspace, tmp_path / "run", 4).checkpoint
    image = disc_cases(1)[0].load()[0]
    image = np.tile(image, (3, 3, 1))
    whole = NnUNet("cpu").predict(workspace, checkpoint, image, silent)
    real, tried = ObjectPredictor._internal_maybe_mirror_and_predict, []

    def limited(self, tiles):
        tried.append(len(tiles))
        if len(tiles) > 1:
            raise RuntimeError("CUDA out of memory")
        return real(self, tiles)

    monkeypatch.setattr(ObjectPredictor, "_internal_maybe_mirror_and_predict", limited)
    network = NnUNet("cpu")
    assert np.allclose(network.predict(workspace, checkpoint, image, silent), whole, atol=1e-5)
    assert tried[:2] == [4, 2]
    assert set(tried[2:]) == {1}
    monkeypatch.setattr(
        ObjectPredictor, "_internal_maybe_mirror_and_predict", lambda self, tiles: (_ for _ in ()).throw(MemoryError())
    )
    with pytest.raises(OutOfMemoryError, match="while predicting"):
        network.predict(workspace, checkpoint, image, silent)


def test_boxes_of_a_large_image_take_fewer_windows_when_memory_runs_out(workspace, tmp_path, monkeypatch):
    checkpoint = train(workspace, tmp_path / "run", 4).checkpoint
    image = np.tile(disc_cases(1)[0].load()[0], (3, 3, 1))
    whole = NnUNet("cpu").predict(workspace, checkpoint, image, silent)
    real, tried = ObjectPredictor._internal_maybe_mirror_and_predict, []

    def limited(self, tiles):
        tried.append(len(tiles))
        if len(tiles) > 1:
            raise RuntimeError("CUDA out of memory")
        return real(self, tiles)

    monkeypatch.setattr(ObjectPredictor, "_internal_maybe_mirror_and_predict", limited)
    with NnUNet("cpu").blocks(workspace, checkpoint, image[None], False, silent) as box:
        for x in (0, 96):
            found = box(Box(0, 0, x, 1, 192, 96), silent)
            np.testing.assert_allclose(found[:, 0], whole[:, :, x : x + 96], atol=1e-5)
    assert tried[:2] == [4, 2]
    assert set(tried[2:]) == {1}


class SmallGpu:
    """A predictor that a GPU has no memory for."""

    tiles_at_once = 1
    made: list
    looked: list

    def __init__(self, plan, checkpoint, device, mirroring, overlap):
        self.plan, self.device, self.use_mirroring = plan, device.type, None
        self.made.append(self.device)

    def view(self, image, report):
        self.looked.append(image.shape)
        return image

    def region(self, view, box, report):
        if self.device == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return np.full((3, box.depth, box.height, box.width), self.use_mirroring, np.float32)


def test_boxes_of_a_large_image_leave_a_gpu_that_is_too_small(workspace, tmp_path, monkeypatch):
    checkpoint = train(workspace, tmp_path / "run", 4).checkpoint
    for name in ("made", "looked"):
        monkeypatch.setattr(SmallGpu, name, [], raising=False)
    monkeypatch.setattr(predict, "ObjectPredictor", SmallGpu)
    with NnUNet("cuda").blocks(workspace, checkpoint, np.zeros((1, 64, 64, 1)), False, silent) as box:
        assert box(Box(0, 0, 0, 1, 8, 64), silent).all()
        checkpoint.unlink()  # what is loaded is used until the end
        assert box(Box(0, 8, 0, 1, 8, 64), silent).all()
    assert SmallGpu.made == ["cuda", "cpu"]
    assert len(SmallGpu.looked) == 1


def test_prediction_leaves_a_gpu_that_is_too_small(monkeypatch):
    network = NnUNet("cuda")
    assert network._use_less_memory()
    assert network._device == "cpu"
    assert not network._use_less_memory()
