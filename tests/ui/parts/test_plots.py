import pytest

from alapp.domain import InstanceScores
from alapp.rounds.predict.evaluation import Summary
from alapp.rounds.results.results import CurvePoint
from alapp.ui.parts import plots


def summary(f1, interval=None):
    return Summary(InstanceScores(f1, f1, f1, f1, f1, 10, 10, 8, 2, 2), 4, interval)


def test_loss_curve_draws_the_previous_run_first_and_in_gray():
    run = [{"iteration": 25 * i, "loss": 1 / i, "round_number": 2} for i in (1, 2, 3)]
    before = [{"iteration": 25, "loss": 1.5, "round_number": 0}]
    figure = plots.loss_curve(run, before)
    assert [trace.name for trace in figure.data] == ["pre-training (before)", "round 2"]
    assert list(figure.data[1].x) == [25, 50, 75]
    assert list(figure.data[1].y) == pytest.approx([1, 1 / 2, 1 / 3])
    assert figure.data[0].line.color == plots.GHOST
    assert figure.layout.xaxis.title.text == "Iterations"


def test_learning_curve_has_error_bars_of_the_interval_and_a_test_curve():
    points = [
        CurvePoint(0, 1, 0, 0.0, None, summary(0.5)),
        CurvePoint(1, 2, 8, 0.1, summary(0.6, (0.5, 0.75)), summary(0.55)),
        CurvePoint(2, 3, 16, 0.2, summary(0.7, (0.65, 0.8)), summary(0.65)),
    ]
    validation, test = plots.learning_curve(points).data
    assert list(validation.x) == [8, 16]
    assert list(validation.error_y.array) == pytest.approx([0.15, 0.1])
    assert list(validation.error_y.arrayminus) == pytest.approx([0.1, 0.05])
    assert list(test.x) == [0, 8, 16]
    assert list(test.error_y.array) == [0, 0, 0]
    assert [told for _, _, told in validation.customdata] == ["95% interval 0.50 to 0.75", "95% interval 0.65 to 0.80"]
    assert {told for _, _, told in test.customdata} == {"too few for an interval"}


@pytest.mark.parametrize("figure", [plots.loss_curve([]), plots.learning_curve([])], ids=["loss", "curve"])
def test_empty_figures_say_what_to_do_and_are_transparent(figure):
    assert len(figure.data) == 0
    assert len(figure.layout.annotations) == 1
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
