"""What the canvas of the Annotate tab asks of the server.

Each function takes one JSON object from the browser and returns one; what comes from the browser is checked
here. Errors go back as {"error": sentence}, because an exception would reach the page without its message.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from alapp.domain import PatchRole
from alapp.errors import ConflictError, InputError
from alapp.rounds.annotate import (
    annotation,
    annotation_ahead,
    annotation_classes,
    annotation_edits,
    annotation_notes,
    annotation_pictures,
    annotation_presence,
    annotation_region,
    annotation_stack,
    annotation_view,
    clicks,
)
from alapp.rounds.annotate.annotation import Change
from alapp.rounds.predict import evaluation
from alapp.rounds.select import click_ahead
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.storage.db import Store
from alapp.ui.annotate import annotate_messages as read
from alapp.ui.errors import sentence

Server = Callable[[dict[str, Any]], dict[str, Any]]


def server_functions(store: Store) -> list[Server]:
    """What the canvas can call, bound to a state folder. Names are those in `annotator.js`."""
    acts: list[Callable[[Store, dict[str, Any]], dict[str, Any]]] = [
        _load_batch,
        _load_patch,
        _load_slice,
        _load_surroundings,
        _load_intensities,
        _prepare_slice,
        _look_ahead,
        _load_cuts,
        _head,
        _stop,
        _claim,
        _save_note,
        _click,
        *(_act(name, function) for name, function in _ACTS.items()),
    ]
    return [_answering(store, act) for act in acts]


def _answering(store: Store, act: Callable[[Store, dict[str, Any]], dict[str, Any]]) -> Server:
    def answer(message: dict[str, Any]) -> dict[str, Any]:
        try:
            if not isinstance(message, dict):
                raise InputError("The page sent something unreadable. Reload it.")
            with store.held():
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
    project_id = read.whole(message, "project")
    click_ahead.go_on(store, project_id)
    return annotation_view.batch(store, project_id)


def _load_patch(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    start = message.get("start")
    if start is not None and start not in annotation.STARTS:
        raise InputError("The page asked for an unknown start. Reload it.")
    patch_id, session = read.whole(message, "patch"), read.text(message, "session")
    # Whether somebody else is there is asked first: opening a patch the first time is an event.
    found = annotation_presence.look(store, patch_id, session)
    opened = annotation_view.open_patch(store, patch_id, session, start)
    here = {"elsewhere": found.elsewhere, "seconds_ago": found.seconds_ago}
    return {**opened, **here, "note": annotation_notes.note(store, patch_id)}


def _load_slice(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    patch_id, settings = read.whole(message, "patch"), read.channel_settings(message)
    png = annotation_pictures.slice_png(store, patch_id, read.whole(message, "z"), settings)
    return {"png": png, "channels": annotation_pictures.channels_json(store, patch_id, settings)}


def _load_surroundings(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    patch_id, z = read.whole(message, "patch"), read.whole(message, "z")
    return annotation_pictures.surroundings(store, patch_id, z, read.channel_settings(message))


def _load_intensities(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    place = [read.whole(message, name) for name in ("patch", "z", "y", "x")]
    return {"values": annotation_pictures.intensities(store, *place)}


def _prepare_slice(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    method, note = clicks.prepare(store, read.whole(message, "patch"), read.whole(message, "z"))
    return {"method": method, "note": note}


def _look_ahead(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    return annotation_ahead.look_ahead(store, read.whole(message, "patch"))


def _load_cuts(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    place = [read.whole(message, name) for name in ("patch", "y", "x")]
    return annotation_pictures.cuts(store, *place, read.channel_settings(message))


def _head(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    hidden = message.get("hidden") is True
    head = annotation_presence.look(store, read.whole(message, "patch"), read.text(message, "session"), hidden=hidden)
    if hidden and not annotation_presence.watched(store):
        clicks.rest()
    return asdict(head)


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
    annotation_presence.acted(store, patch_id, session)
    return {"revision": change.after.revision, "mask": annotation_view.mask_json(mask) if mask else None}


def _claim(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    annotation_presence.take_over(store, read.whole(message, "patch"), read.text(message, "session"))
    return {}


def _stop(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    return {"stopped": annotation_stack.stop(store, read.whole(message, "patch"))}


def _save_note(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    return {"note": annotation_notes.set_note(store, read.whole(message, "patch"), read.note(message))}


def _accept(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    mask = read.mask(message, clicks.shape(catalogue.patch(store, patch_id)))
    method = clicks.click_method(store, catalogue.patch(store, patch_id).project_id)
    return annotation.accept(
        store,
        patch_id,
        mask=mask,
        object_id=read.maybe(message, "object"),
        source=method,
        kind=read.kind(message),
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
        kind=read.kind(message),
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


def _classify(store: Store, message: dict[str, Any], patch_id: int, **by: Any) -> Change:
    return annotation_classes.classify(store, patch_id, object_ids=read.ids(message), kind=read.kind(message), **by)


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
    object_id, z = read.whole(message, "object"), read.whole(message, "z")
    direction = read.one_of({"direction": "both", **message}, "direction", tuple(annotation_stack.DIRECTIONS))
    return annotation_stack.propagate(store, patch_id, object_id=object_id, z=z, direction=direction, **by)


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
    change = how[message["how"]](store, patch_id, **by)
    pick = round_rows.pick_of(store, patch_id) if message["how"] == "done" else None
    if pick is not None and pick.role is PatchRole.VALIDATION:
        evaluation.queue_rescore(store, catalogue.patch(store, patch_id).project_id)
    return change


_ACTS = {
    "accept": _accept,
    "paint": _paint,
    "merge": _merge,
    "split": _split,
    "reshape": _reshape,
    "classify": _classify,
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
        try:
            change = annotation.repeated(store, patch_id, **by) or function(store, message, patch_id, **by)
        except (ConflictError, InputError):
            # After a reload the same act may come twice at once: the other one was faster.
            change = annotation.repeated(store, patch_id, **by)
            if change is None:
                raise
        annotation_presence.acted(store, patch_id, by["session"])
        return {**annotation_view.changes(change), "object": change.after.last_id}

    act.__name__ = name
    return act
