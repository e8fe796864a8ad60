from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alapp.errors import InputError
from alapp.stages.annotate import journal, masks
from alapp.stages.annotate.journal import Event

SHAPE = (1, 16, 16)


def square(y: int, x: int, size: int = 4) -> np.ndarray:
    pixels = np.zeros(SHAPE, bool)
    pixels[0, y : y + size, x : x + size] = True
    return pixels


class Book:
    """Writes events with counted revisions."""

    def __init__(self):
        self.events: list[Event] = []

    def add(self, kind: str, payload: dict | None = None, blob: bytes | None = None) -> Book:
        self.events.append(Event(len(self.events) + 1, kind, payload or {}, blob))
        return self

    def accept(self, identity: int, pixels: np.ndarray, **options) -> Book:
        mask = masks.from_array(pixels)
        payload = {"object": identity, "box": list(mask.box), "source": "watershed", "overlap": "keep"}
        return self.add("accept", {**payload, "new": True, "corrected": False, **options}, mask.blob)

    def ignore(self, pixels: np.ndarray, add: bool = True) -> Book:
        mask = masks.from_array(pixels)
        return self.add("ignore", {"add": add, "box": list(mask.box)}, mask.blob)

    def open(self, labels: np.ndarray, start: str = "pseudo", **options) -> Book:
        return self.add("open", {"start": start, "shape": list(SHAPE), **options}, masks.pack_labels(labels))

    @property
    def state(self) -> journal.State:
        return journal.fold(self.events)

    @property
    def labels(self) -> np.ndarray:
        return journal.to_labels(self.state, SHAPE)

    @property
    def not_annotated(self) -> np.ndarray:
        return painted(journal.not_annotated(self.state))


def painted(mask: masks.Mask | None) -> np.ndarray:
    pixels = np.zeros(SHAPE, bool)
    if mask:
        mask.paint(pixels, True)
    return pixels


def suggested() -> Book:
    labels = np.zeros(SHAPE, np.int32)
    labels[square(0, 0)] = 1
    labels[square(8, 8)] = 2
    return Book().open(labels)


def test_an_older_object_keeps_its_pixels():
    book = Book().accept(1, square(0, 0)).accept(2, square(2, 2))
    assert np.array_equal(book.labels == 1, square(0, 0))
    assert np.array_equal(book.labels == 2, square(2, 2) & ~square(0, 0))


def test_a_newer_object_can_win():
    book = Book().accept(1, square(0, 0)).accept(2, square(2, 2), overlap="replace")
    assert np.array_equal(book.labels == 2, square(2, 2))
    assert np.array_equal(book.labels == 1, square(0, 0) & ~square(2, 2))


def test_a_covered_object_disappears_and_undo_brings_it_back():
    book = Book().accept(1, square(4, 4, 2)).accept(2, square(2, 2, 8), overlap="replace")
    assert list(book.state.objects) == [2]
    book.add("undo")
    assert np.array_equal(book.labels == 1, square(4, 4, 2))


def test_suggestions_are_no_labels_until_they_are_accepted():
    book = suggested()
    assert sorted(book.state.suggestions) == [1, 2]
    assert not book.labels.any()
    assert book.state.status == journal.OPEN
    book.add("take", {"objects": [2]})
    assert np.array_equal(book.labels == 2, square(8, 8))
    assert sorted(book.state.suggestions) == [1]
    assert book.state.objects[2].source == "pseudo"


def test_a_clicked_object_withdraws_the_suggestion_under_it():
    book = suggested().accept(3, square(0, 0, 3))
    assert sorted(book.state.suggestions) == [2]
    book = suggested().accept(3, square(3, 3, 3))
    assert sorted(book.state.suggestions) == [1, 2]


def test_a_corrected_suggestion_becomes_an_object_under_its_own_id():
    book = suggested().accept(1, square(0, 0, 6), new=False, corrected=True)
    assert np.array_equal(book.labels == 1, square(0, 0, 6))
    assert book.state.objects[1].corrected
    assert 1 not in book.state.suggestions


def test_starting_again_keeps_objects_and_never_reuses_an_id():
    book = suggested().accept(3, square(0, 8))
    labels = np.zeros(SHAPE, np.int32)
    labels[square(12, 0)] = 1
    book.open(labels, "model")
    assert list(book.state.objects) == [3]
    assert list(book.state.suggestions) == [4]


