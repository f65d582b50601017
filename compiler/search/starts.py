"""Where a search begins: the choice of the rules, and those that they would make on fewer chips, with keys and
values elsewhere, or on idle tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compiler.capacity import capacity_of
from compiler.ir.graph import Graph
from compiler.ir.mapping import Mapping
from compiler.mapping.cutting import cut
from compiler.mapping.folded_mapping import row_cells, weight_cells
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.rules import LONGEST_CHUNK, WIDEST, hub_columns
from isa.hardware import Hardware
from isa.interface import KvPolicy
from isa.program import Limits

from .judge import Choice, Judge

Start = tuple[str, Choice]

PROJECTIONS = 3
"""Tiles that make a head's queries, keys and values where many are idle: about as many columns of each."""

NARROWEST = 32
"""Columns of a hub tile, at least."""


@dataclass(frozen=True, slots=True)
class Group:
    """Choices that are compared: what they are about, the value in words that the rules' choice has, and the others
    with theirs, worked out when they are asked for. Where each goes `further` than the one before it, none is asked
    for behind the first that is slower."""

    name: str
    now: str
    others: Iterator[Start]
    further: bool = False


def starts(judge: Judge, asked: Choice, rules: Choice, mapping: Mapping) -> Iterator[Group]:
    """The groups of choices that are compared before the search goes on from the best."""
    yield Group("chips", "all", _on_fewer_chips(judge, asked, mapping), further=True)
    yield Group("KV policy", "by rule", _policies(judge, asked, mapping))
    yield Group("idle tiles", "left idle", _on_more_tiles(judge.problem, rules, mapping))


def _on_more_tiles(problem: Problem, rules: Choice, mapping: Mapping) -> Iterator[Start]:
    """For batches on targets of which half is idle: all that each row goes through on more tiles at once. Stages that
    are about as fast as each other gain nothing one by one."""
    dealt = any(cache.ways > 1 for cache in mapping.caches)
    if not dealt or problem.limits.sequences == 1 or len(mapping.tiles) > problem.hardware.tiles // 2:
        return
    width = (rules.options.hub_width or hub_columns(row_width(problem.graph), problem.hardware)) // 2
    if not NARROWEST <= width <= WIDEST:
        return
    wider = {"hub_width": width, "spread": 2 * rules.options.spread, "projection_tiles": PROJECTIONS}
    options = replace(rules.options, **wider)  # type: ignore[arg-type]
    for chunk in (mapping.limits.chunk, 2 * mapping.limits.chunk):
        if chunk <= LONGEST_CHUNK and problem.chunk in (None, chunk):
            yield f"taken, {chunk} tokens a segment", Choice(options, chunk)


def row_width(graph: Graph) -> int:
    """Columns of the widest row between sections."""
    return max(stage.width for stage in cut(graph).stages)


def _on_fewer_chips(judge: Judge, asked: Choice, mapping: Mapping) -> Iterator[Start]:
    """What the rules do on half of the chips, a quarter, ...: fewer than they use, as far as arrays hold what they hold
    on all, and the rules find a mapping."""
    problem, hardware = judge.problem, judge.problem.hardware
    used = len({hardware.chip_of(tile.x, tile.y) for tile in mapping.tiles})
    need = cells_needed(problem.graph, problem.limits, mapping)
    for chips in _fewer(hardware):
        if chips[0] * chips[1] >= used:
            continue
        if not capacity_of(hardware.with_chips(*chips)).holds(*need):
            return
        found = judge.settled(replace(asked, options=replace(asked.options, chips=chips, stream=False)))
        if found is None:
            return
        yield f"{chips[0]} x {chips[1]}", found


def cells_needed(graph: Graph, limits: Limits, mapping: Mapping) -> tuple[int, int]:
    """Cells of arrays that the weights take at least, and those of the rows of keys and values, if the mapping has all
    of these in arrays."""
    return weight_cells(graph), row_cells(graph, limits) if mapping.is_resident else 0


def _fewer(hardware: Hardware) -> Iterator[tuple[int, int]]:
    """Half of the rows of chips, half of these, ..., then half of the last row's chips, ..."""
    x, y = int(hardware.system.chips_x.value), int(hardware.system.chips_y.value)
    while x * y > 1:
        x, y = (x, -(-y // 2)) if y > 1 else (-(-x // 2), 1)
        yield x, y


def _policies(judge: Judge, asked: Choice, mapping: Mapping) -> Iterator[Start]:
    """The other places for keys and values, where none is asked for, and the rules do not leave all in arrays."""
    policies = {cache.policy for cache in mapping.caches}
    if asked.options.kv.policy is not None or policies <= {KvPolicy.RESIDENT}:
        return
    for policy in KvPolicy:
        options = replace(asked.options, kv=KvChoice(policy, why="predicted to be fastest"))
        found = judge.settled(replace(asked, options=options))
        if found is not None:
            yield policy.value, found
