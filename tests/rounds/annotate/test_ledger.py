"""What the work cost, from journals with times made by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import agreement, annotation, annotation_edits, annotation_region, ledger, measuring, savings
from alapp.rounds.annotate.ledger import ACCEPTED, DELETED, DISMISSED, DRAWN, EDITED, ObjectWork, PatchWork
from alapp.rounds.export import export
from alapp.rounds.results import results
from alapp.rounds.select import embedding, selection
from alapp.rounds.train import training
from alapp.stages.annotate import masks
from alapp.stages.annotate.base import Tuning
from alapp.storage import annotations, catalogue, labels
from alapp.storage import rounds as round_rows

ME, OTHER = "page-1", "page-2"


def rectangle(y, x, height=8, width=8):
    pixels = np.zeros((64, 64), bool)
    pixels[y : y + height, x : x + width] = True
    return masks.from_array(pixels)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only when told: `clock(5)` lets five seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(annotations, "time", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.fixture
def patches(store):
    """Two patches of a batch; the image has three pseudo-labels in the first one."""
    made = catalogue.create_project(store, "work", patch_size=64)
    image = importing.add_array(store, made.id, "cells", np.zeros((64, 128, 1), np.uint8))
    suggested = np.zeros((64, 128), np.int32)
    for key, y in enumerate((0, 20, 40), 1):
        suggested[y : y + 8, :8] = key
    labels.add(
        store, LabelKind.PSEUDO, suggested, project_id=made.id, image_id=image.id, backend="test", input_hash="x"
    )
    items = catalogue.patches(store, made.id)
    round_rows.add(store, made.id, "random", 2, 0, [(item.id, PatchRole.TRAIN, {}) for item in items])
    return items


def work_on(store, patch):
    return ledger.patches(store, patch.project_id)[patch.id]


def outcomes(work):
    return {item.object_id: item.outcome for item in work.objects}


def test_time_and_clicks_go_to_the_object_that_they_led_to(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    clock(4)
    annotation.accept_suggestions(store, one, ME, [1])
    clock(3)
    annotation.click(store, one, ME, positive=[(44, 4)], object_id=3)
    clock(2)
    annotation.accept(store, one, ME, rectangle(40, 0, 10, 10), object_id=3)
    clock(6)
    annotation_edits.paint(store, one, ME, rectangle(20, 40))
    clock(1)
    annotation.delete_object(store, one, ME, [2])
    clock(10)
    annotation.mark_done(store, one, ME)
    work = work_on(store, patches[0])
    assert work.objects == (
        ObjectWork(1, ACCEPTED, 4, 0),
        ObjectWork(2, DISMISSED, 1, 0),
        ObjectWork(3, EDITED, 5, 1),
        ObjectWork(4, DRAWN, 6, 1),
    )
    assert (work.seconds, work.clicks, work.kept, work.starts) == (26, 2, 3, {"pseudo"})


def clicked(store, patch, *prompts):
    """Clicks in the ledger after each of these events on the unfinished object, less those that were there before."""
    annotation.begin(store, patch.id, ME)
    counts = [work_on(store, patch).clicks]
    for more in prompts:
        annotation.click(store, patch.id, ME, **{"positive": [], **more})
        counts.append(work_on(store, patch).clicks)
    return [count - counts[0] for count in counts[1:]]


A, B, C, D = ((4.0, 4.0), (4.0, 12.0), (4.0, 20.0), (4.0, 28.0))
LINE = [(4.0, 4.0 + x) for x in range(12)]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        # One click, then a slider is dragged, which asks for the mask at every step.
        ([{"positive": [A], "tuning": Tuning(step / 20, 0.0)} for step in range(11)], [1] * 11),
        # Other rules for overlaps, which the journal does not keep, are the same event again.
        ([{"positive": [A], "negative": [B]}] * 2, [2, 2]),
        ([{"positive": [A]}, {"positive": [A, B]}, {"positive": [A, B], "negative": [C]}], [1, 2, 3]),
        # A point that is undone, and another one in its place.
        ([{"positive": [A, B]}, {"positive": [A]}, {"positive": [A, C]}, {"positive": [A, D]}], [1, 1, 2, 3]),
        # A scribble: its first point comes alone, unless the method was busy.
        ([{"positive": LINE[:1]}, {"positive": LINE}], [1, 1]),
        ([{"positive": LINE}], [1]),
        ([{"positive": [D]}, {"positive": [D, *LINE]}], [1, 1]),
        ([{"positive": [D]}, {"positive": [D, A]}, {"positive": [D, *LINE]}], [1, 2, 2]),
        ([{"positive": [D], "negative": LINE[:1]}, {"positive": [D], "negative": LINE}], [2, 2]),
        ([{"positive": [D]}, {"positive": [D], "negative": LINE}], [1, 2]),
        ([{"positive": LINE[:1]}, {"positive": LINE, "negative": [D]}], [1, 2]),
        ([{"positive": LINE[:1]}, {"positive": LINE}, {"positive": [*LINE, C, D]}], [1, 1, 2]),
        # A box, a larger one in its place, and a point in it.
        ([{"box": (0, 0, 9, 9)}, {"box": (0, 0, 12, 9)}, {"box": (0, 0, 12, 9), "positive": [A]}], [1, 2, 3]),
        ([{"box": (0, 0, 9, 9), "positive": [A]}, {"positive": [A]}], [2, 2]),
        # Points that were dropped, and another object; the event in between may be left out.
        ([{"positive": [A, B]}, {}, {"positive": [A]}], [1, 1, 2]),
        ([{"positive": [A]}, {"positive": [B]}, {"positive": [C, *LINE]}], [1, 2, 3]),
        ([{"positive": [A]}, {"positive": [A], "object_id": 1}, {"negative": [A], "object_id": 2}], [1, 2, 3]),
        ([{"object_id": 1}], [0]),
    ],
)
def test_a_click_is_what_the_prompts_have_more_than_before(store, patches, prompts, expected):
    assert clicked(store, patches[0], *prompts) == expected


def test_points_of_an_object_that_was_accepted_are_no_part_of_the_next_one(store, patches):
    assert clicked(store, patches[0], {"positive": [A]}) == [1]
    annotation.accept(store, patches[0].id, ME, rectangle(40, 40))
    assert clicked(store, patches[0], {"positive": [A]}) == [1]
    annotation.undo(store, patches[0].id, ME)
    assert clicked(store, patches[0], {"positive": [A]}) == [1]
    assert (work_on(store, patches[0]).clicks, clicked(store, patches[1], {"positive": [A]})) == (3, [1])


def test_points_that_stay_on_the_page_during_another_act_are_not_counted_again(store, patches):
    assert clicked(store, patches[0], {"positive": [A]}, {"positive": [A, B]}) == [1, 2]
    annotation.accept_suggestions(store, patches[0].id, ME, [3])
    assert clicked(store, patches[0], {"positive": [A, B]}, {"positive": [A, B, C]}) == [0, 1]
    assert [item.clicks for item in work_on(store, patches[0]).objects] == [2]


def test_breaks_count_nothing_and_pages_are_told_apart(store, patches, clock):
    one, two = (patch.id for patch in patches)
    annotation.begin(store, one, ME)
    clock(ledger.PAUSE_SECONDS)
    annotation.accept_suggestions(store, one, ME, [1])
    clock(ledger.PAUSE_SECONDS + 0.5)
    annotation.accept_suggestions(store, one, ME, [2])
    annotation.begin(store, two, OTHER)
    clock(5)
    annotation_edits.paint(store, two, OTHER, rectangle(0, 0))
    clock(5)
    annotation.accept_suggestions(store, one, ME, [3])
    assert [item.seconds for item in work_on(store, patches[0]).objects] == [60, 0, 10]
    assert work_on(store, patches[1]).seconds == 5


def test_the_way_to_the_next_patch_is_the_work_of_that_patch(store, patches, clock):
    one, two = (patch.id for patch in patches)
    annotation.begin(store, one, ME)
    clock(5)
    annotation.mark_done(store, one, ME)
    clock(3)
    annotation.begin(store, two, ME)
    assert [work_on(store, patch).seconds for patch in patches] == [5, 3]


def test_several_objects_share_the_time_of_one_act(store, patches, clock):
    annotation.begin(store, patches[0].id, ME)
    clock(9)
    annotation.accept_suggestions(store, patches[0].id, ME)
    assert [item.seconds for item in work_on(store, patches[0]).objects] == [3, 3, 3]


def test_what_was_undone_never_happened_but_took_its_time(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    annotation.accept_suggestions(store, one, ME, [1])
    clock(4)
    annotation_edits.reshape(store, one, ME, 1, "grow")
    assert outcomes(work_on(store, patches[0])) == {1: EDITED}
    clock(2)
    annotation.undo(store, one, ME)
    assert outcomes(work_on(store, patches[0])) == {1: ACCEPTED}
    annotation.undo(store, one, ME)
    work = work_on(store, patches[0])
    assert (work.objects, work.seconds) == ((), 6)
    annotation.redo(store, one, ME)
    annotation.redo(store, one, ME)
    assert work_on(store, patches[0]).objects == (ObjectWork(1, EDITED, 6, 1),)


def test_outcomes_follow_every_tool(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    annotation_edits.merge(store, one, ME, [1, 2])  # suggestions
    annotation_edits.paint(store, one, ME, rectangle(0, 40))  # 4
    annotation_edits.paint(store, one, ME, rectangle(10, 40))  # 5
    annotation_edits.merge(store, one, ME, [4, 5])
    annotation_edits.paint(store, one, ME, rectangle(30, 40))  # 6
    annotation_edits.paint(store, one, ME, rectangle(30, 40), object_id=6, erase=True)
    annotation_edits.split(store, one, ME, 3, ((44, -2), (44, 12)))  # a suggestion, into 3 and 7
    annotation.delete_object(store, one, ME, [4])
    assert outcomes(work_on(store, patches[0])) == {1: EDITED, 3: EDITED, 4: DELETED, 6: DELETED, 7: EDITED}


def test_a_suggestion_that_is_accepted_with_its_own_mask_is_accepted(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    annotation.accept(store, one, ME, rectangle(0, 0), object_id=1)
    annotation.accept(store, one, ME, rectangle(20, 0, 9, 9), object_id=2)
    assert outcomes(work_on(store, patches[0])) == {1: ACCEPTED, 2: EDITED}


def test_objects_that_a_newer_one_covers_are_gone(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME, "nothing")
    for y in (0, 20):
        annotation.accept(store, one, ME, rectangle(y, 0))
    clock(6)
    annotation.accept(store, one, ME, rectangle(0, 0, 24, 8), overlap="replace")  # the second one keeps four rows
    assert outcomes(work_on(store, patches[0])) == {1: DELETED, 2: DRAWN, 3: DRAWN}
    assert [item.seconds for item in work_on(store, patches[0]).objects] == [3, 0, 3]
    annotation.undo(store, one, ME)
    assert outcomes(work_on(store, patches[0])) == {1: DRAWN, 2: DRAWN}


def test_an_imported_object_that_is_covered_is_not_counted(store, patches, clock):
    one = patches[0].id
    annotation.submit_labels(store, one, np.pad(np.ones((4, 4), np.int32), (0, 60)), "oracle")
    annotation.reopen(store, one, ME)
    annotation.accept(store, one, ME, rectangle(0, 0), overlap="replace")
    assert list(annotation.state(store, one).objects) == [2]
    assert outcomes(work_on(store, patches[0])) == {2: DRAWN}


def test_suggestions_of_which_nothing_is_left_are_not_accepted(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    for x in (0, 3, 6):  # none of them covers half of the suggestion, so that it stays
        annotation.accept(store, one, ME, rectangle(20, x, 8, 3))
    annotation.accept_suggestions(store, one, ME)
    assert set(annotation.state(store, one).objects) == {1, 3, 4, 5, 6}
    assert outcomes(work_on(store, patches[0])) == {1: ACCEPTED, 3: ACCEPTED, 4: DRAWN, 5: DRAWN, 6: DRAWN}


def test_starting_again_and_accepting_all_changes_nothing(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME)
    annotation.accept_suggestions(store, one, ME)
    for key in (1, 2, 3):
        annotation_edits.reshape(store, one, ME, key, "shrink")
    before = annotation.state(store, one)
    now = annotation.begin(store, one, ME, "pseudo")
    assert (now.objects, dict(now.suggestions)) == (before.objects, {})
    with pytest.raises(InputError, match="no suggestion"):
        annotation.accept_suggestions(store, one, ME)
    assert work_on(store, patches[0]).kept == 3
    # Undo takes edits back, and leaves what can be suggested then.
    for _ in range(4):
        undone = annotation.undo(store, one, ME).after
    assert (dict(undone.objects), list(undone.suggestions)) == ({}, [4, 5, 6])
    assert work_on(store, patches[0]).objects == ()


def test_journals_from_before_count_as_they_did(store, patches, clock):
    """They do not say what was covered."""
    one = patches[0].id
    annotation.begin(store, one, ME)
    for key, overlap in ((4, "keep"), (5, "replace")):
        mask = rectangle(20, 0)
        payload = {"object": key, "box": mask.box, "new": True, "corrected": False, "source": "x", "overlap": overlap}
        annotations.append(store, one, key - 3, "accept", payload, mask.blob, ME)
    annotations.append(store, one, 3, "take", {"objects": [1]}, None, ME)
    assert list(annotation.state(store, one).objects) == [5, 1]
    assert outcomes(work_on(store, patches[0])) == {1: ACCEPTED, 4: DRAWN, 5: DRAWN}


def test_a_clock_that_is_set_back_changes_time_and_nothing_else(store, patches, clock):
    one = patches[0].id
    annotation.begin(store, one, ME, "nothing")
    clock(10)
    annotation.accept(store, one, ME, rectangle(0, 0))
    clock(-5)
    annotation.delete_object(store, one, ME, [1])
    clock(4)
    annotation.accept(store, one, ME, rectangle(20, 0))
    assert work_on(store, patches[0]).objects == (ObjectWork(1, DELETED, 10, 0), ObjectWork(2, DRAWN, 4, 0))


def test_the_replay_agrees_with_the_journal_on_what_is_there(store, patches, clock):
    """A long random journal: the ledger, which reads no mask, keeps the objects that the journal has."""
    one, rng = patches[0].id, np.random.default_rng(5)
    annotation.begin(store, one, ME)
    acts = {
        "draw": lambda: annotation_edits.paint(store, one, ME, rectangle(*rng.integers(0, 50, 2), 6, 6)),
        "take": lambda: annotation.accept_suggestions(store, one, ME, [int(rng.integers(1, 4))]),
        "grow": lambda: annotation_edits.reshape(store, one, ME, int(rng.integers(1, 9)), "grow"),
        "merge": lambda: annotation_edits.merge(store, one, ME, [int(key) for key in rng.integers(1, 9, 2)]),
        "delete": lambda: annotation.delete_object(store, one, ME, [int(rng.integers(1, 9))]),
        "cover": lambda: annotation.accept(
            store, one, ME, rectangle(*rng.integers(0, 40, 2), 20, 20), overlap="replace"
        ),
        "take all": lambda: annotation.accept_suggestions(store, one, ME),
        "start": lambda: annotation.begin(store, one, ME, "pseudo"),
        "undo": lambda: annotation.undo(store, one, ME),
        "redo": lambda: annotation.redo(store, one, ME),
    }
    written = 0
    for name in rng.choice(list(acts), 300):
        try:
            acts[name]()
            written += 1
        except InputError:
            continue
        clock(1)
        found = outcomes(work_on(store, patches[0]))
        kept = {key for key, outcome in found.items() if outcome in ledger.KEPT}
        assert kept == set(annotation.state(store, one).objects), name
    assert written > 60


def test_an_edit_of_something_else_costs_time_on_its_objects(store, patches, clock, monkeypatch):
    monkeypatch.setattr(ledger, "EDITS", (*ledger.EDITS, "rename"))
    one = patches[0].id
    annotation.begin(store, one, ME)
    change = annotation.accept_suggestions(store, one, ME, [1])
    clock(7)
    annotations.append(store, one, change.after.revision, "rename", {"objects": [1, 2]}, None, ME)
    assert work_on(store, patches[0]).objects == (ObjectWork(1, ACCEPTED, 7, 0),)


def test_imported_labels_cost_no_time(store, patches, clock):
    for patch in patches:
        clock(5)
        annotation.submit_labels(store, patch.id, np.ones((64, 64), np.int32), "oracle")
    found = [work_on(store, patch) for patch in patches]
    assert [(work.seconds, work.kept, work.imported) for work in found] == [(0, 0, True)] * 2


def test_a_round_sums_its_patches(store, patches, clock):
    assert ledger.of_round(store, 1) == ledger.NOBODY
    annotation.begin(store, patches[0].id, ME)
    clock(10)
    annotation.accept_suggestions(store, patches[0].id, ME, [1, 2])
    annotation.delete_object(store, patches[0].id, ME, [3])
    annotation.begin(store, patches[1].id, ME)
    clock(20)
    annotation_edits.paint(store, patches[1].id, ME, rectangle(0, 0))
    found = ledger.by_round(store, patches[0].project_id)[1]
    assert found == ledger.of_round(store, 1)
    assert (found.seconds, found.clicks, found.made, found.rejected) == (30, 1, 3, 1)
    assert (found.seconds_per_object, found.clicks_per_object) == (10, pytest.approx(1 / 3))


def test_the_table_of_objects(store, patches, clock, tmp_path):
    with pytest.raises(NotReadyError, match="No object"):
        export.run_export(store, patches[0].project_id, silent, "effort")
    annotation.begin(store, patches[0].id, ME)
    clock(2.5)
    annotation.accept_suggestions(store, patches[0].id, ME, [1])
    made = export.run_export(store, patches[0].project_id, silent, "effort", str(tmp_path / "effort.csv"))
    with open(made["path"], encoding="utf-8-sig", newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert (row["patch"], row["round"], row["outcome"], row["seconds"]) == ("cells y0 x0", "1", "accepted", "2.5")
    assert (row["started_from"], row["control"], row["annotated_again"]) == ("pseudo", "0", "0")


# --- what suggestions save -----------------------------------------------------------------------------------


def spent(seconds, objects):
    return PatchWork(0, seconds, 0, tuple(ObjectWork(key, DRAWN, 0.0, 0) for key in range(objects)))


def test_the_saving_has_an_interval_and_needs_enough_patches():
    aided = [spent(20 + n, 10) for n in range(8)]
    unaided = [spent(90 + 5 * n, 10) for n in range(6)]
    found = savings.compare([(aided, unaided)])
    assert found.aided == pytest.approx(2.35)
    assert found.unaided == pytest.approx(10.25)
    assert found.saving == pytest.approx(1 - 2.35 / 10.25)
    assert found.interval[0] < found.saving < found.interval[1]
    assert found == savings.compare([(aided, unaided)])
    few = savings.compare([(aided, unaided[:4])])
    assert (few.n_unaided, few.saving, few.interval) == (4, None, None)
    assert savings.compare([]).aided is None
    equal = savings.compare([(unaided, unaided)])
    assert equal.saving == 0
    assert equal.interval[0] < 0 < equal.interval[1]


def test_a_person_who_gets_faster_saves_nothing_by_suggestions():
    slow = ([spent(100 + n, 10) for n in range(2)], [spent(100 + n, 10) for n in range(6)])
    fast = ([spent(20 + n, 10) for n in range(9)], [spent(20 + n, 10) for n in range(3)])
    found = savings.compare([slow, fast])
    assert (found.n_aided, found.n_unaided) == (11, 9)
    assert abs(found.saving) < 0.05
    assert found.interval[0] < 0 < found.interval[1]


def test_only_patches_that_were_drawn_for_it_are_compared(store, patches, clock):
    project_id = patches[0].project_id
    store.execute("UPDATE selection SET control = 1 WHERE patch_id = ?", (patches[1].id,))
    assert annotation.begin(store, patches[0].id, ME).start == "pseudo"
    assert annotation.begin(store, patches[1].id, ME).start == "nothing"
    clock(6)
    annotation.accept_suggestions(store, patches[0].id, ME)
    clock(8)
    annotation_edits.paint(store, patches[1].id, ME, rectangle(0, 0))
    annotation.mark_done(store, patches[0].id, ME)
    assert savings.time_saved(store, project_id).n_aided == 0  # its round has no finished control patch yet
    annotation.mark_done(store, patches[1].id, ME)
    found = savings.time_saved(store, project_id)
    assert (found.n_aided, found.n_unaided, found.aided, found.unaided) == (1, 1, 2, 8)
    annotation.reopen(store, patches[1].id, ME)
    annotation.begin(store, patches[1].id, ME, "pseudo")
    annotation.mark_done(store, patches[1].id, ME)
    assert savings.time_saved(store, project_id).n_unaided == 0


# --- control patches and repeats in the loop -----------------------------------------------------------------


def draw_truth(store, patch_id, shift=0):
    """A person draws the reference of a patch, object by object, each moved right by `shift` pixels."""
    patch = catalogue.patch(store, patch_id)
    reference = labels.latest_of_image(store, patch.image_id, LabelKind.REFERENCE)
    truth = np.roll(catalogue.crop(labels.read(store, reference), patch), shift, axis=1)
    annotation.begin(store, patch_id, ME, "nothing")
    for key in np.unique(truth[truth > 0]):
        annotation_edits.paint(store, patch_id, ME, masks.from_array(truth == key))
    annotation.mark_done(store, patch_id, ME)


def finish(store, project_id, shift=0):
    for pick in selection.open_patches(store, project_id):
        draw_truth(store, pick.patch_id, shift if pick.repeats else 0)


def test_shares_from_the_browser_are_checked(store, project):
    assert measuring.set_shares(store, project.id, 0.1, 0.2).repeat_share == 0.2
    with pytest.raises(InputError, match="0, 10 or 20 percent"):
        measuring.set_shares(store, project.id, 0.5, 0)
    assert [measuring.share_count(8, share) for share in measuring.SHARES] == [0, 1, 2]
    assert measuring.share_count(0, 0.2) == 0


def test_nothing_is_measured_unless_it_is_asked_for(store, project, fast):
    for _ in range(2):
        selection.run_select(store, project.id, silent, 5)
        finish(store, project.id)
    picks = [pick for item in round_rows.rounds(store, project.id) for pick in round_rows.selected(store, item.id)]
    assert len(picks) == 10
    assert not any(pick.control or pick.repeats for pick in picks)


def test_control_patches_are_training_patches_and_the_same_each_time(store, project, fast):
    measuring.set_shares(store, project.id, 0.2, 0)
    drawn = []
    for _ in range(2):
        selection.run_select(store, project.id, silent, 8)
        picks = round_rows.selected(store, round_rows.latest(store, project.id).id)
        drawn.append([pick.patch_id for pick in picks if pick.control])
        assert all(pick.role is PatchRole.TRAIN for pick in picks if pick.control)
        assert [item.control for item in annotation.batch(store, picks[0].round_id)] == [p.control for p in picks]
        selection.discard_round(store, project.id)
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 1


def repeated_round(store, project, shift=0):
    """Two rounds, the second with repeats, finished; returns the second's picks."""
    measuring.set_shares(store, project.id, 0, 0.2)
    selection.run_select(store, project.id, silent, 5)
    assert not any(pick.repeats for pick in round_rows.selected(store, 1))  # there is nothing to show again
    finish(store, project.id)
    selection.run_select(store, project.id, silent, 5)
    picks = round_rows.selected(store, round_rows.latest(store, project.id).id)
    finish(store, project.id, shift)
    return picks


