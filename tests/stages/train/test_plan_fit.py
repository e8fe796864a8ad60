"""Plans and the objects that people mark; networks and the weights of others."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from alapp.domain import VoxelSize
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.workspace import Layout
from tests.stages.train.nnunet_discs import CPU, GPU, case, disc_cases, discs, plan_small, stack

LARGE = {"size": 256, "radius": 36}


def test_a_plan_suits_objects_of_the_size_that_it_was_made_for(workspace):
    assert NnUNet().plan_suits(workspace, disc_cases(2), CPU)
    assert NnUNet().plan_suits(workspace, disc_cases(2, **LARGE), CPU) is False


def test_few_objects_tell_nothing(workspace):
    assert NnUNet().plan_suits(workspace, disc_cases(1, **LARGE), CPU) is None


def test_a_size_between_two_resolutions_changes_nothing(tmp_path):
    # About 34 pixels are seen in full, 36 at two thirds.
    plan_small(tmp_path, disc_cases(2, size=256, radius=17))
    assert Layout(tmp_path).read_plan()["downsampling"] == 1.0
    for radius, suits in ((18, True), (24, False)):
        cases = disc_cases(2, size=256, radius=radius)
        assert NnUNet().plan_suits(tmp_path, cases, CPU) is suits
    plan_small(tmp_path / "other", disc_cases(2, size=256, radius=18))
    assert Layout(tmp_path / "other").read_plan()["downsampling"] == 1.5


@pytest.mark.parametrize(("planned", "marked", "told"), [(14, 24, False), (24, 14, None)])
def test_a_few_small_objects_ask_for_no_finer_resolution(tmp_path, planned, marked, told):
    plan_small(tmp_path, disc_cases(2, size=256, radius=planned))
    usual, other = (discs(5, size=256, radius=radius) for radius in (planned, marked))
    two_more = case("two", other[0], np.where(other[1] <= 2, other[1], 0))
    here = [case("usual", *usual), case("other", *other), two_more]  # 9 of one size, 11 of the other
    assert NnUNet().plan_suits(tmp_path, here, CPU) is told
    assert NnUNet().plan_suits(tmp_path, [*here, *disc_cases(2, size=256, radius=marked)], CPU) is False


def test_on_a_gpu_or_by_an_expert_the_resolution_is_given(workspace):
    assert NnUNet().plan_suits(workspace, disc_cases(2, **LARGE), GPU)
    path = Layout(workspace).plan
    plan = json.loads(path.read_text())
    plan["summary"]["overrides"] = {"downsampling": 1.0}
    path.write_text(json.dumps(plan))
    assert NnUNet().plan_suits(workspace, disc_cases(2, **LARGE), CPU)


def test_a_corrected_thickness_of_slices_is_another_spacing(tmp_path):
    def cases(z):
        return [case(key, *stack(n, slices=8), voxel=VoxelSize(z, 0.5, 0.5)) for n, key in enumerate("ab")]

    plan_small(tmp_path, cases(1.0))
    assert NnUNet().same_spacing(tmp_path, cases(1.0))
    assert not NnUNet().same_spacing(tmp_path, cases(2.0))
    Layout(tmp_path).plan.unlink()  # a lost plan can be made anew
    assert not NnUNet().same_spacing(tmp_path, cases(1.0))


def test_the_thickness_of_slices_is_nothing_to_flat_images(workspace):
    cases = [replace(each, voxel_size=VoxelSize(3.0, 0.5, 0.5)) for each in disc_cases(2)]
    assert NnUNet().same_spacing(workspace, cases)


def test_the_same_network_at_another_resolution(tmp_path):
    network, roots = NnUNet(), [tmp_path / "small", tmp_path / "large"]
    sizes = [disc_cases(2, size=256, radius=radius) for radius in (14, 24)]
    for root, cases in zip(roots, sizes, strict=True):
        plan_small(root, cases)
        assert network.plan_suits(root, cases, CPU)
    assert [Layout(root).read_plan()["downsampling"] for root in roots] == [1.0, 1.5]
    assert network.same_network(*roots)


def test_other_channels_or_stages_are_another_network(workspace, tmp_path):
    for name, cases in {"colours": disc_cases(2, channels=3), "stages": disc_cases(2, size=128)}.items():
        plan_small(tmp_path / name, cases)
        assert not NnUNet().same_network(workspace, tmp_path / name)
