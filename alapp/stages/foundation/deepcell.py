"""CellSAM's weights: asking DeepCell's server for them with the user's token, and unpacking the archive."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

from alapp.disk import is_full
from alapp.domain import Report
from alapp.errors import DiskFullError, DownloadError, InputError, StorageError
from alapp.stages.foundation import access, landing
from alapp.stages.foundation.catalogue import Model

ENDPOINT = "https://users.deepcell.org/api/getData/"
"""As in cellSAM's `_auth` module; it answers with an address that is good for a short time."""
HEADERS = {"User-Agent": "Wget/1.20 (linux-gnu)"}
"""Of the download itself, as cellSAM sends it; the token goes to `ENDPOINT` only."""
TOKEN_PAGE = "https://users.deepcell.org"
TIMEOUT = (10.0, 30.0)
NO_TOKEN = (
    f"CellSAM's weights need a free access token: get one at {TOKEN_PAGE} and store it here or by "
    "`python -m alapp models token`."
)


def address(model: Model) -> str:
    """The address of the archive of `model`. Raises `DownloadError`; no message holds the token."""
    import requests

    token = access.token()
    if not token:
        raise DownloadError(NO_TOKEN)
    asset = {"s3_key": f"models/{model.files[0].name}"}
    try:
        # A redirect would carry the token to another server.
        response = requests.post(
            ENDPOINT, headers={"X-Api-Key": token}, data=asset, timeout=TIMEOUT, allow_redirects=False
        )
    except requests.RequestException as error:
        offline = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.Timeout)
        why = "cannot be reached. Check the internet connection" if offline else "did not answer. Try again later"
        raise DownloadError(f"The server of DeepCell (users.deepcell.org) {why}.") from None
    if response.status_code in (401, 403):
        raise DownloadError(
            f"DeepCell did not accept the access token; it may have expired. Make a new one at {TOKEN_PAGE}."
        )
    if response.status_code == 404:
        raise DownloadError(f"DeepCell no longer has {model.files[0].name}. Update the app.")
    content = _json(response) if response.status_code == 200 else {}
    url = content.get("url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise DownloadError(f"The server of DeepCell has a problem (error {response.status_code}). Try again later.")
    return url


def unpack(model: Model, archive: Path, report: Report) -> None:
    """Put what `archive` holds of `model` in its place; the archive stays.

    Members that would leave the folder are refused (tarfile's `data` filter). Raises `InputError` for an archive that
    cannot be read or lacks the weights, `DiskFullError`, `StorageError`; nothing is left behind then.
    """
    place = model.paths[0].parent
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=place.parent))
        with tarfile.open(archive) as opened:
            done, total = 0, archive.stat().st_size
            for member in opened:
                report(min(done, total), total, f"Unpacking {member.name}")
                opened.extract(member, temporary, filter="data")
                done += member.size
        found = temporary / place.name
        if not (found / model.paths[0].name).is_file():
            raise InputError(f"{archive.name} does not hold {place.name}/{model.paths[0].name}, so it is not used.")
        landing.put(found, place)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise InputError(f"{archive.name} cannot be unpacked ({error}). Fetch it again.") from error
    except OSError as error:
        if is_full(error):
            raise DiskFullError(f"The disk is full: {archive.name} could not be unpacked. Free some space.") from error
        raise StorageError(f"{archive.name} could not be unpacked to {place}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _json(response: Any) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