def test_a_repeat_looks_like_the_patch_that_it_repeats(store, project, fast):
    picks = repeated_round(store, project)
    (again,) = [pick for pick in picks if pick.repeats]
    original = round_rows.selected_in_project(store, project.id)[again.repeats]
    assert original.round_id != again.round_id
    assert (again.role, again.reason, again.control) == (original.role, original.reason, original.control)
    first, second = (catalogue.patch(store, pick.patch_id) for pick in (original, again))
    assert (first.name, first.box, first.image_id) == (second.name, second.box, second.image_id)
    assert [pick.rank for pick in picks] == list(range(6))
    assert [pick.rank for pick in round_rows.picked(store, again.round_id)] == list(range(5))
    roles = [pick.role for pick in picks]
    assert roles == sorted(roles)  # it stands among those of its role: training before validation
    assert [item.patch_id for item in annotation.batch(store, again.round_id)] == [pick.patch_id for pick in picks]


def test_repeats_are_left_out_of_everything_but_the_batch(store, project, fast):
    trainer, _ = fast
    picks = repeated_round(store, project)
    (again,) = [pick for pick in picks if pick.repeats]
    before = labels.latest_of_patch(store, again.repeats, LabelKind.HUMAN)
    training.run_round(store, project.id, silent)
    assert {f"gt_{again.patch_id}"}.isdisjoint(trainer.seen[-1]["keys"])
    assert len(trainer.seen[-1]["keys"]) == 8
    assert again.patch_id not in {patch.id for patch in catalogue.patches(store, project.id)}
    assert sum(catalogue.patch_counts(store, project.id).values()) == 12
    assert again.patch_id not in embedding.read(store, embedding.update(store, project.id, silent))[0]
    assert again.patch_id not in labels.latest_by_patch(store, project.id, LabelKind.HUMAN)
    assert again.patch_id not in round_rows.selected_in_project(store, project.id)
    assert [row.selected for row in results.history(store, project.id)] == [5, 5]
    assert results.learning_curve(store, project.id)[-1].labelled == 10
    assert labels.latest_of_patch(store, again.repeats, LabelKind.HUMAN) == before
    assert ledger.patches(store, project.id)[again.patch_id].count(DRAWN) == before.n_objects


