"""Counts that benchmarks take: none below what can be meant."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.registry import BENCHMARKS
from tests.cli.conftest import Cim

NUMBERS = ("positive", "natural", "more_than_nothing")


def _counts() -> list[tuple[str, str, str]]:
    """Benchmark, option, and what is too little for it."""
    found = []
    for benchmark in BENCHMARKS:
        parser = argparse.ArgumentParser()
        benchmark.configure(parser)
        for action in parser._actions:
            assert action.type not in (int, float), f"{benchmark.name} {action.dest}"
            kind = getattr(action.type, "__name__", "")
            if kind in NUMBERS:
                low = "-1" if kind == "natural" else "0"
                found += [(benchmark.name, action.option_strings[-1], text) for text in (low, "many")]
    return found


@pytest.mark.parametrize(("name", "option", "text"), _counts())
def test_counts_below_what_can_be_meant_are_refused(cim: Cim, name: str, option: str, text: str) -> None:
    done = cim("bench", name, option, text)
    assert done.code == 2
    assert option in done.err


@pytest.mark.parametrize("text", ["inf", "nan", "-3"])
def test_power_is_finite(cim: Cim, text: str) -> None:
    assert cim("bench", "headline", f"--tdp={text}").code == 2


@pytest.mark.parametrize(("over", "most"), [("tiles", 3), ("tokens", 100_000)])
def test_an_axis_ends_where_there_is_something(cim: Cim, over: str, most: int) -> None:
    done = cim("bench", "speed-curves", "--over", over, "--most", most)
    assert done.code == 1
    assert "error[E0601]" in done.err
