"""Compiled functions of the engine of values: as those of the engine of time, and copies between addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

from runtime.fast import jit as shared
from runtime.fast.jit import compiled, inlined

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["compiled", "copy_bytes", "entry", "inlined"]


def fingerprint() -> str:
    """What tells this version of the compiled functions from others: the sources of both rooms, and the numbers."""
    digest = hashlib.sha256(shared.fingerprint().encode())
    here = Path(__file__).parent
    rooms = [path for room in (here.parent / "analog", here) for path in sorted(room.glob("*.py"))]
    for path in (here.parent / "activity.py", here.parent / "numerics.py", *rooms):
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


copy_bytes = cast("Callable[[int, int, int], None]", intrinsic(_copy))
"""Copies so many bytes to an address from another; those who own them see to it that they are there."""
