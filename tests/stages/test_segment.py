"""Block by block gives the objects of the whole image, in memory of a block."""

import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from scipy import ndimage

from alapp.domain import Box, VoxelSize, silent
from alapp.errors import Cancelled
from alapp.stages import segment
from alapp.stages.metrics import score_instances


def touching_discs(shape, step, radius, seed=0):
    """Labels (Y, X) of discs of different sizes on a jittered grid, many of which touch."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    number = 0
    for cy in range(step // 2, shape[0], step):
        for cx in range(step // 2, shape[1], step):
            y, x = cy + rng.integers(-3, 4), cx + rng.integers(-3, 4)
            r = radius * rng.uniform(0.7, 1.15)
            top, left = max(0, y - 40), max(0, x - 40)
            window = labels[top : y + 41, left : x + 41]
            yy, xx = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
            number += 1
            window[(np.hypot(yy - y, xx - x) < r) & (window == 0)] = number
    return labels


def soft_classes(labels):
    """Smooth probabilities float32 (3, ...) of background, core and border for an instance map."""
    core = np.zeros(labels.shape, bool)
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is not None:
            grown = tuple(slice(max(0, p.start - 1), p.stop + 1) for p in where)
            core[grown] |= ndimage.binary_erosion(labels[grown] == number, iterations=2)
    hard = np.stack([labels == 0, core, (labels > 0) & ~core]).astype(np.float32)
    soft = np.stack([ndimage.gaussian_filter(plane, 0.7) for plane in hard])
    return soft / soft.sum(0)


def predictor(probabilities):
    """`PredictBox` over an array of probabilities (K, Z, Y, X)."""
    return lambda box, report: np.ascontiguousarray(probabilities[(slice(None), *box.slices)])


def compare(whole, found):
    """F1 at IoU 0.9 and the number of objects of the one and the other."""
    from skimage.metrics import contingency_table

    table = contingency_table(whole, found).tocoo()
    sizes = np.bincount(whole.ravel()), np.bincount(found.ravel())
    hits = sum(
        n / (sizes[0][i] + sizes[1][j] - n) > 0.9
        for i, j, n in zip(table.row, table.col, table.data, strict=True)
        if i and j
    )
    return 2 * hits / (whole.max() + found.max()), int(whole.max()), int(found.max())


@pytest.mark.parametrize("voxels", [150 * 150, 230 * 230])
def test_blocks_give_the_objects_of_the_whole(tmp_path, voxels):
    probabilities = soft_classes(touching_discs((420, 530), 25, 12))
    decoding = segment.decoding_for(VoxelSize())
    whole = segment.whole(probabilities, decoding)
    halo = segment.halo(25, is_3d=False, by_slices=False)
    found = segment.segment(
        predictor(probabilities[:, None]), (1, 420, 530), decoding, halo, tmp_path, silent, True, voxels
    )
    f1, expected, count = compare(whole, found.labels[0])
    assert f1 > 0.98
    assert count == expected
    assert score_instances(whole, np.array(found.labels[0])).f1_50 == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npy"]
    for number, box in enumerate(found.boxes[:40], start=1):
        where = np.argwhere(found.labels == number)
        assert (where.min(0).tolist(), (where.max(0) + 1).tolist()) == (
            [box.z, box.y, box.x], [box.z + box.depth, box.y + box.height, box.x + box.width],
        )  # fmt: skip


def test_an_object_longer_than_all_halos_is_one(tmp_path):
    labels = np.zeros((90, 900), np.int32)
    labels[20:40, 10:890] = 1
    labels[44:70, 10:890] = 2
    probabilities = soft_classes(labels)
    decoding = segment.decoding_for(VoxelSize())
    found = segment.segment(
        predictor(probabilities[:, None]), (1, 90, 900), decoding, (0, 20, 20), tmp_path, silent, True, 120 * 120
    )
    assert compare(segment.whole(probabilities, decoding), found.labels[0]) == (1.0, 2, 2)


def test_fragments_are_judged_in_the_whole_image(tmp_path):
    labels = touching_discs((300, 300), 30, 13)
    labels[labels == labels[15, 15]] = 0
    labels[2:6, 2:6] = labels.max() + 1  # a speck, alone in its block
    probabilities = soft_classes(labels)
    decoding = segment.decoding_for(VoxelSize())
    found = segment.segment(
        predictor(probabilities[:, None]), (1, 300, 300), decoding, (0, 40, 40), tmp_path, silent, True, 120 * 120
    )
    assert not found.labels[0, :8, :8].any()
    assert compare(segment.whole(probabilities, decoding), found.labels[0])[0] > 0.98


@pytest.mark.parametrize("certainty", [0.75, 0.95])
def test_certainty_is_judged_in_the_whole_image(tmp_path, certainty):
    labels = np.zeros((120, 500), np.int32)
    labels[8:50, 10:490] = 1
    labels[60:100, 10:490] = 2
    probabilities = soft_classes(labels)
    # Certain in half of the blocks only: its mean decides.
    probabilities[1:, 55:105, 250:] *= certainty
    probabilities[0] = 1 - probabilities[1:].sum(0)
    decoding = segment.decoding_for(VoxelSize())
    found = segment.segment(
        predictor(probabilities[:, None]), (1, 120, 500), decoding, (0, 20, 20), tmp_path, silent, True, 110 * 110
    )
    whole = segment.whole(probabilities, decoding)
    assert whole.max() == (2 if certainty > 0.9 else 1)
    np.testing.assert_array_equal(found.labels[0] > 0, whole > 0)


@pytest.mark.parametrize("voxel_size", [VoxelSize(1, 1, 1), VoxelSize(6, 1, 1)])
def test_stacks(tmp_path, voxel_size):
    z, y, x = np.mgrid[:40, :120, :130]
    labels = np.zeros(z.shape, np.int32)
    rng = np.random.default_rng(1)
    for number, (cz, cy, cx) in enumerate(np.ndindex(2, 5, 5), start=1):
        centre = np.array((10 + 20 * cz, 12 + 23 * cy, 13 + 24 * cx)) + rng.integers(-1, 2, 3)
        ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < rng.integers(8, 12) ** 2
        labels[ball & (labels == 0)] = number
    probabilities = soft_classes(labels)
    decoding = segment.decoding_for(voxel_size)
    whole = segment.whole(probabilities, decoding)
    halo = segment.halo(10, True, decoding.by_slices)
    foreground = np.zeros(labels.shape, np.uint8)
    found = segment.segment(
        predictor(probabilities), labels.shape, decoding, halo, tmp_path, silent, voxels=100_000, foreground=foreground
    )
    f1, expected, count = compare(whole, np.array(found.labels))
    assert f1 > 0.98
    assert count == expected > 40
    np.testing.assert_allclose(foreground / 255, 1 - probabilities[0], atol=0.003)


def test_blocks_cover_the_image_once_and_stay_small():
    for shape, halo in [
        ((1, 9000, 7001), (0, 120, 120)),
        ((300, 900, 800), (20, 60, 60)),
        ((500, 2000, 70), (2, 32, 32)),
    ]:
        made = segment.blocks(shape, halo)
        assert sum(b.core.depth * b.core.height * b.core.width for b in made.values()) == np.prod(shape)
        assert max(b.seen.depth * b.seen.height * b.seen.width for b in made.values()) <= segment.WHOLE_VOXELS
    assert len(segment.blocks((1, 2000, 2000), (0, 100, 100))) == 1


def peak_of_a_large_image(folder):
    """(Bytes at most allocated by segmenting it, bytes of the image, number of objects found)."""
    side = 3000
    image = np.lib.format.open_memmap(folder / "image.npy", mode="w+", dtype=np.float32, shape=(1, side, side, 1))
    tile = touching_discs((250, 250), 25, 11)
    tile[:3], tile[:, :3] = 0, 0
    for y in range(0, side, 250):
        image[0, y : y + 250, :, 0] = np.tile(soft_classes(tile)[1], (1, side // 250))

    def network(box: Box, report) -> np.ndarray:
        core = image[box.slices][..., 0]
        return np.stack([1 - core, core, np.zeros_like(core)])

    work = folder / "work"
    work.mkdir()
    tracemalloc.start()
    found = segment.segment(
        network, (1, side, side), segment.decoding_for(VoxelSize()), (0, 50, 50), work, silent, True, 200_000
    )
    return tracemalloc.get_traced_memory()[1], image.nbytes, len(found.boxes)


def test_memory_is_bounded_by_a_block(tmp_path):
    # In a process of its own: what threads of earlier tests allocate meanwhile counts, too.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        peak, image, n_objects = alone.submit(peak_of_a_large_image, tmp_path).result()
    assert n_objects > 5_000
    assert peak < image / 2  # the probabilities of the whole alone are three times the image


def test_cancelling_stops_between_blocks(tmp_path):
    probabilities = soft_classes(touching_discs((300, 300), 25, 12))[:, None]
    asked = []

    def predict(box, report):
        asked.append(box)
        report(1, 1, "predicted")
        return probabilities[(slice(None), *box.slices)]

    def report(done, total, message=""):
        if len(asked) == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        segment.segment(
            predict, (1, 300, 300), segment.decoding_for(VoxelSize()), (0, 20, 20), tmp_path, report, True, 100 * 100
        )
    assert len(asked) == 3
    assert not (tmp_path / "labels.npy").exists()


def test_what_is_cancelled_keeps_no_file_open(tmp_path, monkeypatch):
    probabilities = soft_classes(touching_discs((300, 300), 25, 12))[:, None]
    arrays, make = [], segment.new_array
    monkeypatch.setattr(segment, "new_array", lambda *given: arrays.append(make(*given)) or arrays[-1])

    def report(done, total, message=""):
        if message.startswith("Joining part 2"):
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        segment.segment(
            lambda box, _: probabilities[(slice(None), *box.slices)], (1, 300, 300), segment.decoding_for(VoxelSize()),
            (0, 20, 20), tmp_path, report, True, 100 * 100,
        )  # fmt: skip
    assert [array._mmap.closed for array in arrays] == [True]


def test_stacks_of_unknown_voxel_size_are_decoded_as_the_network_learned_them():
    thick = VoxelSize(1.0, 0.1, 0.1)
    cubes = VoxelSize(0.1, 0.1, 0.1)
    assert segment.decoding_for(VoxelSize(), learned_slices=True).by_slices
    assert segment.decoding_for(VoxelSize(None, 0.1, 0.1), learned_slices=True).by_slices
    assert not segment.decoding_for(VoxelSize()).by_slices
    assert segment.decoding_for(thick).by_slices
    assert not segment.decoding_for(cubes, learned_slices=True).by_slices
