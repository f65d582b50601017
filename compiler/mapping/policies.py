"""Where the KV cache of a layer lies (docs/kv.md), and how many of its rows arrays keep.

A layer with a sliding window needs no row that lies further back than the window: its arrays keep a ring of rows. A
layer whose rows do not fit keeps the last of them in a ring and the others in DRAM (tiered), or all in DRAM (streamed).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from compiler.explain import Heading, Note
from compiler.ir.graph import Attention
from compiler.optimisations import Optimisation
from isa.interface import KvPolicy
from isa.operands import WORD_BYTES

from .rules import LONGEST_CHUNK
from .sections import Domain

if TYPE_CHECKING:
    from .parts import Geometry


@dataclass(frozen=True, slots=True)
class KvChoice:
    """What is asked of the caches: a policy (None: `choose_policy` decides for each layer), and how many of the last
    rows of tiered ones lie in arrays alone (0: as many as fit). `why` says who asks.

    With `one_tile` rows that need more than one tile a head do not count as fitting, but for the first `spared` layers
    with attention: there are too few tiles for all.
    """

    policy: KvPolicy | None = None
    hot_rows: int = 0
    one_tile: bool = False
    spared: int = 0
    why: str = "asked for"


@dataclass(frozen=True, slots=True)
class KvPlan:
    """Where the rows of one layer's heads lie.

    `kept`: rows of the KV arrays that hold rows from step to step, all sequences; `ring`: how many of them a sequence
    has, if they are a ring; `staged`: rows of the arrays that blocks from memory pass through; `rows`: rows a sequence
    has in memory; `hot`: how many of the last rows lie in arrays alone.
    """

    policy: KvPolicy
    kept: int
    ring: int = 0
    staged: int = 0
    rows: int = 0
    hot: int = 0
    why: str = field(default="", compare=False)


def skips(geometry: Geometry, op: Attention) -> bool:
    """Whether attention passes over the blocks that lie wholly before its window."""
    return bool(op.window) and not op.cross and geometry.does(Optimisation.SKIP_WINDOW)


def ring_rows(geometry: Geometry, op: Attention, rows_of: Domain) -> int:
    """Rows of the ring in which a sequence's keys and values lie; 0 if every position has a row of its own.

    A segment's first token sees `window` rows, its last one up to `LONGEST_CHUNK` - 1 more; blocks are whole.
    Attention that sees later tokens has all rows appended before it looks at the first, so it has no ring.
    """
    if not skips(geometry, op) or not op.causal or not geometry.does(Optimisation.RING):
        return 0
    assert op.window is not None
    block = geometry.block(rows_of)
    rows = -(-(op.window + LONGEST_CHUNK - 1) // block) * block
    fits = block % LONGEST_CHUNK == 0  # a segment must not cross the end of the ring
    return rows if fits and rows < geometry.longest(rows_of) else 0


def _whole_rows(geometry: Geometry, rows_of: Domain) -> int:
    """Rows of the longest sequence, in whole blocks."""
    block = geometry.block(rows_of)
    return -(-geometry.longest(rows_of) // block) * block


def resident(geometry: Geometry, op: Attention, rows_of: Domain) -> KvPlan:
    """All rows in arrays; of a layer with a window those in reach."""
    ring = ring_rows(geometry, op, rows_of)
    kept = ring * geometry.limits.sequences if ring else geometry.kv_rows(rows_of)
    return KvPlan(KvPolicy.RESIDENT, kept, ring)


def streamed(geometry: Geometry, rows_of: Domain) -> KvPlan:
    """All rows in memory."""
    block, rows = geometry.block(rows_of), _whole_rows(geometry, rows_of)
    return KvPlan(KvPolicy.STREAMED, 0, staged=block, rows=rows)


def tiered(geometry: Geometry, rows_of: Domain, hot: int) -> KvPlan:
    """The last `hot` rows and the block of the newest in arrays, the others in memory."""
    block, sequences = geometry.block(rows_of), geometry.limits.sequences
    rows = _whole_rows(geometry, rows_of)
    hot = max(hot // block, 1) * block
    return KvPlan(KvPolicy.TIERED, (hot + block) * sequences, hot + block, block, rows, hot)


def macros(geometry: Geometry, op: Attention, plan: KvPlan) -> int:
    """Macros of one head's KV arrays."""
    sizes = [(rows, cols) for rows in (plan.kept, plan.staged) for cols in (op.head_dim, op.v_head_dim)]
    return sum(geometry.macros(rows, cols) for rows, cols in sizes if rows)


