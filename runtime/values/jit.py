"""Compiled functions of the engine of values: as those of the engine of time, and copies between addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from runtime.fast import jit as shared
from runtime.fast.jit import compiled, inlined

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["HAS_BYTE_PRODUCTS", "add_products", "compiled", "copy_bytes", "entry", "inlined"]


def fingerprint() -> str:
    """What tells this version of the compiled functions from others: the sources of both rooms, and the numbers."""
    digest = hashlib.sha256(shared.fingerprint().encode())
    here = Path(__file__).parent
    for path in (here.parent / "numerics.py", *sorted(here.glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def entry(function: Callable[P, T]) -> Callable[P, T]:
    """A compiled function that Python calls: kept between processes, in a folder of this room's."""
    folder = shared.cache_folder()
    if folder is None:
        return shared.entry(function)
    before = getattr(numba.config, "CACHE_DIR")  # noqa: B009  (numba makes its settings as it is imported)
    kept = folder.parent / fingerprint()
    kept.mkdir(parents=True, exist_ok=True)
    setattr(numba.config, "CACHE_DIR", str(kept))  # noqa: B010
    try:
        return shared.entry(function)
    finally:
        setattr(numba.config, "CACHE_DIR", before)  # noqa: B010


def _copy(context: Any, to: Any, origin: Any, count: Any) -> Any:
    """The type and the code of a copy between addresses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source, size = arguments
        pointers = [builder.inttoptr(address, cgutils.voidptr_t) for address in (target, source)]
        cgutils.raw_memcpy(builder, pointers[0], pointers[1], size, 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), generate


_LANES = 16  # sums of a vector register of 512 bits
_VECTOR = ir.VectorType(ir.IntType(32), _LANES)
_BYTES = ir.VectorType(ir.IntType(8), 4 * _LANES)
_COLUMNS = 4  # products at a time: each waits for its own sums alone

HAS_BYTE_PRODUCTS = bool(get_host_cpu_features().get("avx512vnni"))
"""Whether the processor multiplies 64 pairs of bytes at once; numba keeps what it compiles by processor."""


def _loaded(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _BYTES.as_pointer()), align=1)


def _add_products(context: Any, to: Any, x: Any, w: Any, step: Any, blocks: Any) -> Any:
    """The type and the code of `add_products`.

    The instruction takes bytes without a sign on one side: sum((x + 128) w) - 128 sum(w) is what is wanted.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, first, cells, pitch, count = arguments
        kind = ir.FunctionType(_VECTOR, (_VECTOR, _VECTOR, _VECTOR))
        multiply = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), kind)
        kind = ir.FunctionType(ir.IntType(32), (_VECTOR,))
        total = builder.module.declare_intrinsic("llvm.vector.reduce.add.v16i32", (), kind)
        flip, ones = (ir.Constant(_BYTES, [byte] * (4 * _LANES)) for byte in (128, 1))
        zero = ir.Constant(_VECTOR, [0] * _LANES)
        place_of: Any = cgutils.alloca_once_value
        made = [[place_of(builder, zero) for _ in range(2)] for _ in range(_COLUMNS)]
        with cgutils.for_range(builder, count) as loop:
            offset = builder.mul(loop.index, ir.Constant(ir.IntType(64), 4 * _LANES))
            given = builder.xor(_loaded(builder, builder.add(first, offset)), flip)
            for column, places in enumerate(made):
                start = builder.add(cells, builder.mul(pitch, ir.Constant(ir.IntType(64), column)))
                held = builder.bitcast(_loaded(builder, builder.add(start, offset)), _VECTOR)
                for place, other in zip(places, (given, ones), strict=True):
                    factors = [builder.load(place), builder.bitcast(other, _VECTOR), held]
                    builder.store(builder.call(multiply, factors), place)
        seven = ir.Constant(_VECTOR, [7] * _LANES)
        for column, (products, weights) in enumerate(made):
            exact = builder.sub(builder.load(products), builder.shl(builder.load(weights), seven))
            place = builder.add(sums, ir.Constant(ir.IntType(64), 4 * column))
            pointer = builder.inttoptr(place, ir.IntType(32).as_pointer())
            builder.store(builder.add(builder.load(pointer), builder.call(total, [exact])), pointer)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64, types.int64), generate


add_products = cast("Callable[[int, int, int, int, int], None]", intrinsic(_add_products))
"""Adds to four int32 the products of a vector of int8 with four others: the addresses of the sums, of the vector and of
the first of the others, how far these are apart, and how many blocks of 64 bytes a vector has."""

copy_bytes = cast("Callable[[int, int, int], None]", intrinsic(_copy))
"""Copies so many bytes to an address from another; those who own them see to it that they are there."""
