"""The contract that every click method keeps; those that are not ready here are only asked for their status."""

from __future__ import annotations

import subprocess
import sys
from threading import Thread

import numpy as np
import pytest
from scipy import ndimage

from alapp.domain import BackendState, Modality
from alapp.errors import WeightsMissingError
from alapp.stages.annotate import candidates, microsam, volume
from alapp.stages.annotate.base import CLICK_SEGMENTERS, Tuning, choose_automatically
from alapp.stages.annotate.watershed import SeededWatershed


def disc(shape=(96, 96), centre=(40, 50), radius=12):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return (yy - centre[0]) ** 2 + (xx - centre[1]) ** 2 <= radius**2


def picture(mask, seed=0, bright=170, dark=60, noise=6.0):
    rng = np.random.default_rng(seed)
    pixels = np.where(mask, bright, dark) + rng.normal(0, noise, mask.shape)
    return pixels.clip(0, 255).astype(np.uint8)[..., None]


def stack(column):
    """Reads slice z of bright objects on dark ground."""
    return lambda z: picture(column[z], seed=z)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.fixture(params=list(CLICK_SEGMENTERS))
def method(request):
    backend = CLICK_SEGMENTERS.load(request.param)
    if not backend.status().ready:
        pytest.skip(backend.status().detail)
    return backend()


@pytest.mark.parametrize("name", list(CLICK_SEGMENTERS))
def test_status_is_honest_and_needs_no_torch(name):
    code = (
        "import sys; from alapp.stages.annotate.base import CLICK_SEGMENTERS; "
        f"status = CLICK_SEGMENTERS.load({name!r}).status(); "
        "assert status.ready or (status.detail and status.remedy); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", list(CLICK_SEGMENTERS))
def test_it_says_what_it_is(name):
    backend = CLICK_SEGMENTERS.load(name)
    assert backend.title
    assert backend.suits.endswith(".")
    assert backend.modalities <= frozenset(Modality)


def test_a_click_finds_the_object(method):
    target = disc()
    method.prepare("a", picture(target))
    found = method.segment("a", [(40, 50)], [])
    assert found.dtype == bool
    assert found.shape == target.shape
    assert found[40, 50]
    assert iou(found, target) > 0.8


def test_an_unknown_slice_is_a_key_error(method):
    with pytest.raises(KeyError):
        method.segment("never prepared", [(1, 1)], [])


def test_without_a_prompt_the_mask_is_empty(method):
    method.prepare("a", picture(disc()))
    assert not method.segment("a", [], [(3, 3)]).any()


@pytest.mark.parametrize("corner", [(0, 0), (0, 95), (95, 0), (95, 95), (95.4, 95.4), (-0.4, -0.4)])
def test_clicks_at_the_border(method, corner):
    method.prepare("a", picture(disc()))
    assert method.segment("a", [corner], [(50, 40)]).shape == (96, 96)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_type_and_number_of_channels(method, dtype, channels):
    target = disc()
    image = np.repeat(picture(target), channels, axis=-1).astype(dtype)
    method.prepare("a", image)
    assert iou(method.segment("a", [(40, 50)], []), target) > 0.8


def test_a_flat_image_is_no_error(method):
    method.prepare("a", np.full((40, 50, 1), 7, np.uint8))
    assert method.segment("a", [(20, 20)], []).shape == (40, 50)


