"""Pseudo-labels of a project."""

from __future__ import annotations

import pytest

from alapp.domain import LabelKind, Modality, silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds import pseudo
from alapp.storage import catalogue, labels


def test_every_method_is_listed_with_its_status():
    listed = {method.name: method for method in pseudo.methods(Modality.LIGHT)}
    assert {"log_watershed", "em_dark_blobs", "cellsam", "micro_sam"} <= set(listed)
    assert listed["log_watershed"].status.ready
    assert all(method.status.ready or method.status.remedy for method in listed.values())


def test_nothing_runs_before_a_decision(store, project):
    with pytest.raises(NotReadyError, match="Choose how"):
        pseudo.run_all(store, project.id, silent)


def test_images_are_labelled_once_for_the_same_settings(store, project):
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 14})
    assert pseudo.run_all(store, project.id, silent)["made"] == 3
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    pseudo.decide(store, project.id, "log_watershed", {"diameter": 20})
    assert pseudo.run_all(store, project.id, silent)["made"] == 3


def test_auto_says_what_it_chose(store, project):
    pseudo.decide(store, project.id, pseudo.AUTO)
    done = pseudo.run_all(store, project.id, silent)
    assert done["method"] in {"log_watershed", "micro_sam", "cellsam"}
    assert done["reason"].endswith(".")
    made = labels.latest_by_image(store, project.id, LabelKind.PSEUDO)
    assert {item.params["reason"] for item in made.values()} == {done["reason"]}


def test_switched_off_makes_none(store, project):
    pseudo.decide(store, project.id, pseudo.NONE)
    assert pseudo.run_all(store, project.id, silent)["made"] == 0
    assert pseudo.pseudo_maps(store, project.id) == {}


@pytest.mark.parametrize(("params", "words"), [({"diameter": -5}, "between"), ({"colour": 1}, "no parameter")])
def test_impossible_parameters_are_refused(store, project, params, words):
    with pytest.raises(InputError, match=words):
        pseudo.decide(store, project.id, "log_watershed", params)
    assert catalogue.project(store, project.id).pseudo_method is None


def test_preview_shows_the_same_patches_for_the_same_draw(store, project):
    first = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    again = pseudo.run_preview(store, project.id, silent, "log_watershed", {})
    other = pseudo.run_preview(store, project.id, silent, "log_watershed", {}, draw=1)
    assert first["patches"] == again["patches"] != other["patches"]
    assert len(first["patches"]) == len(first["label_maps"]) == 10
