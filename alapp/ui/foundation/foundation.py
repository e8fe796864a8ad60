"""What the sheet "Models on this computer" shows and does; `model_panel` draws it.

Its server functions take one JSON object and return one. What comes from the browser is checked here; an error goes
back as {"error": sentence}. The token of DeepCell comes in and never goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from alapp import jobs
from alapp.errors import ConflictError, InputError, NotReadyError
from alapp.rounds.pseudolabel import foundation
from alapp.stages.foundation import access
from alapp.stages.foundation.catalogue import MODELS
from alapp.storage import catalogue, labels
from alapp.storage.db import Store
from alapp.ui import spaces
from alapp.ui.errors import sentence, told
from alapp.ui.foundation import model_panel, model_rows
from alapp.ui.page import Page
from alapp.ui.parts import gallery
from alapp.ui.project import sheets
from alapp.ui.quiet import QUIET

Message = dict[str, Any]

PICTURE = 440
"""Pixels a side of the picture of a test."""
ABOUT = (
    "Nothing is downloaded until you press a button. What is here serves all your projects; your images stay on this "
    "computer."
)
CLOSED = (
    "On this public demo models cannot be downloaded, imported or removed, because all visitors share one computer. "
    "Install the app on yours to use them."
)


def build(page: Page) -> None:
    """Put the sheet on the page, closed, in the context that is open: once, outside of the tabs."""
    sheet = model_panel.sheet([_answering(page.store, act) for act in (_look, _act, _picture)])
    page.project_id.change(lambda project_id: {"project": project_id}, page.project_id, sheet, **QUIET)
    sheet.changed(told(lambda changed: changed + 1), page.changed, page.changed, **QUIET)


def _answering(store: Store, act: Callable[[Store, Message], Message]) -> Callable[[Message], Message]:
    def answer(message: Message) -> Message:
        try:
            if not isinstance(message, dict):
                raise InputError("The page sent something unreadable. Reload it.")
            return act(store, message)
        except Exception as error:
            return {"error": access.without_token(sentence(error))}

    answer.__name__ = answer.__qualname__ = act.__name__.lstrip("_")
    return answer


def _look(store: Store, message: Message) -> Message:
    groups = model_rows.groups(store, _project(store, message))
    if not spaces.on_space():
        return {"about": ABOUT, "closed": "", "groups": groups}
    # Whether the demo itself has a token is nothing that visitors need to know.
    without = [{**group, "token": {"text": "", "stored": False}} if "token" in group else group for group in groups]
    return {"about": CLOSED, "closed": CLOSED, "groups": without}


def _picture(store: Store, message: Message) -> Message:
    """What came out of a test, drawn on its patch; a test belongs to the page's project."""
    found = labels.of_ids(store, [message["map"]] if isinstance(message.get("map"), int) else [])
    if not found or found[0].patch_id is None or found[0].project_id != _project(store, message):
        raise InputError("The picture of this test is gone. Test the model again.")
    item, patch = found[0], catalogue.patch(store, found[0].patch_id)
    drawn = gallery.patch_picture(store, patch, item)
    return {"picture": sheets.data_uri(gallery.framed(drawn, PICTURE))}


def _act(store: Store, message: Message) -> Message:
    if spaces.on_space():
        raise InputError(CLOSED)
    name = message.get("act")
    if not isinstance(name, str) or name not in _ACTS:
        raise InputError("The page asked for something unknown. Reload it.")
    return {"said": _ACTS[name](store, message)}


def _download(store: Store, message: Message) -> str:
    foundation.start_download(store, _name(message))
    return ""


def _cancel(store: Store, message: Message) -> str:
    foundation.cancel_download(store, _name(message))
    return "The download is being cancelled; nothing of it is kept."


def _remove(_: Store, message: Message) -> str:
    return foundation.remove(_name(message))


def _undo(_: Store, message: Message) -> str:
    return foundation.undo_removal(_name(message))


def _try(store: Store, message: Message) -> str:
    name, project_id = _name(message), _project(store, message)
    if project_id is None:
        raise NotReadyError("Open a project first: a model is tested on one of its patches.")
    if not catalogue.any_patch(store, project_id):
        raise NotReadyError("Import images first: a model is tested on one of their patches.")
    last = foundation.last_try(store, project_id, name)
    draw = int(last.params.get("draw", 0)) + 1 if last is not None and last.result else 0
    job = foundation.start_try(store, project_id, name, draw)
    if job.params.get("name") != name:
        raise ConflictError(f"{job.params.get('name')} is being tested. Wait for that test to end.")
    return ""


def _cancel_try(store: Store, message: Message) -> str:
    project_id = _project(store, message)
    last = foundation.last_try(store, project_id, _name(message)) if project_id is not None else None
    if last is not None and last.active:
        jobs.cancel(store, last.id)
    return "The test is being cancelled."


def _bring(store: Store, message: Message) -> str:
    path = message.get("path")
    if not isinstance(path, str) or not path.strip():
        raise InputError("Type the path of a file first, or choose one.")
    project_id = _project(store, message)
    modality = catalogue.project(store, project_id).modality if project_id is not None else None
    given = Path(path.strip().strip('"'))
    try:
        return foundation.take_file(given, modality=modality)[1]
    finally:
        if message.get("uploaded") is True:
            _forget_upload(given)


def _accept(_: Store, message: Message) -> str:
    foundation.accept_licence(_name(message))
    return f"You accepted the licence of {MODELS[_name(message)].title} on this computer."


def _withdraw(_: Store, message: Message) -> str:
    foundation.withdraw_licence(_name(message))
    return f"{MODELS[_name(message)].title} is not used any more until you accept its licence again."


def _token(_: Store, message: Message) -> str:
    text = message.get("token")
    if not isinstance(text, str):
        raise InputError("The page sent something unreadable. Reload it.")
    if text == "":
        access.store_token("")
        return "The token was removed from this computer."
    if not text.strip():
        raise InputError("The token is empty. Copy it from https://users.deepcell.org.")
    access.store_token(text)
    return "The token is stored, for you only."


_ACTS: dict[str, Callable[[Store, Message], str]] = {
    "download": _download,
    "cancel": _cancel,
    "remove": _remove,
    "undo": _undo,
    "try": _try,
    "cancel_try": _cancel_try,
    "bring": _bring,
    "accept": _accept,
    "withdraw": _withdraw,
    "token": _token,
}


def _name(message: Message) -> str:
    name = message.get("model")
    if not isinstance(name, str):
        raise InputError("The page sent something unreadable. Reload it.")
    return name


def _project(store: Store, message: Message) -> int | None:
    """The page's project; None without one, and when it was deleted elsewhere."""
    project_id = message.get("project")
    if not isinstance(project_id, int) or isinstance(project_id, bool):
        return None
    try:
        return None if catalogue.project(store, project_id).deleted else project_id
    except NotReadyError:
        return None


def _forget_upload(path: Path) -> None:
    """An upload was copied to its place; gigabytes of it would else lie in the temporary folder for a day."""
    uploads = Path(get_upload_folder()).resolve()
    if uploads in path.resolve().parents:
        with suppress(OSError):
            path.unlink()
