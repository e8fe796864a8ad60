"""How fast each model was on this computer, measured when its user tested it."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from alapp.environment import machine
from alapp.stages.foundation import folders

LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Speed:
    """Seconds to prepare an image (`embed`) and to answer a click, or to label all of it (`label`); None where the
    model does not do that. `size` is the (Y, X) in pixels of the image it was measured on, `when` ISO 8601 in UTC."""

    size: tuple[int, int]
    embed: float | None = None
    click: float | None = None
    label: float | None = None
    when: str = ""

    def text(self) -> str:
        """For the user, such as "9.1 s an image, then 45 ms a click"."""
        told = []
        if self.label is not None:
            told.append(f"{_seconds(self.label)} to label an image")
        if self.embed is not None:
            told.append(f"{_seconds(self.embed)} to prepare an image")
        if self.click is not None:
            told.append(f"{_seconds(self.click)} a click")
        return ", ".join(told)


def here() -> str:
    """Names this computer as it computes: a home folder may be shared by several, and a GPU may come or go."""
    found = machine()
    return f"{platform.node()}, {found.gpu_name or f'{found.cores} cores'}"


def measured(name: str) -> Speed | None:
    """The last measurement of the model `name` on this computer, or None."""
    known = _read().get(here(), {})
    with suppress(TypeError, KeyError, ValueError, AttributeError):
        values = known[name]
        return Speed(**{**values, "size": tuple(values["size"])})
    return None


def record(name: str, speed: Speed) -> None:
    """Keep a measurement. A folder that cannot be written only loses it."""
    stamped = {**asdict(speed), "when": datetime.now(UTC).isoformat(timespec="seconds")}
    path = _path()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".speeds.lock"), timeout=LOCK_SECONDS):
            known = _read()
            computer = known.get(here())
            known[here()] = {**(computer if isinstance(computer, dict) else {}), name: stamped}
            descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
            with open(descriptor, "w", encoding="utf-8") as handle:
                json.dump(known, handle, indent=1)
            os.replace(temporary, path)
    except OSError:  # also filelock's Timeout
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _path() -> Path:
    return folders.config() / "speeds.json"


def _read() -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(_path().read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 0.95 else f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
