"""The plan of different machines, with an expert's values, and in 3D. Speeds and machines are made up."""

import json
import shutil

import numpy as np
import pytest

from alapp.domain import Machine, Preset, VoxelSize, silent
from alapp.errors import Cancelled, InputError
from alapp.stages.train import plan_time, reduction
from alapp.stages.train.base import Overrides
from alapp.stages.train.checkpoints import read_checkpoint
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.plan_network import (
    DEEP,
    FLAT,
    Shape,
    deep_for_cpu,
    flat_for_cpu,
    memory_gb,
    topology,
    within_memory,
)
from alapp.stages.train.plan_time import choose_iterations
from alapp.stages.train.trainer import ObjectTrainer
from alapp.stages.train.workspace import Layout
from tests.stages.train.nnunet_discs import CPU, GPU, case, disc_cases, discs, plan_small, stack

THICK = VoxelSize(z=2.5, y=0.5, x=0.5)


def planned(tmp_path, cases=None, preset=Preset.QUICK, machine=CPU, timing=None, **fixed):
    network = NnUNet("cpu", timing=timing)
    overrides = Overrides(**fixed) if fixed else None
    return network.plan(tmp_path, cases or disc_cases(), preset, machine, silent, overrides)


def stacks(slices=10, voxel=THICK):
    return [case(f"gt_{i}", *stack(i, slices=slices), voxel=voxel) for i in range(2)]


def fact(summary, name):
    return next(line for line in summary.facts if line.name == name)


@pytest.mark.parametrize(
    ("preset", "seconds", "iterations"),
    [
        (Preset.QUICK, 0.12, {"round": 1000, "pretrain": 2000}),
        (Preset.QUICK, 0.001, {"round": 2000, "pretrain": 3600}),
        (Preset.QUICK, 5.0, {"round": 300, "pretrain": 300}),
        (Preset.QUICK, None, {"round": 500, "pretrain": 900}),
        (Preset.STANDARD, 0.2, {"round": 3000, "pretrain": 3000}),
    ],
)
def test_iterations_fill_the_time_of_the_preset_within_limits(preset, seconds, iterations):
    assert choose_iterations("cpu", preset, seconds) == iterations


def test_a_gpu_keeps_its_number_of_iterations_and_is_not_timed(tmp_path):
    def never(*_):
        raise AssertionError("timed")

    summary = planned(tmp_path, disc_cases(1, size=128), Preset.STANDARD, GPU, never)
    assert summary.iterations == choose_iterations("cuda", Preset.STANDARD, 0.001)
    assert summary.seconds_per_iteration is None


def test_the_measured_speed_is_kept_with_the_plan_and_never_measured_again(tmp_path):
    asked = []

    def timing(layout, plan, cases, report):
        asked.append(plan["configuration"])
        return 0.24

    first = planned(tmp_path, timing=timing)
    assert first.iterations == {"round": 500, "pretrain": 1000}
    assert (first.seconds_per_iteration, asked) == (0.24, [FLAT])
    assert fact(first, "Time a round").value == "about 2 min"
    assert planned(tmp_path, timing=timing) == first
    assert len(asked) == 1
    assert json.loads((tmp_path / "plan.json").read_text())["iterations"] == first.iterations


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_while_timing_leaves_the_usual_number_of_iterations(tmp_path, monkeypatch, caplog, error):
    def train_step(self, batch):
        raise error

    monkeypatch.setattr(ObjectTrainer, "train_step", train_step)
    summary = planned(tmp_path, timing=plan_time.seconds_per_iteration)
    assert summary.seconds_per_iteration is None
    assert summary.iterations == choose_iterations("cpu", Preset.QUICK, None)
    assert "Memory ran out while measuring how fast this computer trains." in caplog.text


def test_timing_trains_the_planned_network_and_can_be_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_time, "_MOST_MEASURED", 4)
    cases = disc_cases(2)
    plan_small(tmp_path, cases)
    layout, np_state = Layout(tmp_path), np.random.get_state()[1].copy()
    assert plan_time.seconds_per_iteration(layout, layout.read_plan(), cases, silent) > 0
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)

    def stop(done, total, message):
        if message.startswith("Measuring"):
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        plan_time.seconds_per_iteration(layout, layout.read_plan(), cases, stop)


