"""Where a step's time goes: the part that is the layers' own, and why it is far from the bound."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.explain.expected import NAMES, Expectation
from compiler.explain.helps import LEVERS, changed
from compiler.explain.words import listed, share
from isa.bound import bound
from isa.events import Bound
from isa.hardware import Hardware
from isa.program import Program, Segment
from runtime.timing.result import StepCost

FAR = 2.5
"""Measured over bound from which a case has a reason."""

PART = 0.1
"""Share of the critical path that is worth naming."""

TRIED = 2
"""How many changes of the target are tried for a reason."""

_HOST_LINK = {"latency": 1e-9, "bandwidth": 1e9}


def without_link(target: Hardware) -> Hardware:
    """The target with a host link that takes no time."""
    link = target.host_link
    values = {key: getattr(link, key) for key in _HOST_LINK}
    update = {key: q.model_copy(update={"value": q.value * _HOST_LINK[key]}) for key, q in values.items()}
    return target.model_copy(update={"host_link": link.model_copy(update=update)})


def layers_of(program: Program, segments: Sequence[Segment], cost: StepCost) -> tuple[int, int]:
    """Cycles of the critical path that are not spent on the host link, and the least cycles without that link.

    Two layers hide behind the logits of a large vocabulary, which all layers of a model do not.
    """
    least = bound(without_link(program.target), program.workload, segments)
    measured = cost.cycles - cost.critical.get(Bound.HOST_LINK, 0)
    return measured, least.cycles if least is not None else 0


def reason_of(program: Program, segments: tuple[Segment, ...], cost: StepCost) -> str:
    """What the critical path is spent on, and which change of the target that concerns it would save most."""
    parts = sorted(cost.critical.items(), key=lambda item: -item[1])
    named = [(part, cycles) for part, cycles in parts if cycles >= PART * cost.cycles]
    spent = listed([f"{NAMES[part]} {share(cycles, cost.cycles)}" for part, cycles in named])
    return f"spent on {spent}; {_help(program, segments, [part for part, _ in named])}"


def _help(program: Program, segments: tuple[Segment, ...], parts: Sequence[Bound]) -> str:
    expected = Expectation(program)
    now = expected.cycles(program.target, segments)
    firsts = [next((lever for lever in LEVERS if lever.part is part), None) for part in parts]
    saved = {
        lever.words: now - (expected.cycles(changed(program.target, lever), segments) or now)
        for lever in [lever for lever in firsts if lever is not None][:TRIED]
        if now
    }
    best = max(saved, key=lambda words: saved[words], default="")
    if not best or not now or saved[best] <= 0:
        return "no single number of the target helps"
    return f"{best} would save {share(saved[best], now)}"
