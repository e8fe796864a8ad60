"""1,000 random edits through the app's own functions, in a process that is killed again and again: what the journal
replays to is what an independent model of the annotation says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.annotate.annotation_edits import COLOURS
from alapp.stages.annotate import edits, journal, masks
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows
from tests.rounds.conftest import discs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SIZE = 48
SHAPE = (1, SIZE, SIZE)
N_EDITS = 1_000
N_KILLS = 6

EXECUTOR = """
import json, sys, zlib
import numpy as np
from alapp.errors import InputError
from alapp.rounds.annotate import annotation, annotation_edits, clicks
from alapp.stages.annotate import journal, masks
from alapp.storage.db import Store

store = Store(sys.argv[1])
ACTS = {
    "accept": annotation.accept, "take": annotation.accept_suggestions, "delete": annotation.delete_object,
    "undo": annotation.undo, "redo": annotation.redo, "paint": annotation_edits.paint, "merge": annotation_edits.merge,
    "split": annotation_edits.split, "reshape": annotation_edits.reshape,
}

def mask_of(runs):
    return masks.from_array((np.repeat(np.arange(len(runs)) % 2 == 1, runs)).reshape(48, 48))

print("ready", flush=True)
for line in sys.stdin:
    name, options = json.loads(line)
    for key in ("mask", "stroke"):
        if key in options:
            options[key] = mask_of(options[key])
    answer = {"refused": False}
    try:
        if name == "click":
            mask, change = annotation.click(store, 1, "random", **options)
            whole = np.zeros((1, 48, 48), bool)
            if mask is not None:
                mask.paint(whole, True)
            answer["runs"] = masks.run_lengths(whole)
        elif name == "start":
            annotation.begin(store, 1, "random", "pseudo")
            change = None
        else:
            change = ACTS[name](store, 1, "random", **options)
    except InputError:
        answer["refused"] = True
    else:
        after = change.after if change else annotation.state(store, 1)
        answer["crc"] = zlib.crc32(journal.to_labels(after, (1, 48, 48)).tobytes())
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):  # noqa: N818 (the model's word for an `InputError`)
    """The app must say no."""


@dataclass
class Model:
    """The annotation as it should be: objects in one label map, since they never overlap; suggestions, which may lie
    under objects, one array each. Undo keeps copies of both."""

    objects: np.ndarray
    suggestions: dict[int, np.ndarray]
    last_id: int
    pseudo: np.ndarray
    past: list[tuple[np.ndarray, dict[int, np.ndarray]]] = field(default_factory=list)
    future: list[tuple[np.ndarray, dict[int, np.ndarray]]] = field(default_factory=list)

    def copy(self) -> Model:
        return Model(self.objects, self.suggestions, self.last_id, self.pseudo, list(self.past), list(self.future))

    @property
    def ids(self) -> list[int]:
        return [int(key) for key in np.unique(self.objects) if key]

    def pixels(self, key: int) -> np.ndarray:
        return self.suggestions.get(key, self.objects == key)

    def after(self, name: str, options: dict) -> Model:
        made = self.copy()
        getattr(made, f"_{name}")(**options)
        return made

    def _click(self, **_):
        pass

    def _start(self):
        """The suggestions anew, with ids that were never used, but where objects are; no step of undo, which keeps
        them."""
        found = suggested(self.pseudo, self.last_id)
        self.suggestions = unserved(found, self.objects)
        self.past = [(objects, unserved(found, objects)) for objects, _ in self.past]
        self.last_id = max(found)
        self.future = []

    def _undo(self):
        self._back(self.past, self.future)

    def _redo(self):
        self._back(self.future, self.past)

    def _back(self, here, there):
        if not here:
            raise Refused
        there.append((self.objects, self.suggestions))
        self.objects, self.suggestions = here.pop()

    def _put(self, made: dict[int, np.ndarray], gone=(), objects=None):
        """The new pixels of objects; suggestions that any of them covers by half are no longer needed."""
        self.past.append((self.objects, self.suggestions))
        self.future = []
        self.objects = np.where(np.isin(self.objects, [*made, *gone]), 0, self.objects) if objects is None else objects
        for key, pixels in made.items():
            self.objects = np.where(pixels, key, self.objects)
        self.suggestions = {
            key: pixels
            for key, pixels in self.suggestions.items()
            if key not in made
            and key not in gone
            and all((pixels & other).sum() / pixels.sum() < 0.5 for other in made.values())
        }
        self.last_id = max([self.last_id, *made])

    def _others(self, *keys):
        return (self.objects > 0) & ~np.isin(self.objects, keys)

    def _over(self, key: int, pixels: np.ndarray, cut: bool):
        """`key` gets `pixels`, and the others lose theirs there."""
        if not cut:
            return self._put({key: pixels})
        hit = [other for other in self.ids if other != key and (pixels & (self.objects == other)).any()]
        rest = {other: (self.objects == other) & ~pixels for other in hit}
        self._put(
            {key: pixels} | {k: v for k, v in rest.items() if v.any()}, [k for k, v in rest.items() if not v.any()]
        )

    def _accept(self, mask, object_id=None, overlap="keep"):
        pixels, key = unpacked(mask), self.last_id + 1 if object_id is None else object_id
        free = pixels & ~self._others(key)
        if overlap == "keep":
            if not free.any():
                raise Refused
            return self._put({key: free})
        objects = np.where(pixels | (self.objects == key), 0, self.objects)
        self._put({key: pixels}, objects=objects)

    def _paint(self, stroke, erase=False, object_id=None, overlap="keep"):
        stroke, key = unpacked(stroke), self.last_id + 1 if object_id is None else object_id
        before = np.zeros((SIZE, SIZE), bool) if object_id is None else self.pixels(key)
        pixels = before & ~stroke if erase else before | stroke
        if erase or overlap == "keep":
            pixels = pixels & ~self._others(key)
        if not pixels.any():
            if not erase:
                raise Refused
            return self._put({}, [key])
        if key not in self.suggestions and object_id is not None and np.array_equal(pixels, before):
            raise Refused
        self._over(key, pixels, cut=not erase and overlap == "replace")

    def _merge(self, object_ids):
        joined = np.any([self.pixels(key) for key in object_ids], axis=0) & ~self._others(*object_ids)
        if not joined.any():
            raise Refused
        self._put({object_ids[0]: joined}, object_ids[1:])

    def _reshape(self, object_id, how):
        before = masks.from_array(self.pixels(object_id))
        change = {"smooth": edits.smooth, "grow": edits.grow, "shrink": edits.shrink}
        found = edits.fill_holes(before) if how == "fill" else change[how](before, SHAPE)
        pixels = flat(found) & ~self._others(object_id) if found else None
        if pixels is None or not pixels.any() or np.array_equal(pixels, flat(before)):
            raise Refused
        self._put({object_id: pixels})

    def _split(self, object_id, line):
        try:
            parts = edits.split(masks.from_array(self.pixels(object_id)), line, 0)
        except InputError as error:
            raise Refused from error
        large, small = (flat(part) & ~self._others(object_id) for part in parts)
        if not large.any() or not small.any():
            raise Refused
        fresh = self.last_id + 1
        self._put({object_id: large, fresh + ((fresh - object_id) % COLOURS == 0): small})

    def _take(self, object_ids):
        self.past.append((self.objects, self.suggestions))
        self.future = []
        # In the order of the list, not in that of the question.
        for key in object_ids:
            self.objects = np.where(self.suggestions[key] & (self.objects == 0), key, self.objects)
        self.suggestions = {key: each for key, each in self.suggestions.items() if key not in object_ids}

    def _delete(self, object_ids):
        self._put({}, object_ids)


