"""How many pages the KV arrays of tokens have, where sequences share them, and how many rows a page."""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.graph import Attention
from isa.diagnostics import fail
from isa.hardware import Hardware
from isa.operands import WORD_BYTES
from isa.program import Limits

from .deals import Dealing
from .parts import Geometry
from .policies import ring_rows
from .rules import LONGEST_CHUNK, MOST_WAYS
from .sections import Domain, Layout, Section

PAGES = 8
"""Pages of a sequence of the longest context, where macros allow it: half of one is left empty on average."""


def page_rows_for(limits: Limits, hardware: Hardware, block: int) -> int:
    """Rows of a page: whole macros, `PAGES` of them for the longest sequence, and no more than a KV block of `block`.

    Attention works page by page, so a page is a KV block.
    """
    wanted = min(limits.max_context // PAGES, block)
    return max(wanted // hardware.macro_rows, 1) * hardware.macro_rows


def with_pages(limits: Limits, tokens: int | None, page_rows: int, ways: int = 1) -> Limits:
    """The limits of a program whose sequences share KV arrays with room for `tokens` tokens, in pages, on `ways` tiles.

    Without pages where every sequence can have a full context of its own (`tokens` None, or enough for all). Raises
    `CimError` E0305 where not even one sequence could.
    """
    if tokens is None:
        return limits
    one = -(-limits.max_context // page_rows)
    pages = -(-tokens // page_rows)
    if pages < one:
        raise fail(
            "E0305",
            f"--kv-tokens {tokens:,} is less than one sequence can have, {limits.max_context:,}",
            help=f"--kv-tokens {one * page_rows} or more, or --max-context {pages * page_rows} or less",
        )
    if pages >= one * limits.sequences:
        return limits
    each = max(-(-pages // ways), -(-one // ways))
    return replace(limits, pages=each, page_rows=page_rows, page_ways=ways)


def page_ways(geometry: Geometry, layout: Layout, tokens: int, page_rows: int, asked: Dealing) -> int:
    """Over how many tiles the pages of a head are dealt, a power of two, the same in all layers.

    As many as are asked for, or `MOST_WAYS`, but no more than there are pages; and as many as it takes for a tile to
    have room for its pages. 1 where some attention has no form over several tiles.
    """
    sections = [s for s in layout.sections if s.lanes and _is_paged(geometry, s)]
    ops = [s.attention.op for s in sections if s.attention is not None]
    if not asked.by_context or not all(map(_can_be_dealt, sections)) or page_rows % LONGEST_CHUNK:
        return 1
    most = _power_of_two(-(-tokens // page_rows))
    ways = min(_power_of_two(asked.ways or MOST_WAYS), most)

    def fits(ways: int) -> bool:
        rows = -(-tokens // (page_rows * ways)) * page_rows
        sides = ((op.head_dim, op.v_head_dim) for op in ops if isinstance(op, Attention))
        have = geometry.hardware.written_macros_per_tile
        return all(geometry.macros(rows, k) + geometry.macros(rows, v) <= have for k, v in sides)

    while ways < most and not fits(ways):
        ways *= 2
    return ways


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`."""
    return 1 << (most.bit_length() - 1)


def _is_paged(geometry: Geometry, section: Section) -> bool:
    """Whether the section's KV arrays are shared in pages."""
    op = section.attention.op if section.attention is not None else None
    if not isinstance(op, Attention) or op.cross or section.domain is Domain.SOURCE:
        return False
    return not ring_rows(geometry, op, Domain.TOKENS)


def _can_be_dealt(section: Section) -> bool:
    """Whether heads of the section have a form over several tiles: see `AttentionBuilder`."""
    assert section.attention is not None
    op = section.attention.op
    assert isinstance(op, Attention)
    whole = op.head_dim % WORD_BYTES == 0 and op.v_head_dim % WORD_BYTES == 0
    return whole and all(lane is None or lane.linear is not None for lane in section.lanes)
