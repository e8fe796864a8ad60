"""Fetching the weights of a published model: resumed where the line broke, checked, and in place all at once.

A file grows under a temporary name in its own folder and is renamed when its hash is right, so that weights that can
be seen are whole. A download that the user cancels, or that has no room, takes its temporary file away. One that the
network ended, that is to go on later, or whose process was killed leaves it; nothing takes it for weights, and the next
attempt goes on from it.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from alapp.disk import is_full
from alapp.domain import Report
from alapp.errors import (
    AlappError,
    Cancelled,
    ConflictError,
    DiskFullError,
    DownloadError,
    LicenceError,
    StorageError,
)
from alapp.stages.foundation import access, deepcell, folders, landing, states
from alapp.stages.foundation.catalogue import Model, WeightsFile
from alapp.stages.foundation.states import size_text

if TYPE_CHECKING:
    import requests

PART = ".part-"
"""Begins the name of a file that is not whole yet."""

CHUNK = 1 << 16
"""Bytes that are awaited at a time: small enough that a slow line still shows progress, and hears of a cancel."""
TIMEOUT = (10.0, 20.0)
"""Seconds to connect, and to wait for the next bytes; a cancelled download ends after the latter at the latest."""
PAUSES = (1.0, 4.0, 10.0, 20.0, 40.0, 45.0)
"""Seconds before each new attempt after the line broke, two minutes together: a router that starts anew takes that
long. An attempt that brought new bytes starts the row anew."""
MARGIN = 100_000_000
"""Bytes that stay free on the disk."""

_BRING = "or add the file from another computer"
_KEPT = " What was fetched is kept: the next download goes on from there."


def fetch(model: Model, report: Report) -> None:
    """Fetch what of `model` is missing or broken. Returns at once when all is here.

    Raises `LicenceError`, `DownloadError` (offline, refused, not found, wrong content, no or a wrong token),
    `DiskFullError`, `StorageError`, `ConflictError` while another process fetches the same model, and what `report`
    raises. Nothing is left behind then that looks like weights; what was fetched stays for the next attempt after a
    `DownloadError` of the network, and when the work is to go on later (`Cancelled` of a kind of its own).
    """
    if model.terms and not access.accepted(model.name):
        raise LicenceError(f"Accept the licence of {model.title} before you download it. {model.licence}")
    with _alone(model.name):
        wanted = _wanted(model)
        need = sum(max(0, file.size - _have(path)) for path, file in wanted)
        for index, (path, file) in enumerate(wanted):
            check_space(path.parent, need * (3 if model.unpacked else 1))
            url, headers = (file.url, {}) if file.url else (deepcell.address(model), deepcell.HEADERS)
            earlier = sum(done.size for _, done in wanted[:index])
            _fetch_file(model, url, path, file, _shifted(report, earlier, model), headers)
        if model.unpacked and not states.of_files(model).ready:
            _unpack(model, report)
        report(model.size, model.size, f"{model.title} is ready")


def check_space(folder: Path, need: int) -> None:
    """Raises `DiskFullError` unless `need` bytes fit on the disk of `folder` with some to spare."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < need + MARGIN:
        raise DiskFullError(
            f"The download needs {size_text(need + MARGIN)}, and the disk of {existing} has {size_text(free)} free. "
            f"Free some space, or name a folder on another disk (README, “Where things are”)."
        )


def parts(folder: Path) -> list[Path]:
    """Files in `folder` of downloads that have not ended."""
    return sorted(folder.glob(f"{PART}*"))


def _unpack(model: Model, report: Report) -> None:
    archive = model.folder / model.files[0].name
    try:
        deepcell.unpack(model, archive, report)
    except Cancelled as error:
        if _goes_on_later(error):
            archive.replace(_part(archive))  # then it is only checked, not fetched again
        raise
    finally:
        archive.unlink(missing_ok=True)


def _wanted(model: Model) -> list[tuple[Path, WeightsFile]]:
    """Place and description of each file to fetch: those that are not here as published."""
    if model.unpacked and states.of_files(model).ready:  # the archive itself is not kept
        return []
    places = [model.folder / file.name for file in model.files]
    pairs = zip(places, model.files, strict=True)
    return [(path, file) for path, file in pairs if not (path.is_file() and states.matches(path, file))]


def _fetch_file(
    model: Model, url: str, target: Path, file: WeightsFile, report: Report, headers: Mapping[str, str]
) -> None:
    part = _part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _kept_for_later(part):
            for attempt in range(2):
                resumed = part.exists()
                _stream(model, url, part, file, report, headers)
                if states.matches(part, file, lambda done: report(done, file.size, f"Checking {file.name}")):
                    landing.put(part, target)
                    return
                part.unlink()
                if not resumed or attempt:  # what a download left may be of another file: once more from the start
                    break
            raise DownloadError(
                f"What {_host(url)} sent for {file.name} is not the published file; it was thrown away. A network may "
                f"ask for a login first, or the file was changed: try again later, {_BRING}."
            )
    except OSError as error:
        raise _disk_error(error, target) from error


@contextmanager
def _kept_for_later(part: Path) -> Iterator[None]:
    """Remove `part` when the block fails, unless the work goes on later or the network failed: the hash tells in the
    end whether the rest fits. A kill gets here no more; then it stays, too."""
    try:
        yield
    except BaseException as error:
        later = isinstance(error, DownloadError) or _goes_on_later(error)
        if not (later and _size(part)):
            with suppress(OSError):
                part.unlink()
        raise


