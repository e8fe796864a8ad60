"""Fetching the weights of a published model: resumed where the line broke, checked, and in place all at once.

A file grows under a temporary name in its own folder and is renamed when its hash is right, so that weights that can
be seen are whole. A download that the user cancels, or that has no room, takes its temporary file away. One that the
network ended, that is to go on later, or whose process was killed leaves it; nothing takes it for weights, and the next
attempt goes on from it. What a server sends instead of the rest grows in a second temporary file: it may be a login
page of the network. An archive that could not be unpacked waits under its temporary name until there is room.
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

from filelock import FileLock, Timeout

from alapp.disk import patiently
from alapp.domain import Report
from alapp.errors import Cancelled, ConflictError, DiskFullError, DownloadError, InputError, LicenceError, StorageError
from alapp.stages.foundation import access, deepcell, folders, landing, states
from alapp.stages.foundation.catalogue import Model, WeightsFile
from alapp.stages.foundation.source import KEPT, BrokenOffError, Source, disk_error, may_pass, network_error, wrong_file
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


def fetch(model: Model, report: Report) -> None:
    """Fetch what of `model` is missing or broken. Returns at once when all is here.

    Raises `LicenceError`, `DownloadError` (offline, refused, not found, wrong content, no or a wrong token),
    `DiskFullError`, `StorageError`, `ConflictError` while another process fetches the same model, and what `report`
    raises. Nothing is left behind then that looks like weights; what was fetched stays for the next attempt after a
    `DownloadError` of the network, when it is whole but could not be unpacked or put in place, and when the work is to
    go on later (`Cancelled` of a kind of its own).
    """
    if model.terms and not access.accepted(model.name):
        raise LicenceError(f"Accept the licence of {model.title} before you download it. {model.licence}")
    with _alone(model.name):
        wanted = _wanted(model)
        need = sum(max(0, file.size - _have(path)) for path, file in wanted)
        for index, (path, file) in enumerate(wanted):
            check_space(path.parent, need * (3 if model.unpacked else 1))
            earlier = sum(done.size for _, done in wanted[:index])
            _fetch_file(Source(model, file), path, _shifted(report, earlier, model))
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
    """Unpack the archive of `model`, and remove it unless its content can still be used."""
    archive = model.folder / model.files[0].name
    try:
        deepcell.unpack(model, archive, report)
    except BaseException as error:
        if isinstance(error, InputError) or type(error) is Cancelled:  # wrong content, or the user's last word
            _remove(archive)
            raise
        with suppress(OSError):  # under its own name it is used, too
            patiently(os.replace, archive, _part(archive))
        if isinstance(error, DiskFullError | StorageError):
            raise type(error)(f"{error} The archive is kept: the next download only unpacks it.") from error
        raise
    _remove(archive)


def _wanted(model: Model) -> list[tuple[Path, WeightsFile]]:
    """Place and description of each file to fetch: those that are not here as published."""
    if model.unpacked and states.of_files(model).ready:  # the archive itself is not kept
        return []
    places = [model.folder / file.name for file in model.files]
    pairs = zip(places, model.files, strict=True)
    return [(path, file) for path, file in pairs if not (path.is_file() and states.matches(path, file))]


def _fetch_file(source: Source, target: Path, report: Report) -> None:
    part = _part(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(_again(part))  # of a download that was killed
        with _kept_for_later(part):
            if not (_may_be_whole(part, source.file) and _is_right(part, source.file, report)):
                _fill(source, part, report)
            landing.put(part, target)
    except OSError as error:
        raise disk_error(error, target) from error


def _fill(source: Source, part: Path, report: Report) -> None:
    """Make `part` the published file."""
    for attempt in range(2):
        resumed = part.exists()
        _stream(source, part, report)
        if _is_right(part, source.file, report):
            return
        part.unlink()
        if not resumed or attempt:  # what a download left may be of another file: once more from the start
            break
    raise wrong_file(source, kept=False)


def _may_be_whole(path: Path, file: WeightsFile) -> bool:
    """Whether it is worth reading `path` to learn whether it is `file`, so that nothing has to be asked for."""
    return _size(path) == file.size if file.exact else _size(path) >= states.TRUNCATED * file.size


def _is_right(path: Path, file: WeightsFile, report: Report) -> bool:
    return states.matches(path, file, lambda done: report(done, file.size, f"Checking {file.name}"))


@contextmanager
def _kept_for_later(part: Path) -> Iterator[None]:
    """Remove `part` when the block fails, unless the work goes on later, the network failed, or it could not be put in
    place: the hash tells in the end whether the rest fits. A kill gets here no more; then it stays, too."""
    try:
        yield
    except BaseException as error:
        later = isinstance(error, DownloadError | StorageError) or _goes_on_later(error)
        if not (later and _size(part)):
            _remove(part)
        raise


def _goes_on_later(error: BaseException) -> bool:
    """Whether `error` interrupts the work for a while: paused, or the worker was told to stop. These are kinds of
    `Cancelled`, which itself is the user's last word."""
    return isinstance(error, Cancelled) and type(error) is not Cancelled


