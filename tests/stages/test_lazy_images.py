"""Parts of image files are what `images.read` gives of them, and the rest of the file is not unpacked."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from alapp.errors import ImageError, InputError
from alapp.stages import images, lazy_images

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 60_000, (300, 400)).astype(np.uint16)
STACK = RNG.integers(0, 250, (7, 200, 170)).astype(np.uint8)
HYPER = RNG.integers(0, 60_000, (5, 3, 130, 140)).astype(np.uint16)
COLOUR = RNG.integers(0, 250, (150, 260, 3)).astype(np.uint8)
FILES = {
    "plain": (GRAY, {}),
    "strips": (GRAY, {"compression": "zlib", "rowsperstrip": 37}),
    "tiles": (GRAY, {"compression": "zlib", "tile": (64, 48), "predictor": True}),
    "tiles, big endian": (GRAY, {"compression": "lzw", "tile": (64, 64), "byteorder": ">"}),
    "plain, big endian": (GRAY, {"byteorder": ">"}),
    "inverted": (GRAY, {"photometric": "miniswhite"}),
    "inverted strips": (GRAY, {"photometric": "miniswhite", "compression": "zlib"}),
    "imagej, inverting table": (GRAY, {"imagej": True, "photometric": "miniswhite"}),
    "stack": (STACK, {"metadata": {"axes": "ZYX"}}),
    "packed stack": (STACK, {"metadata": {"axes": "ZYX"}, "compression": "zlib"}),
    "imagej": (HYPER, {"imagej": True, "metadata": {"axes": "ZCYX"}}),
    "ome tiles": (HYPER.swapaxes(0, 1), {"ome": True, "metadata": {"axes": "CZYX"}, "tile": (64, 64)}),
    "colour": (COLOUR, {"photometric": "rgb"}),
    "colour tiles": (COLOUR, {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}),
    "colour planes": (COLOUR.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
    "real numbers": (GRAY.astype(np.float64) / 7, {"compression": "zlib"}),
    "black and white": (GRAY > 30_000, {"compression": "zlib"}),
    "white is zero": (GRAY > 30_000, {"photometric": "miniswhite", "software": "a scanner"}),
    "packed, white is zero": (
        GRAY > 30_000,
        {"photometric": "miniswhite", "software": "a scanner", "compression": "zlib"},
    ),
    "alpha": (
        RNG.integers(0, 250, (60, 70, 4)).astype(np.uint8),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_parts_are_those_of_the_whole(tmp_path, kind):
    pixels, options = FILES[kind]
    ome = options.pop("ome", False)
    path = tmp_path / ("image.ome.tif" if ome else "image.tif")
    byteorder = options.get("byteorder")
    with tifffile.TiffWriter(path, byteorder=byteorder, ome=ome, imagej=options.get("imagej", False)) as tif:
        tif.write(pixels, **{name: value for name, value in options.items() if name not in ("byteorder", "imagej")})
    whole = images.read(path)
    with lazy_images.open_lazily(path) as source:
        assert source.shape == whole.shape
        z, y, x, _ = whole.shape
        everything = source[0:z, 0:y, 0:x]
        np.testing.assert_array_equal(everything, whole)
        assert everything.dtype == whole.dtype
        for where in [np.s_[z // 2 : z, 3 : y // 2, x // 3 : x - 1], np.s_[0:1, y - 1 : y, 0:1]]:
            np.testing.assert_array_equal(source[where], whole[where])


def test_pictures_and_confirmed_axes(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with lazy_images.open_lazily(tmp_path / "a.png") as source:
        np.testing.assert_array_equal(source[0:1, 5:9, 7:8], images.read(tmp_path / "a.png")[:, 5:9, 7:8])
    tifffile.imwrite(tmp_path / "b.tif", STACK, compression="zlib", metadata=None)
    for axes in ("ZYX", "CYX"):
        with lazy_images.open_lazily(tmp_path / "b.tif", axes) as source:
            whole = images.read(tmp_path / "b.tif", axes)
            assert source.shape == whole.shape
            assert source.is_3d == (axes == "ZYX")
            np.testing.assert_array_equal(source[0:1, 10:20, 30:90], whole[0:1, 10:20, 30:90])
    with pytest.raises(InputError, match="do not fit"):
        lazy_images.open_lazily(tmp_path / "b.tif", "YX")


def test_bad_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="There is no file"):
        lazy_images.open_lazily(tmp_path / "none.tif")
    bad = GRAY.astype(np.float32)
    bad[250, 20] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", bad, compression="zlib")
    with lazy_images.open_lazily(tmp_path / "nan.tif") as source:
        assert source[0:1, 0:100, 0:100].shape == (1, 100, 100, 1)
        with pytest.raises(ImageError, match=r"nan\.tif has 1 pixels that are no numbers"):
            source[0:1, 200:300, 0:100]
    monkeypatch.setattr(lazy_images, "MOST_BYTES_AT_ONCE", 1000)
    tifffile.imwrite(tmp_path / "one.tif", GRAY, compression="zlib", rowsperstrip=300)
    with pytest.raises(ImageError, match=r"one\.tif would need .* compressed in one piece.* in tiles"):
        lazy_images.open_lazily(tmp_path / "one.tif")
    Image.fromarray(COLOUR).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="only be read whole"):
        lazy_images.open_lazily(tmp_path / "large.png")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (256, 256)}])
def test_a_part_costs_little_memory(tmp_path, monkeypatch, options):
    monkeypatch.setattr(lazy_images, "_KEPT_BYTES", 2**20)
    image = np.zeros((4000, 4000), np.uint16)
    tifffile.imwrite(tmp_path / "large.tif", image, **options)
    with lazy_images.open_lazily(tmp_path / "large.tif") as source:
        tracemalloc.start()
        for y in range(0, 4000, 500):
            source[0:1, y : y + 500, 1000:1500]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < image.nbytes / 4
