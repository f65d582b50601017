"""Named rules for what the options leave to the mapper: each is a function of shapes and the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.ir.graph import Attention, Graph, Linear
from isa.hardware import Hardware
from isa.instructions import Quantw, Smxi
from isa.operands import WORD_BYTES
from isa.program import Limits

from .estimate import Pace

ROWS = 1
"""Rows for which the hub is cut: the latency of the first, and the others after it."""

STEP, WIDEST = 32, 1024
"""Columns of a hub tile: steps of them that are tried, and the most."""

FULL = 0.8
"""Share of a target's tiles that the smallest cuts are let grow to."""


def hub_columns(width: int, hardware: Hardware) -> int:
    """Columns of a hub value of `width` that a tile takes: whole words, few where a row's work takes longer than
    combining numbers over more tiles.

    A stage takes sums, works on them, sends them on (`Pace.stage`), and combines numbers over its tiles twice. What
    reads its rows takes a message from each of them.
    """
    sizes = [cols for cols in range(STEP, min(width, WIDEST + 1), STEP) if width % cols == 0]
    return min([*sizes, min(width, WIDEST)], key=lambda cols: (hub_cost(width, cols, hardware), -cols))


def hub_cost(width: int, cols: int, hardware: Hardware) -> float:
    """Cycles of a stage for a row of `width` columns, of which each tile takes `cols`."""
    pace, tiles = Pace(hardware), -(-width // cols)
    return 2 * pace.reduce(tiles) + pace.receive(tiles) + ROWS * pace.stage(cols)


def room(graph: Graph, hardware: Hardware, limits: Limits) -> float:
    """How many times as many tiles as weights and KV cache need at least the target lets them have."""
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    need = weight_tiles(graph, hardware) + sum(_cache_tiles(op, hardware, limits) for op in attentions)
    return FULL * hardware.tiles / max(need, 1)


def weight_tiles(graph: Graph, hardware: Hardware) -> float:
    """Tiles whose macros hold the weights of all linear layers."""
    linear = [node for node in graph.nodes if isinstance(node.op, Linear)]
    weights = sum(int(graph.constants[node.inputs[1]].count) for node in linear)
    return weights / hardware.weight_cells


def _cache_tiles(op: Attention, hardware: Hardware, limits: Limits) -> float:
    """Tiles that an attention's cached rows need, or that heads with very many of them are to have."""
    longest = limits.max_source if op.cross else limits.max_context
    cached = (op.head_dim + op.v_head_dim) * longest * limits.sequences
    ways = ways_wanted(op, longest, hardware)
    return op.kv_heads * max(cached / hardware.written_cells, ways if ways >= MOST_WAYS else 0)


MOST_WAYS = 16
"""Tiles of a head up to which it gets one for each of its blocks: they wait for each other longer than they work. More
of them are for heads whose rows take long (`ways_wanted`)."""

BESIDE = 1.03
"""Tiles that a model needs for its weights and what is between its layers, in tiles of its weights."""


def ways_wanted(op: Attention, longest: int, hardware: Hardware) -> int:
    """Over how many tiles a KV head's `longest` rows would have to be dealt for a token's softmax to take no longer on
    each than a stage of the hub takes for it; each has half of a macro's rows or more."""
    pace = Pace(hardware)
    seen, width = min(op.window or longest, longest), op.heads * op.v_head_dim
    group = op.heads // op.kv_heads
    stage = pace.stage(hub_columns(width, hardware))
    wanted = math.ceil(group * pace.vector([Smxi, Quantw], seen) / stage)
    return max(min(wanted, 2 * longest // hardware.macro_rows), 1)


def cache_ways(op: Attention, longest: int, sequences: int, hardware: Hardware) -> int:
    """Tiles that the `longest` rows of a KV head need, of each sequence."""
    return math.ceil((op.head_dim + op.v_head_dim) * longest * sequences / hardware.written_cells)


FEWER = 4
"""How many times fewer tiles long heads get that only rows with outputs look at. Of a token and 64 tokens of a prefill,
taken together, the time is least at some four to five."""


def ways_with_room(graph: Graph, hardware: Hardware, limits: Limits, behind: int = 0) -> int:
    """Over how many tiles each KV head may be dealt such that the weights have tiles, too; `MOST_WAYS` at least. Those
    `behind` the rows that go through get `FEWER`, if others are in front of them."""
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    heads = sum(op.kv_heads for op in attentions)
    left = hardware.tiles - BESIDE * weight_tiles(graph, hardware)
    if behind in (0, heads):
        return max(int(left / max(heads, 1)), MOST_WAYS)
    need = max(cache_ways(op, limits.max_context, limits.sequences, hardware) for op in attentions)
    front = heads - behind
    each = min(left / (front + behind / FEWER), (left - behind * need) / front)
    return max(int(each), MOST_WAYS)


LEAST_SPREAD, MOST_SPREAD = 1.05, 4.0
"""Times the tiles that feed-forward sections need: a few more allow much better cuts, very many gain little."""


def spread_by_rule(graph: Graph, hardware: Hardware, limits: Limits) -> float:
    """How many times as many tiles as it needs a feed-forward section may take: as the target has room for."""
    return max(min(room(graph, hardware, limits), MOST_SPREAD), LEAST_SPREAD)


def gather_columns(cols: int, tiles: int, hardware: Hardware, rows: Sequence[int]) -> int:
    """Columns of a row of float32 that one chip should look up in tables of so many `rows`, if each of `tiles` of a hub
    stage has `cols`: as many as its DRAM gives while an array takes a row (tables that fit a global buffer come from
    there), or more, where there are not as many chips; whole granules of a buffer, so that the pieces of a row can come
    side by side."""
    memory = hardware.dram
    width = int(memory.channels.value) * hardware.bytes_per_cycle(memory.bandwidth)
    most = hardware.mvm_cycles * width
    chips = hardware.tiles // hardware.tiles_per_chip
    step = max(hardware.granule_bytes // WORD_BYTES, 1)
    each = cols
    for pieces in range(1, max(min(cols // step, chips // tiles), 1) + 1):
        each = -(-cols // pieces // step) * step
        in_dram = sum(WORD_BYTES * each * count > int(hardware.gbuf.capacity.si) for count in rows)
        if WORD_BYTES * each * max(in_dram, 1) <= most:
            break
    return each


LONG = 256
"""Tokens for which segments are chosen, if the context is as long."""

STAGES = 8
"""Tiles that a row visits one after the other in a layer with attention."""

OVERHEAD = 1.5
"""Startups and ways of a segment in a stage, in rows' work: queues let most of them pass under other segments' work."""

SHORTEST, LONGEST_CHUNK = 4, 16
"""Rows of a segment, at least and at most: each segment's inputs come over the host link one after the other, it
lies within a block of cached rows, and a ring has room for it beside the window."""


def segment_rows(graph: Graph, limits: Limits) -> int:
    """Rows of the longest segment, a power of two.

    n tokens in segments of c rows through s stages take about (n / c + s) (c + overhead) times a row's work: least at
    c = sqrt(n overhead / s). Short segments reach the last layer early, long ones pay the overhead less often.
    """
    layers = sum(isinstance(node.op, Attention) for node in graph.nodes)
    tokens = min(limits.max_context * limits.sequences, LONG)
    best = math.sqrt(tokens * OVERHEAD / (STAGES * max(layers, 1)))
    return min(max(int(2 ** round(math.log2(best))), SHORTEST), LONGEST_CHUNK)
