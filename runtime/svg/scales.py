"""From numbers to places: linear and logarithmic scales with ticks at round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

_STEPS = (1.0, 2.0, 5.0, 10.0)
_TINY = 1e-9  # relative: rounding of sums of steps


class Scale(Protocol):
    """A map from numbers to coordinates."""

    def __call__(self, value: float) -> float:
        """The coordinate of a number."""

    def ticks(self) -> list[float]:
        """Round numbers on the scale, in order."""


@dataclass(frozen=True, slots=True)
class Linear:
    """low..high, evenly, to start..end; about `count` ticks."""

    low: float
    high: float
    start: float
    end: float
    count: int = 5

    def __call__(self, value: float) -> float:
        if self.high <= self.low:
            return self.start
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.high <= self.low:
            return [self.low]
        rough = (self.high - self.low) / self.count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in _STEPS if s * power >= rough * (1 - _TINY))
        first = math.ceil(self.low / step - _TINY)
        last = math.floor(self.high / step + _TINY)
        return [n * step for n in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Log:
    """low..high, both greater than 0, by ratio, to start..end; ticks are powers of ten, at most `count` or so."""

    low: float
    high: float
    start: float
    end: float
    count: int = 8

    def __call__(self, value: float) -> float:
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        first = math.ceil(math.log10(self.low) - _TINY)
        last = math.floor(math.log10(self.high) + _TINY)
        return [10.0**n for n in range(first, last + 1, max(1, -(-(last - first) // self.count)))]


def number(value: float) -> str:
    """A number at a tick: short, `1,000`, `0.01`, `1e+09`."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.3g}"
