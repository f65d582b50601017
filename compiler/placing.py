"""What a placement costs, estimated from what the chip cannot do without and what the host takes: for `--place auto`.

A step takes at least the host's operators by its roofline, exactly as they will be charged (`isa.hostcount`), and
beside them what bounds the chip's part: the bound on a target whose host takes no time, or the bytes that the mapping
loads from DRAM, whichever is longer. Programs come within a few per cent of this where the host or DRAM decides, and
nowhere else does it matter which placement is taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compiler.explain import Heading, Note
from compiler.ir.graph import Graph
from compiler.ir.hosted import parts_within, rows_needed
from compiler.ir.mapping import Arithmetic, Mapping, MultiplyPieces, Prefetch
from compiler.mapping.options import arithmetic_of, weight_bits
from compiler.pipeline import Compilation
from compiler.placement import CANDIDATES, Placement, split
from compiler.search.steps import prompt_of
from compiler.workload import workload_of
from isa.bound import bound
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.hostcount import time_of, work_of
from isa.operands import Space
from isa.program import Segment, segments_of
from isa.workload import Workload

PREFILL = 128
"""Tokens of a prefill, if nobody says."""

BETTER = 0.9
"""What another placement has to come to: estimates are that good."""

NO_TIME = 1e12
"""Times as fast as any: a host that takes no time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cycles of a token of each sequence at the full context, and of a prefill of the last tokens of one."""

    placement: Placement
    decode: float
    prefill: float

    @property
    def mean(self) -> float:
        """Geometric mean of both."""
        return math.sqrt(self.decode * self.prefill)

    def __str__(self) -> str:
        return (
            f"{self.placement.value} about {self.decode:,.0f} cycles a token, {self.prefill:,.0f} a prefill"
        )


@dataclass(frozen=True, slots=True)
class Loads:
    """Bytes that the chip with most of them loads: of weights once a step, and of rows of the cache."""

    weights: int
    cache: int


class Weighing:
    """Whether another placement than the first that fits is faster, and the numbers.

    Only where weights or rows of the cache come from DRAM in every step, or the host works within it already, can it
    be: a layer whose weights lie in arrays takes less time than the host takes to be called for one of its operators.
    `place` maps another part of the graph by the mapper's rules.
    """

    def __init__(self, c: Compilation, taken: Placement, place: Callable[[Graph], Mapping]) -> None:
        self._c, self._taken, self._place = c, taken, place
        self._told: list[Estimate] = []
        self._out: list[Placement] = []
        self._best = taken

    def best(self) -> Graph | None:
        """The chip's part by the fastest placement; None if that is the one that was taken."""
        c, mapping, taken = self._c, self._c.require_mapping(), self._taken
        loads = loads_of(mapping, c.require_target())
        may_pay = loads.weights or loads.cache or taken is not Placement.ALL
        if mapping.limits.max_source or not may_pay or taken is CANDIDATES[-1]:
            return None
        chips: dict[Placement, Graph] = {}
        self._told = [self._estimate(taken, c.require_chip(), mapping)]
        for placement in CANDIDATES[CANDIDATES.index(taken) + 1 :]:
            try:
                chip = split(c.require_graph(), placement)
                self._told.append(self._estimate(placement, chip, self._place(chip)))
            except CimError:
                self._out.append(placement)
                continue
            chips[placement] = chip
        best = min(self._told, key=lambda told: told.mean)
        if best.mean >= BETTER * self._told[0].mean:
            return None
        self._best = best.placement
        return chips[best.placement]

    def _estimate(self, placement: Placement, chip: Graph, mapping: Mapping) -> Estimate:
        c = self._c
        bits, is_ideal = (
            weight_bits(c.options.weights),
            arithmetic_of(c.options.weights) is not Arithmetic.INT8,
        )
        work = workload_of(c.require_graph(), bits, is_ideal, chip)
        return estimate(placement, chip, mapping, c.require_target(), work, c.options.prefill)

    def notes(self) -> list[Note]:
        """What was weighed, if anything."""
        if not self._told:
            return []
        said = "; ".join([*map(str, self._told), *(f"{p.value} does not fit" for p in self._out)])
        return [Note(Heading.CHOICES, f"Placement: {self._best.value} on the chip, by estimate: {said}.")]


def loads_of(mapping: Mapping, hardware: Hardware) -> Loads:
    """What steps load from DRAM of what does not stay in arrays."""
    passing = {t.name: t.tables.index(table) for t in mapping.templates if (table := _table(mapping, t.name))}
    starts = {
        (hardware.chip_of(tile.x, tile.y), tile.tables[passing[tile.template]])
        for tile in mapping.tiles
        if tile.template in passing
    }
    weights, cache = Counter[int](), Counter[int]()
    for region in mapping.memory:
        if region.space is not Space.DRAM:
            continue
        if region.tensor is None:
            cache[region.chip] += region.bytes
        elif (region.chip, region.offset) in starts:
            weights[region.chip] += region.bytes
    return Loads(max(weights.values(), default=0), max(cache.values(), default=0))


def _table(mapping: Mapping, template: str) -> str:
    """The table with the pieces of weights that a template loads; "" if there is none."""
    ops = (block.op for block in mapping.template(template).blocks)
    return next((op.table for op in ops if isinstance(op, Prefetch | MultiplyPieces)), "")


def estimate(
    placement: Placement,
    graph: Graph,
    mapping: Mapping,
    hardware: Hardware,
    work: Workload,
    prefill: int | None = None,
) -> Estimate:
    """What a placement costs; `graph` is the chip's part, as `mapping` has it, `work` that of the whole model."""
    limits, loads = mapping.limits, loads_of(mapping, hardware)
    rate = float(hardware.bytes_per_cycle(hardware.dram.bandwidth) * hardware.dram.channels.value)
    last = limits.max_context - 1
    steps: tuple[Sequence[Segment], ...] = (
        [s for q in range(limits.sequences) for s in segments_of(1, last, limits.chunk, sequence=q)],
        segments_of(*prompt_of(limits, prefill, PREFILL), limits.chunk),
    )
    cycles = []
    for step in steps:
        once = -(-len(step) // limits.segments)
        # each segment reads its sequence's rows
        share = 1 if step is steps[0] else len(step) / limits.sequences
        loaded = (loads.weights * once + loads.cache * share) / rate
        least = bound(_without_host(hardware), work, step)
        chip = max(loaded, float(least.cycles) if least is not None else 0.0)
        cycles.append(chip + _host_cycles(graph, hardware, step))
    return Estimate(placement, *cycles)


def _host_cycles(graph: Graph, hardware: Hardware, step: Sequence[Segment]) -> float:
    """Cycles of all parts that the host runs within a step of tokens."""
    total, every = 0, rows_needed(graph)
    for part in parts_within(graph):
        rows = sum(s.tokens if part.name in every else s.outputs for s in step)
        total += time_of(work_of(part.definition, rows), hardware).cycles if rows else 0
    return float(total)


def _without_host(hardware: Hardware) -> Hardware:
    """The target with a host that takes no time."""
    host = hardware.host
    changes = {
        name: getattr(host, name).model_copy(update={"value": getattr(host, name).value * factor})
        for name, factor in (("flops", NO_TIME), ("bandwidth", NO_TIME), ("dispatch", 1 / NO_TIME))
    }
    return hardware.model_copy(update={"host": host.model_copy(update=changes)})
