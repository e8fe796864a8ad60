"""Who holds a patch, and notes on patches."""

from __future__ import annotations

import numpy as np
import pytest

from alapp.domain import PatchRole
from alapp.errors import ConflictError, InputError
from alapp.rounds.annotate import annotation, annotation_notes, annotation_presence, annotation_view, clicks
from alapp.rounds.annotate.annotation_presence import acted, look, take_over
from alapp.rounds.export import export, export_tables
from alapp.stages.annotate.masks import from_array
from alapp.stages.foundation.residency import Residents
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.annotate import annotate

DOT = from_array(np.ones((4, 4), bool), (0, 10, 10))


class Clock:
    """`time.monotonic` and `time.time` that only move when told."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(annotation_presence.time, "monotonic", made)
    monkeypatch.setattr(annotations, "time", made)
    return made


@pytest.fixture
def patches(store, project, clock):
    found = catalogue.patches(store, project.id)[:2]
    round_rows.add(store, project.id, "random", 2, 0, [(patch.id, PatchRole.TRAIN, {}) for patch in found])
    for patch in found:
        annotation.begin(store, patch.id, "anna")
    return [patch.id for patch in found]


def test_the_second_page_is_told_until_the_first_one_leaves(store, patches, clock):
    patch, other = patches
    assert not look(store, patch, "anna").elsewhere
    clock.now += 7
    head = look(store, patch, "ben")
    assert (head.elsewhere, head.mine, head.revision, head.seconds_ago) == (True, False, 1, 7)
    assert not look(store, patch, "anna").elsewhere
    look(store, other, "anna")
    assert not look(store, patch, "ben").elsewhere
    assert look(store, patch, "anna").elsewhere


def test_a_silent_page_frees_its_patch_sooner_when_it_was_on_the_screen(store, patches, clock):
    patch = patches[0]
    look(store, patch, "anna")
    clock.now += 14
    assert look(store, patch, "ben").elsewhere
    clock.now += 2
    assert not look(store, patch, "ben").elsewhere
    look(store, patch, "carl", hidden=True)
    acted(store, patch, "carl")
    look(store, patch, "carl", hidden=True)
    clock.now += 100
    assert look(store, patch, "ben").elsewhere
    clock.now += 60
    assert not look(store, patch, "ben").elsewhere


def test_nobody_is_asked_after_half_an_hour_or_on_a_closed_patch(store, patches, clock):
    patch, other = patches
    look(store, patch, "anna")
    for _ in range(200):
        clock.now += 10
        look(store, patch, "anna")
    assert not look(store, patch, "ben").elsewhere
    look(store, other, "anna")
    annotation.skip(store, other, "anna")
    assert not look(store, other, "ben").elsewhere
    assert take_over(store, other, "ben") is None
    # Who reopens it holds it, whoever looked last.
    look(store, other, "ben")
    annotation.reopen(store, other, "anna")
    look(store, other, "anna")
    acted(store, other, "anna")
    assert look(store, other, "ben").elsewhere


def restart(monkeypatch, clock, seconds):
    """The app is gone for so long, and knows nothing of its pages then."""
    clock.now += seconds
    for name in ("_seen", "_on_screen", "_holders"):
        monkeypatch.setattr(annotation_presence, name, {})
    monkeypatch.setattr(annotation_presence, "_began", clock.now)


def test_after_a_restart_the_page_that_worked_is_waited_for(store, patches, clock, monkeypatch):
    patch = patches[0]
    look(store, patch, "anna")
    restart(monkeypatch, clock, 8)
    clock.now += 2
    head = look(store, patch, "ben")
    assert (head.elsewhere, head.mine, head.seconds_ago) == (True, False, 10)
    clock.now += 4
    assert not look(store, patch, "anna").elsewhere
    clock.now += 14
    assert look(store, patch, "ben").elsewhere
    clock.now += 2
    assert not look(store, patch, "ben").elsewhere  # as of any page that falls silent


def test_a_page_that_does_not_come_back_after_a_restart_is_not_waited_for_long(store, patches, clock, monkeypatch):
    patch = patches[0]
    restart(monkeypatch, clock, 8)
    for _ in range(5):
        assert look(store, patch, "ben").elsewhere
        clock.now += 5
    clock.now -= 3
    assert look(store, patch, "ben").elsewhere
    clock.now += 1
    assert not look(store, patch, "ben").elsewhere
    assert look(store, patch, "anna").elsewhere


@pytest.mark.parametrize("away", [31, 8])
def test_nobody_is_waited_for_who_worked_long_ago_or_is_on_another_patch(store, patches, clock, monkeypatch, away):
    patch, other = patches
    restart(monkeypatch, clock, away)
    if away < annotation_presence.RETURN_SECONDS:
        look(store, other, "anna")
    assert not look(store, patch, "ben").elsewhere


def test_who_wrote_after_the_start_without_a_page_is_not_waited_for(store, patches, clock, monkeypatch):
    restart(monkeypatch, clock, 8)
    clock.now += 2
    annotation.accept(store, patches[0], "script", DOT)
    clock.now += 1
    assert not look(store, patches[0], "ben").elsewhere


def test_taking_over_is_an_event_that_changes_nothing_but_refuses_stale_writes(store, patches, clock):
    patch = patches[0]
    look(store, patch, "anna")
    annotation.accept(store, patch, "anna", DOT, revision=1)
    change = take_over(store, patch, "ben")
    assert change.after.revision == 3
    assert change.after.objects == change.before.objects
    assert change.after.past == change.before.past
    assert not look(store, patch, "ben").elsewhere
    assert look(store, patch, "anna").elsewhere
    with pytest.raises(ConflictError, match="another tab"):
        annotation.undo(store, patch, "anna", revision=2)
    take_over(store, patch, "anna")
    assert not annotation.undo(store, patch, "anna", revision=4).after.objects
    assert look(store, patch, "ben").elsewhere
    assert annotation.patch_states(store, [patch])[patch] == annotation.STARTED


def test_a_note_is_kept_shown_in_the_batch_and_removed(store, project, patches):
    patch, other = patches
    assert annotation_notes.note(store, patch) == ""
    assert annotation_notes.set_note(store, patch, "  two\r\nlines\t\u00b5m \u2713 ") == "two\nlines\t\u00b5m \u2713"
    annotation_notes.set_note(store, other, "first")
    annotation_notes.set_note(store, other, "second")
    shown = annotation_view.batch(store, project.id)["patches"]
    assert [entry["note"] for entry in shown] == ["two\nlines\t\u00b5m \u2713", "second"]
    annotation_notes.set_note(store, patch, " \n")
    assert annotations.notes(store, [patch, other]) == {other: "second"}


@pytest.mark.parametrize(
    ("text", "why"), [("x" * 2001, "2001 characters"), ("a\x00b", "no text"), ("\x1b[1m", "no text")]
)
def test_a_note_that_cannot_be_kept(store, patches, text, why):
    with pytest.raises(InputError, match=why):
        annotation_notes.set_note(store, patches[0], text)
    assert annotation_notes.note(store, patches[0]) == ""


def test_measurements_of_finished_patches_have_the_note(store, project, patches):
    for patch in patches:
        annotation.accept(store, patch, "anna", DOT)
        annotation.mark_done(store, patch, "anna")
    annotation_notes.set_note(store, patches[1], "=out of focus")
    path = store.files.resolve(export.run_export(store, project.id, lambda *_: None, "measurements")["path"])
    text = path.read_text("utf-8-sig")
    assert text.splitlines()[0].endswith(",note")
    assert [line.rsplit(",", 1)[1] for line in text.splitlines()[1:]] == ["", "'=out of focus"]
    (row,) = export_tables._note_rows(store, project)
    name = catalogue.patch(store, patches[1]).name
    assert row == {"patch": name, "role": PatchRole.TRAIN, "state": "done", "note": "=out of focus"}


def test_a_patch_is_watched_while_any_page_shows_it(store, patches, clock):
    assert not annotation_presence.watched(store)
    look(store, patches[0], "anna")
    look(store, patches[1], "ben")
    assert annotation_presence.watched(store)
    look(store, patches[0], "anna", hidden=True)
    assert annotation_presence.watched(store)
    clock.now += annotation_presence.VISIBLE_SECONDS
    assert not annotation_presence.watched(store)


def test_models_go_when_the_last_page_looks_away(store, project, patches, monkeypatch):
    residents = Residents(free=lambda: 10**12)
    monkeypatch.setattr(clicks, "RESIDENTS", residents)
    monkeypatch.setattr(clicks, "AWAY_SECONDS", 0.0)
    head = next(act for act in annotate.server_functions(store) if act.__name__ == "head")
    message = {"project": project.id, "patch": patches[0], "session": "anna"}
    residents.get("model", object, 0)
    head(message)
    head({**message, "session": "ben", "hidden": True})
    assert residents.names() == ["model"]
    assert "error" not in head({**message, "hidden": True})
    assert residents.names() == []