def test_threads_do_not_disturb_each_other(method):
    targets = [disc(centre=(30 + 4 * i, 40)) for i in range(6)]
    for i, target in enumerate(targets):
        method.prepare(str(i), picture(target, seed=i))
    found = {}

    def work(i):
        for _ in range(3):
            found[i] = method.segment(str(i), [(30 + 4 * i, 40)], [])

    threads = [Thread(target=work, args=(i,)) for i in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(iou(found[i], target) > 0.8 for i, target in enumerate(targets))


class TestWatershed:
    def test_a_negative_point_cuts_a_touching_neighbour_off(self):
        target, neighbour = disc(centre=(40, 36)), disc(centre=(40, 57))
        method = SeededWatershed()
        method.prepare("a", picture(target | neighbour))
        found = method.segment("a", [(40, 36)], [(40, 57)])
        assert found[40, 36]
        assert not found[40, 57]
        assert iou(found, target & ~neighbour) > 0.7

    def test_points_decide_about_their_own_pixels(self):
        method = SeededWatershed()
        method.prepare("a", picture(disc()))
        found = method.segment("a", [(40, 50)], [(40, 51)])
        assert found[40, 50]
        assert not found[40, 51]

    @pytest.mark.parametrize("radius", [5, 9, 16, 30])
    def test_the_scale_is_found(self, radius):
        target = disc((160, 160), (80, 80), radius)
        method = SeededWatershed()
        method.prepare("a", picture(target))
        assert iou(method.segment("a", [(80, 80)], []), target) > 0.8

    @pytest.mark.parametrize(("spot", "blur"), [(40, 2), (20, 2), (60, 3)])
    def test_a_click_on_a_spot_in_an_object_means_the_object(self, spot, blur):
        """A nucleolus: dark, sharp, and in a nucleus whose own border is soft."""
        target, hole = disc(radius=16), disc(centre=(42, 48), radius=3)
        soft = ndimage.gaussian_filter(np.where(target, 110.0, 60.0), blur)
        pixels = np.where(hole, spot, soft) + np.random.default_rng(0).normal(0, 2, target.shape)
        method = SeededWatershed()
        method.prepare("a", pixels.astype(np.uint8)[..., None])
        for y, x in np.argwhere(hole)[::7]:
            assert iou(method.segment("a", [(y, x)], []), target) > 0.8

    def test_a_small_object_is_no_spot(self):
        target = disc(radius=4)
        method = SeededWatershed()
        method.prepare("a", picture(target))
        for y, x in np.argwhere(target)[::7]:
            assert iou(method.segment("a", [(y, x)], []), target) > 0.7

    def test_a_correction_is_local(self):
        target = disc(radius=14)
        method = SeededWatershed()
        method.prepare("a", picture(target))
        previous = target.copy()
        previous[:, :45] = False
        found = method.segment("a", [(40, 41)], [], previous=previous)
        assert iou(found, target) > 0.85
        assert not method.segment("a", [], [(40, 50)], previous=target)[40, 50]

    def test_a_box_holds_its_object(self):
        target = disc()
        method = SeededWatershed()
        method.prepare("a", picture(target))
        assert iou(method.segment("a", [], [], box=(26, 36, 55, 65)), target) > 0.8
        assert not method.segment("a", [], [], box=(5, 5, 5, 5)).any()

    def test_the_prior_shows_a_border_that_the_image_lacks(self):
        left = np.zeros((64, 64), bool)
        left[16:48, 12:32] = True
        both = np.zeros((64, 64), bool)
        both[16:48, 12:52] = True
        method = SeededWatershed()
        method.prepare("without", picture(both))
        method.prepare("with", picture(both), prior=left.astype(np.float32))
        assert iou(method.segment("with", [(32, 22)], []), left) > 0.8
        assert iou(method.segment("without", [(32, 22)], []), left) < 0.7

    def test_a_prior_that_sees_nothing_at_the_click_changes_nothing(self):
        target = disc()
        wrong = disc(centre=(40, 68), radius=9)
        method = SeededWatershed()
        method.prepare("without", picture(target))
        method.prepare("with", picture(target), prior=wrong.astype(np.float32))
        found = method.segment("without", [(40, 50)], [])
        assert np.array_equal(method.segment("with", [(40, 50)], []), found)

    def test_a_prior_that_sees_objects_everywhere_does_no_harm(self):
        target = disc()
        method = SeededWatershed()
        method.prepare("a", picture(target), prior=np.ones(target.shape, np.float32))
        assert iou(method.segment("a", [(40, 50)], []), target) > 0.8

    def test_a_prior_over_two_touching_objects_leaves_them_apart(self):
        target, neighbour = disc(centre=(40, 36)), disc(centre=(40, 59))
        pixels = picture(target | neighbour)
        method = SeededWatershed()
        method.prepare("a", pixels, prior=(target | neighbour).astype(np.float32))
        found = method.segment("a", [(40, 36)], [])
        assert iou(found, target) > 0.8
        assert not found[40, 59]

    def test_the_prior_sees_the_object_through_noise(self):
        target = disc(radius=16)
        pixels = picture(target, bright=84, noise=90)
        method = SeededWatershed()
        method.prepare("without", pixels)
        method.prepare("with", pixels, prior=target.astype(np.float32))
        points = [(40, 50), (36, 46), (46, 55)]
        without = [iou(method.segment("without", [point], []), target) for point in points]
        guided = [iou(method.segment("with", [point], []), target) for point in points]
        assert min(guided) > 0.8
        assert np.mean(guided) > np.mean(without) + 0.1

    def test_texture_in_an_object_is_looked_past(self):
        """Cristae: stripes that are sharper than the object's own border."""
        target = disc(radius=17)
        stripes = np.where(np.arange(96)[:, None] // 2 % 2, 40.0, -40.0)
        soft = ndimage.gaussian_filter(np.where(target, 130.0, 60.0), 1.5)
        pixels = soft + np.where(disc(radius=14), stripes, 0) + np.random.default_rng(0).normal(0, 4, target.shape)
        method = SeededWatershed()
        method.prepare("a", pixels.clip(0, 255).astype(np.uint8)[..., None])
        for point in [(40, 50), (36, 46), (47, 55)]:
            assert iou(method.segment("a", [point], []), target) > 0.8

    @pytest.mark.parametrize("radius", [12, 16])
    def test_a_blurred_border_lies_where_the_level_falls(self, radius):
        """A nucleus is a dome: the steepest place of its blurred border lies inside of it."""
        distance = np.hypot(*(np.indices((96, 96)) - np.array([44, 48])[:, None, None]))
        dome = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, None))
        soft = ndimage.gaussian_filter(60 + 120 * dome, 1.5) + np.random.default_rng(0).normal(0, 1, dome.shape)
        method = SeededWatershed()
        method.prepare("a", soft.astype(np.uint8)[..., None])
        found = method.segment("a", [(44, 48)], [])
        assert iou(found, distance <= radius) > 0.86

    def test_a_negative_click_beside_the_object_stays_outside(self):
        method = SeededWatershed()
        method.prepare("a", picture(disc(radius=16), noise=2))
        assert not method.segment("a", [(40, 50)], [(40, 66)])[40, 66]

    def test_old_slices_are_dropped(self):
        method = SeededWatershed()
        for i in range(40):
            method.prepare(str(i), picture(disc()))
        with pytest.raises(KeyError):
            method.segment("0", [(40, 50)], [])


