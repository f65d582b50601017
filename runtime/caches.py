"""KV caches from outside: rows of keys and values put into the arrays where a program keeps them, and taken out.

An int8 array holds what an append on the chip would have made of the rows: codes, and a scale for each row and head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.instruction import DType
from isa.interface import KvCache, KvPolicy
from isa.levels import levels_of
from isa.program import Program

from . import numerics
from .engine.state import ArrayState
from .kvmemory import HeadMemory, Holder, rows_in_memory
from .numerics import F32
from .paging import PageTables

__all__ = ["Holder", "read_cache", "write_cache"]


def write_cache(
    program: Program,
    tiles: Sequence[Holder],
    pages: PageTables,
    layer: int,
    sequence: int,
    keys: NDArray[Any],
    values: NDArray[Any],
) -> None:
    """Replace the first rows of a sequence in cache number `layer`; see `Machine.write_cache`."""
    cache = _cache(program, layer)
    rows = [_checked(tiles, cache, side, layer, given) for side, given in enumerate((keys, values))]
    if rows[0].shape[1] != rows[1].shape[1]:
        raise fail("E0601", f"cache {layer} is given {rows[0].shape[1]} keys and {rows[1].shape[1]} values")
    _check_room(program, tiles, cache, layer, rows[0].shape[1])
    rows = [given / by for given, by in zip(rows, _factors(program, cache), strict=True)]
    with numerics.quiet():
        for side, given in enumerate(rows):
            for head, one in enumerate(given):
                if cache.rows:
                    first = one[: rows_in_memory(cache, len(one))]
                    HeadMemory(program, tiles, cache, side, head).write(sequence, first)
                for way, row, part in _parts(program, tiles, pages, cache, sequence, len(one)):
                    for copy in range(cache.copies):  # in a ring, the later stay
                        _write(_array(tiles, cache, side, head, way, copy), row, one[part])


def read_cache(
    program: Program,
    tiles: Sequence[Holder],
    pages: PageTables,
    layer: int,
    sequence: int,
    tokens: int,
) -> tuple[F32, F32]:
    """The first rows of a sequence in cache number `layer`; see `Machine.read_cache`."""
    cache = _cache(program, layer)
    if tokens < 0:
        raise fail("E0601", f"{tokens} rows of cache {layer} are asked for")
    _check_room(program, tiles, cache, layer, tokens)
    _check_kept(cache, layer, tokens)
    parts = list(_parts(program, tiles, pages, cache, sequence, tokens))

    def rows_of(side: int, head: int) -> F32:
        width = _array(tiles, cache, side, head, 0).spec.cols
        rows = np.zeros((tokens, width), np.float32)
        for way, row, part in parts:
            rows[part] = _read(_array(tiles, cache, side, head, way), row, part.stop - part.start)
        if cache.rows:
            first = rows_in_memory(cache, tokens)
            rows[:first] = HeadMemory(program, tiles, cache, side, head).read(sequence, first)
        return rows

    keys, values = (np.stack([rows_of(side, head) for head in range(cache.count)]) for side in (0, 1))
    by_keys, by_values = _factors(program, cache)
    return keys * by_keys, values * by_values


def _factors(program: Program, cache: KvCache) -> tuple[F32, F32]:
    """What keys and values in the arrays were divided by: [heads, 1, d], or ones."""
    names, one = (cache.key_factors, cache.value_factors), np.ones((1, 1, 1), np.float32)
    if program.data is None or not cache.key_factors:
        return one, one
    keys, values = (np.asarray(program.data[name], np.float32)[:, None] for name in names)
    return keys, values


def _cache(program: Program, layer: int) -> KvCache:
    if not 0 <= layer < len(program.caches):
        raise fail("E0601", f"there is no cache {layer}; the program has {len(program.caches)}")
    return program.caches[layer]


def _arrays(tiles: Sequence[Holder], cache: KvCache, side: int) -> Iterator[ArrayState]:
    """The arrays of keys (side 0) or values (side 1), head by head."""
    for head in cache.heads:
        yield tiles[head.tile].arrays[(head.keys, head.values)[side]]


def _array(
    tiles: Sequence[Holder], cache: KvCache, side: int, head: int, way: int, copy: int = 0
) -> ArrayState:
    """The array of keys (side 0) or values (side 1) of one head; of those it is dealt over, number `way`."""
    entry = cache.heads[(head * cache.copies + copy) * cache.ways + way]
    return tiles[entry.tile].arrays[(entry.keys, entry.values)[side]]


def _parts(
    program: Program,
    tiles: Sequence[Holder],
    pages: PageTables,
    cache: KvCache,
    sequence: int,
    tokens: int,
) -> Iterator[tuple[int, int, slice]]:
    """Where the first rows of a sequence lie: which of the arrays a head is dealt over, first row there, which rows."""
    if cache.policy is KvPolicy.STREAMED:
        return
    if program.limits.is_paged(cache):
        yield from pages.parts(sequence, tokens)
        return
    if cache.ways == 1:
        first, step = _first(program, _array(tiles, cache, 0, 0, 0), sequence), cache.ring or max(tokens, 1)
        for start in range(0, tokens, step):
            yield 0, first, slice(start, min(start + step, tokens))
        return
    block = cache.block
    for number, start in enumerate(range(0, tokens, block), sequence * cache.blocks):
        slot, way = divmod(number, cache.ways)
        yield way, slot * block, slice(start, min(start + block, tokens))


def _checked(
    tiles: Sequence[Holder], cache: KvCache, side: int, layer: int, given: NDArray[Any]
) -> NDArray[np.float32]:
    """Rows as float32 [heads, tokens, d]. Raises `CimError` E0601 if they are not of the cache's form."""
    rows, name = np.asarray(given), ("keys", "values")[side]
    widths = {array.spec.cols for array in _arrays(tiles, cache, side)}
    shape = f"[{cache.count}, tokens, {', '.join(map(str, sorted(widths)))}]"
    fits = rows.ndim == 3 and rows.shape[0] == cache.count and {rows.shape[2]} == widths
    if not fits or rows.dtype.kind not in "fiu":
        raise fail("E0601", f"{name} of cache {layer} are {rows.dtype} {list(rows.shape)}, it takes {shape}")
    return np.ascontiguousarray(rows, np.float32)


