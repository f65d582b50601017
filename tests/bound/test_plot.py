"""Curves of benchmarks as tables."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.plot import doublings, plot_of, report_of, series_of


def test_doublings() -> None:
    assert list(doublings(256, 2048)) == [256, 512, 1024, 2048]


def test_curves_are_a_table_and_a_file(tmp_path: Path) -> None:
    series = series_of({"a": [(1.0, 3.0), (2.0, 4.0)], "b": [(2.0, 5.0)], "none": []})
    report = report_of(plot_of("T", "layers", "ms", series, (1.0, 2.0)), Namespace(output=tmp_path / "p.svg"))
    assert [line.split() for line in report.text.splitlines()[2:]] == [["1", "3", "-"], ["2", "4", "5"]]
    assert report.data == {"a": [[1.0, 3.0], [2.0, 4.0]], "b": [[2.0, 5.0]]}
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")
