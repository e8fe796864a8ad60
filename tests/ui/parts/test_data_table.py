from __future__ import annotations

from alapp.ui.parts import data_table

COLUMNS = {"Image": None, "Objects": 0, "F1": 2}


def test_numbers_stay_numbers_and_are_shown_with_the_digits_of_their_column():
    value = data_table.filled(COLUMNS, [["a", 1234, 1.0], ["b", 7, 0.126]])
    assert value["data"] == [["a", 1234, 1.0], ["b", 7, 0.126]]
    assert value["metadata"]["display_value"] == [["a", "1,234", "1.00"], ["b", "7", "0.13"]]
    assert value["metadata"]["styling"][1] == ["", "text-align: right", "text-align: right"]


def test_what_is_not_known_is_a_dash():
    value = data_table.filled(COLUMNS, [["a", None, None]])
    assert value["data"] == [["a", None, None]]
    assert value["metadata"]["display_value"] == [["a", "–", "–"]]


def test_an_empty_table_has_its_heads():
    assert data_table.filled(COLUMNS, []) == {
        "headers": ["Image", "Objects", "F1"],
        "data": [],
        "metadata": {"display_value": [], "styling": []},
    }
    assert data_table.layout(COLUMNS).datatype == ["str", "number", "number"]
