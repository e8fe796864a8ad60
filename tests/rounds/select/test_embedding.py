"""What patches are compared by, and that only what changed is embedded again."""

import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import Cancelled, InputError
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import embedding
from alapp.rounds.train import training
from alapp.stages.embed.base import EMBEDDERS
from alapp.storage import catalogue, models, verdicts
from tests.rounds.conftest import discs
from tests.rounds.fakes import MeanEmbedder, ThresholdEmbedder


@pytest.fixture(autouse=True)
def stand_in(fast, monkeypatch):
    monkeypatch.setattr(ThresholdEmbedder, "embedded", [])
    monkeypatch.setitem(EMBEDDERS._targets, "network", "tests.rounds.fakes:ThresholdEmbedder")


def pretrain(store, project, iterations=4):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent, iterations=iterations)
    return verdicts.current_checkpoint(store, project.id)


def test_without_a_network_the_default_is_used_and_it_is_told(store, project):
    embedding.choose(store, project.id, "network")
    status = embedding.status(store, project.id, "network")
    assert not status.ready
    assert "No network" in status.detail
    assert "train" in status.remedy
    assert embedding.in_use(store, project.id) == "mae"
    assert embedding.update(store, project.id, silent).backend == "mae"
    pretrain(store, project)
    assert embedding.status(store, project.id, "network").ready
    assert embedding.update(store, project.id, silent).backend == "network"


def test_a_network_whose_file_was_removed_is_not_used(store, project):
    embedding.choose(store, project.id, "network")
    models.mark_removed(store, pretrain(store, project).id)
    assert embedding.in_use(store, project.id) == "mae"


def test_unknown_embedders_are_refused(store, project):
    with pytest.raises(InputError, match="magic"):
        embedding.choose(store, project.id, "magic")
    assert catalogue.project(store, project.id).embedder == "mae"


def test_network_vectors_follow_the_model_and_nothing_else(store, project):
    embedding.choose(store, project.id, "network")
    pretrain(store, project)
    first = embedding.update(store, project.id, silent)
    assert embedding.update(store, project.id, silent).id == first.id
    assert ThresholdEmbedder.embedded == [12]
    importing.add_array(store, project.id, "late", discs(9)[0])
    second = embedding.update(store, project.id, silent)
    assert ThresholdEmbedder.embedded == [12, 4]
    assert (embedding.read(store, second)[1][:12] == embedding.read(store, first)[1]).all()
    old = verdicts.current_checkpoint(store, project.id)
    other = replace_model(store, old)
    third = embedding.update(store, project.id, silent)
    assert ThresholdEmbedder.embedded == [12, 4, 16]
    assert third.params["network"] == other.sha256
    assert MeanEmbedder.fitted == []


def replace_model(store, old):
    """Another model becomes the current one: another threshold in another file."""
    path = store.files.resolve(old.path).with_name("other.json")
    path.write_text('{"threshold": 60.0, "seed": 1}')
    stored = store.files.register(path)
    row = {name: getattr(old, name) for name in ("project_id", "plan_id", "preset", "iterations", "n_cases", "seed")}
    row |= {"round_id": None, "parent_id": None, "seconds": 1.0, "input_hash": "other"}
    made = models.add_checkpoint(store, row | {"path": stored.path, "sha256": stored.sha256})
    verdicts.add(store, made, verdicts.VerdictKind.PROMOTION, True, {})
    return made


def test_combined_keeps_each_part_up_to_date_by_itself(store, project):
    embedding.choose(store, project.id, "combined")
    old = pretrain(store, project)
    first = embedding.update(store, project.id, silent)
    assert first.backend == "combined"
    assert embedding.update(store, project.id, silent).id == first.id
    ids, vectors = embedding.read(store, first)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    replace_model(store, old)
    second = embedding.update(store, project.id, silent)
    assert MeanEmbedder.fitted == [12]  # the part that did not change was not touched
    assert ThresholdEmbedder.embedded == [12, 12]
    patches, read = embedding.embedded(store, project.id)
    assert [patch.id for patch in patches] == ids.tolist()
    assert not np.allclose(read, vectors)
    assert models.latest_embedding(store, project.id).id == second.id


def test_going_back_to_an_earlier_choice_computes_nothing(store, project):
    pretrain(store, project)
    first = embedding.update(store, project.id, silent)
    embedding.choose(store, project.id, "network")
    embedding.update(store, project.id, silent)
    embedding.choose(store, project.id, "mae")
    again = embedding.update(store, project.id, silent)
    assert (again.backend, again.path) == ("mae", first.path)
    assert models.latest_embedding(store, project.id).id == again.id
    assert (MeanEmbedder.fitted, ThresholdEmbedder.embedded) == ([12], [12])


def test_a_cancelled_training_leaves_its_state_for_the_next_and_nothing_else(store, project, monkeypatch):
    seen = []

    def fit(self, patches, report, state=None):
        seen.append((state, state.exists()))
        if not state.exists():
            state.write_text("half")
            raise Cancelled("Cancelled.")
        state.unlink()

    monkeypatch.setattr(MeanEmbedder, "fit", fit)
    with pytest.raises(Cancelled):
        embedding.update(store, project.id, silent)
    assert models.latest_embedding(store, project.id) is None
    embedding.update(store, project.id, silent)
    assert [exists for _, exists in seen] == [False, True]
    assert seen[0][0] == seen[1][0]
    names = sorted(path.name.split("-")[0] for path in seen[0][0].parent.iterdir())
    assert names == ["mae", "patches", "vectors"]


def test_a_model_file_that_is_gone_is_trained_anew(store, project):
    first = embedding.update(store, project.id, silent)
    store.files.resolve(first.model_path).unlink()
    for seed in (7, 8, 9):
        importing.add_array(store, project.id, f"more {seed}", discs(seed)[0])
    second = embedding.update(store, project.id, silent)
    assert MeanEmbedder.fitted == [12, 24]
    assert len(embedding.read(store, second)[0]) == 24


def test_images_in_place_of_others_are_learned(store, project):
    embedding.update(store, project.id, silent)
    for image in catalogue.images(store, project.id)[:2]:
        catalogue.set_image_deleted(store, image.id, True)
    importing.add_array(store, project.id, "other", discs(7)[0])
    assert embedding.update(store, project.id, silent).params["fitted_on"] == 8
    importing.add_array(store, project.id, "another", discs(8)[0])
    assert embedding.update(store, project.id, silent).params["fitted_on"] == 8  # two thirds are known
    assert MeanEmbedder.fitted == [12, 8]
