"""Compiled functions: numba behind types, with its cache where it can be written and is never stale.

numba keeps what it compiled by the age of one source file, but a function holds what it calls from others, too. So the
cache lies in a folder named after the contents of all files of this room, below `NUMBA_CACHE_DIR` or the user's folder
for caches, or else (where that cannot be written) in the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import parse_assembly  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.types import unliteral
from numba.extending import intrinsic

P = ParamSpec("P")
T = TypeVar("T")


class Words(Protocol):
    """An arena (int64), as compiled functions see it."""

    def __getitem__(self, place: int, /) -> int: ...
    def __setitem__(self, place: int, word: int, /) -> None: ...


Items = Words  # int32


class Floats(Protocol):
    """Words that are float64."""

    def __getitem__(self, place: int, /) -> float: ...
    def __setitem__(self, place: int, number: float, /) -> None: ...


def _pointer(context: Any, array: Any) -> Any:
    """The type and the code of an array's address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate  # type: ignore[no-untyped-call]


pointer: Callable[[T], T] = cast("Any", intrinsic(_pointer))
"""An arena as compiled functions hand it to each other: one argument instead of seven, and no places from its end."""


def fingerprint() -> str:
    """What tells this version of the compiled functions from others."""
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path | None:
    """Where compiled functions are kept; None if nowhere can be written."""
    roots = (
        os.environ.get("NUMBA_CACHE_DIR"),
        os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        str(Path(tempfile.gettempdir()) / f"cim-{os.getuid() if hasattr(os, 'getuid') else 0}"),
    )
    for root in roots:
        if not root:
            continue
        folder = Path(root) / "cim" / "compiled" / fingerprint()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


_FOLDER = cache_folder()
if _FOLDER is not None:
    setattr(numba.config, "CACHE_DIR", str(_FOLDER))  # noqa: B010  (numba makes its settings as it is imported)


_ENVIRONMENT = "_ZN08NumbaEnv"


class _InnerLibrary(JITCodeLibrary):
    """What a function that only compiled functions call is compiled to: not optimised, and not made machine code.

    numba would do both for each, though all of it is linked into the functions that Python calls, and optimised there
    with them; that took more than half of the time.
    """

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        names = [v.name for v in self._final_module.global_variables if v.name.startswith(_ENVIRONMENT)]
        text = "".join(f'@"{name}" = common global ptr null\n' for name in names)
        self._environments = parse_assembly(text)  # numba writes to them by their names
        self._codegen._add_module(self._environments)  # type: ignore[no-untyped-call]
        self._finalize_specific()  # type: ignore[no-untyped-call]
        self._finalized = True


class _InnerCompiler(CompilerBase):
    """numba's compiler, with such a library."""

    def define_pipelines(self) -> list[Any]:
        """The passes, which take a library that is there."""
        state = self.state
        make: Any = _InnerLibrary
        state.library = make(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        passes: Any = DefaultPassBuilder
        return [passes.define_nopython_pipeline(state)]


def _make(function: Callable[P, T], **options: Any) -> Any:
    """Compile a function when it is first called, once for all integers: by itself numba would compile it again for
    each constant that it is called with. Arenas outlive all calls, so nobody counts references to them (`_nrt`)."""
    make: Any = numba.njit  # `_nrt` is not in its type
    found = make(error_model="numpy", _nrt=False, **options)(function)
    typed = found.get_call_template

    def call_template(args: tuple[object, ...], kws: dict[str, object]) -> object:
        return typed(tuple(map(unliteral, args)), kws)

    found.get_call_template = call_template
    return found


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, compiled when it is first called from other compiled functions."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast("Callable[P, T]", _make(function, pipeline_class=_InnerCompiler, **wrappers))


def inlined(function: Callable[P, T]) -> Callable[P, T]:
    """`compiled` for what is called from one place: it becomes part of that, and gets no arguments to copy."""
    wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(
        "Callable[P, T]", _make(function, pipeline_class=_InnerCompiler, forceinline=True, **wrappers)
    )


def entry(function: Callable[P, T]) -> Callable[P, T]:
    """A compiled function that Python calls: kept between processes."""
    return cast("Callable[P, T]", _make(function, cache=_FOLDER is not None))


def _prefetched(context: Any, arena: Any, place: Any) -> Any:
    """The type and the code of `fetch`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base, at = arguments
        kind = ir.FunctionType(ir.VoidType(), (ir.IntType(8).as_pointer(), *[ir.IntType(32)] * 3))
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        address = builder.bitcast(builder.gep(base, [at]), ir.IntType(8).as_pointer())
        builder.call(function, [address, *(ir.Constant(ir.IntType(32), word) for word in (0, 3, 1))])
        return context.get_dummy_value()

    return types.none(arena, types.int64), generate


fetch = cast("Callable[[Words, int], None]", intrinsic(_prefetched))
"""Has a cache line of an arena brought near while other work goes on."""