def _goes_on_later(error: BaseException) -> bool:
    """Whether `error` interrupts the work for a while: paused, or the worker was told to stop. These are kinds of
    `Cancelled`, which itself is the user's last word."""
    return isinstance(error, Cancelled) and type(error) is not Cancelled


def _stream(model: Model, url: str, part: Path, file: WeightsFile, report: Report, headers: Mapping[str, str]) -> None:
    """Fill `part` to the end, going on from what it holds, and again after the line broke."""
    import requests

    def told(left: int) -> None:
        report(_size(part), file.size, f"The connection to {_host(url)} broke; going on with {file.name} in {left} s")

    pauses = iter(PAUSES)
    while True:
        before = _size(part)
        try:
            with _answer(url, before, headers) as response:
                _write(response, part, before, model, file, report)
            return
        except (requests.RequestException, _BrokenOffError) as error:
            if _size(part) > before:
                pauses = iter(PAUSES)
            # Without a byte there is no line that broke.
            pause = next(pauses, None) if _size(part) and _may_pass(error) else None
            if pause is None:
                raise _network_error(model, url, error, kept=_size(part) > 0) from None
            _wait(pause, told)


def _may_pass(error: Exception) -> bool:
    """Whether to try again may help: not where the server refuses."""
    code = _code(error)
    return not 400 <= code < 500 or code in (408, 429)


def _wait(seconds: float, told: Callable[[int], None]) -> None:
    """Wait, and tell every second how many are left; a cancel is heard then."""
    end = time.monotonic() + seconds
    left = seconds
    told(math.ceil(left))
    while left > 0:
        time.sleep(min(left, 1.0))
        left = end - time.monotonic()
        told(max(0, math.ceil(left)))


class _BrokenOffError(Exception):
    """The server ended before it had sent all that it had announced."""


def _answer(url: str, start: int, headers: Mapping[str, str]) -> requests.Response:
    import requests

    asked = {"Accept-Encoding": "identity", **headers}
    if start:
        asked["Range"] = f"bytes={start}-"
    return requests.get(url, headers=asked, stream=True, timeout=TIMEOUT)


def _write(
    response: requests.Response, part: Path, start: int, model: Model, file: WeightsFile, report: Report
) -> None:
    if response.status_code == 416:  # no bytes are left after what is here: whole, or of another file
        return
    response.raise_for_status()
    is_rest = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    done = start if is_rest else 0
    announced = response.headers.get("Content-Length", "")
    total = done + int(announced) if announced.isdigit() else file.size
    check_space(part.parent, max(0, total - done))
    with open(part, "ab" if is_rest else "wb") as handle:
        for chunk in response.iter_content(CHUNK):
            handle.write(chunk)
            done += len(chunk)
            report(done * file.size / max(total, 1), file.size, _words(model, file, done, total))
        handle.flush()
        os.fsync(handle.fileno())
    if announced.isdigit() and done < total:
        raise _BrokenOffError


def _words(model: Model, file: WeightsFile, done: int, total: int) -> str:
    what = f"the decoder of {model.name}" if file.name.endswith("_decoder") else model.name
    return f"Downloading {what}: {size_text(done)} of {size_text(total)}"


def _code(error: Exception) -> int:
    """The server's answer as an HTTP code, 0 where there was none."""
    import requests

    return error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else 0


def _network_error(model: Model, url: str, error: Exception, kept: bool) -> AlappError:
    """The sentence for a failure of the network. Addresses may hold keys and are never part of it."""
    import requests

    host, name = _host(url), model.name
    code = _code(error)
    if code in (401, 403, 407):
        why = f"{host} refused to send it (error {code}). It may be blocked here: ask your network's administrator"
    elif code in (404, 410):
        why = f"{host} no longer has it (error {code}). Update the app"
    elif code == 429 or code >= 500:
        why = f"{host} has a problem of its own (error {code}). Try again later"
    elif code:
        why = f"{host} answered with error {code}. Try again later"
    elif isinstance(error, requests.exceptions.ProxyError):
        why = f"the proxy of this network does not let it through to {host}. Ask your network's administrator"
    elif isinstance(error, requests.exceptions.SSLError):
        why = f"no secure connection to {host} could be made. Check this computer's clock and its proxy"
    elif isinstance(error, _BrokenOffError | requests.exceptions.ChunkedEncodingError):
        why = f"the connection to {host} broke off several times. Try again"
    elif isinstance(error, requests.Timeout):
        why = f"{host} did not answer in time. Try again later"
    else:
        why = f"this computer cannot reach {host}. Check its internet connection"
    return DownloadError(f"{name} could not be downloaded: {why}, {_BRING}.{_KEPT if kept else ''}")


def _disk_error(error: OSError, target: Path) -> AlappError:
    if is_full(error):
        return DiskFullError(f"The disk became full while {target.name} was downloaded. Free some space and try again.")
    return StorageError(
        f"{target.parent} cannot be written: {error.strerror or error}. Make it writable and try again."
    )


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time fetches a model."""
    place = folders.models() / ".locks"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f"{name}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise ConflictError(f"{name} is being downloaded already. Wait for that download to end.") from None
    except OSError as error:
        raise _disk_error(error, place / name) from error
    try:
        yield
    finally:
        lock.release()


def _shifted(report: Report, earlier: int, model: Model) -> Report:
    """`report` for one file, in bytes of the whole model."""
    return lambda done, total, message="": report(earlier + done, model.size, message)


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _part(target: Path) -> Path:
    """Where `target` grows."""
    return target.with_name(PART + target.name)


def _have(target: Path) -> int:
    return _size(_part(target))
