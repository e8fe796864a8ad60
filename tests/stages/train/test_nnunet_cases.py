import numpy as np
import pytest

from alapp.domain import silent
from alapp.errors import Cancelled, InputError
from alapp.stages.train.cases import identifier, prepare_cases
from alapp.stages.train.workspace import Layout
from tests.stages.train.nnunet_discs import case, discs


def files(layout):
    return {path.name: path.stat().st_mtime_ns for path in layout.cases("nnUNetPlans_2d").iterdir()}


def test_only_changed_cases_are_preprocessed_again(workspace):
    layout = Layout(workspace)
    plan = layout.read_plan()
    old = [case(f"gt_{i}", *discs(i)) for i in range(3)]
    names = prepare_cases(layout, plan, old, silent, 1)
    before = files(layout)
    assert names == [identifier(one) for one in old]
    assert len(before) == 9
    changed = [*old[:2], case("gt_2", *discs(5), version="2")]
    said = []
    prepare_cases(layout, plan, changed, lambda *step: said.append(step[2]), 1)
    after = files(layout)
    assert said == ["Preparing labelled patch 1 of 1"]
    assert {name: time for name, time in after.items() if "gt_2" not in name} == {
        name: time for name, time in before.items() if "gt_2" not in name
    }
    assert {name for name in after if "gt_2" in name}.isdisjoint(before)
    assert len(after) == 9


def test_a_half_written_case_is_done_again(workspace):
    layout = Layout(workspace)
    plan = layout.read_plan()
    one = case("gt_0", *discs(0))
    prepare_cases(layout, plan, [one], silent, 1)
    folder = layout.cases("nnUNetPlans_2d")
    (folder / f"{identifier(one)}.pkl").unlink()
    (folder / f"{identifier(one)}.b2nd").write_bytes(b"half")
    (layout.incoming / "rubbish.b2nd").write_bytes(b"half")
    prepare_cases(layout, plan, [one], silent, 1)
    assert (folder / f"{identifier(one)}.b2nd").stat().st_size > 1000
    assert not list(layout.incoming.iterdir())


def test_cancelling_keeps_the_cases_that_are_done(workspace):
    layout = Layout(workspace)
    cases = [case(f"gt_{i}", *discs(i)) for i in range(3)]

    def stop_at_second(done, total, message):
        if "patch 2" in message:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        prepare_cases(layout, layout.read_plan(), cases, stop_at_second, 1)
    assert {name.split("--")[0] for name in files(layout)} == {"gt_0"}


@pytest.mark.parametrize(
    ("key", "image", "labels", "sentence"),
    [
        ("gt/1", np.ones((8, 8, 1)), np.ones((8, 8), int), "only letters"),
        ("a", np.ones((8, 8, 1)), np.ones((8, 9), int), "does not fit"),
        ("a", np.full((8, 8, 1), np.nan), np.ones((8, 8), int), "not numbers"),
        ("a", np.ones((8, 8, 3)), np.ones((8, 8), int), "has 3 channels"),
        ("a", np.ones((4, 8, 8, 1)), np.ones((4, 8, 8), int), "not 2D"),
    ],
)
def test_unusable_cases_are_refused_with_their_name(workspace, key, image, labels, sentence):
    layout = Layout(workspace)
    with pytest.raises(InputError, match=sentence) as raised:
        prepare_cases(layout, layout.read_plan(), [case(key, image, labels)], silent, 1)
    assert key in str(raised.value)


def test_two_cases_may_not_share_a_name(workspace):
    layout = Layout(workspace)
    with pytest.raises(InputError, match="same name"):
        prepare_cases(layout, layout.read_plan(), [case("a", *discs(0)), case("a", *discs(1))], silent, 1)
