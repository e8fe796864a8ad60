"""What is said of the time left, on a clock that is made up."""

from __future__ import annotations

import threading

import pytest

from alapp import jobs, running
from alapp.domain import part
from alapp.pace import Pace
from alapp.storage import jobs as rows
from alapp.storage.db import Store
from tests.job_kinds import KINDS


def told(reports: list[tuple[float, float]]) -> list[float | None]:
    """What is said after each report (seconds, fraction)."""
    pace, found = Pace(), []
    for at, fraction in reports:
        pace.add(at, fraction)
        found.append(pace.seconds_left(at))
    return found


def steady(start: float, done: float, end: float, seconds: float, each: float) -> list[tuple[float, float]]:
    """Reports from `done` to `end`, every `each` seconds, from `start` on, in `seconds` altogether."""
    n = round(seconds / each)
    return [(start + each * i, done + (end - done) * i / n) for i in range(n + 1)]


def close(found: list[float | None], reports: list[tuple[float, float]], end: float, factor: float = 1.5) -> None:
    """What is said is right within `factor`, and something is said at last."""
    for left, (at, _) in zip(found, reports, strict=True):
        if left is not None and end - at > 10:
            assert (end - at) / factor <= left <= (end - at) * factor, (at, left)
    assert found[-2] is not None


@pytest.mark.parametrize("before", [300, 2000, 4000, 5900])
@pytest.mark.parametrize("silence", [0.2, 10.0])
def test_iterations_of_an_earlier_attempt_do_not_count(before, silence):
    """A round of 6,000 iterations of 0.4 s goes on: they are the fractions 0.05 to 0.8, and the rest goes as fast."""
    reports = [(0.0, 0.0), *steady(silence, 0.05 + 0.75 * before / 6000, 1.0, (6000 - before) * 0.4 + 640, 4.0)]
    found = told(reports)
    close(found, reports, reports[-1][0])
    assert found[6] is not None  # within half a minute


def test_nor_do_small_steps_that_were_done_before():
    cached = [(10 + 0.001 * i, 0.004 * i) for i in range(100)]
    reports = [(0.0, 0.0), *cached, *steady(15.0, 0.4, 1.0, 600, 5.0)]
    found = told(reports)
    close(found, reports, 615.0)
    assert found[105] is not None


@pytest.mark.parametrize(("first", "second"), [(30, 3000), (3000, 30)])
def test_a_part_with_another_speed_is_judged_by_itself(first, second):
    reports = [*steady(0, 0.0, 0.5, first, 2.0), *steady(first + 2, 0.502, 1.0, second, 2.0)]
    found = told(reports)
    later = [index for index, (at, _) in enumerate(reports) if at > first + 10]
    close([found[i] for i in later], [reports[i] for i in later], reports[-1][0])


def test_few_long_steps_are_told_after_a_minute_and_then_all_the_time():
    reports = [(100.0 * i, i / 8) for i in range(9)]
    assert told(reports) == [None, *(pytest.approx(800 - 100 * i) for i in range(1, 9))]
    pace = Pace()
    for at, fraction in reports[:4]:
        pace.add(at, fraction)
    assert pace.seconds_left(399) == pytest.approx(5 / 8 * 399 / (3 / 8))


def test_steps_of_uneven_length_are_averaged():
    at, reports = 0.0, []
    for i in range(41):
        reports.append((at, i / 40))
        at += 2.0 if i % 2 else 8.0
    close(told(reports), reports, reports[-1][0], 1.7)


def test_after_a_step_back_it_begins_anew():
    found = told([*steady(0, 0.0, 0.5, 50, 2.0), (52, 0.1), (54, 0.11), (56, 0.12), (58, 0.13)])
    assert found[25] == pytest.approx(50)
    assert found[26:29] == [None] * 3
    assert found[29] == pytest.approx(0.87 * 6 / 0.03)


def test_nothing_is_told_of_what_stands_still():
    assert told([(0.0, 0.0), (90.0, 0.0)]) == [None, None]
    assert Pace().seconds_left(5.0) is None


def test_a_resumed_job_does_not_promise_to_be_done_in_a_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KINDS", KINDS)
    job = rows.claim(store, "host:1:t", jobs.enqueue(store, "count").id)
    clock = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: clock[0])
    report = running.Reporter(store, job, "host:1:t", threading.Event())
    report(0, 1, "Measuring")
    clock[0] = 10.0
    training = part(report, 0.05, 0.8)
    seen = []
    for iteration in range(4000, 6000, 10):
        training(iteration, 6000, "Training")
        left = jobs.get(store, job.id).eta
        seen.append(left)
        assert left is None or left > (6000 - iteration) * 0.4
        clock[0] += 4.0
    assert seen[3] == pytest.approx(1430, rel=0.01)
