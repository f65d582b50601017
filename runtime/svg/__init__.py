"""SVG written by hand: elements as text, scales with round ticks, one theme for light and dark, lines and bars."""

from .bars import Bar, BarPlot, Segment
from .elements import (
    circle,
    document,
    element,
    escape,
    group,
    inline,
    line,
    path,
    polyline,
    rect,
    text,
    tooltip,
)
from .frame import Frame
from .plot import Axis, Plot, Series
from .scales import Linear, Log, Scale, number
from .theme import COLOURS, stylesheet

__all__ = [
    "COLOURS",
    "Axis",
    "Bar",
    "BarPlot",
    "Frame",
    "Linear",
    "Log",
    "Plot",
    "Scale",
    "Segment",
    "Series",
    "circle",
    "document",
    "element",
    "escape",
    "group",
    "inline",
    "line",
    "number",
    "path",
    "polyline",
    "rect",
    "stylesheet",
    "text",
    "tooltip",
]
