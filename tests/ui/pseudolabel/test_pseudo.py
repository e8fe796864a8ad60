"""The Pseudo-labels tab: what it offers, what it queues, and what it tells about labels."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest

from alapp import jobs
from alapp.domain import LabelKind, silent
from alapp.errors import InputError
from alapp.rounds import importing
from alapp.rounds.pseudolabel import pseudo as rounds_pseudo
from alapp.running import run_inline
from alapp.storage import catalogue, labels, processes
from alapp.storage import jobs as job_rows
from alapp.ui.page import Page
from alapp.ui.pseudolabel import method_menu, pseudo
from tests.rounds.conftest import project  # noqa: F401
from tests.rounds.pseudolabel.test_pseudo import Weighty, weighty  # noqa: F401


def test_auto_comes_first_and_says_what_it_would_take(store, project, weighty):  # noqa: F811
    radio, why, model, *sliders = method_menu.chosen_method(store, project.id)
    assert radio.choices[0] == ("Automatic (now: Weighty)", "auto")
    assert radio.value == "auto"
    assert "Weighty is installed with its weights." in why
    assert not model.visible
    assert not any(slider.visible for slider in sliders)


def test_the_weights_of_a_method_can_be_chosen(store, project, weighty):  # noqa: F811
    why, model, *_ = method_menu.method_controls(store, project.id, "micro_sam")
    assert (why, model.visible, model.value) == ("", True, "")
    assert [value for _, value in model.choices] == ["", "small", "large"]
    pseudo.use(store, project.id, "micro_sam", 0, ("large",))
    assert catalogue.project(store, project.id).pseudo_params == {"model": "large"}
    assert method_menu.method_controls(store, project.id, "micro_sam")[1].value == "large"
    with pytest.raises(InputError, match="'huge' is not on this computer"):
        pseudo.use(store, project.id, "micro_sam", 0, ("huge",))


def test_sliders_become_parameters_by_name(store, project):  # noqa: F811
    pseudo.start_preview(store, project.id, "log_watershed", 0, 0, ("", 20, 1.5, 0, 1, 2))
    pseudo.start_preview(store, project.id, "auto", 1, 0, ("", 20, 1.5, 0, 1, 2))
    (job,) = jobs.active(store, project.id)
    assert job.params["params"] == {
        "diameter": 20.0, "sensitivity": 1.5, "min_size": 0.0, "polarity": 1.0, "channel": 2.0,
    }  # fmt: skip
    pseudo.use(store, project.id, "auto", 0, ("", 20, 1.5, 0, 0))
    assert catalogue.project(store, project.id).pseudo_params == {}


def test_choices_that_an_older_version_did_not_have_are_shown_as_automatic(store, project):  # noqa: F811
    rounds_pseudo.decide(store, project.id, "nested_regions", {"diameter": 20, "sensitivity": 1, "min_size": 0})
    _, _, *sliders = method_menu.method_controls(store, project.id, "nested_regions")
    shown = {slider.label: slider.value for slider in sliders if slider.visible}
    assert shown["Object diameter (pixels)"] == 20
    assert (shown["Bright or dark"], shown["Channel"]) == (0, 0)
    pseudo.use(store, project.id, "nested_regions", 0, ("", 20, 1, 0, -1, 2))
    assert catalogue.project(store, project.id).pseudo_params == {
        "diameter": 20, "sensitivity": 1, "min_size": 0, "polarity": -1, "channel": 2,
    }  # fmt: skip


def test_another_method_is_run_behind_the_one_that_runs(store, project):  # noqa: F811
    pseudo.use(store, project.id, "auto", 0, ("",))
    (running,) = jobs.active(store, project.id)
    job_rows.claim(store, "host:1:t", running.id)
    pseudo.use(store, project.id, "auto", 0, ("",))
    assert [job.id for job in jobs.active(store, project.id)] == [running.id]
    pseudo.use(store, project.id, "log_watershed", 0, ("", 20))
    pseudo.use(store, project.id, "log_watershed", 0, ("", 30))
    _, waiting = jobs.active(store, project.id)
    job_rows.finish(store, running.id, "host:1:t", jobs.JobState.DONE)
    assert run_inline(store, waiting).result["method"] == "log_watershed"
    maps = rounds_pseudo.pseudo_maps(store, project.id).values()
    assert {item.params["diameter"] for item in maps} == {30.0}


def test_a_preview_is_queued_while_the_one_before_is_being_cancelled(store, project):  # noqa: F811
    pseudo.start_preview(store, project.id, "log_watershed", 0, 5, ("", 20))
    (running,) = jobs.active(store, project.id)
    job_rows.claim(store, processes.worker_name("t"), running.id)
    jobs.cancel(store, running.id)
    assert pseudo.start_preview(store, project.id, "log_watershed", 0, 5, ("", 20)) == 6
    assert pseudo.start_preview(store, project.id, "log_watershed", 0, 5, ("", 20)) == 6
    assert len(jobs.active(store, project.id)) == 2


@pytest.mark.parametrize(
    ("name", "draw", "values"),
    [("auto", 0, ("", 20)), ("log_watershed", 1, ("", 20)), ("log_watershed", 0, ("", 30))],
)
def test_a_preview_that_is_not_queued_is_told(store, project, monkeypatch, name, draw, values):  # noqa: F811
    told = []
    monkeypatch.setattr(pseudo.gr, "Warning", told.append)
    assert pseudo.start_preview(store, project.id, "log_watershed", 0, 5, ("", 20)) == 6
    assert pseudo.start_preview(store, project.id, "log_watershed", 0, 5, ("", 20)) == 6  # that one is queued
    assert told == []
    assert pseudo.start_preview(store, project.id, name, draw, 6, values) == 6
    assert told == [pseudo.BUSY]
    assert len(jobs.active(store, project.id)) == 1


def test_a_preview_that_is_being_made_is_told(store, project):  # noqa: F811
    with gr.Blocks():
        tab = pseudo.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))

    def text():
        return list(tab.refresh(project.id))[2]

    assert "No preview yet" in text()
    pseudo.start_preview(store, project.id, "log_watershed", 0, 0, ("", 20))
    assert "No preview yet" not in text()
    assert "The preview is being made" in text()
    run_inline(store, jobs.active(store, project.id)[0])
    assert "being made" not in text()
    pseudo.start_preview(store, project.id, "log_watershed", 0, 0, ("", 30))
    assert "Another preview is being made" in text()
    assert "(object diameter 20 pixels)" in text()  # of what was changed only


def test_no_patches_are_left_out_when_others_could_not_be_shown(store, project, monkeypatch):  # noqa: F811
    monkeypatch.setattr(pseudo.gr, "Warning", lambda text: None)
    assert pseudo.other_patches(store, project.id, "auto", 0, 5, ("",)) == [1, 6]
    assert pseudo.other_patches(store, project.id, "auto", 1, 6, ("",)) == [1, 6]
    (job,) = jobs.active(store, project.id)
    jobs.cancel(store, job.id)
    assert pseudo.other_patches(store, project.id, "auto", 1, 6, ("",)) == [2, 7]


def test_what_is_compared_with_follows_the_newest_preview_and_the_project(store, project, monkeypatch):  # noqa: F811
    with gr.Blocks():
        tab = pseudo.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))

    def pair(project_id):
        return list(tab.refresh(project_id))[7]

    def shown(project_id):
        caption, pictures = pseudo.follow_pair(store, pair(project_id), True)
        return caption.value if pictures.visible else None

    other = catalogue.create_project(store, "other")
    assert shown(None) is shown(other.id) is shown(project.id) is None
    for size in (20, 30, 25):
        pseudo.start_preview(store, project.id, "log_watershed", 0, 0, ("", size))
        (job,) = jobs.active(store, project.id)
        run_inline(store, job)
        before = pair(project.id)
    assert "diameter 30" in shown(project.id)
    assert pair(project.id) == before != pair(other.id)
    assert shown(other.id) is None
    assert not pseudo.follow_pair(store, before, False)[1].visible


def test_of_a_stack_it_is_told_which_slice_is_shown(store):
    stack = catalogue.create_project(store, "stack", patch_size=64)
    pixels = np.full((12, 64, 64, 1), 20, np.uint8)
    pixels[2:5, 10:22, 10:22] = pixels[3:9, 40:44, 40:44] = 200
    importing.add_array(store, stack.id, "stack", pixels)
    (patch,) = catalogue.patches(store, stack.id)
    found = np.zeros((12, 64, 64), np.int32)
    found[2:5, 10:22, 10:22], found[3:9, 40:44, 40:44], found[10, 0, 0] = 1, 2, 3
    item = labels.add(
        store, LabelKind.PSEUDO, found, project_id=stack.id, image_id=patch.image_id, patch_id=patch.id, backend="b",
        input_hash="h",
    )  # fmt: skip
    assert pseudo.picture_words(store, patch, item) == "slice 5 of 12, 2 objects of 3"
    pseudo.start_preview(store, stack.id, "auto", 0, 0, ("",))
    run_inline(store, jobs.active(store, stack.id)[0])
    text, ((_, words),) = pseudo.preview_shown(store, pseudo.newest_and_before(store, stack.id)[0])
    assert "the slice with most of its objects" in text
    assert words.startswith("slice ")


def test_the_page_says_how_labels_were_made(store, project, weighty, monkeypatch):  # noqa: F811
    assert pseudo.labels_in_use(store, project.id) == ""
    monkeypatch.setattr(Weighty, "fails_on", 3)
    rounds_pseudo.decide(store, project.id, "auto")
    rounds_pseudo.run_all(store, project.id, silent)
    told = pseudo.labels_in_use(store, project.id)
    assert told.count("Made by") == 1
    assert "Made by Nested thresholds" in told
    assert "Weighty failed on this image: odd. So Nested thresholds is used for all images alike." in told
    monkeypatch.setattr(Weighty, "fails_on", None)
    rounds_pseudo.run_all(store, project.id, silent)
    assert "Made by Weighty with the model small (AIS), weights aaaaaaaa…" in pseudo.labels_in_use(store, project.id)
