"""When a run ends: what is said on the way, beside what becomes true."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtime.cli.console import Activity
from runtime.cli.pace import Pace

STEPS = 1000


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _growing(number: int) -> float:
    return 1 + 2 * number / STEPS


def _in_bursts(number: int) -> float:
    return 0.08 if number % 20 < 3 else 0.005


def _said(time_of: Callable[[int], float], slow: int) -> Iterator[tuple[int, float, float]]:
    """After each step, but for the last: its number, the seconds left as they are said, and as they are."""
    times = [20 * time_of(0)] * slow + [time_of(number) for number in range(STEPS - slow)]
    clock = Clock()
    pace = Pace(STEPS, clock)
    for number, each in enumerate(times[:-1], 1):
        clock.now += each
        pace.done()
        yield number, pace.left_s() or 0.0, sum(times[number:])


@pytest.mark.parametrize("slow", [0, 1, 5, 15])
@pytest.mark.parametrize(
    "time_of", [lambda number: 0.3, _growing, _in_bursts], ids=["even", "growing", "bursts"]
)
def test_after_a_tenth_it_is_right_within_a_fifth(time_of: Callable[[int], float], slow: int) -> None:
    for number, said, true in _said(time_of, slow):
        if STEPS // 10 <= number <= STEPS - 20:
            assert said == pytest.approx(true, rel=0.2, abs=0.5), number


def test_steps_that_get_shorter_never_take_no_time() -> None:
    assert all(said > 0 for number, said, _ in _said(lambda n: 1.001 - n / STEPS, 1) if number > 20)


def test_nothing_is_said_before_something_is_known() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    assert pace.left_s() is None
    assert pace.text() == "[------------------------] 0 of 4"
    for seconds in (60, 10, 10):
        clock.now += seconds
        pace.done()
    assert pace.text() == "[##################------] 3 of 4, 10 s left"
    clock.now += 4
    assert pace.left_s() == 6
    clock.now += 100
    assert pace.left_s() == 0
    pace.done()
    assert pace.text() == f"[{'#' * 24}] 4 of 4, 0 s left"


@pytest.mark.parametrize(("seconds", "text"), [(59, "59 s"), (185, "3 min 5 s"), (7805, "2 h 10 min")])
def test_times_are_for_people(seconds: int, text: str) -> None:
    clock = Clock()
    pace = Pace(3, clock)
    for each in (1, seconds):
        clock.now += each
        pace.done()
    assert pace.text().endswith(f" 2 of 3, {text} left")


def test_an_activity_tells_how_far_it_is() -> None:
    activity = Activity("simulating", pace=Pace(8, Clock()))
    assert activity.line() == "simulating: [------------------------] 0 of 8 (0 s)"
    activity.note = "interrupted"
    assert activity.line().endswith("0 of 8, interrupted (0 s)")