class TestScore:
    """What is taken for a whole object, everything else being equal."""

    def score(self, target, mask, limited=None, prior=None):
        smooth = ndimage.gaussian_filter(picture(target, noise=0)[..., 0] / 255.0, 1)
        return candidates.score(smooth, mask, np.zeros(mask.shape, bool) if limited is None else limited, prior)

    def test_the_object_beats_its_parts(self):
        target = disc(radius=12)
        parts = [disc(radius=7), target & (np.arange(96) < 50), target & ~disc(radius=5)]
        assert all(self.score(target, target) > self.score(target, part) for part in parts)

    def test_a_border_at_the_limit_of_the_search_counts_against_a_mask(self):
        target = disc()
        assert self.score(target, target, ~target) < self.score(target, target)

    def test_the_prior_counts_for_the_mask_that_it_sees(self):
        target, seen = disc(), disc(radius=9).astype(np.float32)
        assert self.score(target, target, prior=disc().astype(np.float32)) > self.score(target, target, prior=seen)

    def test_a_prior_that_sees_everything_prefers_no_mask(self):
        target, everything = disc(), np.ones((96, 96))
        gains = [
            self.score(target, mask, prior=everything) - self.score(target, mask) for mask in (target, disc(radius=7))
        ]
        assert gains[0] == pytest.approx(gains[1])

    def test_nothing_and_everything_are_no_objects(self):
        target = disc()
        assert self.score(target, np.zeros_like(target)) == -np.inf
        assert self.score(target, np.ones_like(target)) == -np.inf


