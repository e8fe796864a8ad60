"""The form of the Experiments tab: what it refuses, and what it makes."""

from __future__ import annotations

import gradio as gr
import pytest

from alapp import jobs
from alapp.domain import Preset
from alapp.errors import InputError, NotReadyError
from alapp.experiments import control
from alapp.storage import experiments as rows
from alapp.ui import shell
from alapp.ui.experiments import experiment_form, experiments
from tests.experiments.conftest import source  # noqa: F401  (fixture)
from tests.rounds.conftest import project  # noqa: F401  (fixture)


@pytest.fixture
def said(source):  # noqa: F811
    """What the form holds when folders were named and the rest was left as it is."""
    with gr.Blocks():
        fields = experiment_form.lay_out()
    values = {name: field.value for name, field in fields.items()}
    folders = {"origin": "folders", "images": f'"{source.images}"', "labels": source.labels, "patch": 64}
    return values | folders | {"name": "mine", "budgets": "2, 4"}


def test_the_form_makes_the_study(store, said):
    study = experiment_form.study_of(store, None, said | {"damages": ["merge"], "iterations": 7, "seeds": 2})
    assert study.strategies == ("auto", "coreset", "random")
    assert study.starts == ("auto", "reference:merge=0.5")
    assert (study.budgets, study.seeds, study.iterations) == ((2, 4), (0, 1), 7)
    assert study.preset is Preset.QUICK


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"strategies": []}, "at least one strategy"),
        ({"starts": []}, "at least one pre-training"),
        ({"schedules": []}, "way of training"),
        ({"seeds": 0}, "Repetitions must be"),
        ({"seeds": 1.5}, "Repetitions must be"),
        ({"labels": ""}, "folder of their instance maps"),
        ({"test_images": "/somewhere"}, "together, or neither"),
        ({"preset": "made up"}, "how long a round"),
        ({"patch": 5}, "Patch size must be"),
    ],
)
def test_what_cannot_be_is_told(store, said, change, match):
    with pytest.raises(InputError, match=match):
        experiment_form.study_of(store, None, said | change)


def test_reference_masks_are_offered_where_there_are_some(store, said, project):  # noqa: F811
    assert len(experiment_form.origins(store, None).choices) == 2
    assert len(experiment_form.origins(store, project.id).choices) == 3
    assert experiment_form.study_of(store, project.id, said | {"origin": "project"}).source.project == project.id
    with pytest.raises(NotReadyError, match="Open a project"):
        experiment_form.study_of(store, None, said | {"origin": "project"})


def test_a_second_experiment_is_stored_while_the_first_is_at_work(store, said):
    experiments.start_new(store, None, None, said)
    experiments.start_new(store, None, None, said | {"name": "second"})
    first, second = rows.every(store)
    assert [job.params for job in jobs.active(store)] == [{"experiment": first.id, "workers": said["workers"]}]
    assert control.job_of(store, second.id) is None


def test_only_what_is_new_is_shown_when_the_tab_is_refreshed(store):
    """The question whether to delete would close with it."""
    demo = shell.build(store)
    seen = [fn.outputs[0] for fn in demo.fns.values() if len(fn.outputs) == 15 and fn.targets[0][1] == "tick"]
    looks = [fn for fn in demo.fns.values() if seen[0] in fn.outputs and fn.targets[0][1] in ("change", "input")]
    assert len(looks) == 2
    assert all(seen[0] in fn.inputs for fn in looks)


def test_visitors_of_the_demo_are_told_why_not(store, said, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/app")
    for act in (
        lambda: experiments.start_new(store, None, "0" * 32, said),
        lambda: experiments.do(store, "start", 1, 1, "0" * 32),
    ):
        with pytest.raises(InputError, match="public demo"):
            act()
    assert experiments.foretold(store, None, said) == ""
    text, everything, _ = experiments.refresh()
    assert "public demo" in text
    assert not everything.visible


def test_the_end_of_a_run_does_not_take_the_question_away(store, said):
    """Whether the experiment may be deleted was asked while a look at the one before was under way."""
    made, _ = control.define(store, "mine", experiment_form.study_of(store, None, said))
    question = 10
    seen = experiments.look(store, made.id)[0]
    store.execute("UPDATE experiment_run SET state = 'failed', error = 'Full.' WHERE experiment_id = ?", (made.id,))
    later = experiments.look(store, made.id, seen)
    assert later[0] != seen
    assert later[question] == gr.skip()
    assert experiments.look(store, made.id)[question].visible is False
    experiments.start_new(store, None, None, said | {"name": "second"})
    assert experiments.look(store, rows.every(store)[-1].id, later[0])[question].visible is False
