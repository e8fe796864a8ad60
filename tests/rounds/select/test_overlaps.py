"""What is scored on is never trained on, also where patches share pixels."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import Box, PatchRole, silent
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_region
from alapp.rounds.predict import decoding
from alapp.rounds.select import informing, overlaps, selection
from alapp.rounds.train import training_cases
from alapp.stages.annotate import masks
from alapp.stages.select.base import LIKENESS
from alapp.stages.train.cases import load_ignored
from alapp.storage import catalogue, models
from alapp.storage import rounds as round_rows
from tests.rounds.conftest import discs
from tests.rounds.test_loop import answer, run_round


def crowded(store, size, **settings):
    """Three images whose sides are no multiple of a patch of 64, or whose patches overlap by wish."""
    made = catalogue.create_project(store, "crowded", patch_size=64, **settings)
    for seed in range(3):
        pixels, labels = discs(seed, size, n=20)
        importing.add_reference(store, importing.add_array(store, made.id, f"image_{seed}", pixels), labels)
    return made


def of_role(store, project, role):
    chosen = round_rows.selected_in_project(store, project.id)
    return [catalogue.patch(store, patch_id) for patch_id, item in chosen.items() if item.role is role]


def learned(store, project):
    """Pixels that are trained on, by image id."""
    maps = {image.id: np.zeros(image.shape[1:3], bool) for image in catalogue.images(store, project.id)}
    for patch_id, case in training_cases.finished_cases(store, project, PatchRole.TRAIN).items():
        patch = catalogue.patch(store, patch_id)
        _, labels = case.load()
        taken = np.ones(labels.shape, bool) if case.ignored is None else ~case.ignored()
        maps[patch.image_id][patch.box.slices[1:]] |= taken
    return maps


@pytest.mark.parametrize(("size", "settings"), [(130, {}), (176, {"patch_overlap": 32})])
def test_no_pixel_is_learned_and_scored_on(store, fast, size, settings):
    project = crowded(store, size, validation_share=0.4, **settings)
    for _ in range(3):
        run_round(store, project, 6)
    maps = learned(store, project)
    assert any(taken.any() for taken in maps.values())
    apart = of_role(store, project, PatchRole.VALIDATION)
    assert len(apart) == 6
    for patch in apart:
        assert not maps[patch.image_id][patch.box.slices[1:]].any()


def test_patches_that_share_pixels_are_picked_last(store, fast):
    project = crowded(store, 176, patch_overlap=32, validation_share=0.25)
    for strategy in ("random", "coreset", "foreground_random"):
        catalogue.update_project(store, project.id, lane_share=0.25)
        made = selection.run_select(store, project.id, silent, 8, strategy)
        train, validation = (of_role(store, project, role) for role in (PatchRole.TRAIN, PatchRole.VALIDATION))
        assert not overlaps.shared(train, validation).any()
        swapped = selection.swap_pick(store, round_rows.latest(store, project.id).id, made["patches"][0])
        assert not overlaps.shared([catalogue.patch(store, swapped)], validation).any()
        swapped = selection.swap_pick(store, round_rows.latest(store, project.id).id, validation[0].id)
        train = of_role(store, project, PatchRole.TRAIN)
        assert not overlaps.shared([catalogue.patch(store, swapped)], train).any()
        selection.discard_round(store, project.id)


def test_but_they_are_picked_where_nothing_else_is_left(store, fast):
    project = crowded(store, 130, validation_share=0.25)
    n_patches = catalogue.count_patches(store, project.id)
    made = selection.run_select(store, project.id, silent, n_patches)
    assert len(made["patches"]) == n_patches


def test_a_patch_that_lies_in_others_is_no_case(store, project, fast):
    run_round(store, project, 6)
    (train, *_), (validation, *_) = (of_role(store, project, role) for role in (PatchRole.TRAIN, PatchRole.VALIDATION))
    before = training_cases.finished_cases(store, project, PatchRole.TRAIN)
    box = train.box
    store.execute(
        "UPDATE patch SET image_id = ?, z = ?, y = ?, x = ? WHERE id = ?",
        (train.image_id, box.z, box.y, box.x + 1, validation.id),
    )
    part = training_cases.finished_cases(store, project, PatchRole.TRAIN)
    assert part[train.id].hash != before[train.id].hash
    assert part[train.id].ignored().mean() == 63 / 64
    store.execute("UPDATE patch SET x = ?, width = 70 WHERE id = ?", (box.x, validation.id))
    assert train.id not in training_cases.finished_cases(store, project, PatchRole.TRAIN)
    annotation.reopen(store, validation.id, "session")
    annotation.skip(store, validation.id, "session", "not sharp")
    assert training_cases.finished_cases(store, project, PatchRole.TRAIN)[train.id].hash == before[train.id].hash


def test_what_nobody_annotated_stays_out_too(store, project, fast, monkeypatch):
    made = selection.run_select(store, project.id, silent, 6)
    answer(store, made["patches"])
    (train, *_), (validation, *_) = (of_role(store, project, role) for role in (PatchRole.TRAIN, PatchRole.VALIDATION))
    region = np.zeros((64, 64), np.uint8)
    region[:8] = 1
    marked = type("Region", (), {"sha256": "marked"})()
    monkeypatch.setattr(training_cases.annotation_region, "map_of", lambda store, item: marked)
    read = training_cases.labels.read
    monkeypatch.setattr(
        training_cases.labels, "read", lambda store, item: region if item is marked else read(store, item)
    )
    store.execute(
        "UPDATE patch SET image_id = ?, y = ?, x = ? WHERE id = ?",
        (train.image_id, train.box.y + 60, train.box.x, validation.id),
    )
    ignored = training_cases.finished_cases(store, project, PatchRole.TRAIN)[train.id].ignored()
    assert ignored[:8].all()
    assert ignored[60:].all()
    assert not ignored[8:60].any()


def cover(store, patch, validation, boxes):
    """Move validation patches over `patch`: (y, x) from its corner, height, width."""
    for item, (y, x, height, width) in zip(validation, boxes, strict=True):
        store.execute(
            "UPDATE patch SET image_id = ?, y = ?, x = ?, height = ?, width = ? WHERE id = ?",
            (patch.image_id, patch.box.y + y, patch.box.x + x, height, width, item.id),
        )


def batch_with_two_for_validation(store, project):
    """A trained round; the first training patch of its batch, and its validation patches."""
    catalogue.update_project(store, project.id, validation_share=1 / 3)
    run_round(store, project, 6)
    validation = of_role(store, project, PatchRole.VALIDATION)
    assert len(validation) == 2
    return of_role(store, project, PatchRole.TRAIN)[0], validation


def test_a_patch_that_several_others_cover_together_is_no_case(store, project, fast):
    train, validation = batch_with_two_for_validation(store, project)
    cover(store, train, validation, [(0, 0, 40, 64), (41, 0, 30, 64)])
    (left,) = np.flatnonzero(~training_cases.finished_cases(store, project, PatchRole.TRAIN)[train.id].ignored().all(1))
    assert left == 40
    cover(store, train, validation, [(0, 0, 40, 64), (40, 0, 30, 64)])
    cases = training_cases.finished_cases(store, project, PatchRole.TRAIN)
    assert train.id not in cases
    for case in cases.values():
        assert case.ignored is None or not load_ignored(case, (64, 64)).all()


def test_a_patch_that_others_and_its_region_cover_together_is_no_case(store, project, fast, monkeypatch):
    train, validation = batch_with_two_for_validation(store, project)
    region = np.zeros((64, 64), bool)
    region[:20] = True
    annotation.reopen(store, train.id, "session")
    annotation.delete_object(store, train.id, "session", list(annotation.state(store, train.id).objects))
    annotation_region.mark(store, train.id, "session", masks.from_array(region))
    annotation.mark_done(store, train.id, "session")
    cover(store, train, validation[:1], [(20, 0, 43, 64)])
    assert train.id in training_cases.finished_cases(store, project, PatchRole.TRAIN)
    cover(store, train, validation[:1], [(20, 0, 44, 64)])
    assert train.id not in training_cases.finished_cases(store, project, PatchRole.TRAIN)
    # Nor is the decoding fitted on it.
    this, before = round_rows.latest(store, project.id), models.checkpoints(store, project.id)[0]
    read = []
    read_patch = catalogue.read_patch
    monkeypatch.setattr(
        decoding.catalogue, "read_patch", lambda store, patch: read.append(patch.id) or read_patch(store, patch)
    )
    examples = decoding._examples(store, this, before, silent)
    assert len(read) == len(examples) == 3
    assert train.id not in read
    assert all(example.ignored is None or not example.ignored.all() for example in examples)


def test_shares_are_of_the_patch_and_of_the_largest():
    def at(image, *box):
        return catalogue.Patch(1, image, Box(*box), "a", "a.npy", True, None, 1)

    patches = [at(1, 0, 0, 0, 4, 10, 10), at(1, 4, 0, 0, 4, 10, 10), at(2, 0, 0, 0, 4, 10, 10)]
    others = [at(1, 2, 0, 5, 4, 10, 10), at(1, 0, 9, 9, 1, 10, 10)]
    assert overlaps.shared(patches, others).tolist() == [0.25, 0.25, 0]
    assert overlaps.shared(patches, []).tolist() == [0, 0, 0]
    assert overlaps.shared([], others).tolist() == []


def test_those_that_share_least_fill_up():
    free = np.array([True, True, True, False, True])
    share = np.array([0.5, 0, 0.1, 0, 0.3])
    assert overlaps.apart(free, share, 1).tolist() == [False, True, False, False, False]
    assert overlaps.apart(free, share, 3).tolist() == [False, True, True, False, True]
    assert overlaps.apart(free, share, 9).tolist() == free.tolist()


def test_strategies_are_told_where_patches_lie(store, fast):
    project = crowded(store, 130)
    patches = catalogue.patches(store, project.id)
    for known in (
        informing.inform(store, project.id, patches, LIKENESS, np.ones(len(patches), bool), silent),
        informing.recall(store, project.id, patches, LIKENESS),
    ):
        assert known["place"][1].tolist() == [patches[0].image_id, 0, 0, 64, 1, 64, 64]
        assert len(known["place"]) == len(patches)


def test_the_decoding_is_fitted_on_pixels_that_are_new_to_the_model_and_not_scored_on(store, fast, monkeypatch):
    project = crowded(store, 176, patch_overlap=32, validation_share=0.4)
    run_round(store, project, 6)
    older = learned(store, project)
    read, fitted = [], []
    read_patch = catalogue.read_patch
    monkeypatch.setattr(
        decoding.catalogue, "read_patch", lambda store, patch: read.append(patch) or read_patch(store, patch)
    )
    monkeypatch.setattr(
        decoding, "fit", lambda examples, *_: fitted.extend(zip(read[-len(examples) :], examples, strict=True))
    )
    run_round(store, project, 6)
    scored = {image.id: np.zeros(image.shape[1:3], bool) for image in catalogue.images(store, project.id)}
    for patch in of_role(store, project, PatchRole.VALIDATION):
        scored[patch.image_id][patch.box.slices[1:]] = True
    assert fitted
    shared = 0
    for patch, example in fitted:
        where = patch.box.slices[1:]
        unknown = older[patch.image_id][where] | scored[patch.image_id][where]
        shared += unknown.sum()
        assert not unknown.all()
        np.testing.assert_array_equal(example.ignored if unknown.any() else np.zeros_like(unknown), unknown)
    assert shared


@pytest.mark.parametrize("strategy", ["auto", "coreset", "random"])
def test_an_image_that_was_imported_twice_is_not_learned_and_scored_on(store, fast, strategy):
    made = catalogue.create_project(store, "twice", patch_size=64, validation_share=0.5)
    for seed in range(3):
        for copy in "ab":
            importing.add_array(store, made.id, f"image_{seed}{copy}", discs(seed)[0])
    for seed in range(3):
        catalogue.update_project(store, made.id, seed=seed)
        selection.run_select(store, made.id, silent, 8, strategy)
        shown = [
            {catalogue.read_patch(store, patch).tobytes() for patch in of_role(store, made, role)}
            for role in (PatchRole.TRAIN, PatchRole.VALIDATION)
        ]
        assert not shown[0] & shown[1]
        selection.discard_round(store, made.id)
