"""Products of bytes with the processor's own instruction (AVX-512 VNNI): 64 pairs at once, and their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

HAS_BYTE_PRODUCTS = bool(get_host_cpu_features().get("avx512vnni"))
"""Whether the processor multiplies 64 pairs of bytes at once; numba keeps what it compiles by processor."""

_LANES = 16  # sums of a vector register of 512 bits
BLOCK = 4 * _LANES  # bytes that are multiplied at once
COLUMNS = 4  # products at a time: each waits for its own sums alone
_INT, _LONG = ir.IntType(32), ir.IntType(64)
_VECTOR, _BYTES = ir.VectorType(_INT, _LANES), ir.VectorType(ir.IntType(8), BLOCK)


def _added(builder: Any, one: Any, other: Any, lanes: list[int], more: list[int]) -> Any:
    """The sum of two choices among the lanes of two vectors, those of the second counted on."""
    chosen = [
        builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT, len(mask)), mask))
        for mask in (lanes, more)
    ]
    return builder.add(*chosen)


def _totals(builder: Any, four: list[Any]) -> Any:
    """The totals of four vectors, side by side. Quarters of registers are added up within, then with each other."""
    quarters = range(0, _LANES, 4)
    turns = [q + i + other for q in quarters for i in (0, 1) for other in (0, _LANES)]
    pairs = [q + i + other for q in quarters for other in (0, _LANES) for i in (0, 1)]
    first, second = (
        _added(builder, four[i], four[i + 1], turns, [lane + 2 for lane in turns]) for i in (0, 2)
    )
    found = _added(builder, first, second, pairs, [lane + 2 for lane in pairs])
    for half in (_LANES // 2, _LANES // 4):
        found = _added(builder, found, found, list(range(half)), list(range(half, 2 * half)))
    return found


def _loaded(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _BYTES.as_pointer()), align=1)


def _added_on(builder: Any, base: Any, step: Any, times: int) -> Any:
    """An address some steps behind another."""
    return builder.add(base, builder.mul(step, ir.Constant(_LONG, times)))


def _products_of(count: int) -> Callable[[int, int, int, int, int, int, int], None]:
    """What `add_four` does, for so many vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, rest, first, pitch, cells, step, blocks = arguments
        kind = ir.FunctionType(_VECTOR, (_VECTOR, _VECTOR, _VECTOR))
        multiply = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), kind)
        flip = ir.Constant(_BYTES, [128] * BLOCK)
        place_of: Any = cgutils.alloca_once_value
        zero = ir.Constant(_VECTOR, [0] * _LANES)
        made = [[place_of(builder, zero) for _ in range(COLUMNS)] for _ in range(count)]
        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, ir.Constant(_LONG, BLOCK))
            starts = [_added_on(builder, first, pitch, row) for row in range(count)]
            given = [
                builder.bitcast(_loaded(builder, builder.add(start, offset)), _VECTOR) for start in starts
            ]
            for column in range(COLUMNS):
                start = builder.add(_added_on(builder, cells, step, column), offset)
                held = builder.bitcast(builder.xor(_loaded(builder, start), flip), _VECTOR)
                for places, vector in zip(made, given, strict=True):
                    factors = [builder.load(places[column]), held, vector]
                    builder.store(builder.call(multiply, factors), places[column])
        for row, places in enumerate(made):
            found = _totals(builder, [builder.load(place) for place in places])
            start = builder.inttoptr(_added_on(builder, sums, rest, row), found.type.as_pointer())
            builder.store(builder.add(builder.load(start, align=4), found), start, align=4)
        return context.get_dummy_value()

    def typed(
        context: Any, sums: Any, rest: Any, first: Any, pitch: Any, cells: Any, step: Any, blocks: Any
    ) -> Any:
        return types.none(*[types.int64] * 7), generate

    return cast("Callable[[int, int, int, int, int, int, int], None]", intrinsic(typed))


add_four, add_two, add_one = (_products_of(count) for count in (4, 2, 1))
"""Add to int32 sums the products of some vectors of int8 with four others, each of which has 128 added to its bytes:
the instruction takes bytes without a sign on one side. The address of the sums and from vector to vector how far they
are apart, that of the vectors and how far, that of the others and how far, and blocks of 64 bytes that each has."""
