import numpy as np
import pytest

from alapp.stages.select.avoid import ALIKE_LEFT, EMPTY_LEFT, almost_empty, in_order
from alapp.stages.select.base import Context
from alapp.stages.select.coreset import CoreSet


def select(embeddings, labelled, k, **known):
    return CoreSet()(embeddings, labelled, k, np.random.default_rng(0), Context(**known)).picks


def around(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_almost_empty_is_low_contrast_without_known_foreground():
    contrast = np.array([10.0, 9, 8, 0.3, 0.3])
    assert almost_empty(Context(contrast=contrast), 5).tolist() == [False, False, False, True, True]
    foreground = np.array([0, 0, 0, 0.01, 0])
    assert almost_empty(Context(contrast=contrast, foreground=foreground), 5).tolist() == [False] * 4 + [True]
    assert not almost_empty(Context(contrast=np.zeros(5)), 5).any()
    assert not almost_empty(Context(), 5).any()


def test_specks_do_not_make_an_empty_patch_worth_looking_at():
    contrast, foreground = np.array([10.0, 9, 8, 0.3, 0.3]), np.array([0.3, 0.2, 0.3, 0.005, 0.1])
    assert almost_empty(Context(contrast=contrast, foreground=foreground), 5).tolist() == [False] * 3 + [True, False]


def test_core_set_passes_over_empty_patches_and_says_so():
    embeddings = around([0, 0.4, 0.8, 3.1, 3.0])
    contrast = np.array([5, 5, 5, 0.1, 0.1])
    picks = select(embeddings, np.arange(5) == 0, 3, contrast=contrast)
    assert [p.row for p in picks] == [2, 1, 3]
    assert "almost empty patches that are even less alike were passed over" in picks[0].reason
    assert "empty" not in picks[1].reason
    assert EMPTY_LEFT in picks[2].reason


def test_core_set_says_nothing_where_empty_patches_did_not_matter():
    embeddings = around([0, 0.4, 3.1, 0.1])
    picks = select(embeddings, np.arange(4) == 0, 2, contrast=np.array([5, 5, 5, 0.1]))
    assert [p.row for p in picks] == [2, 1]
    assert not any("empty" in p.reason for p in picks)


def test_patches_that_show_the_same_come_last():
    embeddings = around([0, 0, 1e-6, 1.0])
    picks = select(embeddings, np.arange(4) == 0, 3)
    assert [p.row for p in picks] == [3, 1, 2]
    assert "nothing else is left" not in picks[0].reason
    assert all("shows the same as another one, but nothing else is left" in p.reason for p in picks[1:])


def test_equal_pixels_are_the_same_whatever_the_embedding_says():
    embeddings = around([0, 3.0, 1.0])
    picks = select(embeddings, np.arange(3) == 0, 2, content=np.array([7, 7, 8]))
    assert [p.row for p in picks] == [2, 1]


def test_patches_that_share_most_of_their_pixels_come_last():
    embeddings = around([0, 3.0, 2.0, 1.0])
    place = np.array([[1, 0, 0, 768, 1, 256, 256], [1, 0, 0, 770, 1, 256, 256], [2, 0, 0, 770, 1, 256, 256],
                      [1, 0, 0, 640, 1, 256, 256]])  # fmt: skip
    picks = select(embeddings, np.arange(4) == 0, 3, place=place)
    assert [p.row for p in picks] == [2, 3, 1]  # half is not most
    assert ALIKE_LEFT in picks[2].reason
    drawn = in_order([1, 0, 3], 2, embeddings, np.array([], int), Context(place=place), fill=False)
    assert [taken.row for taken in drawn] == [1, 3]
    assert in_order([1], 1, embeddings, np.array([0]), Context(place=place), fill=False) == []


def test_slices_tell_patches_apart():
    place = np.array([[1, 0, 0, 0, 4, 64, 64], [1, 1, 0, 0, 4, 64, 64], [1, 4, 0, 0, 4, 64, 64]])
    picks = select(around([0, 3.0, 1.0]), np.arange(3) == 0, 2, place=place)
    assert [p.row for p in picks] == [2, 1]


def test_random_start_is_neither_empty_nor_twice_the_same():
    embeddings = around([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3])
    contrast = np.where(np.arange(14) >= 8, 0.01, 5)
    picks = select(embeddings, np.zeros(14, bool), 2, contrast=contrast)
    assert {p.row // 4 for p in picks} == {0, 1}


@pytest.mark.parametrize(("alike", "words"), [(1, "1 that shows the same"), (2, "2 that show the same")])
def test_an_order_says_what_it_passed_over(alike, words):
    embeddings = around([0, *[0] * alike, 1])
    chosen = np.array([0])
    found = in_order(range(1, alike + 2), 2, embeddings, chosen, Context())
    assert [taken.row for taken in found] == [alike + 1, 1]
    assert words in found[0].note
    assert found[0].nearest == 0
    assert found[0].distance == pytest.approx(1 - np.cos(1), abs=1e-6)


def test_an_order_without_anything_chosen_compares_with_its_own_picks():
    embeddings = np.array([[0, 0], [0, 0], [1, 0]], dtype=np.float32)
    assert [t.row for t in in_order([0, 1, 2], 2, embeddings, np.array([], int), Context())] == [0, 2]
