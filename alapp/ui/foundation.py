"""What the sheet "Models on this computer" shows and does; `model_panel` draws it.

Its server functions take one JSON object and return one. What comes from the browser is checked here; an error goes
back as {"error": sentence}. The token of DeepCell comes in and never goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alapp.domain import Modality
from alapp.errors import InputError
from alapp.stages.foundation import access, catalogue
from alapp.storage import catalogue as projects
from alapp.storage.db import Store
from alapp.ui import model_panel, model_rows, spaces
from alapp.ui.errors import sentence, told
from alapp.ui.page import Page

Message = dict[str, Any]

ABOUT = (
    "Nothing is downloaded until you press a button. What is here serves all your projects; your images stay on this "
    "computer."
)
CLOSED = (
    "On this public demo models cannot be downloaded, imported or removed, because all visitors share one computer. "
    "Install the app on yours to use them."
)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    """Put the sheet on the page, closed, in the context that is open: once, outside of the tabs."""
    sheet = model_panel.sheet([_answering(page.store, act) for act in (_look, _act)])
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
    closed = CLOSED if spaces.on_space() else ""
    return {"about": closed or ABOUT, "closed": closed, "groups": model_rows.groups(store, _modality(store, message))}


def _act(store: Store, message: Message) -> Message:
    if spaces.on_space():
        raise InputError(CLOSED)
    name = message.get("act")
    if not isinstance(name, str) or name not in _ACTS:
        raise InputError("The page asked for something unknown. Reload it.")
    return {"said": _ACTS[name](store, message)}


def _accept(_: Store, message: Message) -> str:
    model = _published(message)
    access.accept(model.name)
    return f"You accepted the licence of {model.title} on this computer."


def _withdraw(_: Store, message: Message) -> str:
    model = _published(message)
    access.withdraw(model.name)
    return f"{model.title} is not used any more until you accept its licence again."


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


_ACTS: dict[str, Callable[[Store, Message], str]] = {"accept": _accept, "withdraw": _withdraw, "token": _token}


def _published(message: Message) -> catalogue.Model:
    return catalogue.model(str(message.get("model")))


def _modality(store: Store, message: Message) -> Modality | None:
    """Of the open project; None without one."""
    project_id = message.get("project")
    return projects.project(store, project_id).modality if isinstance(project_id, int) else None
