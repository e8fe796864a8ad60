"""Which patches of a batch are set aside for validation."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole, silent
from alapp.rounds.select import embedding, selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows


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
