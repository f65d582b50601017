"""What would help most: the same steps on targets with one number changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isa.bound import bound
from isa.bound.points import standard_steps
from isa.hardware import Hardware, hardware_from_dict
from isa.program import Program, Segment

from .note import Heading, Note
from .words import listed, share

Measure = Callable[[Hardware, tuple[Segment, ...]], int | None]


@dataclass(frozen=True, slots=True)
class Lever:
    """A number of the target that could be another one: `section.key`, by what to multiply it, and how to say so."""

    section: str
    key: str
    factor: float
    words: str


LEVERS = (
    Lever("host_link", "bandwidth", 2, "twice the host link's bandwidth"),
    Lever("host_link", "latency", 0.5, "half the host link's latency"),
    Lever("chip_link", "bandwidth", 2, "links between chips of twice the bandwidth"),
    Lever("chip_link", "latency", 0.5, "links between chips of half the latency"),
    Lever("network", "link_width", 2, "links of the mesh twice as wide"),
    Lever("network", "reduce_latency", 0.5, "adders in routers of half the latency"),
    Lever("macro", "mvm_latency", 0.5, "arrays twice as fast"),
    Lever("vector", "lanes", 2, "twice as many vector lanes"),
    Lever("vector", "sfu_lanes", 2, "twice as many lanes for special functions"),
    Lever("vector", "startup", 0.5, "vector units of half the startup"),
    Lever("buffer", "port_width", 2, "buffer ports twice as wide"),
    Lever("dram", "bandwidth", 2, "twice the DRAM's bandwidth"),
    Lever("dram", "latency", 0.5, "DRAM of half the latency"),
    Lever("host", "flops", 2, "a host twice as fast in arithmetic"),
    Lever("host", "bandwidth", 2, "a host with twice the memory bandwidth"),
    Lever("host", "dispatch", 0.5, "a host that calls operators in half the time"),
)
SHOWN = 4
"""How many are named."""


def changed(target: Hardware, lever: Lever) -> Hardware:
    """The target with one number changed; what is counted in whole cycles stays at least one."""
    values = target.model_dump(mode="json")
    quantity = values[lever.section][lever.key]
    value = quantity["value"] * lever.factor
    whole = quantity["unit"] in ("1", "cycle")
    quantity["value"] = max(round(value), 1) if whole else value
    return hardware_from_dict(values, target.name)


def bounded(program: Program) -> Measure:
    """The least cycles of a step on another target."""

    def cycles(target: Hardware, segments: tuple[Segment, ...]) -> int | None:
        least = bound(target, program.workload, segments)
        return None if least is None else least.cycles

    return cycles


def helps_of(program: Program) -> Iterator[Note]:
    """For each step that stands for the program, which changes of the target would save most."""
    measure = bounded(program)
    for name, segments in standard_steps(program):
        now = measure(program.target, segments)
        if now:
            yield Note(Heading.HELPS, _ranked(name, now, program.target, segments, measure))


def _ranked(name: str, now: int, target: Hardware, segments: tuple[Segment, ...], measure: Measure) -> str:
    saved = []
    for lever in LEVERS:
        cycles = measure(changed(target, lever), segments)
        if cycles is not None and cycles < now:
            saved.append((now - cycles, lever))
    best = sorted(saved, key=lambda item: -item[0])[:SHOWN]
    if not best:
        return f"{name.capitalize()}: none of {len(LEVERS)} numbers of the target, doubled or halved alone, would help."
    said = (
        f"{name.capitalize()} takes at least {now:,} cycles. Each of these changes alone would save of that: "
    )
    parts = [
        f"{lever.words} ({lever.section}.{lever.key}) {cycles:,} cycles ({share(cycles, now)})"
        for cycles, lever in best
    ]
    return f"{said}{listed(parts)}."
