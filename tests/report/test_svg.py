"""Drawings are well-formed, everything is inside its frame, text is escaped, ticks are round."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from runtime.svg import Axis, Bar, BarPlot, Linear, Log, Plot, Segment, Series, number, text
from runtime.svg.bars import WIDTH as BAR_WIDTH
from runtime.svg.plot import HEIGHT, WIDTH

SERIES = (Series("a < b", ((1.0, 3.0), (8.0, 700.0))), Series("c", ((2.0, 40.0),)))


def elements(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [e for e in root.iter() if e.tag.split("}")[-1] == name]


@pytest.mark.parametrize("is_log", [True, False])
def test_a_plot_has_all_points_inside_its_frame(is_log: bool) -> None:
    plot = Plot("T & U", Axis("x", (1.0, 2.0, 4.0, 8.0)), Axis("y", is_log=is_log), SERIES)
    root = ElementTree.fromstring(plot.svg())
    circles = elements(root, "circle")
    assert len(circles) == 3
    assert all(0 < float(c.attrib["cx"]) < WIDTH and 0 < float(c.attrib["cy"]) < HEIGHT for c in circles)
    assert {"T & U", "a < b", "c", "x", "y", "1", "8"} <= {e.text for e in elements(root, "text")}


def test_a_logarithm_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="logarithmic"):
        Plot("", Axis("x"), Axis("y"), (Series("a", ((0.0, 1.0),)),)).svg()


def test_bars_of_both_signs_lie_inside_and_side_by_side() -> None:
    plus = Bar("up", (Segment(3.0, 0, "three"), Segment(1.0, 1, "one")), "4 J")
    minus = Bar("<down>", (Segment(-2.0, 2, "less"),), "-2 J", "#x")
    root = ElementTree.fromstring(BarPlot("B", (plus, minus)).svg())
    ground, first, second, third = elements(root, "rect")
    assert ground.attrib["class"] == "ground"
    ends = [
        (float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"]))
        for r in (first, second, third)
    ]
    assert all(0 <= a < b <= BAR_WIDTH for a, b in ends)
    assert ends[0][1] == pytest.approx(ends[1][0], abs=0.02)
    assert ends[2][1] == pytest.approx(ends[0][0], abs=0.02)  # both begin at zero
    assert [e.attrib["href"] for e in elements(root, "a")] == ["#x"]


def test_bars_of_nothing_are_drawn() -> None:
    root = ElementTree.fromstring(BarPlot("B", (Bar("zero", (Segment(0.0, 0, "none"),), "0 J"),)).svg())
    assert "zero" in {e.text for e in elements(root, "text")}


@pytest.mark.parametrize(
    "content", ["<script>alert(1)</script>", 'a" onload="x', "a & b", "\x00\x1b[31m", "\ud800"]
)
def test_text_is_escaped(content: str) -> None:
    found = ElementTree.fromstring(f"<svg>{text(0, 0, content)}</svg>")
    assert len(list(found.iter())) == 2
    shown = found[0].text or ""
    assert all(c in shown for c in content if c.isprintable())


def test_ticks_are_round() -> None:
    assert Linear(0, 103, 0, 1).ticks() == [0, 50, 100]
    assert Linear(-0.3, 0.31, 0, 1).ticks() == pytest.approx([-0.2, 0.0, 0.2])
    assert Log(1e-3, 2e2, 0, 1).ticks() == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10, 100])
    assert [number(v) for v in (0, 0.001, 12.5, 1000, 123456, 1e9, 1e-6)] == [
        "0", "0.001", "12.5", "1,000", "123,456", "1e+09", "1e-06",
    ]  # fmt: skip
