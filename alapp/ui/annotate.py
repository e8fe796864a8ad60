"""The Annotate tab: the canvas, and the functions of the server that it calls.

Each function takes one JSON object from the browser and returns one; what comes from the browser is checked
here. Errors go back as {"error": sentence}, because an exception would reach the page without its message.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from alapp.errors import ConflictError, InputError
from alapp.rounds import annotation, annotation_edits, annotation_region, annotation_view, clicks
from alapp.rounds.annotation import Change
from alapp.storage import catalogue
from alapp.storage.db import Store
from alapp.ui import annotate_messages as read
from alapp.ui.canvas import annotator
from alapp.ui.errors import sentence, told
from alapp.ui.page import Page, Tab

_turns = itertools.count(1)

Server = Callable[[dict[str, Any]], dict[str, Any]]


def build(page: Page) -> Tab:
    """The tab's components, in the context that is open. Opening a patch from another tab: give its id to
    `page.open_patch`."""
    canvas = annotator(_value(None), server_functions(page.store))

    def open_patch(project_id: int | None, patch_id: int | None) -> Any:
        return gr.skip() if patch_id is None else _value(project_id, patch_id)

    def changed(number: int) -> int:
        return number + 1

    page.open_patch.change(
        told(open_patch),
        [page.project_id, page.open_patch],
        canvas,
        show_progress="hidden",
        api_visibility="private",
    )
    canvas.changed(told(changed), page.changed, page.changed, show_progress="hidden", api_visibility="private")
    return Tab("annotate", [canvas], lambda project_id: [_value(project_id)])


def standalone(store: Store, project_id: int) -> gr.Blocks:
    """The page alone, for tests and benchmarks: `standalone(store, project_id).launch()`."""
    with gr.Blocks(title="Annotate") as blocks:
        state = {name: gr.State(value) for name, value in [("changed", 0), ("open_patch", None), ("visitor", None)]}
        with gr.Tabs() as tabs, gr.Tab("Annotate", id="annotate"):
            opened = gr.State(project_id)
            tab = build(Page(store=store, project_id=opened, tabs=tabs, **state))
        blocks.load(lambda: tab.refresh(project_id)[0], None, tab.outputs[0], api_visibility="private")
    return blocks


def _value(project_id: int | None, patch_id: int | None = None) -> dict[str, Any]:
    # A value that is equal to the one before would not reach the browser.
    return {"project": project_id, "patch": patch_id, "rev": f"{time.time():.3f}-{next(_turns)}"}


def server_functions(store: Store) -> list[Server]:
    """What the canvas can call, bound to a state folder. Names are those in `annotator.js`."""
    acts: list[Callable[[Store, dict[str, Any]], dict[str, Any]]] = [
        _load_batch,
        _load_patch,
        _load_slice,
        _prepare_slice,
        _click,
        *(_act(name, function) for name, function in _ACTS.items()),
    ]
    return [_answering(store, act) for act in acts]


def _answering(store: Store, act: Callable[[Store, dict[str, Any]], dict[str, Any]]) -> Server:
    def answer(message: dict[str, Any]) -> dict[str, Any]:
        try:
            if not isinstance(message, dict):
                raise InputError("The page sent something unreadable. Reload it.")
            _check_project(store, message)
            return act(store, message)
        except Exception as error:
            return {"error": sentence(error), "conflict": isinstance(error, ConflictError)}

    answer.__name__ = act.__name__.lstrip("_")
    answer.__qualname__ = answer.__name__
    return answer


def _check_project(store: Store, message: dict[str, Any]) -> None:
    """A patch must belong to the page's project: on a public demo a project's id is the visitor's secret."""
    if "patch" in message and catalogue.patch(store, read.whole(message, "patch")).project_id != read.whole(
        message, "project"
    ):
        raise InputError("This patch belongs to another project. Reload the page.")


# --- looking -----------------------------------------------------------------------------------------------