def _stream(source: Source, part: Path, report: Report) -> None:
    """Fill `part` to the end, going on from what it holds, and again after the line broke."""
    import requests

    def told(left: int) -> None:
        what = f"The connection to {source.host} broke; going on with {source.file.name} in {left} s"
        report(_size(part), source.file.size, what)

    pauses, may_renew = iter(PAUSES), True
    while True:
        before = _size(part)
        try:
            with _answer(_address(source, part), before, source.headers) as response:
                _take(response, part, before, source, report)
            return
        except (requests.RequestException, BrokenOffError) as error:
            if _size(part) > before:
                pauses, may_renew = iter(PAUSES), True
            # Without a byte there is no line that broke, and no address that served for a while.
            if _size(part) and may_renew and source.expired(error):
                source.forget()
                may_renew = False
                continue
            pause = next(pauses, None) if _size(part) and may_pass(error) else None
            if pause is None:
                raise network_error(source, error, kept=_size(part) > 0) from None
            _wait(pause, told)


def _address(source: Source, part: Path) -> str:
    """The address; where the server does not tell it, the sentence also says what is kept."""
    try:
        return source.url
    except DownloadError as error:
        raise DownloadError(f"{error}{KEPT if _size(part) else ''}") from None


def _wait(seconds: float, told: Callable[[int], None]) -> None:
    """Wait, and tell every second how many are left; a cancel is heard then."""
    end = time.monotonic() + seconds
    left = seconds
    told(math.ceil(left))
    while left > 0:
        time.sleep(min(left, 1.0))
        left = end - time.monotonic()
        told(max(0, math.ceil(left)))


def _answer(url: str, start: int, headers: Mapping[str, str]) -> requests.Response:
    import requests

    asked = {"Accept-Encoding": "identity", **headers}
    if start:
        asked["Range"] = f"bytes={start}-"
    return requests.get(url, headers=asked, stream=True, timeout=TIMEOUT)


def _take(response: requests.Response, part: Path, start: int, source: Source, report: Report) -> None:
    """Add what the server sends to `part`, which holds `start` bytes of it."""
    if response.status_code == 416:  # no bytes are left after what is here: whole, or of another file
        return
    response.raise_for_status()
    is_rest = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if is_rest or not start:
        _write(response, part, start, source, report)
    else:
        _start_over(response, part, source, report)


def _start_over(response: requests.Response, part: Path, source: Source, report: Report) -> None:
    """Take an answer from the start beside `part`. It may be the file, of a server that sends no rests, or a login page
    of the network: it takes the place of `part` when it is the file, or breaks off and is longer."""
    again = _again(part)
    try:
        _write(response, again, 0, source, report)
        if not _is_right(again, source.file, report):
            _remove(again)
            raise wrong_file(source, kept=True)
        patiently(os.replace, again, part)
    finally:
        if _size(again) > _size(part):
            patiently(os.replace, again, part)
        _remove(again)


def _write(response: requests.Response, path: Path, start: int, source: Source, report: Report) -> None:
    """Write the answer into `path` from byte `start` on. Raises `BrokenOffError` if more was to come."""
    file, done = source.file, start
    announced = response.headers.get("Content-Length", "")
    total = done + int(announced) if announced.isdigit() else file.size
    check_space(path.parent, max(0, total - done))
    with open(path, "ab" if start else "wb") as handle:
        for chunk in response.iter_content(CHUNK):
            handle.write(chunk)
            done += len(chunk)
            report(done * file.size / max(total, 1), file.size, _words(source.model, file, done, total))
        handle.flush()
        os.fsync(handle.fileno())
    if done < (total if announced.isdigit() else _least(response, file)):
        raise BrokenOffError


def _least(response: requests.Response, file: WeightsFile) -> float:
    """Bytes below which an answer of no announced length has broken off. A page is no part of the file: 0."""
    if response.headers.get("Content-Type", "").startswith("text/html"):
        return 0
    return file.size if file.exact else states.TRUNCATED * file.size


def _words(model: Model, file: WeightsFile, done: int, total: int) -> str:
    what = f"the decoder of {model.name}" if file.name.endswith("_decoder") else model.name
    return f"Downloading {what}: {size_text(done)} of {size_text(total)}"


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
        raise disk_error(error, place / name) from error
    try:
        yield
    finally:
        lock.release()


def _shifted(report: Report, earlier: int, model: Model) -> Report:
    """`report` for one file, in bytes of the whole model."""
    return lambda done, total, message="": report(earlier + done, model.size, message)


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _part(target: Path) -> Path:
    """Where `target` grows."""
    return target.with_name(PART + target.name)


def _again(part: Path) -> Path:
    """Where an answer from the start grows as long as `part` may still be of use."""
    return part.with_name(f"{part.name}.again")


def _remove(path: Path) -> None:
    with suppress(OSError):
        patiently(os.unlink, path)


def _have(target: Path) -> int:
    return _size(_part(target))
