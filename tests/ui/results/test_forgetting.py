"""What the table about forgetting says in numbers."""

import pytest

from alapp.stages.paired import Difference
from alapp.ui.results import forgetting


@pytest.mark.parametrize(
    ("pair", "cells"),
    [
        (Difference(9, 0.8751, 0.8729, (-0.0104, 0.0002)), ["9", "0.875", "0.873", "-0.002 (-0.010 to 0.000)"]),
        (Difference(3, 0.9001, 0.9, None), ["3", "0.900", "0.900", "0.000"]),
        (Difference(6, 0.5, 0.75, (0.1, 0.4)), ["6", "0.500", "0.750", "+0.250 (+0.100 to +0.400)"]),
    ],
)
def test_a_change_agrees_with_its_scores_and_nothing_has_no_sign(pair, cells):
    assert forgetting._columns(pair, True) == cells
    assert forgetting._columns(pair, False) == cells[:3]
