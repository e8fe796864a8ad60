"""Masks of images that were drawn elsewhere: models are scored against those of the images to test on."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alapp import jobs
from alapp.domain import ImageRole, LabelKind, Report
from alapp.errors import AlappError, InputError, NotReadyError
from alapp.stages import images as image_files
from alapp.stages import mask_files
from alapp.stages.label_ids import instance_map
from alapp.storage import catalogue, labels, models, references, verdicts
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.storage.files import sha256_of
from alapp.wording import counted

SCORING = ("rescore", "predict", "train", "pretrain", "import")
"""Jobs that score, or add masks, so that masks that are taken away meanwhile could be scored against all the same."""


@dataclass(frozen=True)
class State:
    """What a test image has to be scored against, as a sentence; `missing` where it cannot be scored so."""

    sentence: str
    missing: bool


def add_reference(store: Store, image: Image, reference: np.ndarray, params: Mapping[str, Any] | None = None) -> None:
    """Attach reference masks (Y, X) or (Z, Y, X), of any integers, to an image; for ids see `instance_map`. `params`
    tell where they are from. Raises `InputError` when the size differs, and for fractions or negative numbers."""
    size = image.shape[:3] if image.is_3d else image.shape[1:3]
    if reference.shape != size:
        raise InputError(f"The reference labels of {image.name} are {reference.shape}, but the image is {size}.")
    labels.add(
        store,
        LabelKind.REFERENCE,
        instance_map(reference, f"The reference map of {image.name}"),
        project_id=image.project_id,
        image_id=image.id,
        backend="reference",
        params=params,
        input_hash=image.sha256,
    )


def key(name: str) -> str:
    """What files and images are matched by: the name without its ending, in whichever of Unicode's forms."""
    return unicodedata.normalize("NFC", name)


def matching(paths: Iterable[Path], names: Iterable[str]) -> list[Path]:
    """Those of the files that are called like one of the images."""
    known = {key(name) for name in names}
    return [path for path in paths if key(image_files.stem(path)) in known]


def add_files(store: Store, project_id: int, files: Sequence[Mapping[str, Any]], report: Report) -> dict[str, Any]:
    """Give masks to images to test on. Each of `files` has "path", and "image", the id of its image, or else it belongs
    to the image of its name. Masks that an image had are replaced. What models predicted of the images is scored
    afterwards, in a job of its own.

    Returns {"masks": [{"image", "objects", "remark"}], "problems": [{"file", "problem"}]}.
    """
    tests = catalogue.images(store, project_id, ImageRole.TEST)
    by_key = {key(image.name): image for image in tests} | {image.id: image for image in tests}
    added: dict[int, dict[str, Any]] = {}
    problems: list[dict[str, str]] = []
    for number, file in enumerate(files):
        path = Path(file["path"])
        title = image_files.title(path)
        report(number, len(files), f"Reading the masks {title}")
        try:
            image = by_key.get(file.get("image") or key(image_files.stem(path)))
            if image is None:
                raise InputError(_no_image(store, project_id, path, tests))
            if image.id in added:
                raise InputError(f"Another file with masks of {image.name} was taken already. Keep one of them.")
            added[image.id] = _add_file(store, image, path)
        except AlappError as error:
            problems.append({"file": title, "problem": image_files.printable(str(error))})
    if added and models.checkpoints(store, project_id):
        jobs.enqueue(store, "rescore", project_id, behind_running=True)
    return {"masks": list(added.values()), "problems": problems}


def states(store: Store, project_id: int) -> dict[int, State]:
    """Of each image to test on, by its id, whether it has masks, and when it is scored."""
    tests = catalogue.images(store, project_id, ImageRole.TEST)
    if not tests:
        return {}
    masks = labels.latest_by_image(store, project_id, LabelKind.REFERENCE)
    current = verdicts.current_checkpoint(store, project_id)
    seen = labels.of_checkpoint(store, current.id) if current else {}
    return {image.id: _state(masks.get(image.id), current is not None, image.id in seen) for image in tests}


def remove(store: Store, project_id: int, image_id: int | None) -> Image:
    """Take the masks of an image to test on away, with the scores against them; `bring_back` undoes it. Returns the
    image. Raises `InputError` where it has none, `NotReadyError` while a job is scoring."""
    image = _test_image(store, project_id, image_id)
    if labels.latest_of_image(store, image.id, LabelKind.REFERENCE) is None:
        raise InputError(f"{image.name} has no masks.")
    _check_idle(store, project_id)
    references.remove(store, image.id)
    return image


def bring_back(store: Store, project_id: int, image_id: int | None) -> Image:
    """Undo `remove`, and score again. Returns the image. Raises `InputError` where nothing was removed."""
    image = _test_image(store, project_id, image_id)
    if image.id not in references.removed_from(store, project_id):
        raise InputError(f"No masks of {image.name} were removed that could be brought back.")
    references.bring_back(store, image.id)
    if models.checkpoints(store, project_id):
        jobs.enqueue(store, "rescore", project_id, behind_running=True)
    return image


def _add_file(store: Store, image: Image, path: Path) -> dict[str, Any]:
    title = image_files.title(path)
    image_files.inspect(path)  # tells in a sentence of a file that cannot be opened
    content = "" if path.is_dir() else sha256_of(path)
    if image.source == image_files.printable(str(path)) or (content and content == image.source_sha256):
        raise InputError(f"{title} is the image itself. Give the file with its masks.")
    found = mask_files.read(path, image.shape[:3], image.is_3d, image.axes)
    add_reference(store, image, found.labels, {"file": title, "sha256": content})
    objects = int(np.count_nonzero(np.unique(found.labels)))
    return {"image": image.name, "objects": objects, "remark": found.remark}


def _no_image(store: Store, project_id: int, path: Path, tests: Sequence[Image]) -> str:
    title, name = image_files.title(path), key(image_files.stem(path))
    if any(key(image.name) == name for image in catalogue.images(store, project_id)):
        return f"{title} is called like an image to train on. Only images to test on are given masks here."
    if not tests:
        return f"There is no image to test on that {title} could belong to. Import one first."
    return (
        f"{title} is called like no image to test on. Rename it like its image, for example "
        f"{tests[0].name}{path.suffix}."
    )


def _state(masks: labels.LabelMap | None, trained: bool, seen: bool) -> State:
    if masks is None:
        return State("No masks yet: it is not scored. “Masks …” under this table adds them.", True)
    held = f"Masks of {counted(masks.n_objects, 'object')}"
    if not trained:
        return State(f"{held}: it is scored by the first training.", False)
    if not seen:
        return State(
            f"{held}. The model in use has not seen it yet: the next training scores it, or “Apply to … new image” on "
            "the Results tab does.",
            False,
        )
    return State(f"{held}.", False)


def _test_image(store: Store, project_id: int, image_id: int | None) -> Image:
    tests = catalogue.images(store, project_id, ImageRole.TEST)
    image = next((item for item in tests if item.id == image_id), None)
    if image is None:
        raise InputError("Choose an image to test on in the menu under the table first; the table marks them “(test)”.")
    return image


def _check_idle(store: Store, project_id: int) -> None:
    if busy := next((job for job in jobs.active(store, project_id) if job.kind in SCORING), None):
        raise NotReadyError(
            f"The masks cannot be removed now: “{jobs.kind(busy.kind).title}” uses them. Wait until it has ended, or "
            "cancel it, then try again."
        )
