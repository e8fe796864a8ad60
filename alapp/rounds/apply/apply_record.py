"""What applying a model made in a folder of results, so that it is not made again and nothing else is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from alapp.errors import ImageError, InputError
from alapp.stages import images as image_files
from alapp.stages.instances import Decoding
from alapp.storage.files import atomic_write

MASKS, TABLE, PICTURE = "_masks.tif", "_objects.csv", "_outlines.png"
"""Endings of the files that are made, after the name of the image."""

RECORD = ".applied.json"
"""In the folder of results: what was made of which file, by which model."""


@dataclass(frozen=True)
class Options:
    """What is made. `bits` of the label maps, 16 or 32; `table` and `pictures` beside them; `mirroring` averages
    the predictions of flipped images, which is more accurate and takes 4 times as long in 2D (8 times in 3D)."""

    bits: int = 16
    table: bool = True
    pictures: bool = False
    mirroring: bool = True

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise InputError(f"Label maps have 16 or 32 bits, not {self.bits}.")


@dataclass(frozen=True)
class Row:
    """A line of the summary. `size` is the typical (median) area in pixels or volume in voxels, and `size_um` the same
    in µm² or µm³ where the voxel size is known; `seconds` is None for what an earlier run made."""

    image: str
    objects: int
    size: float | None
    size_um: float | None
    shape: tuple[int, ...]
    seconds: float | None
    remark: str = ""


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each file: its own without ending, or with it where two files would share one."""
    stems = [image_files.stem(path) for path in paths]
    names, taken = [], set()
    for path, stem in zip(paths, stems, strict=True):
        wanted = stem if stems.count(stem) == 1 else path.name.replace(".", "_")
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def fingerprint(path: Path, uploaded: bool, model: str, decoding: Decoding, options: Options) -> dict[str, Any]:
    """What the results of a file depend on: the file, the `model` (its digest), how objects are read from what it
    predicts, and the options. Where a file lies does not count when it was `uploaded`. Raises `ImageError` for a file
    that is gone."""
    try:
        # An OME-Zarr is a folder, whose own times say nothing of the chunks in it.
        files = [each.stat() for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path.stat()]
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read ({error.strerror}).") from error
    return {
        "file": path.name,
        "folder": "" if uploaded else str(path.resolve().parent),
        "bytes": sum(state.st_size for state in files),
        "changed": max((state.st_mtime_ns for state in files), default=0),
        "model": model,
        "decoding": asdict(decoding),
        "options": asdict(options),
    }


def made_of(name: str, options: Options) -> list[str]:
    """Names of the files that are made of an image."""
    endings = [MASKS, *([TABLE] if options.table else []), *([PICTURE] if options.pictures else [])]
    return [f"{name}{ending}" for ending in endings]


class Record:
    """What was made in the folder `target`, by the names of `names_of`. A record that is missing or unreadable is
    empty."""

    def __init__(self, target: Path):
        self.target = target
        try:
            self._entries: dict[str, Any] = json.loads((target / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._entries = {}

    def done(self, name: str, of: dict[str, Any], options: Options) -> Row | None:
        """The row of what an earlier run made with the same fingerprint, if all of it is still there."""
        entry = self._entries.get(name)
        if (
            entry is None
            or entry["of"] != of
            or not all((self.target / file).exists() for file in made_of(name, options))
        ):
            return None
        return replace(Row(**entry["row"]), seconds=None, remark="done before")

    def check_free(self, name: str, of: dict[str, Any]) -> None:
        """Raises `InputError` rather than replace what was not made here, or was made of another image of this name."""
        entry = self._entries.get(name)
        if entry is not None and entry["of"]["folder"] == of["folder"]:
            return
        taken = [file for file in made_of(name, Options(pictures=True)) if (self.target / file).exists()]
        if taken:
            raise InputError(
                f"{taken[0]} is already in the folder of results and belongs to another image. Move it, or choose "
                "another folder."
            )

    def add(self, name: str, of: dict[str, Any], row: Row) -> None:
        """Write down what was made."""
        self._entries[name] = {"of": of, "row": asdict(row)}
        with atomic_write(self.target / RECORD) as handle:
            handle.write(json.dumps(self._entries, indent=1).encode("utf-8"))

    def uploaded(self, images: Sequence[str]) -> Iterator[str]:
        """The names of what was made of uploaded files with these names."""
        for name, entry in self._entries.items():
            if entry["row"]["image"] in images and entry["of"]["folder"] == "":
                yield name
