"""How an attention section is spread over tiles: over how many a head's cached rows, in which blocks, which heads share
an output projection. Each choice is a field of `MapOptions`, or follows from sizes by a function here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from compiler.ir.graph import Attention
from isa.hardware import Hardware
from isa.operands import WORD_BYTES

from .parts import Geometry
from .rules import FEWER, LONGEST_CHUNK, MOST_WAYS, cache_ways, ways_wanted
from .sections import Domain

LAST_ROWS = 2048  # of an output projection's arrays: few columns are then on a tile, which go as float32
LONGEST_BLOCK = 2048  # rows of a block of long heads: longer ones save little
SCORES, SCORED_TOKENS = 1 / 8, 4  # share of a buffer that scores of a block may take, of so many tokens


@dataclass(frozen=True, slots=True)
class Dealing:
    """What is asked for: `ways` tiles a head (1: no more than its cache needs) in blocks of `block` rows, `together` KV
    heads at an output projection, `copies` tiles with the same rows for the query heads that share them; 0 where a rule
    decides. `few_outputs`: an output projection on as few tiles as it fits. `own_outputs`: by columns on the tiles of
    the heads that share it, where each head has one. `own_projections`: queries, keys and values on each tile of a
    head, where one array can make them; `projection_tiles`: else on about so many.

    `by_context`: a head may be dealt at all. `groups_heads`: several heads may share an output projection. `room`: how
    many tiles a head with a long context may have by rule. `is_behind`: only rows with outputs look at the heads, of
    others all rows do.
    """

    ways: int = 0
    block: int = 0
    together: int = 0
    copies: int = 0
    few_outputs: bool = False
    own_outputs: bool = False
    own_projections: bool = False
    projection_tiles: int = 0
    by_context: bool = True
    groups_heads: bool = True
    room: int = MOST_WAYS
    is_behind: bool = False


@dataclass(frozen=True, slots=True)
class Deal:
    """A head's cached rows over `ways` tiles, in blocks of `block` rows, `blocks` of them a sequence; an array has
    `rows`; `projections`: over how many tiles its queries, keys and values are made (0: as few as they fit)."""

    ways: int
    block: int
    blocks: int
    rows: int
    projections: int = 0

    def macros(self, geometry: Geometry, op: Attention) -> int:
        """Macros of a tile's keys and values."""
        return geometry.macros(self.rows, op.head_dim) + geometry.macros(self.rows, op.v_head_dim)


