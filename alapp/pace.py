"""How long a job still takes, told by how fast it went lately."""

from __future__ import annotations

WINDOW_SECONDS = 60.0
"""What lies further back says little: the parts of a job differ in speed."""

STEP_SECONDS = 1.0
"""Reports that follow each other faster are taken as one."""

FEWEST_STEPS = 3
"""With fewer, nothing is told before `WINDOW_SECONDS` have passed; so many are kept, however long they take."""

JUMP = 0.02
"""A report may skip so much of the job; more at once may be work that was done before."""

OTHER_SPEED = 6.0
"""Work that goes so many times faster or slower than what came before is another part of the job."""

Point = tuple[float, float]
"""When something was reported, in seconds, and the fraction of the job that was done by then."""


class Pace:
    """The speed of a job, from what it reported lately.

    Not from its beginning: what an earlier attempt did passes in a moment, and so much would be promised for the rest.
    Points are replaced, never changed, so that another thread may ask.
    """

    def __init__(self) -> None:
        self._points: tuple[Point, ...] = ()
        self._last: Point = (0.0, 0.0)

    def add(self, at: float, fraction: float) -> None:
        """`fraction` of the job, in [0, 1], is done `at` a time in seconds."""
        now = (at, fraction)
        if not self._points or fraction < self._last[1] - 1e-6 or self._jumps(now):
            self._points = (now,)
        elif fraction > self._points[-1][1] and at - self._points[-1][0] >= STEP_SECONDS:
            self._points = _lately((*self._points, now))
        self._last = now

    def seconds_left(self, at: float) -> float | None:
        """Seconds from now, which is `at`, to the end of the job; None while that cannot be told."""
        points, (_, done) = self._points, self._last
        if not points or done <= points[0][1]:
            return None
        elapsed = at - points[0][0]
        if len(points) <= FEWEST_STEPS and elapsed < WINDOW_SECONDS:
            return None
        return max(0.0, (1.0 - done) * elapsed / (done - points[0][1]))

    def _jumps(self, now: Point) -> bool:
        """Whether so much was done since the last report that it must have been done before."""
        if now[1] - self._last[1] <= JUMP:
            return False
        if len(self._points) == 1:
            return now[0] - self._last[0] < STEP_SECONDS
        return _slowness(self._last, now) * OTHER_SPEED < _slowness(self._points[0], self._points[-1])


def _lately(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points that tell the present speed."""
    if len(points) > FEWEST_STEPS:
        before, since = _slowness(points[0], points[-3]), _slowness(points[-3], points[-1])
        if not before / OTHER_SPEED < since < before * OTHER_SPEED:
            return points[-3:]
    begin = points[-1][0] - WINDOW_SECONDS
    while len(points) > FEWEST_STEPS + 1 and points[1][0] <= begin:
        points = points[1:]
    return points


def _slowness(one: Point, other: Point) -> float:
    """Seconds that the whole job would take at the speed between two points."""
    return (other[0] - one[0]) / (other[1] - one[1])