class TestMicroSam:
    def test_only_weights_for_the_modality_count(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
        assert microsam.MicroSamClicks.status().state is not BackendState.READY
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "vit_b_em_organelles").write_bytes(b"weights")
        assert microsam.MicroSamClicks.status(Modality.EM).detail.startswith("Weights vit_b_em_organelles are")
        assert not microsam.MicroSamClicks.status(Modality.LIGHT).ready
        assert choose_automatically(Modality.LIGHT)[0] == "watershed"

    def test_missing_weights_are_an_error_that_says_where(self, tmp_path, monkeypatch):
        pytest.importorskip("micro_sam")
        monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
        with pytest.raises(WeightsMissingError, match="built-in"):
            microsam.MicroSamClicks(Modality.EM).prepare("a", picture(disc()))


class TestVolume:
    def follow(self, column):
        """Segments slice z as the column's mask there, if the seed lies on it."""
        return lambda z, seed, previous: (
            column[z] if column[z][int(seed[0]), int(seed[1])] else np.zeros_like(column[z])
        )

    def test_an_object_is_followed_to_its_ends(self):
        column = np.stack([disc(centre=(40, 46 + z), radius=r) for z, r in enumerate([0, 9, 10, 10, 9, 0])])
        column[[0, 5]] = False
        known = np.zeros_like(column)
        known[2] = column[2]
        assert np.array_equal(volume.propagate(known, 2, self.follow(column), stack(column)), column)

    def test_it_ends_where_the_shape_jumps(self):
        column = np.stack([disc(radius=r) for r in (10, 10, 30)])
        known = np.zeros_like(column)
        known[0] = column[0]
        grown = volume.propagate(known, 0, self.follow(column), stack(column))
        assert grown.any(axis=(1, 2)).tolist() == [True, True, False]

    @pytest.mark.parametrize("bright", [60, 75, 20])
    def test_it_ends_where_the_object_fades_or_turns(self, bright):
        column = np.stack([disc(radius=10)] * 3)
        images = [picture(column[0]), picture(column[1]), picture(column[2], bright=bright)]
        known = np.zeros_like(column)
        known[0] = column[0]
        grown = volume.propagate(known, 0, self.follow(column), images.__getitem__)
        assert grown.any(axis=(1, 2)).tolist() == [True, True, False]

    def test_known_slices_stay(self):
        column = np.stack([disc(radius=10)] * 5)
        known = column.copy()
        known[3:] = False
        known[1, :, :50] = False
        grown = volume.propagate(known, 0, self.follow(column), stack(column))
        assert np.array_equal(grown[:3], known[:3])
        assert grown[3:].any(axis=(1, 2)).all()


class TestTuning:
    def test_the_border_moves_in_and_out_but_clicked_pixels_decide(self, method):
        target = disc()
        method.prepare("a", picture(target))
        sizes = []
        for looseness in (-1, -0.5, 0, 0.5, 1):
            found = method.segment("a", [(40, 50)], [(40, 66)], tuning=Tuning(looseness=looseness))
            assert found[40, 50]
            assert not found[40, 66]
            sizes.append(np.count_nonzero(found))
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] < sizes[4]

    def test_granularity_never_makes_the_object_smaller_upwards(self, method):
        method.prepare("a", picture(disc()))
        sizes = [np.count_nonzero(method.segment("a", [(40, 50)], [], tuning=Tuning(g))) for g in (-1, 0, 1)]
        assert sizes[0] <= sizes[2]

    def test_a_spot_or_the_object_around_it(self):
        pixels = picture(disc(radius=16)).astype(np.int32)
        pixels[disc(radius=4)] += 60
        clicks = SeededWatershed()
        clicks.prepare("a", pixels)
        small, large = (clicks.segment("a", [(40, 50)], [], tuning=Tuning(g)) for g in (-1.0, 1.0))
        assert iou(small, disc(radius=4)) > 0.6
        assert iou(large, disc(radius=16)) > 0.8

    def test_of_the_thinnest_object_something_is_left(self):
        line = np.zeros((64, 64), bool)
        line[30, 10:50] = True
        clicks = SeededWatershed()
        clicks.prepare("a", picture(line))
        assert clicks.segment("a", [], [], previous=line, tuning=Tuning(looseness=-1)).any()