def _load_batch(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    return annotation_view.batch(store, read.whole(message, "project"))


def _load_patch(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    start = message.get("start")
    if start is not None and start not in annotation.STARTS:
        raise InputError("The page asked for an unknown start. Reload it.")
    return annotation_view.open_patch(store, read.whole(message, "patch"), read.text(message, "session"), start)


def _load_slice(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    return {"png": annotation_view.slice_png(store, read.whole(message, "patch"), read.whole(message, "z"))}


def _prepare_slice(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    method, note = clicks.prepare(store, read.whole(message, "patch"), read.whole(message, "z"))
    return {"method": method, "note": note}


# --- acting ------------------------------------------------------------------------------------------------


def _click(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    patch_id, session = read.whole(message, "patch"), read.text(message, "session")
    revision, token = read.whole(message, "revision"), read.text(message, "token")
    points = {name: read.points(message, name) for name in ("positive", "negative")}
    box = read.flat_box(message, "box")
    z, object_id = read.whole(message, "z"), read.maybe(message, "object")
    overlap, tuning = read.overlap(message), read.tuning(message)
    if annotation.repeated(store, patch_id, session, revision, token):
        patch = catalogue.patch(store, patch_id)
        now = annotation.state(store, patch_id)
        mask = annotation.preview(store, patch, now, z, *points.values(), object_id, overlap, box, tuning)
        return {"revision": now.revision, "mask": annotation_view.mask_json(mask) if mask else None}
    mask, change = annotation.click(
        store,
        patch_id,
        session,
        **points,
        box=box,
        z=z,
        object_id=object_id,
        overlap=overlap,
        tuning=tuning,
        revision=revision,
        token=token,
    )
    return {"revision": change.after.revision, "mask": annotation_view.mask_json(mask) if mask else None}


def _accept(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    mask = read.mask(message, clicks.shape(catalogue.patch(store, patch_id)))
    method = clicks.click_method(store, catalogue.patch(store, patch_id).project_id)
    return annotation.accept(
        store,
        patch_id,
        mask=mask,
        object_id=read.maybe(message, "object"),
        source=method,
        overlap=read.overlap(message),
        **by,
    )


def _paint(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation_edits.paint(
        store,
        patch_id,
        stroke=read.mask(message, clicks.shape(catalogue.patch(store, patch_id))),
        tool=read.one_of(message, "tool", annotation_edits.STROKES),
        erase=message.get("erase") is True,
        object_id=read.maybe(message, "object"),
        overlap=read.overlap(message),
        **by,
    )


def _merge(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation_edits.merge(store, patch_id, object_ids=read.ids(message), **by)


def _split(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    line, z = read.line(message, "line"), read.whole(message, "z")
    return annotation_edits.split(store, patch_id, object_id=read.whole(message, "object"), line=line, z=z, **by)


def _reshape(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    how = read.one_of(message, "how", annotation_edits.RESHAPES)
    return annotation_edits.reshape(store, patch_id, object_id=read.whole(message, "object"), how=how, **by)


def _take(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    chosen = None if message.get("objects") is None else read.ids(message)
    return annotation.accept_suggestions(store, patch_id, object_ids=chosen, **by)


def _remove(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation.delete_object(store, patch_id, object_ids=read.ids(message), **by)


def _undo(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation.undo(store, patch_id, **by)


def _redo(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation.redo(store, patch_id, **by)


def _propagate(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation.propagate(
        store, patch_id, object_id=read.whole(message, "object"), z=read.whole(message, "z"), **by
    )


def _mark_region(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    ways = {"suggestions": annotation_region.mark_suggestions, "rest": annotation_region.mark_rest}
    how = read.one_of(message, "how", ("draw", "clear", *ways))
    if how == "clear":
        return annotation_region.clear(store, patch_id, **by)
    if how in ways:
        return ways[how](store, patch_id, **by)
    return annotation_region.mark(
        store,
        patch_id,
        mask=read.mask(message, clicks.shape(catalogue.patch(store, patch_id))),
        add=message.get("erase") is not True,
        every_slice=message.get("every_slice") is True,
        **by,
    )


def _finish(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    how = {"done": annotation.mark_done, "skip": annotation.skip, "reopen": annotation.reopen}
    if message.get("how") not in how:
        raise InputError("The page asked for something unknown. Reload it.")
    return how[message["how"]](store, patch_id, **by)


_ACTS = {
    "accept": _accept,
    "paint": _paint,
    "merge": _merge,
    "split": _split,
    "reshape": _reshape,
    "take": _take,
    "remove": _remove,
    "undo": _undo,
    "redo": _redo,
    "propagate": _propagate,
    "mark_region": _mark_region,
    "finish": _finish,
}


def _act(name: str, function: Callable[..., Change]) -> Callable[[Store, dict[str, Any]], dict[str, Any]]:
    """An act on a patch, whose answer is what changed. An act that was written already is not done again."""

    @functools.wraps(function)
    def act(store: Store, message: dict[str, Any]) -> dict[str, Any]:
        patch_id = read.whole(message, "patch")
        by = {
            "session": read.text(message, "session"),
            "revision": read.whole(message, "revision"),
            "token": read.text(message, "token"),
        }
        change = annotation.repeated(store, patch_id, **by) or function(store, message, patch_id, **by)
        return {**annotation_view.changes(change), "object": change.after.last_id}

    act.__name__ = name
    return act