def test_only_patches_that_were_never_aided_come_back_and_only_once(store, project, fast):
    measuring.set_shares(store, project.id, 0, 0.2)
    made = selection.run_select(store, project.id, silent, 5)["patches"]
    for patch_id in made[:3]:
        draw_truth(store, patch_id)
    patch = catalogue.patch(store, made[3])
    annotation.submit_labels(store, patch.id, np.zeros((64, 64), np.int32), "oracle")
    annotation.begin(store, made[4], ME, "nothing")
    annotation.skip(store, made[4], ME)
    assert measuring.repeatable(store, project.id) == sorted(made[:3])
    store.execute(
        "UPDATE annotation_event SET payload = '{\"start\":\"model\"}' WHERE kind = 'open' AND patch_id = ?", (made[0],)
    )
    assert measuring.repeatable(store, project.id) == sorted(made[1:3])
    selection.run_select(store, project.id, silent, 5)
    (again,) = [pick for pick in selection.open_patches(store, project.id) if pick.repeats]
    assert measuring.repeatable(store, project.id) == [key for key in sorted(made[1:3]) if key != again.repeats]


def test_discarding_a_round_takes_its_repeats_with_it(store, project, fast):
    measuring.set_shares(store, project.id, 0, 0.2)
    selection.run_select(store, project.id, silent, 5)
    finish(store, project.id)
    made = []
    for _ in range(2):
        selection.run_select(store, project.id, silent, 5)
        picks = round_rows.selected(store, round_rows.latest(store, project.id).id)
        made.append([(pick.rank, pick.repeats) for pick in picks])
        again = next(pick.patch_id for pick in picks if pick.repeats)
        with pytest.raises(NotReadyError, match="changed in another tab"):
            selection.swap_pick(store, picks[0].round_id, again)
        selection.discard_round(store, project.id)
        assert store.rows("SELECT id FROM patch WHERE repeats IS NOT NULL") == []
    assert made[0] == made[1]


