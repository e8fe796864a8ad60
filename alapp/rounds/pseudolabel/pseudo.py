"""Pseudo-labels: choose a method, look at it on ten patches, run it on every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from alapp.domain import Box, ImageRole, LabelKind, Modality, Parameter, Report, Status
from alapp.errors import InputError, NotReadyError
from alapp.rounds.pseudolabel import provenance
from alapp.rounds.pseudolabel.parts import Parts
from alapp.rounds.pseudolabel.provenance import Params, Recipe
from alapp.rounds.pseudolabel.stored_maps import StoredMaps
from alapp.rounds.timing import content_hash, timed
from alapp.stages.pseudolabel.base import MODEL, PSEUDO_LABELLERS, HasModels, Resumable, choose_automatically
from alapp.stages.select import measures
from alapp.storage import catalogue, labels
from alapp.storage.catalogue import Image, Patch
from alapp.storage.db import Store
from alapp.storage.labels import LabelMap
from alapp.wording import counted

NONE = "none"
AUTO = "auto"
PREVIEW_PATCHES = 10
_LOOKED_AT = 4 * PREVIEW_PATCHES
WHOLE_VOXELS = 1_500_000
"""An image of no more is labelled whole for the preview of a patch."""
CHOSEN = "You chose it."

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """A method as the page shows it."""

    name: str
    title: str
    suits: str
    fits_modality: bool
    status: Status
    parameters: tuple[Parameter, ...]
    models: tuple[str, ...] = ()
    """Weights on this computer to choose from; none where a method has no choice."""


def methods(modality: Modality) -> list[Method]:
    """Every registered method with its true status on this machine."""
    found = []
    for name in PSEUDO_LABELLERS:
        backend = PSEUDO_LABELLERS.load(name)
        fits = modality in backend.modalities
        weights = tuple(backend.models(modality)) if isinstance(backend, HasModels) else ()
        status = backend.status(modality)
        found.append(Method(name, backend.title, backend.suits, fits, status, backend.parameters, weights))
    return found


def resolve(method: str, modality: Modality) -> tuple[str, str]:
    """The method behind `method` ("auto" or a name), and why. Raises `InputError` for an unknown name."""
    if method == AUTO:
        return choose_automatically(modality)
    PSEUDO_LABELLERS.load(method)
    return method, CHOSEN


def decide(store: Store, project_id: int, method: str, params: Mapping[str, float | str] | None = None) -> None:
    """Keep the user's choice: a method's name, "auto", or "none" to do without pseudo-labels."""
    kept = {} if method in (NONE, AUTO) else checked(method, params or {})
    catalogue.update_project(store, project_id, pseudo_method=method, pseudo_params=kept)


def checked(method: str, params: Mapping[str, float | str]) -> Params:
    """`params` as numbers, and the name of a model where one is chosen. Raises `InputError` for an unknown name, a
    value outside its range, or a model that is not on this computer."""
    backend = PSEUDO_LABELLERS.load(method)
    known = {parameter.name: parameter for parameter in backend.parameters}
    values: Params = {}
    for name, value in params.items():
        if name == MODEL and isinstance(backend, HasModels):
            here = backend.models()
            if value and value not in here:
                there = f"Choose one of: {', '.join(here)}." if here else "There is none for this method."
                raise InputError(f"The model {value!r} is not on this computer. {there}")
            values |= {MODEL: value} if value else {}
            continue
        if name not in known:
            raise InputError(f"The method {method} has no parameter called {name!r}.")
        low, high = known[name].minimum, known[name].maximum
        if not low <= float(value) <= high:
            raise InputError(f"{known[name].title} must be between {low:g} and {high:g}; it is {value:g}.")
        values[name] = float(value)
    return values


def patches_to_label(store: Store, project_id: int) -> list[Patch]:
    """The patches of a project. Raises `NotReadyError` without images."""
    patches = catalogue.patches(store, project_id)
    if not patches:
        raise NotReadyError("Import images first: there is nothing to label yet.")
    return patches


def preview_patches(store: Store, project_id: int, draw: int = 0) -> list[Patch]:
    """Ten patches, the same for the same `draw`: of forty random ones the five with the most contrast, where objects
    are, and the first five of the others. Raises `NotReadyError` without images."""
    patches = patches_to_label(store, project_id)
    rng = np.random.default_rng([catalogue.project(store, project_id).seed, 10, draw])
    rows = rng.permutation(len(patches))[:_LOOKED_AT]
    contrast = [measures.contrast(catalogue.read_patch(store, patches[row])) for row in rows]
    full = rows[np.argsort(contrast, kind="stable")[::-1][: PREVIEW_PATCHES // 2]]
    others = rows[~np.isin(rows, full)][: PREVIEW_PATCHES - len(full)]
    return [patches[row] for row in sorted([*full, *others])]


def run_preview(
    store: Store, project_id: int, report: Report, method: str, params: Mapping[str, float | str], draw: int = 0
) -> dict[str, Any]:
    """Label the ten patches of `draw`. Returns {"method", "reason", "params", "provenance", "patches": [ids],
    "label_maps": [ids]}."""
    project = catalogue.project(store, project_id)
    patches = preview_patches(store, project_id, draw)

    def work(this: Recipe) -> list[np.ndarray]:
        return list(
            _in_their_images(store, patches, lambda pixels, told: this.backend.label(pixels, this.params, told), report)
        )

    recipe, made = _with_one_method(project.modality, method, params, work)
    maps = [
        labels.add(
            store,
            LabelKind.PSEUDO,
            pixels,
            project_id=project_id,
            image_id=patch.image_id,
            patch_id=patch.id,
            backend=recipe.method,
            params=recipe.record(),
            input_hash=content_hash("preview", recipe.key, patch.id),
        )
        for patch, pixels in zip(patches, made, strict=True)
    ]
    report(len(patches), len(patches), "Preview ready")
    return {
        "method": recipe.method,
        "reason": recipe.reason,
        "params": recipe.params,
        "provenance": recipe.record(),
        "patches": [p.id for p in patches],
        "label_maps": [m.id for m in maps],
    }


def _in_their_images(
    store: Store, patches: Sequence[Patch], label: Callable[[np.ndarray, Report], np.ndarray], report: Report
) -> Iterator[np.ndarray]:
    """The labels of patches as parts of the labels of their images. A method adapts to what it sees: alone, a patch
    without objects would show noise as objects. Of large images the surroundings of each patch are seen."""
    whole: tuple[int, np.ndarray] | None = None
    for index, patch in enumerate(patches):
        told = _named(report, index, len(patches), f"Labelling {patch.name}")
        stack = store.files.read_array(patch.image_path)
        seen = Box(0, 0, 0, *stack.shape[:3])
        if seen.depth * seen.height * seen.width > WHOLE_VOXELS:
            seen, whole = patch.box.widened(stack.shape), None
        if whole is None or whole[0] != patch.image_id:
            pixels = np.array(stack[seen.slices])
            whole = patch.image_id, label(pixels if patch.is_3d else pixels[0], told)
        inside = patch.box.within(seen)
        yield np.array(whole[1][inside if patch.is_3d else inside[1:]])


def run_all(store: Store, project_id: int, report: Report, retry: bool = True) -> dict[str, Any]:
    """Label every image to train on, by the decided method; images already labelled that way are skipped.

    `retry`: a method that `auto` gave up because it failed is tried again, on the images that it has not labelled, for
    the cause may be gone. Without, the one that was used instead goes on, until a person asks for labels anew.
    """
    project = catalogue.project(store, project_id)
    if project.pseudo_method is None:
        raise NotReadyError("Choose how to make pseudo-labels first, on the Pseudo-labels tab.")
    if project.pseudo_method == NONE:
        return {"made": 0, "objects": 0}
    images = catalogue.images(store, project_id, ImageRole.TRAIN)
    parts = Parts(store, project_id, content_hash(project.pseudo_method, project.pseudo_params))
    given_up = {} if retry else _given_up(store, project_id)

    def work(this: Recipe) -> tuple[int, int]:
        stored, made, maps = StoredMaps(store, project_id), 0, []
        for index, image in enumerate(images):
            told = _named(report, index, len(images), f"Pseudo-labels of {image.name}")
            known = stored.find(image.id, this.hash_of(image.sha256))
            if known is None:
                known = _label(store, project_id, image, this, parts, told)
                made += 1
            maps.append(known)
        stored.make_newest(maps)
        return made, sum(item.n_objects for item in maps)

    with timed(store, project_id, "pseudo_label", 0):
        recipe, (made, objects) = _with_one_method(
            project.modality, project.pseudo_method, project.pseudo_params, work, given_up
        )
    report(len(images), len(images), f"{counted(objects, 'object')} in {counted(len(images), 'image')}")
    return {"made": made, "objects": objects, "method": recipe.method, "reason": recipe.reason}


def _given_up(store: Store, project_id: int) -> dict[str, str]:
    """Recipes that failed before the labels in use were made by another one; see `provenance.Recipe.failed`."""
    failed: dict[str, str] = {}
    for item in pseudo_maps(store, project_id).values():
        failed |= item.params.get("failed", {})
    return failed


def _label(store: Store, project_id: int, image: Image, this: Recipe, parts: Parts, report: Report) -> LabelMap:
    pixels, key = np.asarray(catalogue.read_image(store, image)), this.hash_of(image.sha256)
    with parts.of(key) as keep:
        if isinstance(this.backend, Resumable):
            this.backend.keep = keep
        return labels.add(
            store,
            LabelKind.PSEUDO,
            this.backend.label(pixels, this.params, report),
            project_id=project_id,
            image_id=image.id,
            backend=this.method,
            params=this.record(),
            input_hash=key,
        )


def pseudo_maps(store: Store, project_id: int) -> dict[int, LabelMap]:
    """The pseudo-labels that training uses, by image id; none when they are switched off.

    They are all made alike: where a run broke off, by the newest method that got through all images, and where none
    did, by the newest one.
    """
    if catalogue.project(store, project_id).pseudo_method == NONE:
        return {}
    alike: dict[str, dict[int, LabelMap]] = {}
    for item in labels.of_images(store, project_id, LabelKind.PSEUDO):
        name = provenance.made_by(item)
        # Taken out and put back, so that the methods stand in the order of their newest maps.
        alike[name] = alike.pop(name, {}) | {item.image_id: item}
    wanted = {image.id for image in catalogue.images(store, project_id, ImageRole.TRAIN)}
    complete = [maps for maps in alike.values() if wanted <= maps.keys()]
    return (complete or list(alike.values()) or [{}])[-1]


def _with_one_method(
    modality: Modality,
    method: str,
    params: Mapping[str, float | str],
    work: Callable[[Recipe], T],
    given_up: Mapping[str, str] | None = None,
) -> tuple[Recipe, T]:
    """`work` with the method that the user chose, whose errors are shown, or with one that `auto` chooses; see
    `provenance.with_automatic` for `given_up`."""
    if method == AUTO:
        return provenance.with_automatic(modality, work, given_up)
    # What an older version of the method asked for, and this one does not, was chosen for other labels.
    known = {MODEL, *(parameter.name for parameter in PSEUDO_LABELLERS.load(method).parameters)}
    kept = {name: value for name, value in params.items() if name in known}
    this = provenance.recipe(method, CHOSEN, modality, checked(method, kept))
    return this, work(this)


def _named(report: Report, index: int, count: int, title: str) -> Report:
    """`report` for item `index` of `count`, with its name before what is told about it; tells the start at once."""

    def inner(done: float, total: float, message: str = "") -> None:
        share = done / total if total else 0.0
        report(index + min(share, 1.0), count, f"{title}: {message}" if message else title)

    inner(0, 1)
    return inner
