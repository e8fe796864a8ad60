"""What applying a model made in a folder of results, so that it is not made again and nothing else is replaced."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from natsort import natsorted, ns

from alapp.errors import AlappError, ImageError, InputError
from alapp.rounds.apply.apply_names import Origin
from alapp.rounds.apply.apply_reading import Reading
from alapp.stages.images import printable
from alapp.stages.instances import Decoding
from alapp.storage.files import atomic_write

MASKS, TABLE, PICTURE = "_masks.tif", "_objects.csv", "_outlines.png"
"""Endings of the files that are made, after the name of the image."""

RECORD = ".applied.json"
"""In the folder of results: what was made of which file, by which model."""


SUMMARY = "summary.csv"
"""In the folder of results: a line for each image."""


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


def fingerprint(
    path: Path, origin: Origin, model: str, decoding: Decoding, options: Options, reading: Reading
) -> dict[str, Any]:
    """What the results of a file depend on: the file, the `model` (its digest), how objects are read from what it
    predicts, the options, and the axes and the voxel size that may be borrowed from the project. Of an upload, whose
    copy is new every time, the content counts in place of its last change. Raises `ImageError` for a file that is
    gone."""
    try:
        # An OME-Zarr is a folder, whose own times say nothing of the chunks in it.
        files = [each.stat() for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path.stat()]
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read ({error.strerror}).") from error
    # Without what does not hold, as earlier versions wrote it: what they made of a file of known size is still good.
    read = {key: value for key, value in asdict(reading).items() if value or key not in ("borrowed", "entered")}
    return {
        "file": origin.name,
        "folder": origin.folder,
        **({"content": origin.content} if origin.content else {}),
        "bytes": sum(state.st_size for state in files),
        "changed": 0 if origin.content else max((state.st_mtime_ns for state in files), default=0),
        "model": model,
        "decoding": asdict(decoding),
        "options": asdict(options),
        "reading": read,
    }


def originals(paths: Sequence[Path]) -> list[Path]:
    """`paths` without what applying a model made of others, by the records beside them: a pattern such as "**/*.tif"
    finds the results in a folder below the images, too."""
    made = {folder: _pictures(folder) for folder in {path.parent for path in paths}}
    return [path for path in paths if path.name not in made[path.parent]]


def _pictures(folder: Path) -> set[str]:
    """Names of the results in a folder that a program takes for images."""
    return {f"{name}{ending}" for name in Record(folder).known() for ending in (MASKS, PICTURE)}


def made_of(name: str, options: Options) -> list[str]:
    """Names of the files that are made of an image."""
    endings = [MASKS, *([TABLE] if options.table else []), *([PICTURE] if options.pictures else [])]
    return [f"{name}{ending}" for ending in endings]


class Record:
    """What was made in the folder `target`, by the names of `apply_names.names_of`. A record that is missing or
    unreadable is empty. Other runs may write into the folder at the same time: what they wrote down is read again
    before anything is replaced, written or listed.

    An entry without a row is of files that are being put in place, or of a run that was killed while it did that."""

    def __init__(self, target: Path):
        self.target = target
        self._entries: dict[str, Any] = {}
        self._look()

    def _look(self) -> None:
        # What cannot be read now, as on Windows in the moment in which it is replaced, is as it was.
        with contextlib.suppress(OSError, ValueError):
            self._entries = json.loads((self.target / RECORD).read_text(encoding="utf-8"))

    def known(self) -> dict[str, Origin]:
        """The files of which something was made, or was to be, by the names of their results, the newest last."""
        return {name: _origin(entry) for name, entry in self._entries.items()}

    def done(self, name: str, of: dict[str, Any], options: Options) -> Row | None:
        """The row of what an earlier run made with the same fingerprint, if all of it is still there."""
        entry = self._entries.get(name)
        if (
            entry is None
            or not _finished(entry)
            or entry["of"] != of
            or not all((self.target / file).exists() for file in made_of(name, options))
        ):
            return None
        row = Row(**entry["row"])
        return replace(row, seconds=None, remark="; ".join(filter(None, ("done before", row.remark))))

    def check_free(self, name: str, of: dict[str, Any]) -> None:
        """Raises `InputError` rather than replace what was not made here, or was made of another image of this name."""
        self._look()
        entry = self._entries.get(name)
        if entry is not None and _origin(entry) == _origin({"of": of}):
            return
        taken = [file for file in made_of(name, Options(pictures=True)) if (self.target / file).exists()]
        if taken:
            raise InputError(
                f"{taken[0]} is already in the folder of results and belongs to another image. Move it, or choose "
                "another folder."
            )

    def begin(self, name: str, of: dict[str, Any]) -> dict[str, Any] | None:
        """Write down whose files are about to be put in place. Returns the entry that was there, for `put_back`."""
        self._look()
        before = self._entries.get(name)
        self._write(name, {"of": of})
        return before

    def add(self, name: str, of: dict[str, Any], row: Row) -> None:
        """Write down what was made."""
        self._look()
        self._write(name, {"of": of, "row": asdict(row)})

    def put_back(self, name: str, before: dict[str, Any] | None) -> None:
        """Undo `begin`, as nothing was put in place. If it cannot be written now, the image is only made again."""
        self._look()
        with contextlib.suppress(AlappError, OSError):
            self._write(name, before)

    def _write(self, name: str, entry: dict[str, Any] | None) -> None:
        self._entries.pop(name, None)  # the newest is the last
        if entry is not None:
            self._entries[name] = entry
        with atomic_write(self.target / RECORD) as handle:
            handle.write(json.dumps(self._entries, indent=1).encode("utf-8"))

    def summary(self, model: str, names: Collection[str] | None = None) -> list[dict[str, Any]]:
        """A line for each image whose masks are here, or for those of `names`, in natural order. It says so where they
        were not made by `model` (a digest)."""
        self._look()
        entries = {
            name: entry
            for name, entry in self._entries.items()
            if (names is None or name in names) and _finished(entry) and (self.target / f"{name}{MASKS}").exists()
        }
        # Earlier versions recorded a file under two names when it was the only one of its name in one run, but not in
        # another.
        newest = {_origin(entry) if entry["of"]["folder"] else name: name for name, entry in entries.items()}
        lines = [_line(name, entries[name], model) for name in newest.values()]
        return natsorted(lines, key=lambda line: (line["image"], line["results"]), alg=ns.IGNORECASE)


def _finished(entry: dict[str, Any]) -> bool:
    """Whether all files of an entry of the record are in place, or were once."""
    return "row" in entry


def _origin(entry: dict[str, Any]) -> Origin:
    """The file that an entry of the record belongs to. Earlier versions did not write down the content of uploads."""
    of = entry["of"]
    return Origin(of["folder"], of["file"], of.get("content", ""))


def _line(name: str, entry: dict[str, Any], model: str) -> dict[str, Any]:
    """A line of the summary table: of the results called `name`, which may be of another model than `model`."""
    row = Row(**entry["row"])
    remarks = [row.remark, "made by another model" * (entry["of"]["model"] != model)]
    return {
        "image": row.image,
        "size": " x ".join(str(n) for n in row.shape),
        "objects": row.objects,
        "median_size_px": row.size,
        "median_area_um2": row.size_um if len(row.shape) == 2 else None,
        "median_volume_um3": row.size_um if len(row.shape) == 3 else None,
        "seconds": row.seconds,
        "remark": "; ".join(remark for remark in remarks if remark),
        "results": name,
        "folder": printable(entry["of"]["folder"]),
    }
