"""The choice of what patches are compared by."""

import gradio as gr
import pytest

from alapp.domain import silent
from alapp.errors import InputError, NotReadyError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.train import training
from alapp.stages.embed.base import EMBEDDERS
from alapp.storage import catalogue
from alapp.ui.page import Page
from alapp.ui.rounds import compared_by, rounds
from tests.rounds.conftest import fast, project, store  # noqa: F401  (fixtures)


def test_every_embedder_can_be_chosen_and_is_kept(store, project):  # noqa: F811
    assert [name for _, name in compared_by.choices()] == list(EMBEDDERS)
    assert compared_by.refresh(store, project.id)[0].value == "mae"
    for name in EMBEDDERS:
        compared_by.keep(store, project.id, name)
        assert catalogue.project(store, project.id).embedder == name
        assert compared_by.refresh(store, project.id)[0].value == name


def test_what_cannot_be_used_yet_says_why_and_what_is_used_instead(store, project, fast):  # noqa: F811
    assert compared_by.state_note(store, project.id) == ""
    note = compared_by.keep(store, project.id, "network")
    assert "No network is trained yet" in note
    assert EMBEDDERS.load("mae").title in note
    pseudo.decide(store, project.id, "log_watershed")
    training.run_pretrain(store, project.id, silent)
    assert compared_by.state_note(store, project.id) == ""


def test_what_a_browser_may_send_is_checked(store, project):  # noqa: F811
    with pytest.raises(NotReadyError):
        compared_by.keep(store, None, "mae")
    with pytest.raises(InputError, match="magic"):
        compared_by.keep(store, project.id, "magic")
    assert compared_by.refresh(store, None)[1] == ""


def test_the_rounds_tab_refreshes_it(store, project):  # noqa: F811
    with gr.Blocks():
        tab = rounds.build(Page(store, gr.State(None), gr.Tabs(), gr.State(0), gr.State(None), gr.State(None)))
    for project_id in (None, project.id):
        assert len(list(tab.refresh(project_id))) == len(tab.outputs)
