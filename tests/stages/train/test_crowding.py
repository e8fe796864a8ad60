"""Few objects that lie apart are pasted, and where many touch the borders between them count more."""

import numpy as np

from alapp.stages.train import crowding
from alapp.stages.train.base import Case

APART = np.zeros((40, 40), np.int32)
APART[2:10, 2:10], APART[20:30, 20:30] = 1, 2
TOUCHING = APART.copy()
TOUCHING[10:14, 2:10] = 3


def of(*maps):
    return crowding.crowding(
        Case(f"case{n}", str(n), lambda one=one: (np.zeros((*one.shape, 1)), one)) for n, one in enumerate(maps)
    )


def test_few_objects_that_lie_apart_are_pasted(monkeypatch):
    assert of(APART, APART).few_apart
    assert not of(APART, TOUCHING).few_apart
    assert of(*[APART] * 40, TOUCHING).few_apart  # 2 of 83
    assert not of(np.zeros((8, 8), np.int32)).few_apart
    assert of(np.stack([APART] * 3)).few_apart
    assert not of(np.stack([TOUCHING] * 3)).few_apart
    monkeypatch.setattr(crowding, "FEW_OBJECTS", 3)
    assert not of(APART, APART).few_apart


def test_objects_are_dense_when_a_quarter_of_them_touches():
    assert of(TOUCHING).dense  # 2 of 3
    assert of(np.stack([TOUCHING] * 2)).dense
    assert not of(*[APART] * 3, TOUCHING).dense  # 2 of 9
    assert not of(APART).dense
    assert not of(np.zeros((8, 8), np.int32)).dense


def test_no_more_labels_are_read_than_are_needed(monkeypatch):
    monkeypatch.setattr(crowding, "FEW_OBJECTS", 4)
    read = []

    def load(number):
        read.append(number)
        return np.zeros((40, 40, 1)), APART

    crowding.crowding(Case(f"case{n}", str(n), lambda n=n: load(n)) for n in range(9))
    assert read == [0, 1, 2]
