"""The tabs Rounds, Train and Results: refreshing in every state of a project, and their handlers."""

import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from alapp import jobs
from alapp.domain import LabelKind, PatchRole, silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.rounds.export import export
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.results import results
from alapp.rounds.select import selection
from alapp.rounds.train import lineage, training
from alapp.storage import catalogue, labels, models
from alapp.storage import rounds as round_rows
from alapp.ui.page import Page
from alapp.ui.parts import downloads, tables
from alapp.ui.results import comparison, predictions
from alapp.ui.results import results as results_tab
from alapp.ui.rounds import patch_map, picks, rounds
from alapp.ui.train import models as model_list
from alapp.ui.train import plan, train
from tests.rounds.conftest import discs, fast, project, store  # noqa: F401  (fixtures)


@pytest.fixture
def tabs(store):  # noqa: F811
    with gr.Blocks():
        page = Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None))
        return [module.build(page) for module in (rounds, train, results_tab)]


@pytest.fixture
def batch(store, project, fast):  # noqa: F811
    """A selected batch of four patches."""
    pseudo.decide(store, project.id, pseudo.NONE)
    return selection.run_select(store, project.id, silent, budget=4)["patches"]


@pytest.fixture
def trained(store, project, batch):  # noqa: F811
    references = labels.latest_by_image(store, project.id, LabelKind.REFERENCE)
    for patch_id in batch:
        patch = catalogue.patch(store, patch_id)
        truth = catalogue.crop(labels.read(store, references[patch.image_id]), patch)
        annotation.submit_labels(store, patch_id, truth, "oracle")
    training.run_round(store, project.id, silent)
    return project


def check(tabs, project_id):
    """Refresh every tab as the shell does."""
    made = {}
    for tab in tabs:
        updates = list(tab.refresh(project_id))
        assert len(updates) == len(tab.outputs), tab.id
        made[tab.id] = dict(zip(tab.outputs, updates, strict=True))
    return made


def of_kind(updates, kind):
    return [value for component, value in updates.items() if isinstance(component, kind)]


def test_without_a_project(tabs):
    made = check(tabs, None)
    for updates in made.values():
        texts = [getattr(value, "value", value) or "" for value in of_kind(updates, gr.HTML)]
        assert any("Project tab" in text for text in texts)


def test_with_an_empty_project(tabs, store):  # noqa: F811
    empty = catalogue.create_project(store, "empty")
    made = check(tabs, empty.id)
    assert any(button.value == "Import images first" for button in of_kind(made["rounds"], gr.Button))


def test_with_a_batch(tabs, store, project, batch):  # noqa: F811
    made = check(tabs, project.id)
    assert len(picks.show_round(store, project.id, picks.NEWEST)[1].value) == 4
    assert any(b.value == "Annotate the open patches first (4 left)" for b in of_kind(made["rounds"], gr.Button))
    assert not patch_map.draw_anew(store, project.id, 1.0, None)[1].visible


def sections(tabs, project_id):
    """Whether the sentence, what rests on a model and what rests on labels are shown on the Results tab."""
    return [update.visible for update in list(tabs[2].refresh(project_id))[:3]]


def test_nothing_is_said_of_a_project_before_it_was_looked_at(store):  # noqa: F811
    with gr.Blocks() as demo:
        results_tab.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    panel = next(each for each in demo.blocks.values() if each.elem_id == "results-adviser")
    assert "Being worked out" in panel.value
    assert "after the first training" not in panel.value


def test_results_show_only_what_there_is(tabs, store, project, fast):  # noqa: F811
    assert sections(tabs, None) == [True, False, False]
    assert sections(tabs, project.id) == [True, False, False]
    pseudo.decide(store, project.id, pseudo.NONE)
    selection.run_select(store, project.id, silent, budget=2)
    assert sections(tabs, project.id) == [True, False, True]


def test_results_show_everything_after_a_training(tabs, store, trained):  # noqa: F811
    assert sections(tabs, trained.id) == [False, True, True]


