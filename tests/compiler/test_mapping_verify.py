"""The mapping verifier says what is wrong with passes, sources, biases and caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from compiler.ir.mapping import Block, ConstantSlot, Mapping, MapValue, Rows
from compiler.ir.mapping_verify import verify_mapping
from compiler.ir.operations import Append, Attend, Send
from isa.diagnostics import CimError
from isa.interface import CacheHead, KvCache
from isa.program import ArrayKind

from .heads import Head, mapping

CROSS = Head(cross=True, causal=False, source=40)
SLOPED = Head(bias=(0.5, 0.25))


def _template(made: Mapping, **changes: Any) -> Mapping:
    (old,) = made.templates
    return replace(made, templates=(replace(old, **changes),))


def _blocks(made: Mapping, change: Callable[[Block], Block]) -> Mapping:
    (old,) = made.templates
    return _template(made, blocks=tuple(map(change, old.blocks)))


def _attend(made: Mapping, **changes: Any) -> Mapping:
    def change(block: Block) -> Block:
        return replace(block, op=replace(block.op, **changes)) if isinstance(block.op, Attend) else block

    return _blocks(made, change)


def _phases(made: Mapping, kind: type[Any], phase: int) -> Mapping:
    return _blocks(made, lambda b: replace(b, phase=phase) if isinstance(b.op, kind) else b)


def _arrays(made: Mapping, **changes: Any) -> Mapping:
    (old,) = made.templates
    return _template(made, arrays=(replace(old.arrays[0], **changes), *old.arrays[1:]))


def _rows_of(made: Mapping, name: str, rows: Rows) -> Mapping:
    (old,) = made.templates
    values = tuple(MapValue(v.name, v.format, v.cols, rows) if v.name == name else v for v in old.values)
    return _template(made, values=values)


def _also(made: Mapping, *blocks: Block) -> Mapping:
    (old,) = made.templates
    return _template(made, blocks=(*old.blocks, *blocks))


def _limits(made: Mapping, **changes: int) -> Mapping:
    return replace(made, limits=replace(made.limits, **changes))


def _streams(made: Mapping, name: str, **changes: Any) -> Mapping:
    return replace(made, streams=tuple(replace(s, **changes) if s.name == name else s for s in made.streams))


def _cache(made: Mapping, head: CacheHead) -> Mapping:
    return replace(made, caches=(KvCache(3, (head,)),))


MADE, SLOPES = mapping(CROSS), mapping(SLOPED)
WRONG = {
    "pass 2 follows pass 0": _blocks(MADE, lambda b: replace(b, phase=2 * b.phase)),
    "pass 0 follows pass 1": _phases(MADE, Send, 0),
    "has 3 passes over the source, and 2 in all": _template(MADE, source_phases=3),
    "passes over the source, of which there are no rows": _limits(MADE, max_source=0),
    "'k' for tokens, which has rows of the source": _also(MADE, Block(Append("keys", "k"), "late", 1)),
    "appends rows of the source and of tokens to array 'keys'": _also(
        MADE, Block(Append("keys", "q"), "late", 1)
    ),
    "Attend looks in 'keys' for rows of tokens": _attend(MADE, cross=False),
    "Attend looks at the source in a pass over the source": _template(MADE, source_phases=2),
    "limits by distance which rows of the source are seen": _attend(MADE, window=4),
    "reads 'q' in a later pass than that which wrote it": _blocks(
        mapping(replace(SLOPED, causal=False)),
        lambda b: replace(b, phase=0) if b.site == "queries" else b,
    ),
    "is for rows with outputs, of which a source segment has none": _rows_of(MADE, "k", Rows.OUTPUTS),
    "'keys' has 20 rows a sequence, which can have 40": _arrays(MADE, rows=20),
    "no KV array with as many rows for each of 3 sequences": _limits(MADE, sequences=3),
    "array 'keys' is no KV array": _arrays(MADE, kind=ArrayKind.WEIGHT),
    "'keys' and 'values' have not as many rows": _arrays(MADE, rows=41),
    "'q' has 16 columns, Attend takes 32": _attend(MADE, group=4, v_dim=2),
    "'bias' has 2 columns, Attend takes 6": _attend(SLOPES, reach=1),
    "a bias of reach 1024, more than an instruction takes": _attend(
        _template(SLOPES, constants=(ConstantSlot("bias", 4098),)), reach=1024
    ),
    "carries rows of the source at one end, and of tokens at another": _streams(MADE, "k", source=False),
    "channel out: carries rows of the source at one end, and of tokens at": _streams(
        MADE, "out", source=True
    ),
    "stream k: is for rows of the source, of which there are none": _limits(MADE, max_source=0),
    "tile 0 has no KV array 2": _cache(MADE, CacheHead(0, 0, 2)),
    "tile 0 looks for the source in KV array 0": replace(
        MADE, caches=(replace(MADE.caches[0], cross=False),)
    ),
    "tile 0 looks for tokens in KV array 1": replace(SLOPES, caches=(replace(SLOPES.caches[0], cross=True),)),
    "tile 1 has no KV array 0": _cache(MADE, CacheHead(1, 0, 1)),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said(message: str) -> None:
    with pytest.raises(CimError) as error:
        verify_mapping(WRONG[message])
    assert message.rpartition(": ")[2] in str(error.value)
    assert {d.code for d in error.value.diagnostics} == {"E0410"}