def suggested(pseudo: np.ndarray, above: int) -> dict[int, np.ndarray]:
    return {above + int(key): pseudo == key for key in np.unique(pseudo) if key}


def unserved(found: dict[int, np.ndarray], objects: np.ndarray) -> dict[int, np.ndarray]:
    """Those that no object covers by half."""
    largest = {key: max(np.bincount(objects[pixels])[1:], default=0) for key, pixels in found.items()}
    return {key: pixels for key, pixels in found.items() if largest[key] / pixels.sum() < 0.5}


def flat(mask: masks.Mask) -> np.ndarray:
    target = np.zeros(SHAPE, bool)
    mask.paint(target, True)
    return target[0]


def unpacked(runs: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(SIZE, SIZE)


def blob(rng: np.random.Generator, largest: int) -> list[int]:
    """A random ellipse, sometimes a ring: run lengths of the whole patch."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    (y, x), (h, w) = rng.integers(0, SIZE, 2), rng.integers(1, largest, 2)
    away = ((yy - y) / h) ** 2 + ((xx - x) / w) ** 2
    return masks.run_lengths((away < 1) & (away >= rng.choice([0, 0, 0.3 if min(h, w) > 2 else 0])))


def random_edit(rng: np.random.Generator, model: Model) -> tuple[str, dict]:
    if rng.random() < 0.04:
        return "start", {}
    ids = [*model.ids, *model.suggestions]
    some = [int(key) for key in rng.permutation(ids)[: rng.integers(1, 4)]]
    one = some[0] if some else None
    overlap = str(rng.choice(["keep", "replace"]))
    names = [
        "click",
        "accept",
        "paint",
        "paint",
        "erase",
        "merge",
        "split",
        "reshape",
        "take",
        "delete",
        "undo",
        "undo",
        "redo",
    ]
    name = str(rng.choice(names)) if ids else str(rng.choice(["click", "accept", "paint", "undo", "redo"]))
    if name == "take":
        chosen = [key for key in model.suggestions if key in some]
        return ("take", {"object_ids": chosen}) if chosen else ("undo", {})
    if name == "click":
        return name, {"positive": [[int(each) for each in rng.integers(0, SIZE, 2)]]}
    if name == "merge":
        return (name, {"object_ids": some}) if len(some) > 1 else ("redo", {})
    if name == "split":
        inside = np.argwhere(model.pixels(one)).mean(axis=0)
        turn = rng.uniform(-12, 12, 2)
        return name, {"object_id": one, "line": [(inside - turn).tolist(), (inside + turn).tolist()]}
    maybe = {"object_id": one if rng.random() < 0.5 else None, "overlap": overlap}
    return {
        "accept": ("accept", {"mask": blob(rng, 12), **maybe}),
        "paint": ("paint", {"stroke": blob(rng, 8), **maybe}),
        "erase": ("paint", {"stroke": blob(rng, 10), "erase": True, "object_id": one}),
        "reshape": ("reshape", {"object_id": one, "how": str(rng.choice(["fill", "smooth", "grow", "shrink"]))}),
        "delete": ("delete", {"object_ids": some[:1]}),
    }.get(name, (name, {}))


class Executor:
    """The process that edits; the next one warms up beside it."""

    def __init__(self, root):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", EXECUTOR, str(root)], env=environment, **pipes)
        self.ready = False

    def send(self, name, options):
        if not self.ready:
            assert self.process.stdout.readline() == "ready\n"
            self.ready = True
        self.process.stdin.write(json.dumps([name, options]) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def kill(self):
        self.process.kill()  # SIGKILL; on Windows TerminateProcess
        self.process.wait()
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            assert self.process.returncode


def replayed(store) -> journal.State:
    rows = annotations.events(store, 1)
    assert [row.revision for row in rows] == list(range(1, len(rows) + 1))
    return journal.fold(journal.Event(row.revision, row.kind, row.payload, row.mask) for row in rows)


def same(state: journal.State, model: Model) -> bool:
    found = {key: flat(item.mask) for key, item in state.suggestions.items()}
    overlapping = sum(flat(item.mask) for item in state.objects.values())
    assert np.max(overlapping, initial=0) <= 1
    return (
        np.array_equal(journal.to_labels(state, SHAPE)[0], model.objects)
        and found.keys() == model.suggestions.keys()
        and all(np.array_equal(found[key], model.suggestions[key]) for key in found)
        and (len(state.past), len(state.future)) == (len(model.past), len(model.future))
    )


@pytest.fixture
def model(store):
    made = catalogue.create_project(store, "random", patch_size=SIZE)
    pixels, truth = discs(0, size=SIZE, n=6, radius=6)
    image = importing.add_array(store, made.id, "cells", pixels)
    (patch,) = catalogue.patches(store, made.id)
    round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
    labels.add(store, LabelKind.PSEUDO, truth, project_id=made.id, image_id=image.id, backend="x", input_hash="x")
    annotation.begin(store, patch.id, "random")
    assert patch.id == 1
    return Model(np.zeros((SIZE, SIZE), int), suggested(truth, 0), int(truth.max()), truth)


def test_random_edits_replay_to_the_same_labels_after_kills(store, model):
    rng = np.random.default_rng(20)
    kills = set(rng.choice(np.arange(20, N_EDITS - 1), N_KILLS, replace=False).tolist())
    executor, spare = Executor(store.root), Executor(store.root)
    done, refused, clicked, in_flight = {}, 0, None, []
    try:
        for step in range(N_EDITS):
            name, options = ("accept", {"mask": clicked, "overlap": "keep"}) if clicked else random_edit(rng, model)
            clicked = None
            try:
                expected = model.after(name, options)
            except Refused:
                expected = None
            executor.send(name, options)
            if step in kills:
                time.sleep(rng.uniform(0, 0.015))
                executor.kill()
                executor, spare = spare, Executor(store.root)
                state = replayed(store)
                # A click changes no label, so before and after are the same.
                written = expected is not None and same(state, expected)
                assert written or same(state, model), f"lost at edit {step} ({name})"
                in_flight.append(written)
                model = expected if written else model
                continue
            answer = executor.answer()
            assert answer["refused"] == (expected is None), f"edit {step}: {name} {options}"
            if expected is None:
                refused += 1
                continue
            model = expected
            done[name] = done.get(name, 0) + 1
            assert answer["crc"] == zlib.crc32(model.objects.astype(np.int32).tobytes()), f"edit {step}: {name}"
            if name == "click" and sum(answer["runs"][1::2]):
                clicked = answer["runs"]
    finally:
        executor.kill()
        spare.kill()
    assert same(replayed(store), model)
    assert len(in_flight) == N_KILLS
    assert set(done) == {
        "start",
        "click",
        "accept",
        "paint",
        "merge",
        "split",
        "reshape",
        "take",
        "delete",
        "undo",
        "redo",
    }
    assert refused < N_EDITS / 2
    annotation.mark_done(store, 1, "random")
    stored = labels.read(store, labels.latest_of_patch(store, 1, LabelKind.HUMAN))
    assert np.array_equal(stored, model.objects)