def test_with_a_trained_round(tabs, store, trained):  # noqa: F811
    made = check(tabs, trained.id)
    table = predictions.follow(store, trained.id, (None, None), None, None, True, 0, None)[-2]
    assert [row[0] for row in table["data"]] == ["image_0", "image_1", "image_2"]
    assert any("1 s" in value and "quick" in value for value in of_kind(made["train"], gr.HTML))


def test_the_map_is_drawn_by_one_job_and_not_again_after_a_failure(tabs, store, project, batch):  # noqa: F811
    for _ in range(2):
        check(tabs, project.id)
    (job,) = jobs.active(store, project.id)
    assert job.kind == "map"
    jobs.cancel(store, job.id)
    check(tabs, project.id)
    assert jobs.active(store, project.id) == []


def test_the_panel_stays_while_its_patch_is_of_the_project(store, project, batch):  # noqa: F811
    other = catalogue.create_project(store, "other")
    assert patch_map.draw_anew(store, project.id, 1.0, batch[0])[1] == gr.skip()
    assert not patch_map.draw_anew(store, other.id, 1.0, batch[0])[1].visible


def test_the_start_button_says_what_comes_next(store, project, batch, trained):  # noqa: F811
    assert train.what_to_start(store, project.id).text == "Train round 1 again"
    selection.run_select(store, project.id, silent, budget=2)
    waiting = train.what_to_start(store, project.id)
    assert waiting.job is None
    assert "Annotate the next patch (2 left)" in waiting.why
    with pytest.raises(NotReadyError, match="2 left"):
        train.start_training(store, project.id, None, 0)


def test_starting_a_training_queues_one_job(store, project, fast):  # noqa: F811
    pseudo.decide(store, project.id, "log_watershed")
    for iterations in (0, -3, "many", 10**9):
        with pytest.raises(InputError, match="between 1 and"):
            train.start_training(store, project.id, iterations, 0)
    button, timer, iterations, changed = train.start_training(store, project.id, 7, 0)
    assert (button.interactive, timer.active, iterations, changed) == (False, True, "", 1)
    (job,) = jobs.active(store, project.id)
    assert (job.kind, job.params) == ("pretrain", {"iterations": 7, "preset": "quick"})
    status, _, _, again = train.watch(store, project.id)
    assert "Waiting" in status
    assert again.active


def test_the_plan_is_shown_as_soon_as_the_running_training_has_made_it(store, project, fast):  # noqa: F811
    pseudo.decide(store, project.id, "log_watershed")
    train.start_training(store, project.id, 7, 0)
    assert plan.EMPTY in train.watch_all(store, project.id)[0]
    seen = []

    def look(done, total, message=""):
        if message == "loss 0.5":
            seen.append(train.watch_all(store, project.id)[0])

    training.run_pretrain(store, project.id, look)
    assert seen
    assert all(plan.EMPTY not in each and "A threshold." in each for each in seen)
    assert train.watch_all(store, None)[0] == ""


def test_why_a_model_has_no_score_yet(store, project, fast):  # noqa: F811
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    newest = models.latest_checkpoint(store, project.id)
    assert "because no validation patch is finished" in train.newest_sentence(store, newest)
    for patch_id in selection.run_select(store, project.id, silent, budget=5)["patches"]:
        annotation.submit_labels(store, patch_id, np.ones((64, 64), np.int32), "oracle")
    assert "the validation patches were finished after it" in train.newest_sentence(store, newest)
    training.run_round(store, project.id, silent)
    assert "It scores F1" in train.newest_sentence(store, newest)  # the pre-trained one, too


def test_a_preset_from_the_browser_is_checked(store, project):  # noqa: F811
    with pytest.raises(InputError, match="'enormous'"):
        train.choose_preset(store, project.id, "enormous")
    train.choose_preset(store, project.id, "standard")
    assert catalogue.project(store, project.id).preset == "standard"


