"""Rehearsal: pseudo-labels stay half of what a round sees while the labels show few objects."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, silent
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.rounds.train import lineage, rehearsal, training, training_cases
from alapp.stages.train.base import Case
from alapp.storage import catalogue, models, verdicts
from alapp.storage import rounds as round_rows
from alapp.storage.verdicts import VerdictKind
from alapp.ui.train import models as models_section
from alapp.ui.train import train as train_tab


def cases(*keys):
    return [Case(key, key, lambda: None) for key in keys]


@pytest.mark.parametrize("drawn", [None, {"gt_1": 3.0}])
def test_labels_and_pseudo_labels_get_half_each(drawn):
    labelled, unlabelled = cases("gt_1", "gt_2"), cases(*(f"pl_{i}" for i in range(10)))
    seen, weights = rehearsal.mixed(labelled, unlabelled, drawn)
    assert [case.key for case in seen] == [case.key for case in (*labelled, *unlabelled)]
    assert sum(weights.values()) == pytest.approx(10)  # every pseudo-label counts 1
    assert weights["gt_1"] / weights["gt_2"] == pytest.approx(3.0 if drawn else 1.0)


def test_without_pseudo_labels_nothing_changes():
    labelled = cases("gt_1", "gt_2")
    assert rehearsal.mixed(labelled, []) == (tuple(labelled), None)
    assert rehearsal.mixed(labelled, [], {"gt_1": 2.0}) == (tuple(labelled), {"gt_1": 2.0})


def test_only_few_objects_need_it():
    assert [n for n in range(20) if rehearsal.is_needed(n)] == list(range(1, rehearsal.FEW_OBJECTS))


def label(store, patch_ids, objects):
    """Finish the patches; the first training patch shows so many objects, the others none."""
    chosen = round_rows.selected_in_project(store, catalogue.patch(store, patch_ids[0]).project_id)
    left = objects
    for patch_id in patch_ids:
        mask = np.zeros((64, 64), np.int32)
        if chosen[patch_id].role is PatchRole.TRAIN:
            for number in range(left):
                mask[5 * number : 5 * number + 3, 5:12] = number + 1
            left = 0
        annotation.submit_labels(store, patch_id, mask, "oracle")


@pytest.fixture
def pretrained(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    return project


def a_round(store, project, objects):
    label(store, selection.run_select(store, project.id, silent, 4)["patches"], objects)
    training.run_round(store, project.id, silent)


def test_a_round_with_few_objects_rehearses_what_nobody_selected(store, pretrained, fast):
    trainer, _ = fast
    a_round(store, pretrained, objects=2)
    selected = round_rows.selected_in_project(store, pretrained.id)
    n_train = sum(pick.role is PatchRole.TRAIN for pick in selected.values())
    run = trainer.seen[-1]
    rehearsed = {int(key[3:]) for key in run["keys"] if key.startswith("pl_")}
    assert rehearsed == {patch.id for patch in catalogue.patches(store, pretrained.id)} - selected.keys()
    assert sum(run["weights"].values()) == pytest.approx(len(rehearsed))
    made = models.latest_checkpoint(store, pretrained.id)
    assert (made.n_cases, made.n_rehearsed) == (n_train, len(rehearsed))
    assert f" + {len(rehearsed)} rehearsed" in models_section.table(lineage.models_of(store, pretrained.id))
    told = f"on {n_train} patches and the pseudo-labels of {len(rehearsed)} more."
    assert told in train_tab.newest_sentence(store, made)
    assert verdicts.of_project(store, pretrained.id, VerdictKind.PRETRAINING) == []  # two trials would tell nothing


def test_labels_with_enough_objects_are_learned_from_alone(store, pretrained, fast):
    trainer, _ = fast
    a_round(store, pretrained, objects=rehearsal.FEW_OBJECTS)
    assert all(key.startswith("gt_") for key in trainer.seen[-1]["keys"])
    assert trainer.seen[-1]["weights"] is None


def test_earlier_rounds_count(store, pretrained, fast):
    trainer, _ = fast
    a_round(store, pretrained, objects=rehearsal.FEW_OBJECTS - 1)
    a_round(store, pretrained, objects=1)
    assert all(key.startswith("gt_") for key in trainer.seen[-1]["keys"])


def test_a_project_without_pseudo_labels_has_nothing_to_rehearse(store, project, fast):
    trainer, _ = fast
    pseudo.decide(store, project.id, pseudo.NONE)
    a_round(store, project, objects=2)
    assert all(key.startswith("gt_") for key in trainer.seen[-1]["keys"])
    assert training_cases.unlabelled_cases(store, catalogue.project(store, project.id)) == ()


def test_the_page_says_so_before_the_training(store, pretrained, fast):
    patches = selection.run_select(store, pretrained.id, silent, 4)["patches"]
    label(store, patches, 2)
    why = train_tab.what_to_start(store, pretrained.id).why
    assert "Your labels to train on show only 2 objects" in why
    label(store, patches, rehearsal.FEW_OBJECTS)
    assert train_tab.what_to_start(store, pretrained.id).why.endswith("with all you have labelled.")
