"""What a person writes about an experiment."""

from __future__ import annotations

import pytest

from alapp.errors import InputError
from alapp.experiments import wording


@pytest.mark.parametrize(
    ("text", "budgets"),
    [("64, 16,32", (16, 32, 64)), ("6.25%; 12.5 %", (0.0625, 0.125)), ("0.5", (0.5,)), ("8,8", (8,))],
)
def test_budgets_are_read(text, budgets):
    assert wording.budgets_of(text) == budgets


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "Say how many"), ("few", "'few'"), ("5%, 10", "all as shares"), ("100%", "below 100%"), ("-3", "above 0"),
     ("0", "above 0"), ("nan", "above 0")],
)  # fmt: skip
def test_budgets_that_are_none_are_told(text, match):
    with pytest.raises(InputError, match=match):
        wording.budgets_of(text)


def test_starts_are_put_together():
    made = wording.starts_of(["auto"], ["drop", "shift"], 0.3, "reference")
    assert made == ("auto", "reference:drop=0.3", "reference:shift=0.3")
    told = [wording.start(name) for name in made]
    assert told[1] == "pre-trained on perfect labels, objects missing (30%)"
    assert told[2] == "pre-trained on perfect labels, objects shifted (by 0.3 diameters)"
    with pytest.raises(InputError, match="at most 1"):
        wording.starts_of([], ["drop"], 3, "reference")
    with pytest.raises(InputError, match="no start called"):
        wording.starts_of(["made up"], [], 0.5, "reference")


def test_folders_are_taken_as_pasted(tmp_path):
    assert wording.folder_of(f' "{tmp_path}" ') == str(tmp_path.resolve())
    assert wording.folder_of("  ") is None
