"""The menu of selection strategies."""

from __future__ import annotations

import pytest

from alapp.errors import InputError
from alapp.stages.select.base import SELECTORS
from alapp.storage import catalogue
from alapp.ui.rounds import rounds, strategies


def test_the_menu_shows_every_strategy_once_with_its_sentence():
    shown = strategies.choices()
    assert sorted(name for _, name in shown) == sorted(SELECTORS)
    assert [name for _, name in shown][:2] == ["auto", "coreset"]
    for words, name in shown:
        assert words == f"{SELECTORS.load(name).title}: {SELECTORS.load(name).suits}"


def test_every_strategy_is_in_one_group():
    grouped = [name for names in strategies.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(SELECTORS)


def test_below_the_menu_stands_what_is_chosen():
    assert "looks at every image four times" in strategies.about("entropy")
    assert "Where the model is unsure" in strategies.about("entropy")
    assert "looks at every image" not in strategies.about("coreset")
    assert strategies.about(None) == strategies.about("gone") == ""


def test_a_choice_is_kept_for_the_project(store, project):
    rounds.keep_strategy(store, project.id, "typical")
    assert catalogue.project(store, project.id).strategy == "typical"
    with pytest.raises(InputError, match="'astrology'"):
        rounds.keep_strategy(store, project.id, "astrology")
    assert rounds.refresh(store, project.id)[2].value == "typical"
