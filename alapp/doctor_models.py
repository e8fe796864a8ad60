"""What is wrong with the foundation models on this computer, and what to do about it. Changes nothing."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from alapp.domain import BackendState
from alapp.environment import home_relative
from alapp.finding import Finding, Level
from alapp.stages.foundation import access, deepcell, download, folders, landing, own, states
from alapp.stages.foundation.catalogue import CELLSAM, MODELS, Model

CELLSAM_PACKAGE = "cellSAM"
ONLINE_SECONDS = 5.0


def diagnose(*, hashes: bool = True, online: bool = False) -> Iterator[Finding]:
    """Each known failure that is there; `hashes` reads every file of weights, `online` tries the servers.

    Models that are not on this computer are no finding.
    """
    yield from _packages()
    here = [model for model in MODELS.values() if any(place.exists() for place in landing.places_of(model))]
    for model in here:
        yield from _weights(model, hashes)
    yield from _own()
    yield from _cellsam()
    yield from _leftovers()
    if online:
        yield from _servers()


def _packages() -> Iterator[Finding]:
    if not states.absent(("micro_sam",)) and states.absent(("mobile_sam",)):
        detail = "is not installed, so the models of type vit_t, the fastest without a GPU, cannot be used."
        yield Finding(Level.NOTE, "mobile_sam", detail, states.HOW_TO_INSTALL["mobile_sam"])


def _weights(model: Model, hashes: bool) -> Iterator[Finding]:
    found = states.of_files(model, thorough=hashes)
    title, remedy = f"model {model.name}", f"Run: python -m alapp models download {model.name}"
    if found.ready:
        checked = hashes and not model.unpacked  # what comes out of an archive has no published hash
        yield Finding(Level.OK, title, "here, with its published content" if checked else "here")
    else:
        level = Level.WARNING if found.state is BackendState.BROKEN else Level.NOTE
        yield Finding(level, title, found.detail, remedy)


def _own() -> Iterator[Finding]:
    known = {model.name: model for model in own.checkpoints()}
    for model in known.values():
        if model.weights.is_file():
            yield Finding(Level.OK, f"your model {model.name}", f"{model.architecture}, from {model.source}")
    for place in sorted(own.folder().glob("[!.]*/")):
        model = known.get(place.name)
        if model is None or not model.weights.is_file():
            remedy = "Import the checkpoint again, then delete this folder."
            detail = f"{home_relative(place)} is not complete, so the model is not used."
            yield Finding(Level.WARNING, f"your model {place.name}", detail, remedy)


def _cellsam() -> Iterator[Finding]:
    """Only where somebody wants CellSAM: its package or a token is here."""
    if states.absent((CELLSAM_PACKAGE,)) and not access.has_token():
        return
    model = next(model for model in MODELS.values() if model.backend == CELLSAM)
    if not access.accepted(model.name):
        found = f"was not accepted. {model.licence}"
        yield Finding(Level.NOTE, "CellSAM's licence", found, f"Run: python -m alapp models accept {model.name}")
    if not access.has_token() and not model.present:
        yield Finding(Level.NOTE, "DeepCell's token", "is not here.", deepcell.NO_TOKEN)
    path = folders.config() / "deepcell-token"
    if sys.platform != "win32" and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        remedy = "Store it again: python -m alapp models token"
        yield Finding(Level.WARNING, "DeepCell's token", f"{home_relative(path)} can be read by others.", remedy)


def _leftovers() -> Iterator[Finding]:
    places = (folders.microsam(), folders.deepcell(), folders.sam2())
    parts = [path for place in places for path in download.parts(place)]
    if parts:
        size = states.size_text(sum(path.stat().st_size for path in parts))
        names = ", ".join(home_relative(path) for path in parts)
        remedy = "Start the download again: it goes on from there. After a day the app deletes them."
        yield Finding(Level.NOTE, "Unfinished downloads", f"{names} ({size} together)", remedy)


def _servers() -> Iterator[Finding]:
    """One question to each server; what it answers does not matter, but that it does."""
    import requests

    urls = [file.url for model in MODELS.values() for file in model.files if file.url] + [deepcell.ENDPOINT]
    roots = dict.fromkeys(f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/" for url in urls)
    silent = []
    for root in roots:
        try:
            requests.head(root, timeout=ONLINE_SECONDS, allow_redirects=False)
        except requests.RequestException:
            silent.append(urlsplit(root).hostname or root)
    if not silent:
        yield Finding(Level.OK, "Internet", f"all {len(roots)} servers of models answer")
        return
    what = "No server of models answers" if len(silent) == len(roots) else f"These do not answer: {', '.join(silent)}"
    remedy = (
        "Check the internet connection and, in an institute, the proxy (HTTPS_PROXY); or bring the files from another "
        "computer: python -m alapp models add FILE"
    )
    yield Finding(Level.WARNING, "Internet", f"{what}.", remedy)