def test_agreement_compares_both_annotations(store, project, fast, monkeypatch):
    picks = repeated_round(store, project, shift=1)
    assert agreement.agreement(store, project.id) == agreement.Agreement(1)
    monkeypatch.setattr(agreement, "MIN_REPEATS", 1)
    found = agreement.agreement(store, project.id)
    assert (found.n, found.interval) == (1, None)
    assert 0.5 < found.mean_iou < 0.95
    (again,) = [pick for pick in picks if pick.repeats]
    annotation.reopen(store, again.repeats, ME)
    annotation.submit_labels(store, again.repeats, np.zeros((64, 64), np.int32), "oracle")
    assert agreement.agreement(store, project.id) == found  # the first annotation, not what came of it later


def test_a_region_that_one_of_both_left_out_is_not_compared(store, project, fast, monkeypatch):
    monkeypatch.setattr(agreement, "MIN_REPEATS", 1)
    picks = repeated_round(store, project)
    (again,) = [pick for pick in picks if pick.repeats]
    annotation.reopen(store, again.patch_id, ME)
    item = next(iter(annotation.state(store, again.patch_id).objects.items()))
    annotation.delete_object(store, again.patch_id, ME, [item[0]])
    annotation.mark_done(store, again.patch_id, ME)
    assert agreement.agreement(store, project.id).f1_50 < 1
    annotation.reopen(store, again.patch_id, ME)
    annotation_region.mark(store, again.patch_id, ME, item[1].mask)
    annotation.mark_done(store, again.patch_id, ME)
    assert agreement.agreement(store, project.id).f1_50 == 1