def two(grown: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    labels[square(0, 0, 4 + grown)] = 1
    labels[square(8, 8, 4 + grown)] = 2
    return labels


def test_undo_after_a_new_start_takes_back_the_edit_and_not_the_start():
    book = Book().open(two(), lasting=True).accept(3, square(0, 12)).add("delete", {"objects": [2]})
    book.open(two(1), "model", lasting=True)
    started = book.state
    assert (list(started.objects), list(started.suggestions)) == ([3], [4, 5])
    undone = book.add("undo").add("undo").state
    assert (dict(undone.objects), undone.suggestions) == ({}, started.suggestions)
    assert {item.source for item in undone.suggestions.values()} == {"model"}
    assert book.add("redo").add("redo").state.content == started.content
    # What was thrown away by a start from nothing does not come back either.
    book.add("open", {"start": "nothing", "shape": list(SHAPE), "lasting": True})
    undone = book.add("undo").add("undo").state
    assert (dict(undone.objects), dict(undone.suggestions), undone.start) == ({}, {}, "nothing")


def test_a_new_start_does_not_suggest_what_is_an_object():
    book = Book().open(two(), lasting=True).add("take", {"objects": [1]}).accept(3, square(9, 9, 2))
    book.open(two(1), "model", lasting=True)
    assert list(book.state.suggestions) == [5]  # the other one is covered by less than half
    # The object that undo takes away is suggested again, and ids are counted on from all of them.
    assert list(book.add("undo").state.suggestions) == [5]
    assert list(book.add("undo").state.suggestions) == [4, 5]
    assert book.state.last_id == 5
    assert list(book.add("redo").state.suggestions) == [5]


def test_a_new_start_is_replayed_as_it_was_in_journals_from_before():
    """There undo brought the earlier suggestions back, and objects were suggested again; both could be accepted."""
    book = Book().open(two()).accept(3, square(0, 12)).open(two(1), "model")
    book.add("undo").add("take", {"objects": [1]})
    assert np.array_equal(book.labels == 1, square(0, 0))
    book = Book().open(two()).add("take", {"objects": [1]}).open(two(1), "model").add("take", {"objects": [3]})
    assert np.array_equal(book.labels == 3, square(0, 0, 5) & ~square(0, 0))


def test_many_suggestions_are_left_as_if_each_was_compared_with_all():
    rng = np.random.default_rng(3)
    labels = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((6, 6), int))[None] * (rng.random((1, 60, 60)) < 0.8)
    shape, objects = list(labels.shape), crowd(40, 5, step=9, depth=1)
    book = Book()
    for key, item in objects.items():
        book.add("accept", {"object": key, "box": list(item.mask.box), "source": "x", "new": True, "corrected": False},
                 item.mask.blob)  # fmt: skip
    book.add("open", {"start": "model", "shape": shape, "lasting": True}, masks.pack_labels(labels))
    suggested = {40 + key: mask for key, mask in masks.of_labels(labels).items()}
    state = book.state
    for content in (*state.past, state.content):
        made = {key: item.mask for key, item in content.objects.items()}
        all_of_them = journal.Content({}, {key: journal.Instance(mask, "model") for key, mask in suggested.items()})
        assert content.suggestions == journal._unserved(all_of_them, made)
    assert 0 < len(state.suggestions) < 90


def test_slices_that_a_person_emptied_stay_so_until_they_are_drawn_again():
    def rod(*slices):
        pixels = np.zeros((6, 8, 8), bool)
        pixels[list(slices), 1:4, 1:4] = True
        return pixels

    def edited(mask, **more):
        entry = {"object": 1, "box": list(mask.box), "size": len(mask.blob), "source": "hand", "corrected": True}
        return {"tool": "brush", "object": 1, "new": False, "set": [entry | more], "gone": []}, mask.blob

    book = Book().accept(1, rod(1, 2, 3, 4))
    book.add("edit", *edited(masks.from_array(rod(2, 3)), emptied=[1, 4]))
    assert book.state.objects[1].emptied == (1, 4)
    book.add("classify", {"objects": [1], "class": 2})
    book.accept(1, rod(2, 3, 5), new=False, corrected=False, propagated=[5])
    assert book.state.objects[1].emptied == (1, 4)
    book.accept(1, rod(4), new=False, corrected=True)
    assert book.state.objects[1].emptied == (1,)
    assert book.add("undo").state.objects[1].emptied == (1, 4)
    book.add("edit", *edited(masks.from_array(rod(2))))  # by an earlier version
    assert book.state.objects[1].emptied == ()


def test_the_unfinished_object_survives_in_the_journal():
    click = {"positive": [[3, 4]], "negative": [], "z": 0, "object": None}
    book = Book().add("click", click)
    assert book.state.draft.positive == ((3, 4),)
    assert book.state.status == journal.STARTED
    assert book.accept(1, square(0, 0)).state.draft is None
    book.add("click", click).add("click", {"positive": [], "negative": [], "z": 0, "object": None})
    assert book.state.draft is None


