"""What would help most: the same steps on targets with one number changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isa.bound.points import standard_steps
from isa.events import Bound
from isa.hardware import Hardware, hardware_from_dict
from isa.program import Program, Segment

from .expected import Expectation
from .note import Heading, Note
from .words import listed, share

SHOWN = 4
"""How many changes are named."""

LARGE, FEW = 4000, 3
"""Channels of a program whose predictions take seconds each; so many changes of its target are then tried, those whose
resource takes most of the critical path."""


@dataclass(frozen=True, slots=True)
class Lever:
    """A number of the target that could be another one: `section.key`, by what to multiply it, how to say so, and what
    part of a critical path it shortens."""

    section: str
    key: str
    factor: float
    words: str
    part: Bound


LEVERS = (
    Lever("vector", "lanes", 2, "twice as many vector lanes", Bound.VECTOR),
    Lever("macro", "mvm_latency", 0.5, "arrays twice as fast", Bound.CIM),
    Lever("chip_link", "latency", 0.5, "links between chips of half the latency", Bound.CHIP_LINKS),
    Lever("host_link", "bandwidth", 2, "twice the host link's bandwidth", Bound.HOST_LINK),
    Lever("dram", "bandwidth", 2, "twice the DRAM's bandwidth", Bound.DRAM),
    Lever("network", "link_width", 2, "links of the mesh twice as wide", Bound.NETWORK),
    Lever("host", "bandwidth", 2, "a host with twice the memory bandwidth", Bound.HOST),
    Lever("vector", "startup", 0.5, "vector units of half the startup", Bound.VECTOR),
    Lever("vector", "sfu_lanes", 2, "twice as many lanes for special functions", Bound.VECTOR),
    Lever("buffer", "port_width", 2, "buffer ports twice as wide", Bound.VECTOR),
    Lever("cim", "port_width", 2, "ports of the arrays twice as wide", Bound.CIM),
    Lever("chip_link", "bandwidth", 2, "links between chips of twice the bandwidth", Bound.CHIP_LINKS),
    Lever("host_link", "latency", 0.5, "half the host link's latency", Bound.HOST_LINK),
    Lever("network", "reduce_latency", 0.5, "adders in routers of half the latency", Bound.NETWORK),
    Lever("dram", "latency", 0.5, "DRAM of half the latency", Bound.DRAM),
    Lever("host", "flops", 2, "a host twice as fast in arithmetic", Bound.HOST),
    Lever("host", "dispatch", 0.5, "a host that calls operators in half the time", Bound.HOST),
)
"""Of each part the number that usually matters most comes first."""


def changed(target: Hardware, lever: Lever) -> Hardware:
    """The target with one number changed; what is counted in whole units stays at least one."""
    values = target.model_dump(mode="json")
    quantity = values[lever.section][lever.key]
    value = quantity["value"] * lever.factor
    whole = quantity["unit"] in ("1", "cycle")
    quantity["value"] = max(round(value), 1) if whole else value
    return hardware_from_dict(values, target.name)


def helps_of(program: Program, expected: Expectation) -> Iterator[Note]:
    """For each step that stands for the program (of large programs the first), which changes would save most."""
    steps = standard_steps(program)
    is_large = expected.is_predicted and len(program.channels) > LARGE
    for name, segments in steps[:1] if is_large else steps:
        now = expected.cycles(program.target, segments)
        if now:
            levers = _likely(expected, segments)
            levers = levers[:FEW] if is_large else levers
            yield Note(Heading.HELPS, _ranked(name, now, program.target, segments, expected, levers))


def _likely(expected: Expectation, segments: tuple[Segment, ...]) -> Sequence[Lever]:
    """The changes that can shorten the critical path, those of its largest parts first, one of each part in turn."""
    found = expected.prediction(segments)
    if found is None:
        return LEVERS
    parts = [lever.part for lever in LEVERS]
    turn = [parts[:at].count(part) for at, part in enumerate(parts)]
    likely = [
        (-found.critical[lever.part] / 2**number, at)
        for at, (lever, number) in enumerate(zip(LEVERS, turn, strict=True))
        if found.critical.get(lever.part)
    ]
    return [LEVERS[at] for _, at in sorted(likely)]


def _ranked(
    name: str,
    now: int,
    target: Hardware,
    segments: tuple[Segment, ...],
    expected: Expectation,
    levers: Sequence[Lever],
) -> str:
    saved = []
    for lever in levers:
        cycles = expected.cycles(changed(target, lever), segments)
        if cycles is not None and cycles < now:
            saved.append((now - cycles, lever))
    best = sorted(saved, key=lambda item: -item[0])[:SHOWN]
    how = "predicted" if expected.is_predicted else "at least"
    step = f"{name.capitalize()}, {how} {now:,} cycles"
    if not best:
        tried = listed([f"{lever.section}.{lever.key}" for lever in levers])
        return (
            f"{step}: no number of the target alone would help, doubled or halved, of those tried ({tried})."
        )
    parts = [
        f"{lever.words} ({lever.section}.{lever.key}) {cycles:,} cycles ({share(cycles, now)})"
        for cycles, lever in best
    ]
    return f"{step}. Each of these changes of the target alone would save of that: {listed(parts)}."
