"""Two runs beside each other: what each quantity was, how much it changed, and which constants differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .amounts import count, si
from .groups import grouped, layer_of

if TYPE_CHECKING:
    from .sinks.schema import ConstantRecord, Statistics

_ROUNDING = 1e-12  # relative: of sums of the same numbers in another order


@dataclass(frozen=True, slots=True)
class Delta:
    """A quantity of two runs; `level` 1 is a part of the one before it. Without `unit` it is a plain number."""

    name: str
    new: float
    old: float
    unit: str = ""
    level: int = 0

    @property
    def ratio(self) -> float | None:
        """New over old; None if there is nothing to compare with."""
        return self.new / self.old if self.old else None

    def text(self, value: float) -> str:
        """One of the values."""
        if self.unit:
            return si(value, self.unit)
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"

    @property
    def change(self) -> str:
        """The difference, with its sign; 0 if it is of rounding alone."""
        difference = self.new - self.old
        return (
            "0"
            if math.isclose(self.new, self.old, rel_tol=_ROUNDING)
            else f"{'+' if difference > 0 else '-'}{self.text(abs(difference))}"
        )

    @property
    def ratio_text(self) -> str:
        """`0.9312x`, or a dash."""
        return "-" if self.ratio is None else f"{self.ratio:.4g}x"


@dataclass(frozen=True, slots=True)
class Changed:
    """A constant that differs; None where a run's target does not have it."""

    path: str
    new: ConstantRecord | None
    old: ConstantRecord | None


@dataclass(frozen=True, slots=True)
class Whole:
    """What all of a run took: of runs of decode steps, the interpolated steps too."""

    steps: int
    tokens: int
    cycles: int
    seconds: float
    joules: float

    @property
    def token_joules(self) -> float:
        """Joules for each token; 0 without tokens."""
        return self.joules / self.tokens if self.tokens else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of the simulated time."""
        return self.tokens / self.seconds if self.seconds else 0.0


def whole(stats: Statistics) -> Whole:
    """The sums of a run."""
    run = stats.decode
    if run is None or not run.steps:
        return Whole(stats.steps, stats.tokens, stats.cycles, stats.latency_s, stats.energy_j.total)
    return Whole(len(run.steps), run.tokens, run.cycles, run.latency_s, run.energy_j)


def per_token(value: float, stats: Statistics) -> float:
    """A part of something for each token that was simulated; 0 without tokens."""
    return value / stats.tokens if stats.tokens else 0.0


def is_sampled(*runs: Statistics) -> bool:
    """Whether steps of one of them were interpolated: all but its sums is of those simulated, and compares a token."""
    return any(run.decode is not None and run.decode.interpolated > 0 for run in runs)


def run_text(stats: Statistics) -> str:
    """`41 steps, 41 tokens (6 steps simulated)`."""
    run = whole(stats)
    sampled = f" ({count(stats.steps, 'step')} simulated)" if is_sampled(stats) else ""
    return f"{count(run.steps, 'step')}, {count(run.tokens, 'token')}{sampled}"


_Metric = tuple[str, float, str, int]


def _metrics(stats: Statistics, each: bool) -> Iterator[_Metric]:
    """Sums of the whole run, then what is known of simulated steps alone: for a token where `each` says so."""
    run = whole(stats)
    yield "cycles", run.cycles, "", 0
    yield "cycles a token", run.cycles / run.tokens if run.tokens else 0.0, "", 0
    yield "latency", run.seconds, "s", 0
    yield "tokens/s", run.tokens_per_second, "", 0
    yield "energy", run.joules, "J", 0
    yield "energy a token", run.token_joules, "J", 0
    for name, value, unit, level in _simulated(stats):
        yield (
            (f"{name} a token", per_token(value, stats), unit, level) if each else (name, value, unit, level)
        )
    yield "tiles", stats.tiles, "", 0


def _simulated(stats: Statistics) -> Iterator[_Metric]:
    e = stats.energy_j
    categories = (("dynamic", e.dynamic), ("write", e.write), ("static", e.static))
    yield from ((name, joules, "J", 1) for name, joules in (*categories, *e.by_component.items()))
    yield "instructions", stats.instructions, "", 0
    yield "MACs", stats.macs, "", 0
    yield "message bytes", stats.message_bytes, "", 0


def deltas(stats: Statistics, baseline: Statistics) -> list[Delta]:
    """What both runs have, where it is not nothing in both."""
    each = is_sampled(stats, baseline)
    old = {name: value for name, value, _, _ in _metrics(baseline, each)}
    return [
        Delta(name, value, old[name], unit, level)
        for name, value, unit, level in _metrics(stats, each)
        if name in old and (value or old[name])
    ]


def layer_deltas(stats: Statistics, baseline: Statistics) -> list[Delta]:
    """Energy by layer, or part outside of layers, in both runs; a token if steps of one were interpolated."""
    each = is_sampled(stats, baseline)
    new, old = _by_layer(stats, each), _by_layer(baseline, each)
    return [Delta(name, new.get(name, 0.0), old.get(name, 0.0), "J") for name in new | old]


def _by_layer(stats: Statistics, each: bool) -> dict[str, float]:
    sums = {name: sum(by.values()) for name, by, _ in grouped(stats, layer_of)}
    return {name: per_token(joules, stats) for name, joules in sums.items()} if each else sums


def changed_options(stats: Statistics, baseline: Statistics) -> list[tuple[str, str, str]]:
    """(name, of this run, of the baseline) of the compiler's options that differ; a dash where one was not given."""
    new, old = stats.options, baseline.options
    return [(n, new.get(n, "-"), old.get(n, "-")) for n in new | old if new.get(n) != old.get(n)]


def other_model(stats: Statistics, baseline: Statistics) -> str:
    """A sentence if the programs were compiled from different model files; empty if not, or if that is unknown."""
    new, old = stats.program_hash, baseline.program_hash
    return "" if not (new and old) or new == old else f"The model files differ: {new} and {old}."


def changed_constants(stats: Statistics, baseline: Statistics) -> list[Changed]:
    """The constants whose value or unit differs, or which only one of the targets has."""
    new, old = ({c.path: c for c in run.constants} for run in (stats, baseline))
    return [
        Changed(path, new.get(path), old.get(path))
        for path in new | old
        if _value(new.get(path)) != _value(old.get(path))
    ]


def _value(constant: ConstantRecord | None) -> tuple[float, str] | None:
    return None if constant is None else (constant.value, constant.unit)


def constant_text(constant: ConstantRecord | None) -> str:
    """A value with its unit: `17.9 ns`; a dash if there is none."""
    return "-" if constant is None else f"{constant.value:g} {constant.unit}".removesuffix(" 1")
