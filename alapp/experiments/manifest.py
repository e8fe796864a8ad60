"""Which images an experiment is about: settled when they are needed first, so that all of its runs see the same.

Pseudo-labels, embeddings and chosen patches are kept by the number of an image or patch; with other images they would
silently be those of another one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from alapp.errors import InputError
from alapp.experiments import sources
from alapp.experiments.sources import Images, Labelled
from alapp.experiments.study import Source
from alapp.storage.db import Store
from alapp.storage.files import atomic_write
from alapp.wording import counted

FILE = "images.json"
Entry = dict[str, str]
"""An image: its name, and the hashes of its pixels and of its labels."""


def settled(folder: Path, source: Source, store: Store | None = None) -> Images:
    """The images of a source, in the order in which the experiment in `folder` saw them first, with those for testing
    that were. Where it has not seen any, as of an older version, they are settled now.

    Raises `InputError` where they are others by now, and what `sources.load` raises.
    """
    found = sources.load(source, store)
    present = _told(found)
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{FILE}.lock"):
        if not path.exists():
            with atomic_write(path) as handle:
                handle.write(json.dumps(present).encode())
    known = json.loads(path.read_text(encoding="utf-8"))
    return found if known == present else _as_known(known, present, source, found)


def _told(images: Images) -> dict[str, Any]:
    """The manifest of images."""
    return {
        "train": [_entry(image) for image in images.train],
        "test": [_entry(image) for image in images.test],
        "patches": [[patch.image, *asdict(patch.box).values()] for patch in images.patches],
        "voxel_size": list(asdict(images.voxel_size).values()),
    }


def _entry(image: Labelled) -> Entry:
    return {"name": image.name, "pixels": _hash(image.pixels), "labels": _hash(image.labels)}


def _hash(array: np.ndarray) -> str:
    told = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    told.update(np.ascontiguousarray(array))
    return told.hexdigest()


def _as_known(known: dict[str, Any], present: dict[str, Any], source: Source, found: Images) -> Images:
    """The images `found` as the manifest `known` has them: one that was removed and imported again comes last in its
    project, and may have another name."""
    before, now = ([*each["train"], *each["test"]] for each in (known, present))
    changes = _changes(before, now)
    if not changes and known["voxel_size"] != present["voxel_size"]:
        changes = ["the voxel size was changed"]
    if changes:
        raise InputError(
            f"The images are not those that this experiment began with: {', '.join(changes)}. Its runs could not be "
            "compared with each other. Put the images back as they were, or define another experiment."
        )
    left: dict[tuple[str, str], list[Labelled]] = {}
    for entry, image in zip(now, (*found.train, *found.test), strict=True):
        left.setdefault(_content(entry), []).append(image)
    train, test = ([left[_content(entry)].pop(0) for entry in known[part]] for part in ("train", "test"))
    made = sources.cut(source, train, test, found.voxel_size)
    if _told(made)["patches"] != known["patches"]:
        raise InputError(
            "This version of the app cuts the images into other patches than those that this experiment began with. "
            "Define another experiment."
        )
    return made


def _changes(before: Sequence[Entry], now: Sequence[Entry]) -> list[str]:
    """What differs, in words; empty where the same pixels with the same labels are there."""
    gone, new = (_without(*pair) for pair in ((before, now), (now, before)))
    changed = [name for name in gone if name in new]
    parts = (
        ("removed", [name for name in gone if name not in changed]),
        ("added", [name for name in new if name not in changed]),
        ("changed in pixels or labels", changed),
    )
    return [
        f"{counted(len(names), 'image')} {'was' if len(names) == 1 else 'were'} {what} "
        f"({names[0]!r}{' among them' * (len(names) > 1)})"
        for what, names in parts
        if names
    ]


def _without(these: Sequence[Entry], others: Sequence[Entry]) -> list[str]:
    """The names of `these` whose content is not among the `others`."""
    left = Counter(map(_content, others))
    names = []
    for entry in these:
        left[_content(entry)] -= 1
        if left[_content(entry)] < 0:
            names.append(entry["name"])
    return names


def _content(entry: Entry) -> tuple[str, str]:
    return entry["pixels"], entry["labels"]