def can_stream(geometry: Geometry, op: Attention, rows_of: Domain) -> str:
    """Why rows of a layer cannot lie in memory, in words; "" if they can."""
    if geometry.limits.pages and rows_of is Domain.TOKENS:
        return "pages that sequences share lie in arrays"
    if op.cross:
        return "cross-attention's rows are written once and stay in arrays"
    if not op.causal:
        return "attention that sees later tokens takes its rows from arrays"
    if op.head_dim % WORD_BYTES or op.v_head_dim % WORD_BYTES:
        return f"heads of {op.head_dim} and {op.v_head_dim} columns are not whole words"
    if geometry.block(rows_of) % LONGEST_CHUNK:
        return f"a block of {geometry.block(rows_of)} rows is no multiple of {LONGEST_CHUNK}"
    return ""


def hot_rows(geometry: Geometry, op: Attention, rows_of: Domain, room: int) -> int:
    """The most rows that a tiered layer can keep in `room` macros besides a block; 0 if not even a block of them."""
    block, most = geometry.block(rows_of), _whole_rows(geometry, rows_of)
    sizes = range(block, most, block)
    fitting = bisect_right(sizes, room, key=lambda hot: macros(geometry, op, tiered(geometry, rows_of, hot)))
    return sizes[fitting - 1] if fitting else 0


@dataclass(frozen=True, slots=True)
class Room:
    """Macros of a tile, and those of them beside a head's projections; whether all its rows fit one tile or several."""

    tile: int
    left: int
    fits: bool


def choose_policy(geometry: Geometry, op: Attention, rows_of: Domain, room: Room) -> KvPlan:
    """Where the rows of a layer lie.

    What was asked for, where the layer can have it. Otherwise resident if that fits, else tiered with as many rows in
    arrays as fit, else streamed; a layer that can be nothing but resident is so. Pages are resident.
    """
    asked, who, here = geometry.kv.policy, geometry.kv.why, resident(geometry, op, rows_of)
    hindrance, need = can_stream(geometry, op, rows_of), macros(geometry, op, here)
    sizes = f"all rows of a head take {need:,} macros, a tile has {room.tile:,}"
    if asked is KvPolicy.RESIDENT or hindrance:
        return replace(here, why=hindrance or who)
    if asked is None and room.fits:
        return replace(here, why=sizes + (", and several tiles share a head" if need > room.tile else ""))
    least = macros(geometry, op, tiered(geometry, rows_of, 0))
    most = hot_rows(geometry, op, rows_of, room.left if least <= room.left else room.tile)
    if asked is KvPolicy.TIERED or (asked is None and most):
        found = tiered(geometry, rows_of, min(geometry.kv.hot_rows or most, most))
        return replace(found, why=who if asked else sizes)
    why = f"{sizes}, and a ring with one block beside the newest would take {least:,}"
    return replace(streamed(geometry, rows_of), why=who if asked else why)


def policy_notes(plans: Iterable[KvPlan]) -> list[Note]:
    """What became of the caches, and why, for `--explain`."""
    groups = Counter(f"{_in_words(plan)} ({plan.why})" for plan in plans)
    return [Note(Heading.CHOICES, f"KV cache: {count} layer(s) {text}.") for text, count in groups.items()]


def _in_words(plan: KvPlan) -> str:
    match plan.policy:
        case KvPolicy.RESIDENT if plan.ring:
            return f"resident in KV arrays, a ring of {plan.ring:,} rows a sequence"
        case KvPolicy.RESIDENT:
            return "resident in KV arrays"
        case KvPolicy.TIERED:
            return f"tiered, the last {plan.hot:,} rows of a sequence and the newest block in KV arrays, others in DRAM"
        case KvPolicy.STREAMED:
            return f"streamed from DRAM, {plan.staged:,} rows at a time"


def ways_out(geometry: Geometry, op: Attention, rows_of: Domain, plan: KvPlan) -> str:
    """What would make a layer's rows fit, where they do not fit on a tile: the smallest changes, in words."""
    have, sequences = geometry.hardware.written_macros_per_tile, geometry.limits.sequences
    option = "--max-source" if rows_of is Domain.SOURCE else "--max-context"
    found: list[str] = []
    if plan.policy is KvPolicy.RESIDENT and not plan.ring:
        block = geometry.block(rows_of)
        fits = have * plan.kept // (macros(geometry, op, plan) * sequences) // block * block
        found += [f"{option} {fits} would fit"] if fits else []
    if plan.policy is not KvPolicy.STREAMED and sequences > 1:
        fewer = have * sequences // macros(geometry, op, plan)
        found += [f"--batch {fewer} would"] if fewer else []
    if not can_stream(geometry, op, rows_of):
        most = hot_rows(geometry, op, rows_of, have)
        if plan.policy is KvPolicy.RESIDENT and most:
            found.append(f"--kv tiered would, with the last {most:,} rows in arrays")
        elif (
            plan.policy is not KvPolicy.STREAMED and macros(geometry, op, streamed(geometry, rows_of)) <= have
        ):
            found.append("--kv streamed would")
    return "; ".join(found) or "a target with more macros a tile"