def test_a_correction_on_one_slice_leaves_the_others():
    shape = (3, 8, 8)
    whole = np.zeros(shape, bool)
    whole[:, 1:4, 1:4] = True
    slice_only = np.zeros(shape, bool)
    slice_only[1, 4:6, 4:6] = True
    book = Book().accept(1, whole).accept(1, slice_only, new=False, corrected=True)
    expected = whole.copy()
    expected[1] = slice_only[1]
    assert np.array_equal(journal.to_labels(book.state, shape) == 1, expected)


def test_closing_and_reopening():
    book = Book().accept(1, square(0, 0)).add("done", {"label_map": 1})
    assert book.state.status == journal.DONE
    assert book.add("reopen").state.status == journal.STARTED
    assert book.add("skip").state.status == journal.SKIPPED
    assert list(book.state.objects) == [1]


def test_a_submitted_label_map_replaces_everything_and_can_be_undone():
    labels = np.zeros(SHAPE, np.int32)
    labels[square(5, 5)] = 9
    book = suggested().accept(3, square(0, 8))
    book.add("submit", {"backend": "oracle", "shape": list(SHAPE)}, masks.pack_labels(labels))
    assert np.array_equal(book.labels, labels)
    assert not book.state.suggestions
    assert np.array_equal(book.add("undo").labels == 3, square(0, 8))


def test_objects_lie_on_top_of_what_is_not_annotated():
    book = Book().accept(1, square(0, 0)).ignore(square(0, 0, 8))
    assert np.array_equal(book.not_annotated, square(0, 0, 8) & ~square(0, 0))
    book.accept(2, square(4, 4, 6))
    assert np.array_equal(book.labels == 2, square(4, 4, 6))
    assert not (book.not_annotated & (book.labels > 0)).any()
    # What an object leaves behind is not annotated again, and never becomes background by itself.
    book.add("delete", {"objects": [1, 2]})
    assert np.array_equal(book.not_annotated, square(0, 0, 8))


def test_a_region_grows_shrinks_and_is_undone():
    book = Book().ignore(square(0, 0)).ignore(square(8, 8))
    assert np.array_equal(book.not_annotated, square(0, 0) | square(8, 8))
    assert book.state.status == journal.STARTED
    book.ignore(square(0, 0), add=False)
    assert np.array_equal(book.not_annotated, square(8, 8))
    book.ignore(square(6, 6, 8), add=False)
    assert book.state.content.ignored is None
    book.add("undo").add("undo")
    assert np.array_equal(book.not_annotated, square(0, 0) | square(8, 8))


def test_a_region_survives_every_other_event_but_a_whole_label_map():
    labels = np.zeros(SHAPE, np.int32)
    labels[square(12, 0)] = 1
    book = suggested().ignore(square(8, 0)).accept(3, square(0, 12)).add("take", {"objects": [1]}).open(labels, "model")
    book.add("edit", {"tool": "brush", "object": 3, "new": False, "set": [], "gone": [3]})
    assert np.array_equal(book.not_annotated, square(8, 0))
    book.add("submit", {"backend": "oracle", "shape": list(SHAPE)}, masks.pack_labels(labels))
    assert not book.not_annotated.any()


def test_a_journal_without_regions_has_none():
    assert suggested().accept(3, square(0, 0)).state.content.ignored is None


def test_an_unknown_event_is_refused():
    with pytest.raises(InputError, match="Update the app"):
        Book().add("paint").state  # noqa: B018


def test_a_journal_without_classes_is_of_class_1():
    mask = masks.from_array(square(8, 0))
    entry = {"object": 2, "box": list(mask.box), "size": len(mask.blob), "source": "hand", "corrected": False}
    book = suggested().accept(3, square(0, 8)).add("take", {"objects": [1]})
    book.add("edit", {"tool": "brush", "object": 4, "new": True, "set": [entry | {"object": 4}], "gone": []}, mask.blob)
    assert {key: item.kind for key, item in book.state.objects.items()} == {1: 1, 3: 1, 4: 1}
    assert {key: item.kind for key, item in book.state.suggestions.items()} == {2: 1}


def test_the_class_of_objects_and_suggestions_changes_and_comes_back():
    click = {"positive": [[3, 4]], "negative": [], "z": 0, "object": None}
    book = suggested().accept(3, square(0, 8), **{"class": 2}).add("click", click)
    book.add("classify", {"objects": [3, 2], "class": 4})
    assert book.state.objects[3].kind == book.state.suggestions[2].kind == 4
    assert book.state.draft is not None
    assert book.add("take", {"objects": [2]}).state.objects[2].kind == 4
    book.add("undo").add("undo")
    assert (book.state.objects[3].kind, book.state.suggestions[2].kind) == (2, 1)


ACTS = ["accept", "delete", "classify", "ignore", "unignore", "undo", "redo", "click"]
acts = st.lists(st.sampled_from(ACTS), max_size=40)


