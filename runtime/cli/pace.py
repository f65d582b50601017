"""When a run of many steps will end, from how long its steps have taken so far.

The first steps are slow (code is compiled, caches are empty), so they do not count; nor do all that stand out at the
start. Later ones may be slower or faster than earlier ones: the trend goes on as far as it stands out from the scatter
of the steps' times, else the mean does. Both come from means of blocks, as times of neighbouring steps are alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

_FIRST = 0.01  # of all steps, which do not count
_SLOW = 2  # times the slowest tenth's quickest step: what a slow start is
_BLOCKS = 8
_DOUBT = 16  # a slope below 4 standard errors is none
_LEAST = 0.5  # of the mean: what the trend may come down to
_BAR = 24  # characters


class Pace:
    """A run of so many steps, each of which says when it is done."""

    def __init__(self, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.steps = steps
        self._clock, self._last = clock, clock()
        self._times: list[float] = []

    def done(self) -> None:
        """The next step is done."""
        now = self._clock()
        self._times.append(now - self._last)
        self._last = now

    def left_s(self) -> float | None:
        """Seconds until the last step is done; None if that is not known yet."""
        times, waited = tuple(self._times), self._clock() - self._last
        left = self.steps - len(times)
        counted = _counted(times, max(1, int(self.steps * _FIRST)))
        if not left:
            return 0.0
        if not counted:
            return None
        each = _mean_ahead(counted, left)
        return each * left - min(waited, each)

    def text(self) -> str:
        """A bar, how many steps are done, and how long the others will take."""
        done, left = len(self._times), self.left_s()
        bar = ("#" * (_BAR * done // self.steps)).ljust(_BAR, "-")
        return f"[{bar}] {done:,} of {self.steps:,}" + (
            f", {_duration(left)} left" if left is not None else ""
        )


def _counted(times: Sequence[float], first: int) -> Sequence[float]:
    """The steps that say something of those to come: without the first, and without a slow start."""
    rest = times[first:]
    if not rest:
        return rest
    limit = _SLOW * sorted(rest)[(len(rest) - 1) * 9 // 10]
    slow = next((number for number, each in enumerate(rest) if each <= limit), 0)
    return rest[slow:]


def _mean_ahead(times: Sequence[float], left: int) -> float:
    """What a step will take on average, of `left` that come after those with these times."""
    mean = sum(times) / len(times)
    if len(times) < _BLOCKS:
        return mean
    return max(mean + _slope(times) * (len(times) + left) / 2, mean * _LEAST)


def _slope(times: Sequence[float]) -> float:
    """By how much each step is slower than the one before it, less the more doubtful that is."""
    size = len(times) // _BLOCKS
    start = len(times) - size * _BLOCKS
    blocks = [sum(times[at : at + size]) / size for at in range(start, len(times), size)]
    mean = sum(blocks) / _BLOCKS
    across = [(number - (_BLOCKS - 1) / 2) * size for number in range(_BLOCKS)]
    spread = sum(x * x for x in across)
    slope = sum(x * (y - mean) for x, y in zip(across, blocks, strict=True)) / spread
    rest = sum((y - mean - slope * x) ** 2 for x, y in zip(across, blocks, strict=True))
    variance = rest / (_BLOCKS - 2) / spread
    return slope * max(0.0, 1 - _DOUBT * variance / slope**2) if slope else 0.0


def _duration(seconds: float) -> str:
    """`14 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
