"""What a patch is most like."""

from __future__ import annotations

import pytest

from alapp.domain import PatchRole, silent
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import embedding, neighbours, selection
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows


@pytest.fixture
def picked(store, project, fast):
    pseudo.decide(store, project.id, pseudo.NONE)
    selection.run_select(store, project.id, silent, budget=5, strategy="random")
    return round_rows.picked(store, round_rows.latest(store, project.id).id)


def distance(store, project, one, other):
    ids, vectors = embedding.read(store, models.latest_embedding(store, project.id))
    a, b = (vectors[ids.tolist().index(patch_id)] for patch_id in (one, other))
    return 1 - a @ b


def test_a_pick_is_compared_with_those_before_it(store, project, picked):
    training = [pick for pick in picked if pick.role is PatchRole.TRAIN]
    assert neighbours.nearest(store, project.id, training[0].patch_id) is None
    found = neighbours.nearest(store, project.id, training[2].patch_id)
    before = [pick.patch_id for pick in training[:2]]
    assert found.patch_id in before
    wanted = min(distance(store, project, training[2].patch_id, other) for other in before)
    assert found.distance == pytest.approx(wanted, abs=1e-6)
    assert not found.when_picked


def test_what_the_strategy_noted_is_kept(store, project, picked):
    store.execute(
        """UPDATE selection SET reason = json_set(reason, '$.nearest_patch', ?, '$.distance', 0.25) WHERE id = ?""",
        (picked[0].patch_id, picked[1].id),
    )
    found = neighbours.nearest(store, project.id, picked[1].patch_id)
    assert found == neighbours.Neighbour(picked[0].patch_id, 0.25, True)


def test_a_patch_that_was_never_picked_is_compared_with_all_but_the_skipped(store, project, picked):
    ids = [pick.patch_id for pick in picked]
    free = next(patch.id for patch in catalogue.patches(store, project.id) if patch.id not in ids)
    training = [pick.patch_id for pick in picked if pick.role is PatchRole.TRAIN]
    ranked = sorted(training, key=lambda other: distance(store, project, free, other))
    assert neighbours.nearest(store, project.id, free).patch_id == ranked[0]
    annotation.skip(store, ranked[0], "s")
    assert neighbours.nearest(store, project.id, free).patch_id == ranked[1]


def test_without_an_embedding_there_is_none(store, project):
    assert neighbours.nearest(store, project.id, catalogue.patches(store, project.id)[0].id) is None
