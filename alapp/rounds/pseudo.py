"""Pseudo-labels: choose a method, look at it on ten patches, run it on every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alapp.domain import ImageRole, LabelKind, Modality, Parameter, Report, Status
from alapp.errors import InputError, NotReadyError
from alapp.rounds.timing import content_hash, timed
from alapp.stages.pseudolabel.base import PSEUDO_LABELLERS, choose_automatically
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap

NONE = "none"
AUTO = "auto"
PREVIEW_PATCHES = 10


@dataclass(frozen=True)
class Method:
    """A method as the page shows it."""

    name: str
    title: str
    suits: str
    fits_modality: bool
    status: Status
    parameters: tuple[Parameter, ...]


def methods(modality: Modality) -> list[Method]:
    """Every registered method with its true status on this machine."""
    found = []
    for name in PSEUDO_LABELLERS:
        backend = PSEUDO_LABELLERS.load(name)
        fits = modality in backend.modalities
        found.append(Method(name, backend.title, backend.suits, fits, backend.status(modality), backend.parameters))
    return found


def resolve(method: str, modality: Modality) -> tuple[str, str]:
    """The method behind `method` ("auto" or a name), and why. Raises `InputError` for an unknown name."""
    if method == AUTO:
        return choose_automatically(modality)
    PSEUDO_LABELLERS.load(method)
    return method, "You chose it."


def decide(store: Store, project_id: int, method: str, params: Mapping[str, float] | None = None) -> None:
    """Keep the user's choice: a method's name, "auto", or "none" to do without pseudo-labels."""
    if method not in (NONE, AUTO):
        checked(method, params or {})
    catalogue.update_project(store, project_id, pseudo_method=method, pseudo_params=dict(params or {}))


def checked(method: str, params: Mapping[str, float]) -> dict[str, float]:
    """`params` as numbers. Raises `InputError` for an unknown name or a value outside its range."""
    known = {parameter.name: parameter for parameter in PSEUDO_LABELLERS.load(method).parameters}
    for name, value in params.items():
        if name not in known:
            raise InputError(f"The method {method} has no parameter called {name!r}.")
        low, high = known[name].minimum, known[name].maximum
        if not low <= float(value) <= high:
            raise InputError(f"{known[name].title} must be between {low:g} and {high:g}; it is {value:g}.")
    return {name: float(value) for name, value in params.items()}


def preview_patches(store: Store, project_id: int, draw: int = 0) -> list[Patch]:
    """Ten random patches, the same for the same `draw`. Raises `NotReadyError` without images."""
    patches = catalogue.patches(store, project_id)
    if not patches:
        raise NotReadyError("Import images first: there is nothing to label yet.")
    rng = np.random.default_rng([catalogue.project(store, project_id).seed, 10, draw])
    rows = rng.permutation(len(patches))[:PREVIEW_PATCHES]
    return [patches[row] for row in sorted(rows)]


def run_preview(
    store: Store, project_id: int, report: Report, method: str, params: Mapping[str, float], draw: int = 0
) -> dict[str, Any]:
    """Label the ten patches of `draw`. Returns {"method", "reason", "patches": [ids], "label_maps": [ids]}."""
    project = catalogue.project(store, project_id)
    name, reason = resolve(method, project.modality)
    values = checked(name, params if method != AUTO else {})
    backend = PSEUDO_LABELLERS.create(name, modality=project.modality)
    patches = preview_patches(store, project_id, draw)
    maps = []
    for index, patch in enumerate(patches):
        report(index, len(patches), f"Labelling {patch.name}")
        made = backend.label(catalogue.read_patch(store, patch), values)
        maps.append(
            labels.add(
                store,
                LabelKind.PSEUDO,
                made,
                project_id=project_id,
                image_id=patch.image_id,
                patch_id=patch.id,
                backend=name,
                params=values,
                input_hash=content_hash("preview", name, values, patch.id),
            )
        )
    report(len(patches), len(patches), "Preview ready")
    return {
        "method": name,
        "reason": reason,
        "params": values,
        "patches": [p.id for p in patches],
        "label_maps": [m.id for m in maps],
    }


def run_all(store: Store, project_id: int, report: Report) -> dict[str, Any]:
    """Label every image to train on, by the decided method; images already labelled that way are skipped."""
    project = catalogue.project(store, project_id)
    if project.pseudo_method is None:
        raise NotReadyError("Choose how to make pseudo-labels first, on the Pseudo-labels tab.")
    if project.pseudo_method == NONE:
        return {"made": 0, "objects": 0}
    name, reason = resolve(project.pseudo_method, project.modality)
    values = checked(name, project.pseudo_params)
    backend = PSEUDO_LABELLERS.create(name, modality=project.modality)
    images = catalogue.images(store, project_id, ImageRole.TRAIN)
    made, objects = 0, 0
    with timed(store, project_id, "pseudo_label", 0):
        for index, image in enumerate(images):
            report(index, len(images), f"Pseudo-labels of {image.name}")
            key = content_hash("pseudo", name, values, image.sha256)
            known = labels.latest_of_image(store, image.id, LabelKind.PSEUDO)
            if known is None or known.input_hash != key:
                pixels = np.asarray(catalogue.read_image(store, image))
                known = labels.add(
                    store,
                    LabelKind.PSEUDO,
                    backend.label(pixels, values),
                    project_id=project_id,
                    image_id=image.id,
                    backend=name,
                    params={**values, "reason": reason},
                    input_hash=key,
                )
                made += 1
            objects += known.n_objects
    report(len(images), len(images), f"{objects} objects in {len(images)} images")
    return {"made": made, "objects": objects, "method": name, "reason": reason}


def pseudo_maps(store: Store, project_id: int) -> dict[int, LabelMap]:
    """The pseudo-labels that training uses, by image id; none when they are switched off."""
    if catalogue.project(store, project_id).pseudo_method in (None, NONE):
        return {}
    return labels.latest_by_image(store, project_id, LabelKind.PSEUDO)
