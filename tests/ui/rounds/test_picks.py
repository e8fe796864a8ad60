"""The picks of a round, and the panel with one patch."""

from __future__ import annotations

import numpy as np
import pytest

from alapp import jobs
from alapp.domain import silent
from alapp.errors import NotReadyError
from alapp.rounds.pseudolabel import pseudo
from alapp.rounds.select import selection
from alapp.storage import catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.parts.overlay import PALETTE
from alapp.ui.rounds import picks, place
from tests.rounds.conftest import fast, project, store  # noqa: F401  (fixtures)
from tests.rounds.test_loop import run_round


@pytest.fixture
def batch(store, project, fast):  # noqa: F811
    """One finished round, and a second one."""
    pseudo.decide(store, project.id, pseudo.NONE)
    run_round(store, project, 4)
    return selection.run_select(store, project.id, silent, budget=3)["patches"]


def test_picks_of_earlier_rounds_can_be_looked_at(store, project, batch):  # noqa: F811
    menu, shown, hint = picks.show_round(store, project.id, picks.NEWEST)
    assert [value for _, value in menu.choices] == [picks.NEWEST, 1]
    assert (menu.value, len(shown.value)) == (picks.NEWEST, 3)
    assert "Round 2 has 3 patches: 2 to train on, 1 for validation. 0 of 3 finished" in hint
    menu, shown, hint = picks.show_round(store, project.id, 1)
    assert (menu.value, len(shown.value)) == (1, 4)
    assert "4 of 4 finished" in hint
    first = round_rows.picked(store, round_rows.rounds(store, project.id)[0].id)
    assert picks.show_pick(store, project.id, 1, 2)[-1] == first[2].patch_id
    assert picks.show_pick(store, project.id, picks.NEWEST, 0)[-1] == batch[0]
    with pytest.raises(NotReadyError, match="changed in the meantime"):
        picks.show_pick(store, project.id, picks.NEWEST, 3)


def test_what_was_selected_is_told(store, project, fast):  # noqa: F811
    selection.run_select(store, project.id, silent, budget=32)
    hint = picks.show_round(store, project.id, picks.NEWEST)[2]
    assert "Round 1 has 12 patches: 10 to train on, 2 for validation. You asked for 32; there were no more." in hint


def test_a_round_that_is_gone_shows_the_newest(store, project, batch):  # noqa: F811
    assert picks.show_round(store, project.id, 99)[0].value == picks.NEWEST
    other = catalogue.create_project(store, "other")
    assert not picks.show_round(store, other.id, 1)[1].visible
    assert "No batch yet" in picks.show_round(store, None, 1)[2]
    jobs.enqueue(store, "select", other.id, {"budget": 8})
    assert "The batch is being selected" in picks.show_round(store, other.id, 1)[2]


def test_the_panel_shows_the_nearest_patch_and_the_place(store, project, batch):  # noqa: F811
    pick = next(p for p in round_rows.selected_in_project(store, project.id).values() if p.patch_id == batch[0])
    near = catalogue.patch(store, pick.reason["nearest_patch"])
    text = picks.show_patch(store, project.id, batch[0])[2]
    assert f"Most like it: {near.name}, distance {pick.reason['distance']:.2f}" in text
    assert "embedding of today" not in text
    assert text.count("<img src=") == 2


def test_a_swap_says_what_it_replaced_and_shows_the_new_pick(store, project, batch):  # noqa: F811
    vetoed = catalogue.patch(store, batch[0]).name
    *panel, chosen, changed = picks.swap(store, project.id, batch[0], 7)
    assert changed == 8
    assert chosen not in batch
    assert f"It took the place of {vetoed}, which you vetoed." in panel[2]


def test_the_place_is_marked_on_the_grid(store, project):  # noqa: F811
    patches = catalogue.patches(store, project.id)
    shown = place.picture(store, patches[3], side=128)
    assert shown.shape == (128, 128, 3)
    orange = np.argwhere((shown == PALETTE[0]).all(axis=2))
    box = patches[3].box
    assert orange.min(axis=0).tolist() == [box.y, box.x]
    assert orange.max(axis=0).tolist() == [box.y + 63, box.x + 63]
    assert (shown[0, :60] == place.GRID).all()


def test_a_large_image_is_drawn_small(store, project):  # noqa: F811
    assert place.picture(store, catalogue.patches(store, project.id)[0], side=32).shape == (32, 32, 3)