def _check_room(program: Program, tiles: Sequence[Holder], cache: KvCache, layer: int, tokens: int) -> None:
    limits = program.limits
    limit, option = (limits.max_source, "source") if cache.cross else (limits.max_context, "context")
    most = limit
    if cache.ways == 1 and not cache.ring and not cache.rows and not limits.is_paged(cache):
        rows = (array.spec.rows for side in (0, 1) for array in _arrays(tiles, cache, side))
        most = min(limit, min(rows) // limits.sequences)
    if tokens > most:
        message = f"cache {layer} has room for {most} rows a sequence, not {tokens}"
        raise fail("E0602", message, help=f"compile with --max-{option} {tokens} or more")


def _check_kept(cache: KvCache, layer: int, tokens: int) -> None:
    if cache.ring and not cache.rows and tokens > cache.ring:
        message = (
            f"cache {layer} keeps the last {cache.ring} rows of a sequence; of {tokens} the first are gone"
        )
        raise fail("E0602", message, help="compile with --without ring, so that every row is kept")


def _first(program: Program, array: ArrayState, sequence: int) -> int:
    """The first row of a sequence in an array."""
    return sequence * (array.spec.rows // program.limits.sequences)


def _write(array: ArrayState, first: int, rows: F32) -> None:
    window = array.window(first, len(rows))
    if array.spec.dtype is DType.I8:
        array.cells[window], array.row_scales[window] = numerics.quantise(rows, levels_of(array.spec.bits))
    else:
        array.cells[window] = rows


def _read(array: ArrayState, first: int, tokens: int) -> F32:
    window = array.window(first, tokens)
    if array.spec.dtype is DType.I8:
        return array.cells[window] * array.row_scales[window, None]
    return array.cells[window].copy()
