"""The user's own micro_sam checkpoints: brought as a file, or fine-tuned by the app.

Each is a folder `own/<name>` of the models folder with `weights.pt`, perhaps `decoder.pt`, and `about.json`; it is
made under a temporary name and renamed, so one that can be listed is whole. Both files hold tensors by name and
nothing else, and are what `micro_sam.util.get_sam_model(architecture, checkpoint_path=..., decoder_path=...)` takes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alapp.disk import is_full, patiently
from alapp.domain import Modality, Report, silent
from alapp.errors import DiskFullError, InputError, StorageError
from alapp.stages.foundation import folders, reading
from alapp.stages.foundation.catalogue import MODELS
from alapp.stages.foundation.fingerprint import weights_hash

LONGEST_NAME = 60
WEIGHTS, DECODER, ABOUT = "weights.pt", "decoder.pt", "about.json"


@dataclass(frozen=True)
class OwnModel:
    """A checkpoint of the user's own. `modality` is None when it suits any; `decoder` None without automatic labels.

    `sha256` is that of `weights`; `source` says in words where it comes from, `added` when (ISO 8601, UTC).
    """

    name: str
    architecture: str
    weights: Path
    decoder: Path | None
    modality: Modality | None
    sha256: str
    source: str
    added: str
    size: int

    @property
    def folder(self) -> Path:
        """All that belongs to it."""
        return self.weights.parent


def folder() -> Path:
    """Where they lie."""
    return folders.models() / "own"


def checkpoints(modality: Modality | None = None, *, decoder: bool = False) -> list[OwnModel]:
    """Those fit for `modality` (or any), the newest first; with `decoder` only those that can label by themselves."""
    found = listed(folder())
    fit = [one for one in found if modality is None or one.modality in (None, modality)]
    usable = [one for one in fit if one.decoder is not None or not decoder]
    return sorted(usable, key=lambda one: (one.added, one.name), reverse=True)


def listed(place: Path) -> list[OwnModel]:
    """Every whole one in the folder `place`, in no order."""
    return [made for path in place.glob(f"*/{ABOUT}") if (made := _read(path)) is not None]


def checkpoint(name: str) -> OwnModel:
    """The one called `name`. Raises `InputError` if there is none."""
    found = next((one for one in checkpoints() if one.name == name), None)
    if found is None:
        known = ", ".join(repr(one.name) for one in checkpoints()) or "none"
        raise InputError(f"There is no model of your own called {name!r}. There are: {known}.")
    return found


def import_file(
    path: Path, name: str | None = None, modality: Modality | None = None, report: Report = silent
) -> OwnModel:
    """Check the checkpoint in `path` and keep a copy. Its name is that of the file unless one is given.

    Raises `InputError` for a file that is no model of micro_sam or is there already, `NotInstalledError`,
    `DiskFullError`, `StorageError`; nothing is left behind then, nor when `report` raises `Cancelled`.
    """
    path = path.expanduser()
    report(0, 3, f"Reading {path.name}")
    read = reading.read(path)
    report(1, 3, f"Copying {path.name}")
    made = add(
        name or path.stem, read.architecture, read.weights, read.decoder, modality=modality, source=path.name,
        report=lambda *_: report(2, 3, f"Copying {path.name}"), only_once=True,
    )  # fmt: skip
    report(3, 3, f"{made.name} is ready")
    return made


def add(
    name: str,
    architecture: str,
    weights: Mapping[str, Any],
    decoder: Mapping[str, Any] | None = None,
    *,
    modality: Modality | None = None,
    source: str = "",
    report: Report = silent,
    only_once: bool = False,
) -> OwnModel:
    """Keep a model under `name`, made unique by a number. `weights` and `decoder` are tensors by name.

    `only_once` refuses weights that are kept already. Raises `InputError`, `DiskFullError`, `StorageError`.
    """
    wanted = checked_name(name)
    need = sum(value.numel() * value.element_size() for part in (weights, decoder or {}) for value in part.values())
    temporary = _temporary_folder(need)
    try:
        _save(dict(weights), temporary / WEIGHTS)
        report(1, 2, "")
        if decoder:
            _save(dict(decoder), temporary / DECODER)
        about = {
            "architecture": architecture, "modality": modality, "source": source,
            "sha256": weights_hash(temporary / WEIGHTS), "added": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        same = next((one.name for one in checkpoints() if one.sha256 == about["sha256"]), None)
        if only_once and same is not None:
            raise InputError(f"These weights are here already, as {same!r}. Remove that model first to replace it.")
        (temporary / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        report(2, 2, "")
        return checkpoint(_land(temporary, wanted))
    except OSError as error:
        raise _failed(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def checked_name(text: str) -> str:
    """A name that can be a folder on any system. Raises `InputError` when nothing is left of `text`."""
    name = re.sub(r"[^\w. -]", "_", text, flags=re.ASCII).strip(" ._-")[:LONGEST_NAME].strip(" ._-")
    if not name:
        raise InputError(f"{text!r} cannot be the name of a model. Use letters and digits.")
    return f"{name} (own)" if name in MODELS or re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", name) else name


def _land(temporary: Path, wanted: str) -> str:
    """Rename to the first name that is free; on some systems a rename replaces an empty folder, which is fine."""
    number = 1
    while True:
        name = wanted if number == 1 else f"{wanted}-{number}"
        number += 1
        if (folder() / name).exists():
            continue
        try:
            patiently(os.rename, temporary, folder() / name)
        except OSError:
            if (folder() / name).exists():  # somebody else took the name in the meantime
                continue
            raise
        return name


def _read(path: Path) -> OwnModel | None:
    """None for a folder that is being made, or that somebody has spoilt."""
    if path.parent.name.startswith("."):
        return None
    weights, decoder = path.parent / WEIGHTS, path.parent / DECODER
    with suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads(path.read_text(encoding="utf-8"))
        return OwnModel(
            name=path.parent.name,
            architecture=about["architecture"],
            weights=weights,
            decoder=decoder if decoder.is_file() else None,
            modality=Modality(about["modality"]) if about["modality"] else None,
            sha256=about["sha256"],
            source=about["source"],
            added=about["added"],
            size=sum(file.stat().st_size for file in (weights, decoder) if file is weights or file.is_file()),
        )
    return None


def _temporary_folder(need: int) -> Path:
    try:
        folder().mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder()).free
        if free < need:
            raise DiskFullError(
                f"The model needs {need / 1e6:.0f} MB, and the disk of {folder()} has {free / 1e6:.0f} MB. "
                "Free some space."
            )
        return Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder()))
    except OSError as error:
        raise _failed(error) from error


def _save(state: dict[str, Any], target: Path) -> None:
    import torch

    with open(target, "wb") as handle:
        torch.save(state, handle)
        handle.flush()
        os.fsync(handle.fileno())


def _failed(error: OSError) -> StorageError | DiskFullError:
    if is_full(error):
        return DiskFullError("The disk is full: the model could not be kept. Free some space and try again.")
    return StorageError(
        f"{folder()} cannot be written: {error.strerror or error}. Make it writable, or name another folder in "
        f"{folders.MODELS_VARIABLE}."
    )