def test_timing_needs_no_room_for_checkpoints_which_it_does_not_write(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_time, "_MOST_MEASURED", 4)
    free = shutil.disk_usage(tmp_path)._replace(free=50 * 2**20)
    monkeypatch.setattr(reduction.shutil, "disk_usage", lambda path: free)
    cases = disc_cases(2)
    plan_small(tmp_path, cases)
    layout = Layout(tmp_path)
    assert plan_time.seconds_per_iteration(layout, layout.read_plan(), cases, silent) > 0


def test_little_memory_means_smaller_batches_and_then_smaller_windows():
    shape = flat_for_cpu((512, 512), 1.0)
    assert within_memory(shape, Machine(2, 8)) == shape
    needed = memory_gb(shape)
    less = within_memory(shape, Machine(2, 2 * needed - 0.02))
    assert (less.batch, less.patch) == (2, shape.patch)
    least = within_memory(shape, Machine(2, 0.5))
    assert least.patch == (32, 32)
    assert len(least.features) == 4


def test_a_small_gpu_gets_a_plan_for_its_memory(tmp_path):
    cases = disc_cases(2, size=512)
    large = planned(tmp_path / "large", cases, machine=GPU)
    small = planned(tmp_path / "small", cases, machine=Machine(8, 32, gpu_gb=1))
    assert np.prod(small.patch_size) * small.batch_size < np.prod(large.patch_size) * large.batch_size


def test_thick_slices_are_not_pooled_until_the_plane_is_as_coarse():
    shape = deep_for_cpu((16, 512, 512), thickness=8.0, downsampling=2.0)
    assert shape.spacing == (8.0, 2.0, 2.0)
    strides, kernels, _ = topology(shape)
    assert strides[:3] == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert kernels[:2] == [[1, 3, 3], [1, 3, 3]]
    assert kernels[2] == [3, 3, 3]
    assert strides[3][0] == 2


def test_isotropic_stacks_are_made_smaller_in_all_directions_with_a_cube_as_window():
    shape = deep_for_cpu((200, 512, 512), thickness=1.0, downsampling=2.0)
    assert shape.spacing == (2.0, 2.0, 2.0)
    assert shape.patch == (32, 48, 48)
    assert topology(shape)[1][0] == [3, 3, 3]


@pytest.mark.parametrize("slices", [1, 2, 3, 5, 8, 20])
def test_windows_in_3d_are_never_deeper_than_needed(slices):
    shape = deep_for_cpu((slices, 300, 300), thickness=5.0, downsampling=1.0)
    assert slices <= shape.patch[0] <= slices + 3
    assert shape.configuration == DEEP
    assert np.prod(shape.patch) < 100_000


def test_everything_can_be_fixed(tmp_path):
    fixed = {
        "downsampling": 1.5, "patch_size": (48, 48), "batch_size": 3, "features": (8, 16, 32), "iterations": 77,
        "learning_rate": 1e-3,
    }  # fmt: skip
    summary = planned(tmp_path, **fixed)
    assert (summary.downsampling, summary.patch_size, summary.batch_size) == (1.5, (48, 48), 3)
    assert (summary.features, summary.n_stages, summary.iterations["round"]) == ((8, 16, 32), 3, 77)
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored["learning_rate"] == 1e-3
    assert stored["nnunet"]["configurations"]["2d"]["spacing"] == [1.5, 1.5]
    assert Overrides.of(json.loads(json.dumps(summary.overrides))) == Overrides(**fixed)
    yours = {line.override for line in summary.facts if line.why == "Your choice."}
    assert yours == set(fixed)
    assert planned(tmp_path) == summary


def test_one_fixed_value_leaves_the_others_alone(tmp_path):
    own = planned(tmp_path / "own")
    fixed = planned(tmp_path / "fixed", batch_size=2)
    assert fixed.batch_size == 2
    assert (fixed.patch_size, fixed.features, fixed.iterations) == (own.patch_size, own.features, own.iterations)


