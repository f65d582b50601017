"""Heads with long contexts get more tiles, as there is room for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.ir.graph import Attention, Graph
from compiler.mapping.rules import MOST_WAYS, spread_by_rule, ways_wanted, ways_with_room
from compiler.optimisations import Optimisation
from isa.hardware import load_target
from isa.program import Limits, segments_of
from runtime.timing import Simulator

from .building import Choices, mapping_of, program_of
from .graphs import Shape, decoder

LONG, SHORT = 32_768, 1024
CHIP = load_target("dcim22")
CHOICES = Choices(LONG, block=512)


def _graph(**changes: int) -> Graph:
    return decoder(replace(Shape(layers=1, heads=4, kv_heads=1), **changes))


def _attention(graph: Graph) -> Attention:
    return next(node.op for node in graph.nodes if isinstance(node.op, Attention))


def _ways(graph: Graph, choices: Choices) -> int:
    (cache,) = mapping_of(graph, CHIP, choices).caches
    return cache.ways


def test_longer_contexts_want_more_tiles_and_windows_count_what_is_seen() -> None:
    op = _attention(_graph())
    wanted = [ways_wanted(op, longest, CHIP) for longest in (SHORT, 4096, LONG)]
    assert wanted == sorted(wanted)
    assert wanted[-1] > MOST_WAYS
    assert ways_wanted(replace(op, window=SHORT), LONG, CHIP) < wanted[-1]


def test_a_head_gets_tiles_that_are_free() -> None:
    graph = _graph()
    room = ways_with_room(graph, CHIP, Limits(LONG, 1))
    assert room < CHIP.tiles
    assert MOST_WAYS < _ways(graph, CHOICES) <= room
    assert _ways(graph, replace(CHOICES, context=SHORT)) <= MOST_WAYS


def test_heads_share_what_is_free() -> None:
    assert _ways(_graph(kv_heads=2), CHOICES) < _ways(_graph(), CHOICES)


def test_heads_that_few_rows_look_at_get_fewer_tiles() -> None:
    front, behind = mapping_of(_graph(layers=2), CHIP, CHOICES).caches
    assert front.ways > MOST_WAYS > behind.ways
    everywhere = mapping_of(
        _graph(layers=2), CHIP, replace(CHOICES, without=frozenset({Optimisation.WANTED_ROWS}))
    )
    assert len({cache.ways for cache in everywhere.caches}) == 1


def test_other_sections_leave_tiles_to_long_contexts() -> None:
    graph = _graph()
    long, short = (spread_by_rule(graph, CHIP, Limits(context, 1)) for context in (LONG, SHORT))
    assert long < short


@pytest.mark.parametrize("tokens", [1, 8])
def test_more_tiles_take_less_time(tokens: int) -> None:
    graph, cycles = _graph(), []
    for ways in (MOST_WAYS, 0):
        program = program_of(graph, CHIP, replace(CHOICES, ways=ways))
        step = segments_of(tokens, LONG - tokens, program.limits.chunk)
        cycles.append(Simulator(program).step(step).cycles)
    assert cycles[1] < cycles[0]
