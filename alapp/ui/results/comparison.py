"""The comparison on the Results tab: predictions beside the image and the human labels, worst first; or those of two
models side by side, the largest change first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from alapp.domain import InstanceScores, LabelKind
from alapp.errors import InputError, NotReadyError
from alapp.rounds.predict import evidence
from alapp.rounds.results import comparing, results
from alapp.stages.paired import Difference
from alapp.storage import annotations, catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.storage.catalogue import Image, Patch
from alapp.storage.db import Store
from alapp.ui.parts import gallery, tables
from alapp.ui.parts.sampled import reader
from alapp.wording import counted

MOST_VIEWS = 60

SPLITS = {
    "validation": ("validation patch", "validation patches"),
    "test": ("test image", "test images"),
    "train": ("training patch", "training patches"),
}
"""What a model is scored on: one, and several."""

View = tuple[str, int]
"""What is compared: ("patch" or "image", id)."""


def no_picture() -> list[Any]:
    """Updates of the comparison when there is nothing to compare."""
    return ["", None, "", gr.Button(visible=False), gr.Slider(visible=False), None]


def checkpoint_of(store: Store, project_id: int | None, number: Any) -> int:
    """The id of the model that the menu names. Raises `NotReadyError` when there is none."""
    found = results.checkpoint_by_round(store, project_id).get(number) if project_id is not None else None
    if found is None:
        raise NotReadyError("This model does not exist. Reload the page.")
    return found.id


def choices(store: Store, project_id: int, title: Callable[[int], str]) -> list[tuple[str, int]]:
    """(what the menu shows, checkpoint id) of every model that another one can be compared with, newest first.
    `title` names the model of a round."""
    numbers = {item.id: n for n, item in results.checkpoint_by_round(store, project_id).items()}
    rounds = {item.id: item.number for item in round_rows.rounds(store, project_id)}
    found = []
    for item in reversed(models.checkpoints(store, project_id)):
        if not labels.of_checkpoint(store, item.id):
            continue
        name = title(rounds.get(item.round_id, 0) if item.round_id else 0)
        again = "" if item.id in numbers else f", an earlier training ({item.iterations} iterations)"
        found.append((name + again, item.id))
    return found


def show_round(
    store: Store,
    project_id: int | None,
    number: Any,
    against: Any = None,
    filled: bool = True,
    view: View | None = None,
    z: Any = None,
) -> list[Any]:
    """List, thumbnails, their views, and a comparison: of one model, or of it `against` the checkpoint with this id.
    What is compared is `view` on slice `z`, where that is among the views, else the first."""
    checkpoint_id = checkpoint_of(store, project_id, number)
    if _other(store, project_id, against) not in (None, checkpoint_id):
        text, views, captions = _of_two(store, checkpoint_id, against)
    else:
        text, views, captions = _of_one(store, checkpoint_id)
    pictures = [
        (_thumbnail(store, checkpoint_id, view), caption) for view, caption in zip(views, captions, strict=True)
    ]
    kept = views.index(tuple(view)) if view and tuple(view) in views else None
    if not views:
        return [tables.note(text), pictures, views, *no_picture()]
    at = z if kept is not None else None
    return [
        tables.note(text),
        pictures,
        views,
        *show_view(store, project_id, number, views, kept or 0, filled, against, at),
    ]


def scored_on(n: int, split: str) -> str:
    """So many of what a model is scored on, in words."""
    return counted(n, *SPLITS[split])


def _of_one(store: Store, checkpoint_id: int) -> tuple[str, list[View], list[str]]:
    """What to say, what to show, and the captions, of one model."""
    scored = results.validation_patches(store, checkpoint_id)[:MOST_VIEWS]
    if scored:
        text = f"{scored_on(len(scored), 'validation')}, the worst first. Click one to compare it."
        views: list[View] = [("patch", patch.id) for patch, _ in scored]
        return text, views, [f"F1 {scores.f1_50:.2f}" for _, scores in scored]
    images = _predicted_images(store, checkpoint_id)[:MOST_VIEWS]
    text = "Predictions of whole images. They are compared with your labels once validation patches are finished."
    return text, [("image", image.id) for image in images], [image.name for image in images]


def _of_two(store: Store, checkpoint_id: int, other_id: int) -> tuple[str, list[View], list[str]]:
    """The same of a model against another one."""
    found = comparing.changes(store, other_id, checkpoint_id)
    if not found.items:
        both = [_predicted_images(store, one) for one in (checkpoint_id, other_id)]
        images = [image for image in both[0] if image in both[1]][:MOST_VIEWS]
        text = "Both models on whole images. What got better or worse is counted once patches are finished."
        return text, [("image", image.id) for image in images], [image.name for image in images]
    total, same = found.difference, len(found.items) - found.better - found.worse
    names = model_names(store, other_id, checkpoint_id)
    text = (
        f"{names[0]} → {names[1]} on the same {scored_on(len(found.items), found.split)}: {found.better} got better, "
        f"{found.worse} worse, {same} stayed the same. F1 of all together: {total.before:.2f} → {total.after:.2f}"
        f"{_chance(total)}. The largest change of F1 is first; click one to compare it."
    )
    shown = found.items[:MOST_VIEWS]
    captions = [f"{item.f1:+.2f}" for item in shown]
    return text, [(item.kind, item.item_id) for item in shown], captions


def _chance(total: Difference) -> str:
    if total.interval is None:
        return " (too few to tell chance from change)"
    return "" if total.better or total.worse else ", which may be chance"


def _thumbnail(store: Store, checkpoint_id: int, view: View) -> np.ndarray:
    kind, item_id = view
    if kind == "patch":
        return gallery.predicted_thumbnail(store, checkpoint_id, catalogue.patch(store, item_id))
    return gallery.image_thumbnail(store, checkpoint_id, catalogue.image(store, item_id))


def show_view(
    store: Store,
    project_id: int | None,
    number: Any,
    views: list[View],
    index: Any,
    filled: bool,
    against: Any = None,
    at: Any = None,
) -> list[Any]:
    """The comparison at a place of the gallery, on the slice `at` or the middle one: caption, panels, titles, button,
    slice slider, state."""
    if not isinstance(index, int) or not 0 <= index < len(views):
        raise NotReadyError("This picture is gone. Reload the page.")
    kind, item_id = views[index]
    checkpoint_id = checkpoint_of(store, project_id, number)
    stack = _stack(store, checkpoint_id, project_id, (kind, item_id), _other(store, project_id, against))
    depth = stack.pixels.shape[0] if stack.pixels.ndim == 4 else 1
    wanted = int(at) if isinstance(at, (int, float)) and 0 <= at < depth else depth // 2
    z = wanted if depth > 1 or stack.pixels.ndim == 4 else None
    slider = gr.Slider(maximum=max(depth - 1, 1), value=z or 0, visible=depth > 1)
    return [
        f"{stack.caption}",
        stack.draw(z, filled),
        stack.titles,
        gr.Button(visible=kind == "patch"),
        slider,
        (kind, item_id),
    ]


def redraw(
    store: Store, project_id: int | None, number: Any, view: View | None, filled: bool, z: Any, against: Any = None
) -> np.ndarray | None:
    """The same comparison on another slice, or with the objects filled or not."""
    if view is None:
        return None
    other = _other(store, project_id, against)
    stack = _stack(store, checkpoint_of(store, project_id, number), project_id, tuple(view), other)
    if stack.pixels.ndim != 4:
        return stack.draw(None, filled)
    if not isinstance(z, (int, float)) or not 0 <= z < stack.pixels.shape[0]:
        raise InputError(f"The slice must be between 0 and {stack.pixels.shape[0] - 1}.")
    return stack.draw(int(z), filled)


def _other(store: Store, project_id: int | None, against: Any) -> int | None:
    """The id of the model to compare with, or None. Raises `InputError` for one of another project."""
    if not against:
        return None
    if not isinstance(against, int):
        raise InputError("Choose a model from the menu.")
    _check_owner(models.checkpoint(store, against).project_id, project_id)
    return against


def _stack(
    store: Store, checkpoint_id: int, project_id: int | None, view: View, other: int | None = None
) -> gallery.Comparison:
    kind, item_id = view
    other = None if other == checkpoint_id else other
    if kind == "patch":
        patch = catalogue.patch(store, int(item_id))
        _check_owner(patch.project_id, project_id)
        made = _of_patch(store, checkpoint_id, patch)
        left_out = _left_out(store, patch.id)
        if other is None:
            return replace(made, words=made.words + left_out)
        second = _of_patch(store, other, patch)
    else:
        image = catalogue.image(store, int(item_id))
        _check_owner(image.project_id, project_id)
        made, left_out = _of_image(store, checkpoint_id, image), ""
        if other is None:
            return made
        second = _of_image(store, other, image)
    names = model_names(store, other, checkpoint_id)
    words = f"{names[0]}: {second.words}. {names[1]}: {made.words}{left_out}"
    return replace(made, other=second.predicted, models=names, words=words)


def model_names(store: Store, first: int, second: int) -> tuple[str, str]:
    """How two models are called beside each other; a round may have been trained more than once."""
    items = [models.checkpoint(store, one) for one in (first, second)]
    names = [
        f"Round {round_rows.round_by_id(store, item.round_id).number}" if item.round_id else "Pre-training"
        for item in items
    ]
    if names[0] == names[1]:
        names = [
            f"{name}, {'earlier' if one == min(first, second) else 'later'}"
            for name, one in zip(names, (first, second), strict=True)
        ]
    return names[0], names[1]


def _of_patch(store: Store, checkpoint_id: int, patch: Patch) -> gallery.Comparison:
    pixels, predicted, human = results.patch_views(store, checkpoint_id, patch)
    scored = {row.patch_id: row.scores for row in models.scores(store, checkpoint_id, "validation")}
    if patch.id not in scored:
        items = [item for item in evidence.labelled(store, patch.project_id) if item.patch_id == patch.id]
        scored = evidence.scores(store, items, labels.of_checkpoint(store, checkpoint_id))
    shown = gallery.channels(store, patch.image_path)
    return gallery.Comparison(
        patch.name, pixels, predicted, human, _score_words(scored.get(patch.id)), channels=shown
    )  # fmt: skip


def _of_image(store: Store, checkpoint_id: int, image: Image) -> gallery.Comparison:
    predicted = labels.of_checkpoint(store, checkpoint_id)[image.id]
    scored = {row.image_id: row.scores for row in models.scores(store, checkpoint_id, "test")}
    reference = labels.latest_of_image(store, image.id, LabelKind.REFERENCE) if image.id in scored else None
    words = _score_words(scored[image.id]) if reference else counted(predicted.n_objects, "object")
    return gallery.Comparison(
        image.name,
        catalogue.read_image(store, image),
        reader(store, predicted, image),
        reader(store, reference, image) if reference else None,
        words,
        truth="Reference",
        channels=gallery.channels(store, image.path),
    )


def _check_owner(owner: int, project_id: int | None) -> None:
    if owner != project_id:
        raise InputError("This picture belongs to another project. Reload the page.")


def _score_words(scores: InstanceScores | None) -> str:
    if scores is None:
        return "not scored by this model"
    return (
        f"F1 {scores.f1_50:.2f}: {scores.tp_50} of {scores.n_true} objects found, {scores.fn_50} missed, "
        f"{scores.fp_50} invented or badly outlined"
    )


def _left_out(store: Store, patch_id: int) -> str:
    share = annotations.not_annotated(store, [patch_id]).get(patch_id)
    return f"; {share:.0%} of the patch is not annotated and not scored" if share else ""


def _predicted_images(store: Store, checkpoint_id: int) -> list[Image]:
    predicted = labels.of_checkpoint(store, checkpoint_id)
    project_id = models.checkpoint(store, checkpoint_id).project_id
    return [image for image in catalogue.images(store, project_id) if image.id in predicted]


def open_in_annotate(view: View | None) -> tuple[gr.Tabs, int]:
    """Go to the Annotate tab with the patch that is shown."""
    if view is None or view[0] != "patch":
        raise NotReadyError("Choose a validation patch first.")
    return gr.Tabs(selected="annotate"), int(view[1])
