"""Which patches of a batch are set aside for validation."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, silent
from alapp.errors import NotReadyError
from alapp.rounds.annotate import annotation
from alapp.rounds.select import embedding, selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.rounds import rounds


def validation(store, project, seed):
    """The validation picks of a batch of five."""
    catalogue.update_project(store, project.id, seed=seed)
    selection.run_select(store, project.id, silent, budget=5, strategy="random")
    latest = round_rows.latest(store, project.id)
    found = [pick for pick in round_rows.picked(store, latest.id) if pick.role is PatchRole.VALIDATION]
    selection.discard_round(store, project.id)
    return found


@pytest.fixture
def seen(monkeypatch):
    """Sets in how much of each patch, in the order of the embeddings, objects are seen."""

    def known(foreground):
        found = {} if foreground is None else {"foreground": np.asarray(foreground)}
        monkeypatch.setattr(selection.informing, "inform", lambda *_: found)

    return known


def test_where_objects_are_rare_one_validation_patch_has_some(store, project, fast, seen):
    embedding.update(store, project.id, silent)
    patches, _ = embedding.embedded(store, project.id)
    seen(np.where(np.arange(12) == 7, 0.2, 0.001))
    for seed in range(4):
        (pick,) = validation(store, project, seed)
        assert pick.patch_id == patches[7].id
    drawn_in_vain = [validation(store, project, seed)[0].reason["sentence"] for seed in range(4)]
    assert selection.FOR_VALIDATION_WITH_OBJECTS in drawn_in_vain


@pytest.mark.parametrize("foreground", [None, np.zeros(12), np.full(12, 0.1)])
def test_else_validation_patches_are_any(store, project, fast, seen, foreground):
    seen(None)
    before = [validation(store, project, seed)[0].patch_id for seed in range(4)]
    assert len(set(before)) > 1
    seen(foreground)
    after = [validation(store, project, seed)[0] for seed in range(4)]
    assert [pick.patch_id for pick in after] == before
    assert {pick.reason["sentence"] for pick in after} == {selection.FOR_VALIDATION}


def test_a_vetoed_validation_patch_gives_way_to_one_with_objects(store, project, fast, monkeypatch):
    embedding.update(store, project.id, silent)
    patches, _ = embedding.embedded(store, project.id)
    foreground = np.where(np.isin(np.arange(12), (5, 7)), 0.2, 0.0)
    for name in ("inform", "recall"):
        monkeypatch.setattr(selection.informing, name, lambda *_: {"foreground": foreground})
    for seed in range(4):
        catalogue.update_project(store, project.id, seed=seed)
        selection.run_select(store, project.id, silent, budget=5, strategy="random")
        this = round_rows.latest(store, project.id)
        (old,) = (pick for pick in round_rows.picked(store, this.id) if pick.role is PatchRole.VALIDATION)
        picked = {pick.patch_id for pick in round_rows.picked(store, this.id)}
        left = {patches[5].id, patches[7].id} - picked
        new = selection.swap_pick(store, this.id, old.patch_id)
        assert not left or new in left
        selection.discard_round(store, project.id)
        round_rows.lift_vetoes(store, project.id)


def test_a_veto_outlasts_its_batch_and_can_be_taken_back(store, project, fast):
    made = selection.run_select(store, project.id, silent, budget=3, strategy="coreset")
    this = round_rows.latest(store, project.id)
    vetoed = made["patches"][0]
    selection.swap_pick(store, this.id, vetoed)
    selection.discard_round(store, project.id)
    again = selection.run_select(store, project.id, silent, budget=11, strategy="coreset")
    assert sorted([*again["patches"], vetoed]) == [patch.id for patch in catalogue.patches(store, project.id)]
    for patch_id in again["patches"]:
        annotation.skip(store, patch_id, "someone")
    assert not catalogue.any_patch(store, project.id, unpicked=True)
    assert "Only vetoed patches" in rounds.select_button_state(store, project.id).value
    with pytest.raises(NotReadyError, match=r"was vetoed\. Offer it again"):
        selection.run_select(store, project.id, silent)
    assert rounds.offer_button(len(round_rows.vetoed(store, project.id))).value == "Offer 1 vetoed patch again"
    assert rounds.offer_again(store, project.id, 3) == 4
    assert selection.run_select(store, project.id, silent)["patches"] == [vetoed]
    assert not rounds.offer_button(0).visible
