"""The comparison on the Results tab: predictions beside the image and the human labels, worst first."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from alapp.domain import InstanceScores
from alapp.errors import InputError, NotReadyError
from alapp.rounds import results
from alapp.storage import annotations, catalogue, labels, models
from alapp.storage.catalogue import Image
from alapp.storage.db import Store
from alapp.ui import gallery, tables

MOST_VIEWS = 60

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


def show_round(store: Store, project_id: int | None, number: Any) -> list[Any]:
    """List, thumbnails, their views, and the first comparison, of one model."""
    checkpoint_id = checkpoint_of(store, project_id, number)
    scored = results.validation_patches(store, checkpoint_id)[:MOST_VIEWS]
    if scored:
        views: list[View] = [("patch", patch.id) for patch, _ in scored]
        pictures = [
            (gallery.predicted_thumbnail(store, checkpoint_id, patch), f"F1 {scores.f1_50:.2f}")
            for patch, scores in scored
        ]
        text = f"{len(scored)} validation patches, the worst first. Click one to compare it."
    else:
        images = _predicted_images(store, checkpoint_id)[:MOST_VIEWS]
        views = [("image", image.id) for image in images]
        pictures = [(gallery.image_thumbnail(store, checkpoint_id, image), image.name) for image in images]
        text = "Predictions of whole images. They are compared with your labels once validation patches are finished."
    first = show_view(store, project_id, number, views, 0, True) if views else no_picture()
    return [tables.note(text), pictures, views, *first]


def show_view(
    store: Store, project_id: int | None, number: Any, views: list[View], index: Any, filled: bool
) -> list[Any]:
    """The comparison at a place of the gallery: caption, panels, titles, button, slice slider, state."""
    if not isinstance(index, int) or not 0 <= index < len(views):
        raise NotReadyError("This picture is gone. Reload the page.")
    kind, item_id = views[index]
    checkpoint_id = checkpoint_of(store, project_id, number)
    stack = _stack(store, checkpoint_id, project_id, (kind, item_id))
    depth = stack.pixels.shape[0] if stack.pixels.ndim == 4 else 1
    z = depth // 2 if depth > 1 or stack.pixels.ndim == 4 else None
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
    store: Store, project_id: int | None, number: Any, view: View | None, filled: bool, z: Any
) -> np.ndarray | None:
    """The same comparison on another slice, or with the objects filled or not."""
    if view is None:
        return None
    stack = _stack(store, checkpoint_of(store, project_id, number), project_id, tuple(view))
    if stack.pixels.ndim != 4:
        return stack.draw(None, filled)
    if not isinstance(z, (int, float)) or not 0 <= z < stack.pixels.shape[0]:
        raise InputError(f"The slice must be between 0 and {stack.pixels.shape[0] - 1}.")
    return stack.draw(int(z), filled)


def _stack(store: Store, checkpoint_id: int, project_id: int | None, view: View) -> gallery.Comparison:
    kind, item_id = view
    if kind == "patch":
        patch = catalogue.patch(store, int(item_id))
        _check_owner(patch.project_id, project_id)
        pixels, predicted, human = results.patch_views(store, checkpoint_id, patch)
        scored = {row.patch_id: row.scores for row in models.scores(store, checkpoint_id, "validation")}
        words = _score_words(scored.get(patch.id)) + _left_out(store, patch.id)
        return gallery.Comparison(patch.name, pixels, predicted, human, words)
    image = catalogue.image(store, int(item_id))
    _check_owner(image.project_id, project_id)
    predicted = labels.read(store, labels.of_checkpoint(store, checkpoint_id)[image.id])
    pixels = np.asarray(catalogue.read_image(store, image))
    return gallery.Comparison(image.name, pixels, predicted, None, f"{len(np.unique(predicted)) - 1} objects")


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