@pytest.mark.parametrize(("count", "words"), [(1, "annotated 1 patch."), (2, "annotated 2 patches.")])
def test_how_many_patches_the_references_annotated_is_told(store, project, monkeypatch, count, words):  # noqa: F811
    told = []
    monkeypatch.setattr(rounds.gr, "Info", told.append)
    monkeypatch.setattr(rounds.oracle, "answer", lambda store, project_id: count)
    rounds.answer_by_reference(store, project.id, 0)
    assert words in told[0]


def test_the_share_for_validation_is_told(store, project):  # noqa: F811
    assert "6 of 8 patches" in rounds.share_sentence(store, project.id, 8)
    assert "The one patch is chosen" in rounds.share_sentence(store, project.id, 1)
    catalogue.update_project(store, project.id, validation_share=0.5)
    assert "1 of 2 patches is chosen" in rounds.share_sentence(store, project.id, 2)


def test_a_batch_is_not_larger_than_what_is_left(store, project):  # noqa: F811
    told = rounds.share_sentence(store, project.id, 32)  # of 12 patches
    assert "10 of 12 patches are trained on; 2 drawn at random" in told
    assert "Only 12 patches: too few to choose from. On the Project tab, cut smaller, e.g. 32 px" in told
    assert "too few" not in rounds.share_sentence(store, project.id, 11)
    flat = catalogue.create_project(store, "one", patch_size=128)
    importing.add_array(store, flat.id, "one", discs(0)[0])
    assert "Only 1 patch: too few to choose from." in rounds.share_sentence(store, flat.id, 8)
    assert "e.g. 64 px, or" in rounds.share_sentence(store, flat.id, 8)
    assert "The one patch is trained on." in rounds.share_sentence(store, flat.id, 8)
    stack = catalogue.create_project(store, "stack", patch_size=128)
    importing.add_array(store, stack.id, "stack", np.zeros((7, 40, 100, 1), np.uint8))
    assert "e.g. 48 px × 4 slices, or" in rounds.share_sentence(store, stack.id, 8)
    assert rounds.share_sentence(store, catalogue.create_project(store, "empty").id, 8) == ""


def test_what_is_left_after_a_batch_is_told(store, project, fast):  # noqa: F811
    selection.run_select(store, project.id, silent, budget=9, strategy="random")
    told = rounds.share_sentence(store, project.id, 8)
    assert "Only 3 patches are left: the batch takes them all." in told
    assert "2 of 3 patches are trained on; 1 drawn" in told
    assert "Only" not in rounds.share_sentence(store, project.id, 2)
    vetoed = next(p for p in catalogue.patches(store, project.id) if round_rows.pick_of(store, p.id) is None)
    store.execute("UPDATE patch SET vetoed = '2026' WHERE id = ?", (vetoed.id,))
    assert "Only 2 patches are left" in rounds.share_sentence(store, project.id, 8)


def test_a_batch_size_from_the_browser_is_checked(store, project):  # noqa: F811
    for budget in (0, 1e9, None, "8"):
        with pytest.raises(InputError, match="1 to 200"):
            rounds.start_selection(store, project.id, budget, "coreset", 0)
    rounds.start_selection(store, project.id, 8, "random", 0)
    (job,) = jobs.active(store, project.id)
    assert (job.kind, job.params) == ("select", {"budget": 8, "strategy": "random"})


def test_the_panel_names_the_nearest_patch(store, project, trained):  # noqa: F811
    selection.run_select(store, project.id, silent, budget=4)
    latest = round_rows.latest(store, project.id)
    pick = next(p for p in round_rows.selected(store, latest.id) if "nearest_patch" in p.reason)
    _, picture, about, open_button, swap_button, chosen = picks.show_patch(store, project.id, pick.patch_id)
    assert picture.shape == (320, 320, 3)
    assert catalogue.patch(store, pick.reason["nearest_patch"]).name in about
    assert (open_button.interactive, swap_button.visible, chosen) == (True, True, pick.patch_id)
    chosen_ids = round_rows.selected_in_project(store, project.id)
    free = next(p for p in catalogue.patches(store, project.id) if p.id not in chosen_ids)
    _, _, about, open_button, swap_button, _ = picks.show_patch(store, project.id, free.id)
    assert "Not selected" in about
    assert (open_button.interactive, swap_button.visible) == (False, False)


