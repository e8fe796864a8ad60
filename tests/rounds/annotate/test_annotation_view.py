"""A patch as the page gets it, when something behind it is broken."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.errors import BackendError, OutOfMemoryError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation, annotation_view
from alapp.stages.annotate import masks
from alapp.stages.annotate.watershed import SeededWatershed
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.annotate.annotate_server import server_functions

ME = "page-1"


@pytest.fixture
def patch(store):
    """A patch with an object, and one with a point on a bright square that is not finished."""
    made = catalogue.create_project(store, "cells", patch_size=64)
    image = np.full((64, 64, 1), 20, np.uint8)
    image[20:40, 20:40] = 200
    importing.add_array(store, made.id, "cells", image)
    (patch,) = catalogue.patches(store, made.id)
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    annotation.begin(store, patch.id, ME)
    annotation.accept(store, patch.id, ME, masks.from_array(np.ones((4, 4), bool)))
    annotation.click(store, patch.id, ME, positive=[(30, 30)])
    return patch


def ask(store, patch, name, **more):
    (function,) = [each for each in server_functions(store) if each.__name__ == name]
    return function({"project": patch.project_id, "patch": patch.id, "session": ME, **more})


def test_run_lengths_are_kept_up_to_so_many_bytes(monkeypatch):
    made, count = [], masks.runs
    monkeypatch.setattr(masks, "runs", lambda mask: made.append(mask) or count(mask))
    noise = np.random.default_rng(0).random((20, 4, 50, 50)) < 0.5
    known = [masks.from_array(pixels) for pixels in noise]
    kept = annotation_view.RunLengths(100_000)
    for mask in known:
        kept.of(known[0])
        assert kept.of(mask) == count(mask)
        assert 0 < kept.n_bytes <= 100_000
    assert made == known  # the first one was asked for all the time, and is still there
    kept.of(known[-1])
    kept.of(known[1])
    assert made == [*known, known[1]]
    kept.of(masks.from_array(np.random.default_rng(1).random((50, 100, 100)) < 0.5))  # too large to be kept
    kept.of(known[1])
    assert len(made) == len(known) + 2
    small = annotation_view.RunLengths(0)
    assert small.of(known[0]) == count(known[0])
    assert small.n_bytes == 0


def test_a_patch_opens_with_its_points_though_the_click_model_is_gone(store, patch):
    assert ask(store, patch, "load_patch")["draft"]["mask"]["size"] > 0
    catalogue.update_project(store, patch.project_id, click_method="micro_sam:vit_b_lm")
    opened = ask(store, patch, "load_patch")
    assert (opened["draft"]["positive"], opened["draft"]["mask"]) == (((30, 30),), None)
    assert [item["id"] for item in opened["items"]] == [1]
    # The page asks for this next, and shows the sentence.
    assert (
        "vit_b_lm that answers your clicks is not on this computer" in ask(store, patch, "prepare_slice", z=0)["error"]
    )


@pytest.mark.parametrize(
    ("error", "logged"), [(BackendError("x"), 0), (OutOfMemoryError("x"), 0), (MemoryError(), 1), (ValueError("x"), 1)]
)
def test_a_patch_opens_with_its_points_whatever_the_click_method_raises(
    store, patch, monkeypatch, caplog, error, logged
):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(SeededWatershed, "segment", fail)
    opened = ask(store, patch, "load_patch")
    assert (opened["draft"]["positive"], opened["draft"]["mask"]) == (((30, 30),), None)
    # What no method should raise is a bug, so its traceback is kept.
    assert [record.exc_info[1] for record in caplog.records] == [error] * logged
