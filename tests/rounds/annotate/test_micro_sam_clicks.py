"""Clicks by micro_sam itself through the app: chosen for a project, embedded ahead by the worker, clicked, boxed,
corrected and carried through a stack. Its weights are drawn from a seed, so masks mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_stack, click_methods, clicks
from alapp.rounds.select import click_ahead
from alapp.running import run_inline
from alapp.stages.annotate import microsam_model
from alapp.stages.annotate.base import Tuning
from alapp.stages.annotate.masks import on_slice
from alapp.stages.foundation.residency import RESIDENTS
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from tests.seeded_weights import make_vit_t

pytestmark = pytest.mark.slow
ME = "me"


@pytest.fixture
def stack(store, tmp_path, monkeypatch):
    """A patch of three slices of 64 x 64 in a project that micro_sam answers."""
    make_vit_t(tmp_path)
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
    monkeypatch.setattr(clicks, "_segmenters", {})
    monkeypatch.setattr(clicks, "_failures", {})
    yy, xx = np.mgrid[:64, :64]
    ball = np.stack([np.hypot(yy - 30, xx - 32) < radius for radius in (10, 12, 10)])
    pixels = np.where(ball, 180, 50) + np.random.default_rng(0).normal(0, 5, ball.shape)
    made = catalogue.create_project(store, "stack", patch_size=64, patch_depth=3)
    importing.add_array(store, made.id, "ball", pixels.astype(np.uint8)[..., None])
    patch = catalogue.patches(store, made.id)[0]
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    yield patch
    RESIDENTS.release()


def test_from_the_choice_to_a_carried_object(store, stack, monkeypatch):
    click_methods.choose(store, stack.project_id, "micro_sam")
    ended = run_inline(store, click_ahead.go_on(store, stack.project_id))
    assert ended.result == {"embedded": 3, "left": 0, "gave_way": False, "method": "micro_sam"}
    assert RESIDENTS.names() == []

    def fail(weights):
        raise AssertionError("the encoder is not needed any more")

    monkeypatch.setattr(microsam_model, "load_encoder", fail)
    assert clicks.prepare(store, stack.id, 1) == ("micro_sam", "")
    box, middle = (16, 18, 44, 46), Tuning(granularity=0.1)  # of three masks the middle one; none of them is empty

    def click(**prompts):
        return annotation.click(store, stack.id, ME, z=1, tuning=middle, **prompts)[0]

    mask, boxed = click(positive=[(30, 32)]), click(positive=[], box=box)
    both = click(positive=[(30, 32)], negative=[(2, 2)], box=box)
    assert len({mask.blob, boxed.blob, both.blob}) == 3
    annotation.accept(store, stack.id, ME, mask, source="micro_sam")
    corrected = click(positive=[], negative=[(5, 60)], object_id=1)
    assert corrected != mask
    annotation.accept(store, stack.id, ME, corrected, object_id=1)
    item = annotation.state(store, stack.id).objects[1]
    carried = clicks.propagate(store, stack, 1, item.mask)
    assert np.array_equal(on_slice(carried, 1), on_slice(item.mask, 1))
    if carried != item.mask:
        assert annotation_stack.propagate(store, stack.id, ME, 1, 1).after.objects[1].mask == carried
