"""Where a plot draws: the rectangle inside its margins, with a grid and names of axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .elements import line, text
from .scales import Scale, number


@dataclass(frozen=True, slots=True)
class Frame:
    """User units; y goes down."""

    left: float
    top: float
    right: float
    bottom: float

    def axes(
        self, x: Scale, y: Scale, x_label: str, y_label: str, y_text: Callable[[float], str] = number
    ) -> Iterator[str]:
        """A line and a number at each tick (those of y as `y_text` writes them), the name of x below, of y above."""
        for tick in x.ticks():
            yield line(x(tick), self.top, x(tick), self.bottom)
            yield text(x(tick), self.bottom + 16, number(tick), anchor="middle", class_="small")
        for tick in y.ticks():
            yield line(self.left, y(tick), self.right, y(tick))
            yield text(self.left - 6, y(tick) + 4, y_text(tick), anchor="end", class_="small")
        middle = (self.left + self.right) / 2
        yield text(middle, self.bottom + 40, x_label, anchor="middle", class_="muted")
        yield text(self.left, self.top - 6, y_label, class_="muted")