@settings(max_examples=60, deadline=None)
@given(acts, st.randoms(use_true_random=False), st.integers(0, 40))
def test_undo_and_redo_against_a_model_with_snapshots(kinds, random, split):
    """The model keeps whole label maps, of ten times the id plus the class, and the region that is not annotated, on
    two stacks; the journal is folded, in one or in two parts."""
    book, past, future, next_id = Book(), [], [], 1
    now, marked = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, bool)
    for kind in kinds:
        before = now, marked
        pixels = square(random.randrange(13), random.randrange(13))
        if kind == "accept":
            number = random.choice([1, 2, 9])
            book.accept(next_id, pixels, **({"class": number} if number > 1 else {}))
            now = np.where(pixels & (now == 0), 10 * next_id + number, now)
            next_id += 1
        elif kind == "delete":
            present = [int(each) for each in np.unique(now // 10) if each]
            if not present:
                continue
            gone = random.choice(present)
            book.add("delete", {"objects": [gone]})
            now = np.where(now // 10 == gone, 0, now)
        elif kind == "classify":
            present = [int(each) for each in np.unique(now // 10) if each]
            chosen, number = random.sample(present, random.randint(0, len(present))), random.randint(1, 9)
            book.add("classify", {"objects": [*chosen, 999], "class": number})
            now = np.where(np.isin(now // 10, chosen), now // 10 * 10 + number, now)
        elif kind in ("ignore", "unignore"):
            book.ignore(pixels, add=kind == "ignore")
            marked = marked | pixels if kind == "ignore" else marked & ~pixels
        elif kind == "undo":
            book.add("undo")
            if past:
                past, future, (now, marked) = past[:-1], [*future, before], past[-1]
        elif kind == "redo":
            book.add("redo")
            if future:
                past, future, (now, marked) = [*past, before], future[:-1], future[-1]
        else:
            book.add("click", {"positive": [[1, 1]], "negative": [], "z": 0, "object": None})
        if kind in ("accept", "delete", "classify", "ignore", "unignore"):
            past, future = [*past, before], []
    classes = {key: item.kind for key, item in book.state.objects.items()}
    assert np.array_equal(book.labels, now // 10)
    assert classes == {int(each) // 10: int(each) % 10 for each in np.unique(now) if each}
    assert np.array_equal(book.not_annotated, marked & (now == 0))
    assert (len(book.state.past), len(book.state.future)) == (len(past), len(future))
    half = journal.fold(book.events[:split])
    again = journal.fold(book.events[split:], half)
    assert np.array_equal(journal.to_labels(again, SHAPE), now // 10)
    assert np.array_equal(painted(journal.not_annotated(again)), marked & (now == 0))


def crowd(n: int, seed: int, step: int = 12, depth: int = 1) -> dict[int, journal.Instance]:
    """So many objects of several sizes, in rows, of which those beside each other often overlap."""
    rng, row = np.random.default_rng(seed), int(np.ceil(np.sqrt(n)))
    found = {}
    for key in range(1, n + 1):
        pixels = rng.random((int(rng.integers(1, depth + 1)), *rng.integers(3, 2 * step, 2))) < 0.7
        pixels[0, 0, 0] = True
        at = (int(rng.integers(depth)), key // row * step, key % row * step)
        found[key] = journal.Instance(masks.from_array(pixels, at), "model")
    return found


def one_by_one(content: journal.Content, identities: list[int]) -> journal.Content:
    """What taking these means: each less all objects that are there by then."""
    objects, suggestions = dict(content.objects), dict(content.suggestions)
    for identity in identities:
        item = suggestions.pop(identity, None)
        if item and (cut := journal._cut(item, [other.mask for other in objects.values()])) is not None:
            objects[identity] = cut
    return journal.Content(objects, suggestions)


@pytest.mark.parametrize(("seed", "depth"), [(0, 1), (1, 1), (2, 4)])
def test_many_are_taken_as_if_each_was_compared_with_all(seed, depth) -> None:
    items = crowd(120, seed, depth=depth)
    items[121] = journal.Instance(masks.from_array(np.ones((150, 150), bool)), "model")  # covers what is left
    objects = {key: items.pop(key) for key in (1, 7, 50)}
    content = journal.Content(objects, items)
    order = [int(key) for key in np.random.default_rng(seed).permutation(130)]
    taken = journal._taken(content, order)
    assert taken == one_by_one(content, order)
    assert list(taken.objects) == list(one_by_one(content, order).objects)


def test_the_work_of_taking_all_grows_with_their_number(monkeypatch) -> None:
    looks, touching = [], masks.touching

    def counted(a, b):
        looks.append(1)
        return touching(a, b)

    monkeypatch.setattr(masks, "touching", counted)
    per_object = []
    for n in (200, 1800):
        items = crowd(n, 0)
        looks.clear()
        journal._taken(journal.Content({}, items), list(items))
        per_object.append(len(looks) / n)
    assert per_object[1] < 1.5 * per_object[0]
