"""KV caches, streams of the source, inputs and outputs that do not fit the program: each has its words (E0410)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isa.assembler import assemble_file
from isa.instruction import DType
from isa.interface import CacheHead, Interface, KvCache, ModelValue, Use
from isa.program import ArrayData, ArrayKind, Direction, Program, Slice, TensorInfo
from isa.verifier import findings

GOOD = assemble_file(Path(__file__).parents[2] / "golden" / "isa" / "caches.cimasm")
Change = Callable[[Program], Program]


def limits(**changes: int) -> Change:
    """Other limits."""
    return lambda p: replace(p, limits=replace(p.limits, **changes))


def array(index: int, **changes: Any) -> Change:
    """An array of the role changed."""

    def change(p: Program) -> Program:
        (role,) = p.roles
        arrays = list(role.arrays)
        arrays[index] = replace(arrays[index], **changes)
        return replace(p, roles=(replace(role, arrays=tuple(arrays)),))

    return change


def cache(index: int, *heads: CacheHead, **changes: Any) -> Change:
    """A cache changed; with heads, those."""

    def change(p: Program) -> Program:
        caches = list(p.caches)
        caches[index] = replace(caches[index], heads=heads or caches[index].heads, **changes)
        return replace(p, caches=tuple(caches))

    return change


def values(*inputs: ModelValue, outputs: tuple[ModelValue, ...] = ()) -> Change:
    """Other inputs and outputs."""
    return lambda p: replace(p, interface=Interface(inputs, outputs))


def stream(index: int, **changes: Any) -> Change:
    """A stream changed."""

    def change(p: Program) -> Program:
        streams = list(p.streams)
        streams[index] = replace(streams[index], **changes)
        return replace(p, streams=tuple(streams))

    return change


MASK = ModelValue("mask", Use.MASK)
OTHERS = KvCache(1, (CacheHead(0, 0, 1),))
CASES: list[tuple[Change, str]] = [
    (limits(max_source=-1), "max_source is -1; it must not be negative"),
    (
        limits(max_source=0),
        "stream source: error[E0410]: it is of the source, and the program is made for none",
    ),
    (
        limits(max_source=0),
        "cache 1: error[E0410]: it holds rows of a source, and the program is made for none",
    ),
    (limits(max_source=40), "it has 32 rows a sequence; max_source is 40"),
    (limits(max_context=65), "it has 64 rows a sequence; max_context is 65"),
    (limits(sequences=3), "its 128 rows cannot be shared out among 3 sequences"),
    (
        stream(1, direction=Direction.OUT),
        "stream source: error[E0410]: the host is not at its end of channel encoded",
    ),
    (
        stream(2, source=False),
        "output made: error[E0410]: it has rows of the source, and stream made goes with",
    ),
    (stream(2, columns=17), "stream made: error[E0410]: its parts do not give each column exactly once"),
    (
        limits(max_source=0),
        "stream made: error[E0410]: it is of the source, and the program is made for none",
    ),
    (cache(0, CacheHead(7, 0, 1)), "cache 0: error[E0410]: there is no tile number 7"),
    (cache(0, CacheHead(-1, 0, 1)), "there is no tile number -1"),
    (cache(0, CacheHead(0, 0, 4)), "tile h0 has no array 4; its role has 4"),
    (cache(0, CacheHead(0, 1, 1)), "array values of tile h0 is used twice"),
    (cache(1, CacheHead(0, 0, 3)), "array keys of tile h0 is used twice"),
    (cache(0, CacheHead(0, 0, 2)), "array keys has 128 rows, cross.keys has 64"),
    (cache(0, CacheHead(0, 0, 1), CacheHead(1, 2, 3)), "its heads differ: keys int8 128 x 16"),
    (cache(1, layer=0, cross=False), "there are two caches for the attention of layer 0"),
    (lambda p: replace(p, caches=(KvCache(0, ()), *p.caches[1:])), "cache 0: error[E0410]: it has no heads"),
    (array(1, cols=8, dtype=DType.F32), ""),
    (values(MASK, MASK), "input mask: error[E0410]: there are two of this name"),
    (values(replace(MASK, cache=0)), "it is for mask, and names cache 0"),
    (values(replace(MASK, heads=-1)), "it has -1 heads"),
    (values(replace(MASK, use=Use.KEYS)), "it is for keys; there is no cache -1, the program has 2"),
    (values(replace(MASK, use=Use.VALUES, cache=2)), "it is for values; there is no cache 2"),
    (values(replace(MASK, stream="y")), "there is no stream 'y'"),
    (values(replace(MASK, use=Use.SOURCE, stream="x")), "stream x goes with the tokens"),
    (values(outputs=(replace(MASK, stream="x"),)), "output mask: error[E0410]: stream x goes in, not out"),
    (values(replace(MASK, stream="made")), "input mask: error[E0410]: stream made goes out, not in"),
]


def test_the_base_is_accepted() -> None:
    assert findings(GOOD) == ()
    assert len(GOOD.caches) == 2
    assert [s.source for s in GOOD.streams] == [False, True, True]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[words[-50:] for _, words in CASES])
def test_what_does_not_fit_is_said(change: Change, words: str) -> None:
    found = [d.render() for d in findings(change(GOOD))]
    if not words:  # values may be narrower than keys
        assert found == []
    assert all("error[E0410]" in text for text in found)
    assert not words or any(words in text for text in found), found


def test_a_cache_lies_in_kv_arrays() -> None:
    weights = ArrayData(Slice("w", (0, 0)))
    tiles = tuple(replace(tile, arrays=(weights, *tile.arrays[1:])) for tile in GOOD.tiles)
    tensors = (*GOOD.tensors, TensorInfo("w", DType.I8, (128, 16)))
    found = findings(replace(array(0, kind=ArrayKind.WEIGHT)(GOOD), tiles=tiles, tensors=tensors))
    assert [d.message for d in found] == [f"array keys of tile {tile.name} is no KV array" for tile in tiles]
    tiles = tuple(replace(tile, arrays=(None, None, None)) for tile in GOOD.tiles)
    role = replace(GOOD.roles[0], arrays=GOOD.roles[0].arrays[:3])
    found = findings(replace(GOOD, roles=(role,), tiles=tiles))
    assert "tile h0 has no array 3; its role has 3" in {d.message for d in found}
