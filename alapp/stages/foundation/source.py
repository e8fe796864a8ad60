"""Where a file of weights is fetched from, and the sentences for what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from alapp.disk import is_full
from alapp.errors import AlappError, DiskFullError, DownloadError, StorageError
from alapp.stages.foundation import deepcell
from alapp.stages.foundation.catalogue import Model, WeightsFile

KEPT = " What was fetched is kept: the next download goes on from there."
_KEPT_BEFORE = " What was fetched before is kept: the next download goes on from there."
_BRING = "or add the file from another computer"

_EXPIRED = (400, 401, 403)
"""What servers answer to an address whose time is over; Amazon's say 400 where only its key had a time."""


class BrokenOffError(Exception):
    """The server ended before it had sent the whole file."""


class Source:
    """The address of a file, asked for when it is first needed where it is not fixed: those of DeepCell's server are
    good for a short time only."""

    def __init__(self, model: Model, file: WeightsFile):
        self.model, self.file = model, file
        self.headers: Mapping[str, str] = {} if file.url else deepcell.HEADERS
        self._url = file.url

    @property
    def url(self) -> str:
        """The address; it may hold keys and is never part of a message. Raises `DownloadError`."""
        if not self._url:
            self._url = deepcell.address(self.model)
        return self._url

    @property
    def host(self) -> str:
        """The server's name, for messages."""
        return urlsplit(self._url).hostname or "the server"

    def expired(self, error: Exception) -> bool:
        """Whether `error` may mean that the address is too old, and another one can be asked for."""
        return not self.file.url and code(error) in _EXPIRED

    def forget(self) -> None:
        """Let the next `url` be a new one, where the address is not fixed."""
        self._url = self.file.url


def code(error: Exception) -> int:
    """The server's answer as an HTTP code, 0 where there was none."""
    import requests

    return error.response.status_code if isinstance(error, requests.HTTPError) and error.response is not None else 0


def may_pass(error: Exception) -> bool:
    """Whether to try again may help: not where the server refuses."""
    answer = code(error)
    return not 400 <= answer < 500 or answer in (408, 429)


def network_error(source: Source, error: Exception, kept: bool) -> AlappError:
    """The sentence for a failure of the network; `kept`: something was fetched, and stays."""
    import requests

    host, name = source.host, source.model.name
    answer = code(error)
    if isinstance(error, requests.exceptions.InvalidSchema):  # the packages that SOCKS needs are not installed
        why = "it cannot be fetched through a SOCKS proxy. Set HTTPS_PROXY to one that speaks HTTP"
    elif answer in (401, 403, 407):
        why = f"{host} refused to send it (error {answer}). It may be blocked here: ask your network's administrator"
    elif answer in (404, 410):
        why = f"{host} no longer has it (error {answer}). Update the app"
    elif answer == 429 or answer >= 500:
        why = f"{host} has a problem of its own (error {answer}). Try again later"
    elif answer:
        why = f"{host} answered with error {answer}. Try again later"
    elif isinstance(error, requests.exceptions.ProxyError):
        why = f"the proxy of this network does not let it through to {host}. Ask your network's administrator"
    elif isinstance(error, requests.exceptions.SSLError):
        why = f"no secure connection to {host} could be made. Check this computer's clock and its proxy"
    elif isinstance(error, BrokenOffError | requests.exceptions.ChunkedEncodingError):
        why = f"the connection to {host} broke off several times. Try again"
    elif isinstance(error, requests.Timeout):
        why = f"{host} did not answer in time. Try again later"
    else:
        why = f"this computer cannot reach {host}. Check its internet connection"
    return DownloadError(f"{name} could not be downloaded: {why}, {_BRING}.{KEPT if kept else ''}")


def wrong_file(source: Source, kept: bool) -> AlappError:
    """The sentence for a content that was not published; `kept`: what was fetched before it stays."""
    return DownloadError(
        f"What {source.host} sent for {source.file.name} is not the published file; it was thrown away. A network may "
        f"ask for a login first, or the file was changed: try again later, {_BRING}.{_KEPT_BEFORE if kept else ''}"
    )


def disk_error(error: OSError, target: Path) -> AlappError:
    """The sentence for an error of the disk while `target` was written."""
    if is_full(error):
        return DiskFullError(f"The disk became full while {target.name} was downloaded. Free some space and try again.")
    return StorageError(
        f"{target.parent} cannot be written: {error.strerror or error}. Make it writable and try again."
    )
