"""What the user accepted and entered once for this computer: licences, and the access token of DeepCell.

Both lie in small files of the user's config folder that only their owner may read. The token is sent to DeepCell's
server and nowhere else; no error, log or page shows it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alapp.disk import patiently
from alapp.errors import InputError, StorageError
from alapp.stages.foundation import folders

TOKEN_VARIABLE = "DEEPCELL_ACCESS_TOKEN"
LICENCE_VARIABLE = "ALAPP_CELLSAM_LICENCE"
HIDDEN = "[token]"
OWNER_ONLY = 0o600

_TOKEN = re.compile(r"[!-~]{8,512}")  # printable, without blanks: it travels in an HTTP header


def accepted(model: str) -> bool:
    """Whether the licence of `model` was accepted on this computer, or by `ALAPP_CELLSAM_LICENCE=accepted`."""
    if model.startswith("cellsam") and os.environ.get(LICENCE_VARIABLE, "").strip().lower() == "accepted":
        return True
    return bool(_accepted().get(model))


def accept(model: str) -> None:
    """Remember that the user accepted the licence of `model`, and when. Raises `StorageError`."""
    _write("licences.json", json.dumps({**_accepted(), model: datetime.now(UTC).isoformat(timespec="seconds")}))


def withdraw(model: str) -> None:
    """Forget that the licence of `model` was accepted. Raises `StorageError`."""
    _write("licences.json", json.dumps({name: when for name, when in _accepted().items() if name != model}))


def token() -> str:
    """DeepCell's access token, "" if there is none: `DEEPCELL_ACCESS_TOKEN`, or the one that was stored."""
    return os.environ.get(TOKEN_VARIABLE, "").strip() or _stored_token()


def has_token() -> bool:
    """Whether there is a token; what a page may show of it."""
    return bool(token())


def store_token(text: str) -> None:
    """Keep a token for later, "" to forget it. Raises `InputError` for what cannot be one, `StorageError`."""
    given = text.strip()
    path = folders.config() / "deepcell-token"
    if not given:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from None
        return
    if not _TOKEN.fullmatch(given):  # the text itself must not be repeated: it may be the token with a slip
        raise InputError("This is not an access token: it must be one word of at least 8 letters and digits.")
    _write(path.name, given)


def without_token(text: str) -> str:
    """`text` with every token that is known here replaced by "[token]"."""
    for secret in {os.environ.get(TOKEN_VARIABLE, "").strip(), _stored_token()}:
        if secret:
            text = text.replace(secret, HIDDEN)
    return text


def _stored_token() -> str:
    return _read("deepcell-token").strip()


def _accepted() -> dict[str, Any]:
    with suppress(ValueError):
        content = json.loads(_read("licences.json") or "{}")
        if isinstance(content, dict):
            return content
    return {}


def _read(name: str) -> str:
    try:
        return (folders.config() / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _write(name: str, text: str) -> None:
    """Atomically, and never readable by others, not even for a moment: mkstemp makes files of 0600."""
    path = folders.config() / name
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, OWNER_ONLY)
        patiently(os.replace, temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror}. Make its folder writable, or name another one in "
        f"{folders.CONFIG_VARIABLE}."
    )
