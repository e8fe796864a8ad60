"""What strategies are told about the patches of a project."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, silent
from alapp.errors import Cancelled
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import informing, selection
from alapp.rounds.train import training
from alapp.stages.select import measures
from alapp.stages.select.avoid import almost_empty
from alapp.stages.select.base import SELECTORS, Context, Need
from alapp.storage import catalogue, labels, verdicts
from alapp.storage import rounds as round_rows
from tests.rounds.conftest import discs

ALL = frozenset(Need)


def inform(store, project, needs=ALL, report=silent):
    patches = catalogue.patches(store, project.id)
    return informing.inform(store, project.id, patches, needs, np.ones(len(patches), bool), report)


@pytest.fixture
def trained(store, project, fast):
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    return project


def test_before_any_labels_only_pixels_are_known(store, project):
    known = inform(store, project)
    assert known["contrast"].shape == (12,)
    assert (known["contrast"] > 0).all()
    assert len(set(known["content"].tolist())) == 12
    assert known["uncertainty"] is None
    assert known["foreground"] is None
    assert "cost" not in known
    assert "class_entropy" not in known


def test_dark_images_are_not_taken_for_empty_ones(store, fast):
    made = catalogue.create_project(store, "exposures", patch_size=64)
    for seed in range(3):
        importing.add_array(store, made.id, f"16_bit_{seed}", discs(seed)[0].astype(np.uint16) * 100)
        importing.add_array(store, made.id, f"8_bit_{seed}", discs(3 + seed)[0])
    known = inform(store, made, {Need.CONTRAST})
    assert not almost_empty(Context(**known), 24).any()
    # Earlier versions kept the contrast without the noise.
    path = informing._path(store, made.id)
    with np.load(path) as kept:
        values = {name: kept[name] for name in kept.files if name != informing.NOISE}
    np.savez(path, **values)
    np.testing.assert_array_equal(inform(store, made, {Need.CONTRAST})["contrast"], known["contrast"])


def test_only_what_is_needed_is_found_out(store, trained, monkeypatch):
    monkeypatch.setattr(measures, "doubt", lambda members: pytest.fail("nobody asked for it"))
    assert set(inform(store, trained, {Need.CONTRAST, Need.FOREGROUND})) == {"contrast", "foreground"}
    monkeypatch.setattr(catalogue, "read_patch", lambda store, patch: pytest.fail("nobody asked for it"))
    assert inform(store, trained, {Need.ROUND_NUMBER}) == {}


def test_foreground_and_cost_are_those_of_the_predictions(store, trained):
    known = inform(store, trained)
    patches = catalogue.patches(store, trained.id)
    maps = verdicts.predictions(store, trained.id)
    here = [catalogue.crop(labels.read(store, maps[patch.image_id]), patch) for patch in patches]
    np.testing.assert_allclose(known["foreground"], [(each > 0).mean() for each in here])
    objects = [len(np.unique(each[each > 0])) for each in here]
    np.testing.assert_allclose(known["cost"], measures.cost(objects))


def test_doubt_is_that_of_the_mirrored_predictions(store, trained):
    known = inform(store, trained)
    # The stand-in is always certain, and sees the same in mirrored images.
    np.testing.assert_array_equal(known["uncertainty"], np.zeros(12))
    patches = catalogue.patches(store, trained.id)
    maps = verdicts.predictions(store, trained.id)
    empty = [not catalogue.crop(labels.read(store, maps[p.image_id]), p).any() for p in patches]
    assert np.isnan(known["class_entropy"][:, 1])[empty].all()
    assert not np.isnan(known["class_entropy"][:, 0]).any()


def noisy(trainer, monkeypatch, seen):
    """Makes the stand-in doubt the left half of every image."""

    def mirrored(self, workspace, checkpoint, image, report):
        seen.append(image.shape)
        for sign in (1, -1):
            shifted = np.full((3, *image.shape[:-1]), 1 / 3, np.float32)
            shifted[0, ..., : image.shape[-2] // 2] += sign * 0.3
            shifted[1, ..., : image.shape[-2] // 2] -= sign * 0.3
            report(1, 1, "")
            yield shifted

    monkeypatch.setattr(trainer, "mirrored", mirrored)


def test_large_images_are_looked_at_patch_by_patch(store, trained, fast, monkeypatch):
    seen = []
    noisy(fast[0], monkeypatch, seen)
    monkeypatch.setattr(informing, "WHOLE_VOXELS", 1000)
    known = inform(store, trained)
    assert seen == [(96, 96, 1)] * 12  # half of the patch's width around it, where the image has it
    assert known["mutual_information"].min() > 0


def test_what_was_found_is_kept_for_swaps_and_other_strategies(store, trained, fast, monkeypatch):
    seen = []
    noisy(fast[0], monkeypatch, seen)
    patches = catalogue.patches(store, trained.id)
    assert informing.recall(store, trained.id, patches, ALL)["uncertainty"] is None
    first = inform(store, trained)
    assert len(seen) == 3
    left = [patch.box.x == 0 for patch in patches]
    assert first["mutual_information"][left].min() > first["mutual_information"][np.logical_not(left)].max()
    again = informing.recall(store, trained.id, patches, ALL)
    inform(store, trained, {Need.MUTUAL_INFORMATION})
    assert len(seen) == 3
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)


def test_new_images_and_new_models_are_looked_at(store, trained, fast, monkeypatch):
    seen = []
    noisy(fast[0], monkeypatch, seen)
    inform(store, trained)
    importing.add_array(store, trained.id, "late", discs(9)[0])
    assert inform(store, trained)["uncertainty"].shape == (16,)
    assert len(seen) == 4
    monkeypatch.setattr(verdicts, "current_checkpoint", lambda *_: None)
    assert inform(store, trained)["uncertainty"] is None


def test_images_without_a_patch_that_may_be_picked_are_not_looked_at(store, trained, fast, monkeypatch):
    seen = []
    noisy(fast[0], monkeypatch, seen)
    patches = catalogue.patches(store, trained.id)
    wanted = np.array([patch.image_id == patches[0].image_id for patch in patches])
    known = informing.inform(store, trained.id, patches, ALL, wanted, silent)
    assert len(seen) == 1
    np.testing.assert_allclose(known["uncertainty"][~wanted], known["uncertainty"][wanted].mean())


def test_a_damaged_file_costs_only_time(store, trained):
    first = inform(store, trained)
    path = store.files.project(trained.id) / "embeddings" / informing.FILE
    path.write_bytes(path.read_bytes()[:500])
    again = inform(store, trained)
    np.testing.assert_array_equal(again["contrast"], first["contrast"])


def test_progress_only_grows_and_can_stop(store, trained):
    told = []
    inform(store, trained, report=lambda done, total, message: told.append((done / total, message)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert any("in doubt: image_0" in message for _, message in told)

    def stop(done, total, message):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        inform(store, trained, report=stop)


def test_cost_is_that_of_the_person_once_enough_is_known(store, trained, monkeypatch):
    assert informing.seconds(store, trained.id) == (measures.SECONDS_PER_PATCH, measures.SECONDS_PER_OBJECT)
    work = informing.ledger.PatchWork(
        1, seconds=50.0, objects=tuple(informing.ledger.ObjectWork(i, "drawn", 3.0, 1) for i in range(12))
    )
    monkeypatch.setattr(informing.ledger, "patches", lambda *_: {1: work})
    assert informing.seconds(store, trained.id) == (14.0, 3.0)


@pytest.mark.parametrize("strategy", list(SELECTORS))
def test_a_batch_is_selected_swapped_and_trained(store, trained, strategy):
    selection.run_select(store, trained.id, silent, 4, strategy)
    this = round_rows.latest(store, trained.id)
    first = round_rows.selected(store, this.id)[0].patch_id
    new = selection.swap_pick(store, this.id, first)
    assert new != first
    for pick in round_rows.selected(store, this.id):
        patch = catalogue.patch(store, pick.patch_id)
        truth = labels.read(store, labels.latest_of_image(store, patch.image_id, LabelKind.REFERENCE))
        annotation.submit_labels(store, pick.patch_id, catalogue.crop(truth, patch), "oracle")
    training.run_round(store, trained.id, silent)
    selection.run_select(store, trained.id, silent, 4, strategy)
