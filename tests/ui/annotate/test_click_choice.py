"""The question "What answers your clicks?": states, the reason for "automatic", and choices that cannot be used."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp.domain import BackendState, Modality, Status
from alapp.errors import InputError
from alapp.rounds.annotate import clicks
from alapp.stages.annotate.base import CLICK_SEGMENTERS
from alapp.storage import catalogue
from alapp.ui.annotate import click_choice
from tests.rounds.annotate.test_click_methods import _installed, put  # noqa: F401  (fixture)


def test_automatic_names_what_it_uses_and_why(store, project):
    menu, note = click_choice.refresh(store, project.id)
    assert menu.value == "auto"
    assert menu.choices[0] == ("Automatic · now built-in (seeded watershed)", "auto")
    assert ("micro_sam for light microscopy, tiny (vit_t_lm) · weights missing", "micro_sam:vit_t_lm") in menu.choices
    assert "<strong>Built-in (seeded watershed)</strong> answers your clicks." in note
    assert "no weights on this computer" in note


def test_what_is_not_ready_is_not_kept(store, project):
    menu, note, changed = click_choice.choose(store, project.id, "micro_sam:vit_b_lm", 3)
    assert changed == 3
    assert menu.value == "auto"
    assert note.startswith('<div class="al-say warn"')
    assert "cannot answer clicks yet" in note
    assert "<strong>Built-in (seeded watershed)</strong> answers your clicks." in note


def test_a_refusal_stays_when_the_menu_is_left(store, project):
    assert click_choice.choose(store, project.id, "auto", 3) == [gr.skip()] * 3  # what the menu was set back to


def test_what_is_ready_is_kept(store, project):
    put("vit_b_lm")
    menu, note, changed = click_choice.choose(store, project.id, "micro_sam:vit_b_lm", 3)
    assert (menu.value, changed) == ("micro_sam:vit_b_lm", 4)
    assert catalogue.project(store, project.id).click_method == "micro_sam:vit_b_lm"
    assert "You chose <strong>micro_sam for light microscopy, base (vit_b_lm)</strong>" in note


def test_a_choice_whose_weights_are_gone_says_so(store, project):
    catalogue.update_project(store, project.id, click_method="micro_sam:vit_b_lm")
    menu, note = click_choice.refresh(store, project.id)
    assert menu.value == "micro_sam:vit_b_lm"
    assert "You chose micro_sam for light microscopy, base (vit_b_lm). No weights were found" in note
    catalogue.update_project(store, project.id, click_method="<gone>")
    menu, note = click_choice.refresh(store, project.id)
    assert menu.value == "<gone>"
    assert "no click method called &#x27;&lt;gone&gt;&#x27;" in note


def test_automatic_names_the_weights_and_their_failure(store, project, monkeypatch):
    put("vit_b_lm")
    monkeypatch.setattr(CLICK_SEGMENTERS.load("micro_sam"), "status", lambda modality=None: Status(BackendState.READY))
    menu, note = click_choice.refresh(store, project.id)
    assert menu.choices[0] == ("Automatic · now micro_sam with vit_b_lm", "auto")
    assert "trained for light microscopy" in note
    failures = {("micro_sam", Modality.LIGHT): "It failed. The built-in click method is used instead."}
    monkeypatch.setattr(clicks, "_failures", failures)
    assert "The built-in click method is used instead" in click_choice.refresh(store, project.id)[1]
    catalogue.update_project(store, project.id, click_method="watershed")
    assert "It failed" not in click_choice.refresh(store, project.id)[1]


def test_without_a_project(store):
    assert click_choice.refresh(store, None)[1] == ""
    with pytest.raises(InputError, match="open a project first"):
        click_choice.choose(store, None, "auto", 0)
