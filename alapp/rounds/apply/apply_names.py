"""Names of the files that are made of an image: the same whenever the image comes again, and no two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alapp.rounds.export.export_names import distinct, folded, is_valid, slug
from alapp.stages import images as image_files
from alapp.storage.files import sha256_of


@dataclass(frozen=True)
class Origin:
    """By what a file is known again: its `folder` and its `name`. An upload has no folder, and lies elsewhere every
    time, so it is known by its `content` (a hash)."""

    folder: str
    name: str
    content: str = ""


def origin(path: Path, uploaded: bool) -> Origin:
    """The origin of a file. An upload that cannot be read has no content; whoever reads it next says so."""
    if not uploaded:
        return Origin(str(path.resolve().parent), path.name)
    try:
        return Origin("", path.name, sha256_of(path))
    except OSError:
        return Origin("", path.name)


def names_of(paths: Sequence[Path], origins: Sequence[Origin], known: Mapping[str, Origin]) -> list[str]:
    """A name for the results of each file; `origins` of the files in their order, `known`: the names that were given
    before, the newest last.

    A file keeps the name under which it is known. A new one gets its own without ending, or with it where two new
    files would share one, or where another file has it; no two are alike, and all are valid, on any system.
    """
    before = {found: name for name, found in known.items()}
    new = {found: path for path, found in zip(paths, origins, strict=True) if found not in before}
    given = dict(zip(new, _new_names(list(new.values()), known), strict=True)) | before
    return [given[found] for found in origins]


def _new_names(paths: Sequence[Path], taken: Collection[str]) -> list[str]:
    stems = [_valid(image_files.stem(path)) for path in paths]
    shared = Counter(folded(name) for name in [*taken, *stems])
    wanted = [
        stem if shared[folded(stem)] == 1 else _valid(image_files.title(path).replace(".", "_").replace("/", "_"))
        for path, stem in zip(paths, stems, strict=True)
    ]
    return distinct([*taken, *wanted])[len(taken) :]


def _valid(name: str) -> str:
    return name if is_valid(name) else slug(name)
