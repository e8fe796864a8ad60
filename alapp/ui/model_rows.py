"""The rows of the sheet "Models on this computer", as JSON: each model's state, what it suits, and what can be done."""

from __future__ import annotations

import os
from typing import Any

from alapp.domain import BackendState, Modality
from alapp.stages.foundation import access, states
from alapp.stages.foundation.catalogue import CELLSAM, MICRO_SAM, MODELS, SAM2, Model
from alapp.storage.db import Store

TITLES = {MICRO_SAM: "micro_sam and Segment Anything", SAM2: "SAM 2", CELLSAM: "CellSAM"}
ABOUT = {
    MICRO_SAM: "Answer your clicks. Those for microscopy also label whole images by themselves.",
    SAM2: "Answers your clicks.",
    CELLSAM: "Labels whole images by itself.",
}
TRAINED = {Modality.LIGHT: ("_lm",), Modality.EM: ("_em_organelles",), None: ("_lm", "_em_organelles")}
"""Endings of the names of what is shown first."""

Row = dict[str, Any]


def groups(store: Store, modality: Modality | None) -> list[Row]:
    """One group a backend, with its models; those fit for `modality`, or here already, come first."""
    made = []
    for backend, title in TITLES.items():
        rows = [_published(model, modality) for model in MODELS.values() if model.backend == backend]
        group = {"id": backend, "title": title, "about": ABOUT[backend], "models": rows}
        made.append(group | (_access() if backend == CELLSAM else {}))
    return made


def _published(model: Model, modality: Modality | None) -> Row:
    status = states.status(model)
    here = status.ready or status.state is BackendState.BROKEN or model.paths[0].is_file()
    fits = model.name.endswith(TRAINED[modality]) or model.backend == CELLSAM or model.architecture == "tiny"
    return {
        "name": model.name,
        "title": model.title,
        "code": model.name,
        "suits": model.suits,
        "licence": "" if model.terms else f"Licence: {model.licence}",
        "size": states.size_text(model.size),
        "state": status.state.value,
        "why": "" if status.ready else f"{status.detail} {status.remedy}".strip(),
        "first": here or fits,
        "acts": [],
    }


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