def deal(geometry: Geometry, domain: Domain, op: Attention, asked: Dealing) -> Deal:
    """The deal of a head, block by block, one sequence behind another. By rule there are as many tiles as blocks, up to
    `ways_by_rule`; in any case as many as its cache needs, if there can be so many. Pages are dealt as the limits
    say."""
    limits = geometry.limits
    if limits.pages and domain is Domain.TOKENS:
        blocks = limits.pages_for(limits.max_context)
        return Deal(limits.page_ways, limits.page_rows, blocks, geometry.kv_rows(domain))
    block = min(asked.block or block_rows(geometry, domain, op), geometry.block(domain))
    wanted = asked.ways or ways_by_rule(geometry, domain, op, asked)
    if asked.is_behind and is_long(geometry, domain, op):
        need = cache_ways(op, geometry.longest(domain), limits.sequences, geometry.hardware)
        wanted = max(wanted // FEWER, need)
    if not asked.block and asked.by_context and (asked.ways or is_long(geometry, domain, op)):
        block = even_block(geometry, domain, op, block, wanted)
    blocks = -(-geometry.longest(domain) // block)
    most = blocks * limits.sequences if asked.by_context and block % LONGEST_CHUNK == 0 else 1
    tiles = max(geometry.hardware.tiles, asked.ways)  # the search ends there: more tiles do not exist
    ways, most = min(wanted, most, tiles), min(most, tiles)
    while True:
        found = _dealt(geometry, domain, ways, block, blocks)
        if ways >= most or found.macros(geometry, op) <= geometry.hardware.written_macros_per_tile:
            return replace(found, projections=asked.projection_tiles)
        ways += 1


def is_long(geometry: Geometry, domain: Domain, op: Attention) -> bool:
    """Whether a head has so many rows that all of `MOST_WAYS` tiles are wanted, or more."""
    return ways_wanted(op, geometry.longest(domain), geometry.hardware) >= MOST_WAYS


def ways_by_rule(geometry: Geometry, domain: Domain, op: Attention, asked: Dealing) -> int:
    """Over how many tiles a head goes if nobody says: `MOST_WAYS`, with a long context more, as there is room."""
    wanted = ways_wanted(op, geometry.longest(domain), geometry.hardware)
    return max(min(wanted, asked.room), MOST_WAYS)


def block_rows(geometry: Geometry, domain: Domain, op: Attention) -> int:
    """Rows of a block, by rule: a macro's; half of them if several query heads look at each row, and the tiles that a
    head may have are enough for twice as many blocks."""
    whole, half = geometry.hardware.macro_rows, geometry.hardware.macro_rows // 2
    is_enough = -(-geometry.longest(domain) // max(half, 1)) <= MOST_WAYS
    return half if op.heads > op.kv_heads and is_enough and half % LONGEST_CHUNK == 0 else whole


def even_block(geometry: Geometry, domain: Domain, op: Attention, block: int, ways: int) -> int:
    """Rows of a block if a sequence's blocks of `block` rows are more than the `ways` tiles: as long as it may be such
    that all tiles have equally many. One long block takes less time than two that must be merged, and all wait for the
    tile that has most. Of long heads also if there are fewer blocks than tiles, and blocks may be longer."""
    longest, most = geometry.longest(domain), geometry.block(domain)
    if is_long(geometry, domain, op):
        most = max(most, min(LONGEST_BLOCK, score_rows(geometry.hardware, op)))
    elif -(-longest // block) <= ways:
        return block
    if ways <= 1:
        return block
    own = -(-longest // ways)
    each = -(-own // (-(-own // most)))
    return -(-each // LONGEST_CHUNK) * LONGEST_CHUNK


def score_rows(hardware: Hardware, op: Attention) -> int:
    """Cached rows of which the scores of some tokens take a small part of a tile's buffer (`SCORES`)."""
    return int(SCORES * hardware.buffer_bytes) // (SCORED_TOKENS * op.heads // op.kv_heads * WORD_BYTES)


def _dealt(geometry: Geometry, domain: Domain, ways: int, block: int, blocks: int) -> Deal:
    """The deal over about so many tiles, such that the order in which a sequence's blocks are added up is the same for
    all sequences: each has whole rounds of the tiles, or a power of two of them (sums are taken in pairs)."""
    sequences = geometry.limits.sequences
    if ways <= blocks:
        blocks = -(-blocks // ways) * ways
    else:
        even = 1 << (blocks - 1).bit_length()
        ways = max(ways // even * even, blocks)
        blocks = even if ways >= even else blocks
    if ways == 1:
        block, rows = geometry.block(domain), geometry.kv_rows(domain)
        return Deal(1, block, rows // block // sequences, rows)
    before = -(-(sequences - 1) * blocks // ways)  # slots in front of the last sequence's first block
    return Deal(ways, block, blocks, (before + -(-blocks // ways)) * block)


def copies_of(group: int, asked: Dealing) -> int:
    """Over how many tiles the `group` query heads of a KV head go, each with a copy of its rows: what is asked for, as
    far as it divides them; by rule all are on tiles of their own."""
    return math.gcd(group, asked.copies) if asked.copies else group


def stays_whole(geometry: Geometry, domain: Domain, group: int, asked: Dealing) -> bool:
    """Whether a head whose rows and linear layers fit a tile is better not dealt: its rows are one macro's, and copies
    of them take less time than parts that must be added up."""
    is_short = geometry.longest(domain) * geometry.limits.sequences <= geometry.hardware.macro_rows
    return is_short and not asked.ways and copies_of(group, asked) > 1


def heads_together(geometry: Geometry, heads: int, cols: int, asked: int) -> int:
    """How many KV heads of `cols` columns share tiles of the output projection: `asked`, or by `LAST_ROWS`; a divisor
    of `heads`, and no more than a tile's arrays can be stacked."""
    most = asked or max(LAST_ROWS // cols, 1)
    fits = [n for n in range(1, heads + 1) if heads % n == 0 and geometry.columns(n * cols)]
    return max((n for n in fits if n <= most), default=1)


def last_columns(geometry: Geometry, width: int, rows: int, heads: int) -> int:
    """Columns of the output projection on a tile: as few tiles as it fits, but as many as `heads`, so that each
    finishes one."""
    most, unit = geometry.columns(rows), geometry.hardware.macro_cols
    tiles = max(-(-width // most), heads)
    return min(most, -(-width // (tiles * unit)) * unit)
