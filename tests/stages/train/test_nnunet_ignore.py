"""Partly annotated cases: nothing is learned where nobody annotated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from alapp.domain import silent
from alapp.errors import InputError
from alapp.stages.train.cases import dataset_of, identifier, prepare_cases
from alapp.stages.train.checkpoints import read_checkpoint
from alapp.stages.train.nnunet import NnUNet
from alapp.stages.train.sampling import PatchLoader
from alapp.stages.train.targets import DEFAULT, SCHEMES
from alapp.stages.train.trainer import ObjectTrainer
from alapp.stages.train.workspace import Layout, nnunet_environment, quiet
from tests.stages.train.nnunet_discs import case, disc_cases, discs, plan_small

ANNOTATED = (-1, 0, 1, 2)

IGNORE = len(SCHEMES[DEFAULT])


def train(workspace, out, cases, iterations=4, **more):
    log = more.pop("log", lambda entry: None)
    return NnUNet("cpu").train(workspace, cases, out, iterations, 0, more.get("start_from"), silent, log)


def weights(result):
    return read_checkpoint(result.checkpoint)["network_weights"]


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def left(labels, width=24):
    """The left columns: the first three discs lie in there, the others do not."""
    ignored = np.zeros(labels.shape, bool)
    ignored[:, :width] = True
    return ignored


def partly(key, image, labels, ignored, version="1"):
    return replace(case(key, image, labels, version), ignored=lambda: ignored)


def two_labellings(seed):
    """An image, its labels, labels that differ from them in the left columns only, and those columns."""
    image, labels = discs(seed)
    other = labels.copy()
    other[:, :22] = 0
    other[20:30, 2:9] = 50
    assert not np.array_equal(labels, other)
    return image, labels, other, left(labels)


def stored(layout, one):
    folder = layout.cases("nnUNetPlans_2d")
    data, seg, _, properties = nnUNetDatasetBlosc2(str(folder), [identifier(one)]).load_case(identifier(one))
    return np.array(data), np.array(seg)[0, 0], properties


def test_labels_in_an_ignored_region_do_not_change_the_network(workspace, tmp_path):
    both = [two_labellings(seed) for seed in range(3)]
    runs = {}
    for name, which, ignoring in [("a", 1, True), ("b", 2, True), ("c", 1, False), ("d", 2, False)]:
        cases = [case(f"gt_{i}", each[0], each[which], name) for i, each in enumerate(both)]
        if ignoring:
            cases = [replace(one, ignored=lambda each=each: each[3]) for one, each in zip(cases, both, strict=True)]
        runs[name] = weights(train(workspace, tmp_path / name, cases))
    assert same(runs["a"], runs["b"])
    assert not same(runs["c"], runs["d"])
    assert not same(runs["a"], runs["c"])


def test_ignored_pixels_have_no_gradient_at_any_resolution(workspace):
    layout = Layout(workspace)
    plan = layout.read_plan()
    image, labels = discs(0)
    dataset = dataset_of(plan, [partly("gt_0", image, labels, left(labels))])
    with nnunet_environment(layout), quiet():
        trainer = ObjectTrainer(
            {**plan["nnunet"], "continue_training": False}, plan["configuration"], 0, dataset, torch.device("cpu")
        )
    assert trainer.label_manager.num_segmentation_heads == IGNORE
    scales = trainer._get_deep_supervision_scales()
    loss = trainer._build_loss()
    generator = torch.Generator().manual_seed(0)
    outputs, targets = [], []
    for scale in scales:
        side = int(64 * scale[0])
        outputs.append(torch.randn((2, 3, side, side), generator=generator).requires_grad_())
        target = torch.randint(0, 3, (2, 1, side, side), generator=generator)
        target[..., : side // 2] = IGNORE
        targets.append(target)
    loss(outputs, targets).backward()
    assert len(outputs) > 2
    for output in outputs[:-1]:  # nnU-Net gives the coarsest resolution no weight
        middle = output.shape[-1] // 2
        assert (output.grad[..., :middle] == 0).all()
        assert (output.grad[..., middle:] != 0).all()


def test_the_ignore_label_survives_preprocessing_and_is_no_class_to_draw(tmp_path):
    plan_small(tmp_path, disc_cases(size=192, radius=27))
    layout = Layout(tmp_path)
    plan = layout.read_plan()
    assert plan["downsampling"] > 1
    image, labels = discs(7, size=192, radius=27)
    ignored = left(labels, 68)
    labels[ignored] = 0
    one = partly("gt_7", image, labels, ignored)
    prepare_cases(layout, plan, [one], silent, 1)
    _, seg, properties = stored(layout, one)
    assert seg.shape[0] < 192
    assert set(np.unique(seg)) == {0, 1, 2, IGNORE}
    assert (seg == IGNORE).mean() == pytest.approx(ignored.mean(), abs=0.01)
    edge = round(68 / plan["downsampling"])
    assert (seg[:, : edge - 2] == IGNORE).all()
    assert not (seg[:, edge + 2 :] == IGNORE).any()
    assert set(properties["class_locations"]) == {1, 2, ANNOTATED}
    for key, where in properties["class_locations"].items():
        allowed = key if isinstance(key, tuple) else (key,)
        assert np.isin(seg[where[:, 2], where[:, 3]], allowed).all()


def test_cases_from_before_the_first_region_are_kept_and_train_beside_it(workspace, tmp_path):
    layout = Layout(workspace)
    plan = layout.read_plan()
    stock = (workspace / "plan.json").read_bytes()
    old = disc_cases(2)
    first = train(workspace, tmp_path / "first", old)
    assert set(stored(layout, old[0])[2]["class_locations"]) == {1, 2}
    image, labels = discs(5)
    empty = case("gt_8", discs(8)[0], np.zeros_like(labels))
    cases = [*old, partly("gt_5", image, labels, left(labels)), empty]
    said, entries = [], []

    def report(done, total, message):
        said.append(message)

    NnUNet("cpu").train(workspace, cases, tmp_path / "second", 8, 0, first.checkpoint, report, entries.append)
    assert [text for text in said if "Preparing" in text][-1] == "Preparing labelled patch 2 of 2"
    assert np.isfinite([entry.loss for entry in entries]).all()
    assert dataset_of(plan, old) == plan["dataset"]
    assert dataset_of(plan, cases)["labels"] == {**SCHEMES[DEFAULT], "ignore": IGNORE}
    assert (workspace / "plan.json").read_bytes() == stock
    found = NnUNet("cpu").predict(workspace, tmp_path / "second" / "checkpoint_final.pth", image, silent)
    assert found.shape == (3, 64, 64)


def test_an_empty_partly_annotated_case_trains(workspace, tmp_path):
    image, labels = discs(0)
    entries = []
    cases = [*disc_cases(1), partly("gt_9", image, np.zeros_like(labels), left(labels))]
    train(workspace, tmp_path / "run", cases, 8, log=entries.append)
    assert np.isfinite([entry.loss for entry in entries]).all()


def test_empty_cases_do_not_hinder_the_plan(tmp_path):
    image, labels = discs(0)
    cases = [*disc_cases(2), case("gt_empty", image, np.zeros_like(labels))]
    assert plan_small(tmp_path / "with", cases) == plan_small(tmp_path / "without", disc_cases(2))


def test_windows_are_drawn_where_somebody_annotated(workspace):
    layout = Layout(workspace)
    plan = layout.read_plan()
    image, labels = discs(3, size=192)
    ignored = np.ones(labels.shape, bool)
    ignored[150:, 150:] = False
    labels[ignored] = 0
    cases = [partly("gt_3", image, labels, ignored), case("gt_4", *discs(4, size=192))]
    names = prepare_cases(layout, plan, cases, silent, 1)
    manager = PlansManager(plan["nnunet"]).get_label_manager(dataset_of(plan, cases))
    dataset = nnUNetDatasetBlosc2(str(layout.cases("nnUNetPlans_2d")), names)
    loader = PatchLoader(dataset, 2, (32, 32), (32, 32), manager, oversample_foreground_percent=0.33)
    np.random.seed(0)
    corners = {name: [] for name in names}
    for _ in range(60):
        batch = loader.generate_train_batch()
        for name, target in zip(batch["keys"], batch["target"], strict=True):
            corners[name].append(bool((target != IGNORE).any()))
    assert all(corners[names[0]])
    _, _, properties = dataset.load_case(names[1])[1:]
    rows = [loader.get_bbox((1, 192, 192), False, properties["class_locations"])[0][1] for _ in range(200)]
    assert min(rows) < 10
    assert max(rows) > 150


def test_a_region_that_cannot_be_is_refused(workspace, tmp_path):
    image, labels = discs(0)
    for ignored, sentence in [(np.ones((8, 8), bool), "has shape"), (np.ones((64, 64), bool), "nothing of it")]:
        with pytest.raises(InputError, match=sentence) as raised:
            train(workspace, tmp_path / "run", [partly("gt_0", image, labels, ignored)])
        assert "gt_0" in str(raised.value)