def test_values_can_be_fixed_on_a_gpu(tmp_path):
    summary = planned(tmp_path, disc_cases(2, size=128), machine=GPU, patch_size=(64, 64), features=(16, 32, 64))
    assert (summary.patch_size, summary.features) == ((64, 64), (16, 32, 64))


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"downsampling": 0.5}, "resolution factor must be between 1"),
        ({"downsampling": float("nan")}, "resolution factor"),
        ({"patch_size": (128,)}, "two numbers"),
        ({"patch_size": (16, 64)}, "side of the window must be between 32"),
        ({"patch_size": (8, 64, 64)}, "in 2D needs a window with two numbers"),
        ({"patch_size": (50, 50)}, "choose 56 x 56"),
        ({"patch_size": (32, 32), "features": (8,) * 7}, "can be halved only 3 times"),
        ({"batch_size": 1}, "batch must be between 2"),
        ({"features": (8, 16)}, "number of stages"),
        ({"features": (8, 16, 1000)}, "features of a stage"),
        ({"iterations": 3}, "iterations of a round"),
        ({"learning_rate": 1.0}, "learning rate"),
        ({"three_d": True}, "images are flat"),
        ({"patch_size": (1024, 1024), "features": (512,) * 5}, "GB of memory"),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_reason(tmp_path, fixed, sentence):
    with pytest.raises(InputError, match=sentence):
        planned(tmp_path, **fixed)
    assert not (tmp_path / "plan.json").exists()


def test_a_window_for_3d_has_three_numbers(tmp_path):
    with pytest.raises(InputError, match="three numbers"):
        planned(tmp_path, stacks(), three_d=True, patch_size=(64, 64))


def test_the_plan_speaks_of_channels_slices_and_sizes(tmp_path):
    flat = planned(tmp_path / "rgb", disc_cases(2, channels=3))
    assert fact(flat, "Channels").value == "3"
    assert fact(flat, "2D or 3D").why == "The images are flat."
    assert fact(flat, "Object size").value == "14 pixels wide"
    sliced = planned(tmp_path / "sliced", stacks())
    assert fact(sliced, "2D or 3D").value == "2D, slice by slice"
    assert "5.0 times as thick" in fact(sliced, "2D or 3D").why
    deep = planned(tmp_path / "deep", stacks(), three_d=True)
    assert fact(deep, "2D or 3D").value == "3D, 10 slices at a time"
    assert "Not across the slices" in fact(deep, "Mirroring").why


def test_a_stack_is_learned_and_predicted_in_3d_without_mirroring_across_slices(tmp_path):
    cases = stacks(slices=6)
    fixed = {"three_d": True, "features": (4, 8, 16, 32), "patch_size": (6, 32, 32)}
    assert planned(tmp_path, cases, **fixed).configuration == DEEP
    network, entries = NnUNet("cpu", mirroring=True), []
    result = network.train(tmp_path, cases, tmp_path / "run", 50, 0, None, silent, entries.append)
    assert entries[-1].loss < entries[0].loss
    assert read_checkpoint(result.checkpoint)["inference_allowed_mirroring_axes"] == (1, 2)
    image, labels = stack(9, slices=5)
    prob = network.predict(tmp_path, result.checkpoint, image, silent)
    assert prob.shape == (3, 5, 64, 64)
    np.testing.assert_allclose(prob.sum(0), 1, atol=1e-4)
    assert prob[0][labels == 0].mean() > prob[0][labels > 0].mean() + 0.2


def test_an_isotropic_stack_of_two_channels_is_predicted_at_its_own_resolution(tmp_path):
    image, labels = (np.repeat(array[None], 20, 0) for array in discs(0, size=96, channels=2, radius=14))
    cases = [case("gt_0", image, labels)]
    summary = planned(tmp_path, cases, three_d=True, downsampling=2.0, features=(4, 8, 16))
    assert json.loads((tmp_path / "plan.json").read_text())["mirror_axes"] is None
    assert summary.patch_size[0] <= 16
    network = NnUNet("cpu")
    result = network.train(tmp_path, cases, tmp_path / "run", 2, 0, None, silent, lambda entry: None)
    assert network.predict(tmp_path, result.checkpoint, image[:7, :50], silent).shape == (3, 7, 50, 96)


def test_two_dimensions_stay_the_shape_they_were():
    assert flat_for_cpu((1000, 1000), 2.0) == Shape((128, 128), 4, (16, 32, 64, 128, 128), (2.0, 2.0))
