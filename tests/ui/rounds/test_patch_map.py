"""What the map of patches asks the server."""

from __future__ import annotations

import re

import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.storage import catalogue
from alapp.ui.rounds import patch_map, scatter
from tests.rounds.conftest import fast, project, store  # noqa: F401  (fixtures)


@pytest.fixture
def batch(store, project, fast):  # noqa: F811
    pseudo.decide(store, project.id, pseudo.NONE)
    return selection.run_select(store, project.id, silent, budget=4)["patches"]


@pytest.fixture
def ask(store):  # noqa: F811
    return {function.__name__: function for function in patch_map.server_functions(store)}


def test_points_are_sent_column_by_column(ask, project, batch):  # noqa: F811
    answer = ask["map_points"]({"project": project.id})
    assert {len(column) for column in answer.values()} == {12}
    assert [answer["id"][at] for at in range(12) if answer["round"][at] == 1] == sorted(batch)
    assert answer["status"].count("selected") == 4
    assert set(answer["doubt"]) == {None}


def test_a_map_without_points_says_what_it_waits_for(ask, store):  # noqa: F811
    other = catalogue.create_project(store, "other")
    assert ask["map_points"]({"project": other.id})["empty"] == "The map is made when you select the first batch."
    jobs.enqueue(store, "select", other.id, {"budget": 8})
    assert "The batch is being selected" in ask["map_points"]({"project": other.id})["empty"]
    assert "answer.empty" in scatter.script()


def test_a_card_says_why_a_patch_was_picked(ask, store, project, batch):  # noqa: F811
    card = ask["map_look"]({"project": project.id, "patch": batch[0]})
    assert card["name"] == catalogue.patch(store, batch[0]).name
    assert (card["state"], card["doubt"]) == ("Round 1, training, to be annotated", "")
    assert card["reason"].startswith("Why: ")
    assert card["picture"].startswith("data:image/png;base64,")
    free = next(patch.id for patch in catalogue.patches(store, project.id) if patch.id not in batch)
    card = ask["map_look"]({"project": project.id, "patch": free})
    assert (card["state"], card["reason"]) == ("Not selected in any round", "")


@pytest.mark.parametrize("message", [None, [], {}, {"project": "1"}, {"project": True}, {"project": 1, "patch": 10**9}])
def test_what_no_page_would_send_is_refused_in_words(ask, batch, message):
    assert "error" in ask["map_look"](message)
    if not message or message.get("project") != 1:
        assert "error" in ask["map_points"](message)


def test_patches_of_another_project_are_not_shown(ask, store, batch):  # noqa: F811
    other = catalogue.create_project(store, "other")
    assert "another project" in ask["map_look"]({"project": other.id, "patch": batch[0]})["error"]


def test_the_script_calls_the_functions_and_quotes_the_events(ask):
    script = scatter.script()
    assert set(re.findall(r'"(map_\w+)"', script)) == set(ask)
    # Gradio looks for events in the script by their quoted names.
    assert all(f'trigger("{name}"' in script for name in ("picked", "opened"))
