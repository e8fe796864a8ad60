"""Foundation models for the pages and the command line: what there is, in which state, and what can be done now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from alapp import jobs
from alapp.domain import BackendState, Modality, Report, Status, silent
from alapp.errors import ConflictError, InputError, LicenceError
from alapp.jobs import Job, JobState
from alapp.stages.foundation import access, adopt, catalogue, choice, landing, own, speeds, states
from alapp.stages.foundation.catalogue import CELLSAM, MICRO_SAM, MODELS, Model
from alapp.stages.foundation.own import OwnModel
from alapp.stages.foundation.states import ModelState
from alapp.storage import jobs as job_rows
from alapp.storage.db import Store

DOWNLOAD_JOB, TRY_JOB = "download_model", "try_model"
OWN_LICENCE = "Your own."
_WORDS = {None: "any images", Modality.LIGHT: "light microscopy", Modality.EM: "electron microscopy"}


class Action(StrEnum):
    """What a page can offer for a model."""

    DOWNLOAD = "download"
    CANCEL = "cancel"
    REMOVE = "remove"
    UNDO = "undo"
    TRY = "try"
    ACCEPT = "accept"
    TOKEN = "token"


@dataclass(frozen=True)
class Entry:
    """A model as it stands now. `size` in bytes; `modalities` it was trained for.

    `detail` says why it is in its state and `remedy` what to do, "" when ready. `progress` in [0, 1], `message` and
    `eta` in seconds belong to a download that waits or runs. `problem` is the sentence of the last download that
    failed. `speed` is "" until the model was tested here.
    """

    name: str
    backend: str
    title: str
    suits: str
    licence: str
    size: int
    modalities: frozenset[Modality]
    state: ModelState
    detail: str
    remedy: str
    clicks: bool
    automatic: bool
    actions: tuple[Action, ...]
    own: bool = False
    terms: bool = False
    accepted: bool = True
    progress: float | None = None
    message: str = ""
    eta: float | None = None
    problem: str = ""
    speed: str = ""


def entries(store: Store, modality: Modality | None = None) -> list[Entry]:
    """The user's own models, then the published ones: those for `modality` first, in the catalogue's order."""
    download = active_download(store)
    problems = _problems(store)
    published = [_published(model, download, problems.get(model.name, "")) for model in MODELS.values()]
    published.sort(key=lambda entry: modality is not None and modality not in entry.modalities)
    mine = [_own(model) for model in own.checkpoints()]
    return mine + published + _removed_own()


def entry(store: Store, name: str) -> Entry:
    """The one called `name`. Raises `InputError` if there is none."""
    found = next((one for one in entries(store) if one.name == name), None)
    if found is None:
        raise InputError(f"There is no model called {name!r}.")
    return found


def active_download(store: Store) -> Job | None:
    """The download that waits or runs; one at a time. One that is being cancelled makes way for the next."""
    found = [job for job in job_rows.active(store) if job.kind == DOWNLOAD_JOB]
    return min(found, key=lambda job: job.cancel_requested, default=None)


def start_download(store: Store, name: str) -> Job:
    """Queue the download of a published model; the one that runs already is returned.

    Raises `InputError` for an unknown name, `LicenceError`, `ConflictError` while another model is downloaded.
    """
    model = catalogue.model(name)
    if model.terms and not access.accepted(name):
        raise LicenceError(f"Accept the licence of {model.title} before you download it. {model.licence}")
    job = jobs.enqueue(store, DOWNLOAD_JOB, None, {"name": name})
    if job.params.get("name") != name:
        raise ConflictError(f"{job.params.get('name')} is being downloaded. Wait for it to end, or cancel it first.")
    return job


def cancel_download(store: Store, name: str) -> None:
    """Cancel the download of `name`, if it waits or runs; what it fetched so far is deleted."""
    job = active_download(store)
    if job is not None and job.params.get("name") == name:
        jobs.cancel(store, job.id)


def start_try(store: Store, project_id: int, name: str, draw: int = 0) -> Job:
    """Queue a test of a model that is ready on one random patch of the project; see `run_try` for its result."""
    found = entry(store, name)
    if found.state is not ModelState.READY:
        raise InputError(f"{name} cannot be tested: {found.detail} {found.remedy}".strip())
    return jobs.enqueue(store, TRY_JOB, project_id, {"name": name, "draw": draw})


def last_try(store: Store, project_id: int, name: str) -> Job | None:
    """The newest test of a model on this project; its state, `error` and `result` tell how it went."""
    mine = (job for job in jobs.history(store, project_id) if job.kind == TRY_JOB)
    return next((job for job in mine if job.params.get("name") == name), None)


def take_file(
    path: Path, name: str | None = None, modality: Modality | None = None, report: Report = silent
) -> tuple[str, str]:
    """Take a file that the user brings: a published one goes to its place, any other is imported as their own.

    Returns the name of the model and a sentence. Raises `InputError` for what is neither, `DiskFullError`,
    `StorageError`, `NotInstalledError`.
    """
    path = path.expanduser()
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    if adopt.is_cellsam(path) or adopt.recognised(path, report) is not None:
        model, _ = adopt.adopt(path, report)
        return model.name, f"{path.name} belongs to {model.title} ({model.name}); it is in its place now."
    made = own.import_file(path, name, modality, report)
    kinds = "clicks and automatic labels" if made.decoder else "clicks"
    return (
        made.name,
        f"{path.name} is a model of type {made.architecture}; it is here now as {made.name!r}, for {kinds}.",
    )


def remove(name: str) -> str:
    """Take the weights of a model away until the app starts anew; `undo` brings them back. Returns a sentence."""
    landing.remove(name, landing.places_of(_model(name)))
    return f"{name} was removed. Until the app is started anew this can be undone."


def undo_removal(name: str) -> str:
    """Bring back what `remove` took away. Raises `InputError` when that is not possible any more."""
    if name not in MODELS and name not in {model.name for model in own.listed(own.folder() / landing.REMOVED)}:
        raise InputError(f"{name} cannot be brought back: it was deleted.")
    landing.undo(name, landing.places_of(MODELS[name]) if name in MODELS else (own.folder() / name,))
    return f"{name} is back."


def accept_licence(name: str) -> None:
    """Remember that the user accepted the licence of a published model."""
    access.accept(catalogue.model(name).name)


def withdraw_licence(name: str) -> None:
    """Forget it again; the model cannot be used then."""
    access.withdraw(catalogue.model(name).name)


def start_of_app() -> None:
    """What is done once when the app starts: removals become final, leftovers of killed downloads go."""
    landing.tidy()


def _model(name: str) -> Model | OwnModel:
    return MODELS[name] if name in MODELS else own.checkpoint(name)


def _published(model: Model, download: Job | None, problem: str) -> Entry:
    status = states.status(model)
    state = ModelState(status.state.value)
    is_running = download is not None and download.params.get("name") == model.name
    places = landing.places_of(model)
    actions = _actions(model, state, is_running, download is not None)
    if landing.can_undo(places) and not is_running:
        actions = (*actions, Action.UNDO)
    speed = speeds.measured(model.name)
    shown = Entry(
        name=model.name, backend=model.backend, title=model.title, suits=model.suits, licence=model.licence,
        size=model.size, modalities=model.modalities, state=state, detail=status.detail, remedy=status.remedy,
        clicks=model.clicks, automatic=model.automatic, actions=actions, terms=model.terms,
        accepted=not model.terms or access.accepted(model.name), speed=speed.text() if speed else "",
        problem="" if state is ModelState.READY else problem,
    )  # fmt: skip
    if not is_running or download is None:
        return shown
    return _downloading(shown, download)


def _downloading(shown: Entry, job: Job) -> Entry:
    message = job.message or "Starting."
    return replace(
        shown, state=ModelState.DOWNLOADING, detail=message, remedy="", progress=job.fraction, message=message,
        eta=jobs.eta_seconds(job), problem="",
    )  # fmt: skip


def _actions(model: Model, state: ModelState, is_running: bool, is_busy: bool) -> tuple[Action, ...]:
    if is_running:
        return (Action.CANCEL,)
    if state is ModelState.READY:
        return (Action.TRY, Action.REMOVE)
    if state is ModelState.LICENCE:
        return (Action.ACCEPT,)
    if state not in (ModelState.WEIGHTS_MISSING, ModelState.BROKEN):
        return (Action.REMOVE,) if model.present else ()
    fetch = () if is_busy else (Action.DOWNLOAD,)
    if model.backend == CELLSAM and not access.has_token():
        fetch = (Action.TOKEN,)
    some = any(place.exists() for place in landing.places_of(model))
    return (*fetch, Action.REMOVE) if some else fetch


def _problems(store: Store) -> dict[str, str]:
    """What the newest download of each model failed with, if it did."""
    found: dict[str, str] = {}
    for job in jobs.history(store, None):
        if job.kind == DOWNLOAD_JOB and not job.active:
            failed = job.state is JobState.FAILED and job.error
            found.setdefault(str(job.params.get("name")), job.error or "" if failed else "")
    return found


def _own(model: OwnModel) -> Entry:
    status = _own_status(model)
    speed = speeds.measured(model.name)
    tries = (Action.TRY,) if status.ready else ()
    return Entry(
        name=model.name, backend=MICRO_SAM, title=model.name, licence=OWN_LICENCE, size=model.size,
        suits=f"For {_WORDS[model.modality]}; {model.architecture}, from {model.source}.",
        modalities=frozenset(Modality) if model.modality is None else frozenset({model.modality}),
        state=ModelState(status.state.value), detail=status.detail, remedy=status.remedy, clicks=True,
        automatic=model.decoder is not None, actions=(*tries, Action.REMOVE), own=True,
        speed=speed.text() if speed else "",
    )  # fmt: skip


def _removed_own() -> list[Entry]:
    """The user's own models whose removal can still be undone."""
    gone = own.listed(own.folder() / landing.REMOVED)
    undoable = [model for model in gone if landing.can_undo((own.folder() / model.name,))]
    missing = {
        "state": ModelState.WEIGHTS_MISSING,
        "detail": "You removed it.",
        "remedy": "",
        "actions": (Action.UNDO,),
    }
    return [replace(_own(model), **missing) for model in undoable]


def _own_status(model: OwnModel) -> Status:
    missing = choice.missing_packages(model.architecture)
    if missing:
        detail = f"The package {missing[0]} is not installed."
        return Status(BackendState.NOT_INSTALLED, detail, states.HOW_TO_INSTALL[missing[0]])
    if not model.weights.is_file():
        return Status(BackendState.BROKEN, "Its file is gone.", "Remove it and import it again.")
    return Status(BackendState.READY, "Imported or trained by you.")
