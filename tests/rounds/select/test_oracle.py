"""Reference masks in place of the person."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import LabelKind, silent
from alapp.errors import NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.select import oracle, selection
from alapp.storage import catalogue, labels
from tests.rounds.conftest import discs


def test_it_finishes_only_what_is_open(store, project, fast):
    made = selection.run_select(store, project.id, silent, 4)
    mine = made["patches"][0]
    patch = catalogue.patch(store, mine)
    annotation.submit_labels(store, mine, np.zeros((patch.box.height, patch.box.width), np.int32), "human")
    assert oracle.can_answer(store, project.id)
    assert oracle.answer(store, project.id) == 3
    assert not oracle.can_answer(store, project.id)
    assert labels.latest_of_patch(store, mine, LabelKind.HUMAN).backend == "human"
    other = catalogue.patch(store, made["patches"][1])
    truth = labels.read(store, labels.latest_of_image(store, other.image_id, LabelKind.REFERENCE))
    found = labels.read(store, labels.latest_of_patch(store, other.id, LabelKind.HUMAN))
    assert ((catalogue.crop(truth, other) > 0) == (found > 0)).all()


def test_without_references_a_person_has_to_do_it(store, fast):
    own = catalogue.create_project(store, "own", patch_size=64)
    importing.add_array(store, own.id, "mine", discs(0)[0])
    selection.run_select(store, own.id, silent, 2)
    assert not oracle.can_answer(store, own.id)
    with pytest.raises(NotReadyError, match="mine has no reference masks"):
        oracle.answer(store, own.id)
