"""The rows of the sheet "Models on this computer", as JSON: each model's state, what it suits, and what can be done."""

from __future__ import annotations

import os
from typing import Any

from alapp.domain import Modality
from alapp.jobs import Job, JobState
from alapp.rounds.pseudolabel import foundation
from alapp.rounds.pseudolabel.foundation import Action, Entry
from alapp.stages.foundation import access
from alapp.stages.foundation.catalogue import CELLSAM, MICRO_SAM, MODELS, SAM2
from alapp.stages.foundation.states import ModelState, size_text
from alapp.storage import catalogue, labels
from alapp.storage.db import Store
from alapp.ui.header import time_left
from alapp.wording import counted

Row = dict[str, Any]

OWN = "own"
TITLES = {
    MICRO_SAM: "micro_sam and Segment Anything",
    CELLSAM: "CellSAM",
    SAM2: "SAM 2",
    OWN: "Your own models, and files from another computer",
}
ABOUT = {
    MICRO_SAM: "Answer your clicks. Those for microscopy also label whole images by themselves.",
    CELLSAM: "Labels whole images by itself.",
    SAM2: "Answers your clicks.",
    OWN: (
        "Bring published weights that you downloaded elsewhere (they are recognised), or a model of your own: a "
        "checkpoint of Segment Anything (vit_t, vit_b, vit_l, vit_h), or one that micro_sam trained."
    ),
}
TRAINED = {Modality.LIGHT: ("_lm",), Modality.EM: ("_em_organelles",), None: ("_lm", "_em_organelles")}
"""Endings of the names of what is shown first."""
FETCHED = (ModelState.WEIGHTS_MISSING, ModelState.BROKEN)
"""States out of which a download leads."""
UNTOUCHED = (ModelState.WEIGHTS_MISSING, ModelState.NOT_INSTALLED)


def groups(store: Store, project_id: int | None) -> list[Row]:
    """One group a backend with its models, then the user's own; those fit for the project, or here, come first."""
    modality = catalogue.project(store, project_id).modality if project_id is not None else None
    found = foundation.entries(store, modality)
    made = []
    for group, title in TITLES.items():
        mine = [entry for entry in found if (OWN if entry.own else entry.backend) == group]
        rows = [_row(store, entry, modality, project_id) for entry in mine]
        about = {"id": group, "title": title, "about": ABOUT[group], "models": rows}
        made.append(about | (_access() if group == CELLSAM else {}))
    return made


def result_text(result: Row, patch_name: str) -> str:
    """How a test on one patch went, such as "14 objects in 0.9 s, in image_1 y0 x128"."""
    objects, time = result["objects"], _seconds(result["seconds"])
    if result["click"] is None:
        return f"{counted(objects, 'object')} in {time}, in {patch_name}."
    what = "its outline is drawn" if objects else "it found no object there"
    return f"A click in the middle of {patch_name} was answered in {time}: {what}."


def _seconds(value: float) -> str:
    if value >= 90:
        return f"{value / 60:.0f} min"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _row(store: Store, entry: Entry, modality: Modality | None, project_id: int | None) -> Row:
    tried = foundation.last_try(store, project_id, entry.name) if project_id is not None else None
    row = {
        "name": entry.name,
        "title": entry.title,
        "code": "" if entry.own else entry.name,
        "suits": entry.suits,
        "licence": "" if entry.terms or entry.own else f"Licence: {entry.licence}",
        "size": size_text(entry.size),
        "state": entry.state.value,
        "why": _why(entry),
        "speed": f"Speed on this computer: {entry.speed}." if entry.speed else "",
        "first": _first(entry, modality),
        "progress": _progress(store, entry),
        "failed": entry.problem,
        "result": None,
        "acts": _buttons(entry, project_id, tried),
    }
    return row | (_tried(store, entry, tried) if tried is not None else {})


def _why(entry: Entry) -> str:
    if entry.state in (ModelState.READY, ModelState.DOWNLOADING):
        return ""
    if Action.TOKEN in entry.actions:
        return f"{entry.detail} Its download needs the access token of DeepCell: store yours above."
    busy = entry.state in FETCHED and Action.DOWNLOAD not in entry.actions and Action.UNDO not in entry.actions
    waits = "Models are downloaded one at a time: wait for the one that is on its way." if busy else ""
    return f"{entry.detail} {waits or entry.remedy}".strip()


def _first(entry: Entry, modality: Modality | None) -> bool:
    here = entry.state not in UNTOUCHED or Action.UNDO in entry.actions or entry.problem != ""
    return here or entry.own or entry.backend == CELLSAM or entry.name.endswith((*TRAINED[modality], "_tiny"))


def _progress(store: Store, entry: Entry) -> Row | None:
    job = foundation.active_download(store)
    if entry.progress is None or job is None:
        return None
    words = [entry.message] if job.state is JobState.QUEUED else [entry.message, time_left(job)]
    return {"share": entry.progress, "text": " · ".join(word for word in words if word)}


def _buttons(entry: Entry, project_id: int | None, tried: Job | None) -> list[list[str]]:
    """[name, text] of each."""
    again = tried is not None and tried.state is JobState.DONE
    texts = {
        Action.DOWNLOAD: f"Download ({size_text(entry.size)})",
        Action.CANCEL: "Cancel",
        Action.TRY: "Test on another patch" if again else "Test on one patch",
        Action.REMOVE: "Remove",
        Action.UNDO: "Undo: bring it back",
    }
    wanted = [action for action in entry.actions if action in texts]
    if project_id is None or (tried is not None and tried.active):
        wanted = [action for action in wanted if action is not Action.TRY]
    return [[action.value, texts[action]] for action in wanted]


def _tried(store: Store, entry: Entry, job: Job) -> Row:
    """What the newest test of a model on the project adds to its row; nothing for one that cannot be used now."""
    if entry.state is not ModelState.READY:
        return {}
    if job.active:
        text = job.message if job.state is JobState.RUNNING else "The test waits for the work before it."
        stop = ["cancel_try", "Cancel the test"]
        return {"progress": {"share": job.fraction, "text": text or "Starting"}, "acts": [stop]}
    if job.state is JobState.FAILED:
        return {"failed": f"The test failed. {job.error}"}
    if job.state is not JobState.DONE or not job.result or not labels.of_ids(store, [job.result["label_map"]]):
        return {}  # cancelled, or the images were cut anew
    patch = catalogue.patch(store, job.result["patch"])
    return {"result": {"picture": job.result["label_map"], "text": result_text(job.result, patch.name)}}


def _access() -> Row:
    model = next(model for model in MODELS.values() if model.terms)
    by_environment = os.environ.get(access.LICENCE_VARIABLE, "").strip().lower() == "accepted"
    return {
        "terms": {
            "model": model.name,
            "text": f"Licence: {model.licence}",
            "accepted": access.accepted(model.name),
            "fixed": by_environment,
        },
        "token": token_words(),
    }


def token_words() -> Row:
    """What a page may tell of the token: whether there is one, and where it comes from; nothing of the token itself."""
    if os.environ.get(access.TOKEN_VARIABLE, "").strip():
        text = f"The access token is taken from the environment ({access.TOKEN_VARIABLE})."
        return {"text": text, "stored": False}
    if access.has_token():
        return {"text": "An access token is stored, for you only. It is not shown again.", "stored": True}
    text = "The download needs an access token. You get one, free of charge, at https://users.deepcell.org."
    return {"text": text, "stored": False}
