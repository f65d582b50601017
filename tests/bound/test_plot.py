"""Plots are well-formed SVG with every series, inside their frame."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.plot import HEIGHT, WIDTH, Plot, Series, doublings


def test_a_plot_has_all_points_inside_its_frame() -> None:
    series = (Series("a < b", ((1.0, 3.0), (8.0, 700.0))), Series("c", ((2.0, 40.0),)))
    root = ElementTree.fromstring(Plot("T & U", "x", "y", series, (1.0, 2.0, 4.0, 8.0)).svg())
    circles = [e for e in root if e.tag.endswith("circle")]
    assert len(circles) == 3
    assert all(0 < float(c.attrib["cx"]) < WIDTH and 0 < float(c.attrib["cy"]) < HEIGHT for c in circles)
    texts = {e.text for e in root if e.tag.endswith("text")}
    assert {"T & U", "a < b", "c", "x", "y", "1", "8", "1,000"} <= texts


def test_doublings() -> None:
    assert list(doublings(256, 2048)) == [256, 512, 1024, 2048]
