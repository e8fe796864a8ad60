"""The Pseudo-labels tab: what it offers, what it queues, and what it tells about labels."""

from __future__ import annotations

import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import InputError
from alapp.rounds.pseudolabel import pseudo as rounds_pseudo
from alapp.storage import catalogue
from alapp.ui.pseudolabel import pseudo
from tests.rounds.conftest import project  # noqa: F401
from tests.rounds.pseudolabel.test_pseudo import Weighty, weighty  # noqa: F401


def test_auto_comes_first_and_says_what_it_would_take(store, project, weighty):  # noqa: F811
    radio, why, model, *sliders = pseudo.chosen_method(store, project.id)
    assert radio.choices[0] == ("Automatic (now: Weighty)", "auto")
    assert radio.value == "auto"
    assert "Weighty is installed with its weights." in why
    assert not model.visible
    assert not any(slider.visible for slider in sliders)


def test_the_weights_of_a_method_can_be_chosen(store, project, weighty):  # noqa: F811
    why, model, *_ = pseudo.method_controls(store, project.id, "micro_sam")
    assert (why, model.visible, model.value) == ("", True, "")
    assert [value for _, value in model.choices] == ["", "small", "large"]
    pseudo.use(store, project.id, "micro_sam", 0, ("large",))
    assert catalogue.project(store, project.id).pseudo_params == {"model": "large"}
    assert pseudo.method_controls(store, project.id, "micro_sam")[1].value == "large"
    with pytest.raises(InputError, match="'huge' is not on this computer"):
        pseudo.use(store, project.id, "micro_sam", 0, ("huge",))


def test_sliders_become_parameters_by_name(store, project):  # noqa: F811
    pseudo.start_preview(store, project.id, "log_watershed", 0, 0, ("", 20, 1.5, 0, 0))
    pseudo.start_preview(store, project.id, "auto", 1, 0, ("", 20, 1.5, 0, 0))
    (job,) = jobs.active(store, project.id)
    assert job.params["params"] == {"diameter": 20.0, "sensitivity": 1.5, "min_size": 0.0}
    pseudo.use(store, project.id, "auto", 0, ("", 20, 1.5, 0, 0))
    assert catalogue.project(store, project.id).pseudo_params == {}


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
