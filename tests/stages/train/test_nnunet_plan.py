import json

import numpy as np
import pytest

from alapp.domain import Preset, VoxelSize, silent
from alapp.errors import InputError, NotReadyError
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.plan import choose_downsampling
from alapp.stages.train.targets import ObjectSize
from tests.stages.train.nnunet_discs import CPU, GPU, case, disc_cases, discs, stack


def plan(tmp_path, cases, preset=Preset.QUICK, machine=CPU):
    return NnUNet("cpu", timing=None).plan(tmp_path, cases, preset, machine, silent)


@pytest.mark.parametrize(
    ("diameter", "width", "factor"), [(54, 43, 2), (28, 22, 1), (33, 19, 1), (10, 8, 1), (67, 52, 2.5), (120, 20, 1.5)]
)
def test_downsampling_follows_the_objects_and_spares_thin_ones(diameter, width, factor):
    assert choose_downsampling(ObjectSize(diameter, width, 10)) == factor


def test_small_objects_are_seen_at_full_resolution(tmp_path):
    summary = plan(tmp_path, disc_cases())
    assert summary.configuration == "2d"
    assert summary.downsampling == 1
    assert summary.patch_size == (64, 64)
    assert summary.border_px == 1
    assert summary.iterations == {"round": 500, "pretrain": 900}
    assert "full resolution" in summary.sentence


def test_large_objects_are_seen_smaller(tmp_path):
    summary = plan(tmp_path, disc_cases(size=256, radius=30))
    assert summary.downsampling == 2
    assert summary.patch_size == (128, 128)
    assert summary.border_px >= 2
    assert "2 times smaller" in summary.sentence


def test_plan_is_made_once(tmp_path):
    first = plan(tmp_path, disc_cases())
    assert plan(tmp_path, disc_cases(size=256, radius=30)) == first
    with pytest.raises(InputError, match="its own folder"):
        plan(tmp_path, disc_cases(), Preset.STANDARD)


def test_gpu_keeps_the_plan_and_schedule_of_nnunet(tmp_path):
    summary = plan(tmp_path, disc_cases(size=128), Preset.FULL, GPU)
    stored = json.loads((tmp_path / "plan.json").read_text())
    own = json.loads((tmp_path / "nnunet/preprocessed/Dataset001_objects/nnUNetPlans.json").read_text())
    assert stored["nnunet"] == own
    assert summary.patch_size == (128, 128)
    assert max(summary.features) == 512
    assert summary.iterations["round"] == 1000 * 250
    assert (stored["optimizer"], stored["learning_rate"], stored["iterations_per_epoch"]) == ("sgd", 1e-2, 250)


def test_stacks_are_planned_by_slice_on_a_cpu_and_in_3d_on_a_gpu(tmp_path):
    voxel = VoxelSize(z=2.0, y=0.5, x=0.5)
    cases = [case(f"gt_{i}", *stack(i, slices=10), voxel=voxel) for i in range(2)]
    flat = plan(tmp_path / "cpu", cases)
    assert flat.configuration == "2d"
    assert "slice by slice" in flat.sentence
    deep = plan(tmp_path / "gpu", cases, Preset.STANDARD, GPU)
    assert deep.configuration == "3d_fullres"
    assert len(deep.patch_size) == 3
    assert json.loads((tmp_path / "gpu/plan.json").read_text())["spacing"] == [4.0, 1.0, 1.0]


def test_labels_without_objects_cannot_be_planned(tmp_path):
    image, labels = discs(0)
    with pytest.raises(NotReadyError, match="holds an object"):
        plan(tmp_path, [case("gt_0", image, np.zeros_like(labels))])
    with pytest.raises(NotReadyError, match="pseudo-labels or labels"):
        plan(tmp_path, [])
    assert not (tmp_path / "plan.json").exists()


def test_images_that_do_not_agree_are_named(tmp_path):
    with pytest.raises(InputError, match="gt_x is 2D with 3 channels"):
        plan(tmp_path, [*disc_cases(1), case("gt_x", *discs(1, channels=3))])
