"""A mapping that fits: the mapper's rules, with less of what takes tiles until all lies on the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from compiler.explain import Note
from compiler.ir.mapping import Mapping
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.interface import KvPolicy

from .builder import TileBuilder
from .cutting import cut
from .folded_mapping import (
    TOO_SMALL,
    StreamingError,
    cells,
    map_streamed,
    must_stream,
    refusal,
    weight_cells,
    with_reason,
)
from .mapper import MapOptions, Mapper
from .notes import notes_on
from .passing import passing_section
from .policies import policy_notes
from .problem import Problem
from .rules import WIDEST, spread_by_rule
from .weighed import weighed

TOO_FEW_TILES = "E0303"
ATTEND = ("attend", "cross_attend")  # kinds of tiles over which a head's rows are dealt
FUSED = ("attention", "cross_attention")  # kinds of tiles with all of a head
SMALLER = 2.0  # spread of feed-forward layers that is tried before heads get fewer tiles
OUTPUTS = "combine"  # kind of tiles with output projections


@dataclass(frozen=True, slots=True)
class Settled:
    """A mapping, and the options that it came about with: what had to be small for all to fit is fixed in them."""

    mapping: Mapping
    options: MapOptions


def settle(problem: Problem, options: MapOptions, notes: list[Note] | None = None) -> Settled:
    """Place a canonical graph on a target. What is worth saying about it goes to `notes`.

    Its weights are streamed if they do not fit the arrays. Raises `CimError` E03xx if it does not fit either way.
    """
    if options.chips != (0, 0):
        problem = replace(problem, hardware=problem.hardware.with_chips(*options.chips))
    graph, hardware = problem.graph, problem.hardware
    streams = must_stream(graph, hardware) if options.stream is None else options.stream
    streamed = replace(options, stream=True)
    if streams:
        kept = _layers_kept(problem, options, notes)
        if kept is not None:
            return kept
        try:
            return Settled(map_streamed(problem, options, notes), streamed)
        except StreamingError as error:
            raise refusal(graph, hardware, str(error)) from None
    try:
        return _map_resident(problem, options, notes)
    except CimError as error:
        if options.stream is not None or any(d.code not in TOO_SMALL for d in error.diagnostics):
            raise
        kept = _layers_kept(problem, options, notes)
        if kept is not None:
            return kept
        try:
            return Settled(map_streamed(problem, options, notes), streamed)
        except StreamingError as why:
            raise with_reason(error, str(why)) from None


def _map_resident(problem: Problem, options: MapOptions, notes: list[Note] | None) -> Settled:
    """A mapping whose weights stay in the arrays."""
    hardware = problem.hardware
    tried: MapOptions | None = options
    most = 0
    while tried is not None:
        mapper = Mapper(problem, tried)
        try:
            mapping = mapper.run()
            break
        except CimError as error:
            if any(d.code != TOO_FEW_TILES for d in error.diagnostics):
                raise
            most = len(mapper.builder.tiles)
            tried = _smaller(problem, options, tried, mapper.builder.tiles, hardware.tiles)
            if tried is None:
                raise
    assert tried is not None
    if tried.kv.one_tile and not options.kv.one_tile:
        for layers in _spared(mapper, most, hardware.tiles):
            fewer = replace(tried, kv=replace(tried.kv, spared=layers))
            other = Mapper(problem, fewer)
            try:
                mapping = other.run()
            except CimError:
                continue
            mapper, tried = other, fewer
            break
    return _settled(mapper, mapping, tried, notes)


def _settled(mapper: Mapper, mapping: Mapping, tried: MapOptions, notes: list[Note] | None) -> Settled:
    """A mapping with weights that stay, what is worth saying about it, and what it came about with."""
    graph, hardware, limits = mapper.graph, mapper.builder.hardware, mapper.limits
    if notes is not None:
        notes += [*notes_on(graph, mapper.layout, limits), *mapper.weights.summary(), *mapper.notes]
        notes += policy_notes(mapper.parts.plans.values())
        notes += weighed(mapper.parts.geometry, mapper.cuts, mapper.slots)
    spread = tried.spread or spread_by_rule(graph, hardware, limits)
    return Settled(mapping, replace(tried, spread=spread, stream=False))


def _layers_kept(problem: Problem, options: MapOptions, notes: list[Note] | None) -> Settled | None:
    """A mapping in which the layers' weights stay in arrays, and those of the output layer as far as they fit; None if
    the layers do not fit, or streaming all weights would load less."""
    graph, hardware = problem.graph, problem.hardware
    may = options.does(Optimisation.KEEP_LAYERS) and options.stream is None
    section = passing_section(graph, cut(graph))
    if not may or section is None or weight_cells(graph, without=section.first) > cells(hardware):
        return None
    small: MapOptions | None = None
    taken, tried = hardware.tiles, _next_passing(problem, options, options, ())
    while tried is not None:
        mapper = Mapper(problem, tried)
        with suppress(CimError):
            mapper.run()
        if 0 < mapper.layer_tiles < taken:
            small, taken = tried, mapper.layer_tiles
        tried = _next_passing(problem, options, tried, mapper.builder.tiles)
    if small is None:
        return None
    small = replace(small, passing=hardware.tiles - taken)
    mapper = Mapper(problem, small)
    try:
        mapping = mapper.run()
    except CimError:
        return None
    if mapper.loaded * problem.limits.sequences >= weight_cells(graph) * problem.arithmetic.dtype.bytes:
        return None
    return _settled(mapper, mapping, small, notes)


def _next_passing(
    problem: Problem, asked: MapOptions, tried: MapOptions, tiles: Sequence[TileBuilder]
) -> MapOptions | None:
    """What to try next for as few tiles of layers as can be; None if only rows in memory would take fewer."""
    if not tried.passing:
        return replace(tried, passing=1)
    fewer = _smaller(problem, asked, tried, tiles, 0)
    return None if fewer is None or (fewer.kv.one_tile and not asked.kv.one_tile) else fewer


def _spared(mapper: Mapper, most: int, have: int) -> Iterator[int]:
    """How many layers with attention may keep their rows in arrays on several tiles a head, if all of them would take
    `most` tiles: about as many as there is room for, and fewer if these do not fit."""
    moved = sum(plan.policy is not KvPolicy.RESIDENT for plan in mapper.parts.plans.values())
    layers, least = len(mapper.parts.plans), len(mapper.builder.tiles)
    if moved == layers and most > least:
        room = (have - least) * layers // (most - least)
        yield from range(min(room, layers - 1), max(room - 3, 0), -1)


def _smaller(
    problem: Problem, asked: MapOptions, tried: MapOptions, tiles: Sequence[TileBuilder], have: int
) -> MapOptions | None:
    """Options that take fewer of the `tiles` than were `tried`: smaller sections, if the rule has them large; heads
    over as many tiles as are left for them, sections as small as can be, output projections on few tiles, fewer copies
    of heads (whose softmax takes longer than a section's columns), then the hub, then heads over one tile each with
    rows in memory. None if there are none."""
    if not tried.spread:
        by_rule = spread_by_rule(problem.graph, problem.hardware, problem.limits)
        tried = replace(tried, spread=min(by_rule, SMALLER))
        if by_rule > SMALLER:
            return tried
    fewer = 0 if asked.context_ways else _fewer_ways(tried.context_ways, tiles, have)
    if fewer:
        return replace(tried, context_ways=fewer)
    if not asked.spread and tried.spread > 1:
        return replace(tried, spread=1.0)
    if any(tile.kind == OUTPUTS for tile in tiles) and not tried.few_outputs:
        return replace(tried, few_outputs=True)
    if any(tile.kind in FUSED for tile in tiles) and not asked.kv_copies and tried.kv_copies != 1:
        return replace(tried, kv_copies=1 if tried.kv_copies else 2)
    if not tried.hub_width:
        return replace(tried, hub_width=WIDEST)
    if asked.kv.policy is None and not tried.kv.one_tile:
        return replace(tried, kv=replace(tried.kv, one_tile=True))
    return None


def _fewer_ways(tried: int, tiles: Sequence[TileBuilder], have: int) -> int:
    """Over how many tiles a head may be dealt for all `tiles` to be `have`, if it was asked for `tried` of them (0: by
    rule); 0 if it has as few as its rows need."""
    attend = [tile for tile in tiles if tile.kind in ATTEND]
    ways = 1 + max((tile.addresses.get("way", 0) for tile in attend), default=0)
    if ways == 1:
        return 0
    left = len(attend) - (len(tiles) - have)
    fewer = max(min(left * ways // len(attend), ways - 1), 1)
    if not tried or fewer < tried:
        return fewer
    return 1 if ways > tried > 1 else 0  # over so many, a sequence's rows are dealt unevenly
