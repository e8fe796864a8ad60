"""Borders between objects that touch count more in the loss, all others as ever."""

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from alapp.domain import Preset, VoxelSize, silent
from alapp.stages.train import contacts
from alapp.stages.train.base import Overrides
from alapp.stages.train.checkpoints import read_checkpoint
from alapp.stages.train.contacts import WEIGHT, ContactLoss
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.plan import border_widths
from alapp.stages.train.targets import BORDER, CORE, LEVELS, border_core
from alapp.stages.train.workspace import Layout
from tests.stages.train.nnunet_discs import CPU, case, disc_cases, discs, plan_small, stack

IGNORE = 3


def squares(gap: int = 0) -> np.ndarray:
    """Two squares of 10 pixels side by side in the middle of 32 x 32 pixels."""
    labels = np.zeros((32, 32), np.int32)
    labels[10:20, 6:16] = 1
    labels[10:20, 16 + gap : 26 + gap] = 2
    return labels


def classes(labels: np.ndarray, width: int = 2) -> torch.Tensor:
    return torch.from_numpy(border_core(labels, width).astype(np.int64))[None]


def plain(ignored: int | None = None) -> DC_and_CE_loss:
    options = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(options, {}, ignore_label=ignored, dice_class=MemoryEfficientSoftDiceLoss)


def output(shape=(32, 32)) -> torch.Tensor:
    return torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def touching_cases(count: int = 3) -> list:
    """Images of discs whose neighbours touch."""
    made = []
    for seed in range(count):
        image, labels = discs(seed, radius=7)
        far = np.arange(64)
        second = np.where((labels > 0) & (far[None, :] % 21 > 10), labels + 20, labels)
        made.append(case(f"gt_{seed}", image, second.astype(np.int32)))
    return made


def test_only_the_border_between_two_objects_is_a_contact():
    found = contacts.contacts(classes(squares()), [2, 2])[0].numpy()
    expected = np.zeros((32, 32), bool)
    expected[12:18, 14:18] = True
    assert np.array_equal(found, expected)


def test_objects_that_are_apart_have_no_contact():
    assert not contacts.contacts(classes(squares(gap=1)), [2, 2]).any()


def test_what_is_not_annotated_may_be_background():
    marked = classes(squares())
    marked[marked == 0] = IGNORE
    assert contacts.contacts(marked, [2, 2]).sum() > 24
    assert contacts.contacts(marked, [2, 2], IGNORE).sum() == 24


def test_borders_within_slices_are_found_in_a_stack():
    stack = classes(squares())[:, None].repeat(1, 3, 1, 1)
    stack[:, 0] = 0
    found = contacts.contacts(stack, [0, 2, 2])[0]
    assert [int(plane.sum()) for plane in found] == [0, 24, 24]
    assert int(contacts.contacts(stack, [2, 2, 2]).sum()) == 0


def test_a_contact_adds_its_cross_entropy_over_all_pixels():
    target, guess = classes(squares()), output()
    loss = ContactLoss(plain(), [2.0, 2.0], (32, 32))(guess, target[:, None].float())
    missed = torch.nn.functional.cross_entropy(guess, target, reduction="none")[0, 12:18, 14:18].sum()
    before = plain()(guess, target[:, None].float())
    assert loss.item() == pytest.approx((before + WEIGHT * missed / 32**2).item(), rel=1e-5)


def test_without_a_contact_the_loss_and_its_gradient_are_nnunets_own():
    target = classes(squares(gap=3))[:, None].float()
    gradients = []
    for loss in (plain(), ContactLoss(plain(), [2.0, 2.0], (32, 32))):
        guess = output()
        loss(guess, target).backward()
        gradients.append(guess.grad)
    assert torch.equal(*gradients)


def test_pixels_that_are_not_annotated_neither_count_nor_learn():
    target = classes(squares())[:, None].float()
    target[..., :15] = IGNORE
    guess = output()
    loss = ContactLoss(plain(IGNORE), [2.0, 2.0], (32, 32), IGNORE)(guess, target)
    loss.backward()
    assert loss.isfinite()
    assert not guess.grad[..., :15].any()
    nothing = ContactLoss(plain(IGNORE), [2.0, 2.0], (32, 32), IGNORE)(output(), torch.full_like(target, IGNORE))
    assert nothing.isfinite()


def test_at_half_the_resolution_borders_are_half_as_wide():
    target = classes(squares(), width=4)[:, None, ::2, ::2].float()
    half = ContactLoss(plain(), [4.0, 4.0], (32, 32))(output((16, 16)), target)
    whole = ContactLoss(plain(), [2.0, 2.0], (16, 16))(output((16, 16)), target)
    assert half.item() == pytest.approx(whole.item())
    assert half > plain()(output((16, 16)), target)


def test_borders_are_as_wide_in_the_network_as_in_the_targets(tmp_path):
    for factor in (1.0, 2.5):
        root = tmp_path / str(factor)
        overrides = Overrides(downsampling=factor)
        NnUNet("cpu", timing=None).plan(root, disc_cases(), Preset.QUICK, CPU, silent, overrides)
        plan = Layout(root).read_plan()
        assert border_widths(plan) == [plan["border_px"] / factor] * 2
        assert border_widths({**plan, "targets": LEVELS}) is None


def test_borders_run_within_thick_slices_and_around_bodies_of_thin_ones(tmp_path):
    for thickness, across in ((5.0, False), (1.0, True)):
        cases = [case(f"gt_{n}", *stack(n), voxel=VoxelSize(thickness, 1.0, 1.0)) for n in range(2)]
        root = tmp_path / str(thickness)
        NnUNet("cpu", timing=None).plan(root, cases, Preset.QUICK, CPU, silent, Overrides(three_d=True))
        z, y, x = border_widths(Layout(root).read_plan())
        assert (z > 0) == across
        assert y == x > 0


def test_a_training_where_objects_touch_uses_the_loss(tmp_path, monkeypatch):
    for name, cases, same in (("apart", disc_cases(), True), ("touching", touching_cases(), False)):
        plan_small(tmp_path / name, cases)
        weights = []
        for factor in (WEIGHT, 0.0):
            monkeypatch.setattr(contacts, "WEIGHT", factor)
            out = tmp_path / name / f"run-{factor}"
            made = NnUNet("cpu").train(tmp_path / name, cases, out, 4, 0, None, silent, lambda e: None)
            weights.append(read_checkpoint(made.checkpoint)["network_weights"])
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items()) == same


def test_the_targets_of_touching_discs_hold_contacts():
    labels = touching_cases(1)[0].load()[1]
    target = classes(labels, width=1)
    found = contacts.contacts(target, [1, 1])
    assert found.any()
    assert (target[found] == BORDER).all()
    assert (target == CORE).any()