def test_a_patch_of_another_project_is_not_shown(store, batch):  # noqa: F811
    other = catalogue.create_project(store, "other")
    with pytest.raises(InputError, match="another project"):
        picks.show_patch(store, other.id, batch[0])


def test_veto_and_discard(store, project, batch):  # noqa: F811
    picks.swap(store, project.id, batch[0], 0)
    latest = round_rows.latest(store, project.id)
    now = [pick.patch_id for pick in round_rows.selected(store, latest.id)]
    assert batch[0] not in now
    assert len(now) == 4
    assert rounds.discard_selection(store, project.id, 4) == 5
    assert round_rows.latest(store, project.id) is None


def test_comparison_shows_image_prediction_and_labels(store, trained):  # noqa: F811
    text, pictures, views, caption, panels, titles, button, slider, shown = comparison.show_round(store, trained.id, 1)
    chosen = round_rows.selected_in_project(store, trained.id).values()
    held = [pick.patch_id for pick in chosen if pick.role is PatchRole.VALIDATION]
    assert views == [("patch", held[0])] == [shown]
    assert len(pictures) == 1
    assert "1 validation patch, the worst first" in text
    assert "objects found" in caption
    cards = results_tab.summary_cards(results.learning_curve(store, trained.id), 1, (4, 8))
    assert "F1 on 1 validation patch (too few for an interval)<" in cards
    assert "of 8 patches labelled (50%)" in cards
    assert panels.shape[1] > 2.9 * panels.shape[0]
    assert "Your labels" in titles
    assert button.visible
    assert not slider.visible
    outlines = comparison.redraw(store, trained.id, 1, shown, False, 0)
    assert outlines.shape == panels.shape
    assert not np.array_equal(outlines, panels)
    with pytest.raises(NotReadyError, match="does not exist"):
        comparison.show_round(store, trained.id, 99)


def test_exports_are_queued_and_offered(store, trained):  # noqa: F811
    text, changed = downloads.start_export(store, "scores", trained.id, 0)
    assert "Scores" in text
    assert changed == 1
    with pytest.raises(NotReadyError, match="Another export"):
        downloads.start_export(store, "labels", trained.id, 0)
    assert not downloads.export_files(store, trained.id).visible
    made = export.run_export(store, trained.id, silent, "scores")
    (copy,) = downloads.newest(store, trained.id)
    assert Path(copy).read_bytes() == store.files.resolve(made["path"]).read_bytes()


def test_tables_escape_what_users_write():
    assert "<script>" not in tables.table(["<script>"], [["<script>"]])
    assert "<script>" not in tables.cards([("<script>", "<script>")]) + tables.empty("<script>") + tables.log(
        "<script>"
    )


def test_the_model_table_is_newest_first(store, trained):  # noqa: F811
    training.run_round(store, trained.id, silent, iterations=9)
    html = model_list.table(lineage.models_of(store, trained.id))
    assert html.index(">9<") < html.index(">6<")
    assert len(models.checkpoints(store, trained.id)) == 2


def test_when_a_model_was_made_is_told_by_the_clock_of_the_computer(store, trained, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert tables.local_time("2026-11-30T20:31:00.123+00:00") == "2026-12-01 02:01"
        (made,) = models.checkpoints(store, trained.id)
        table = model_list.table(lineage.models_of(store, trained.id))
        assert tables.local_time(made.created) in table
        assert "by the clock of the computer that runs the app" in table
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_that_has_just_begun_shows_the_finished_one_in_gray(store, trained):  # noqa: F811
    newest, before = train.newest_runs(store, trained.id, training=False)
    assert (len(newest), before) == (1, [])
    newest, before = train.newest_runs(store, trained.id, training=True)
    assert (newest, len(before)) == ([], 1)
