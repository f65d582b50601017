"""Two runs beside each other: what each quantity was, how much it changed, and which constants differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .amounts import si

if TYPE_CHECKING:
    from .sinks.schema import ConstantRecord, Statistics


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
        """The difference, with its sign."""
        difference = self.new - self.old
        return "0" if difference == 0 else f"{'+' if difference > 0 else '-'}{self.text(abs(difference))}"

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


def per_token(value: float, stats: Statistics) -> float:
    """A part of something for each token that went through; 0 without tokens."""
    return value / stats.tokens if stats.tokens else 0.0


def tokens_per_second(stats: Statistics) -> float:
    """Of the simulated time."""
    return stats.tokens / stats.latency_s if stats.latency_s else 0.0


def _metrics(stats: Statistics) -> Iterator[tuple[str, float, str, int]]:
    e = stats.energy_j
    yield "cycles", stats.cycles, "", 0
    yield "cycles a token", per_token(stats.cycles, stats), "", 0
    yield "latency", stats.latency_s, "s", 0
    yield "tokens/s", tokens_per_second(stats), "", 0
    yield "energy", e.total, "J", 0
    yield "energy a token", per_token(e.total, stats), "J", 0
    yield from (
        (name, joules, "J", 1)
        for name, joules in (("dynamic", e.dynamic), ("write", e.write), ("static", e.static))
    )
    yield from ((name, joules, "J", 1) for name, joules in e.by_component.items())
    yield "instructions", stats.instructions, "", 0
    yield "MACs", stats.macs, "", 0
    yield "message bytes", stats.message_bytes, "", 0
    yield "tiles", stats.tiles, "", 0


def deltas(stats: Statistics, baseline: Statistics) -> list[Delta]:
    """What both runs have, where it is not nothing in both."""
    old = {name: value for name, value, _, _ in _metrics(baseline)}
    return [
        Delta(name, value, old[name], unit, level)
        for name, value, unit, level in _metrics(stats)
        if name in old and (value or old[name])
    ]


def layer_deltas(stats: Statistics, baseline: Statistics) -> list[Delta]:
    """Energy by layer, or part outside of layers, in both runs."""
    new, old = _by_layer(stats), _by_layer(baseline)
    return [Delta(name, new.get(name, 0.0), old.get(name, 0.0), "J") for name in new | old]


def _by_layer(stats: Statistics) -> dict[str, float]:
    found: dict[str, float] = {}
    for place in stats.places:
        name = place.part if place.layer is None else f"layer {place.layer}"
        found[name] = found.get(name, 0.0) + place.dynamic_j + place.write_j + place.static_j
    return found


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
