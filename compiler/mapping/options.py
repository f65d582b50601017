"""Which of the command line's choices the mapper has."""

from __future__ import annotations

from compiler.ir.mapping import Arithmetic
from compiler.pipeline import CompileOptions
from isa.diagnostics import fail


def arithmetic_of(weights: str) -> Arithmetic:
    """The arithmetic that `--weights` asks for. Raises `CimError` E0305 for int4, which is not there yet."""
    if weights == "int4":
        raise fail(
            "E0305",
            "int4 weights are not available yet",
            help="--weights int8, or float32 for ideal arithmetic",
        )
    return Arithmetic(weights)


def check_policies(options: CompileOptions) -> None:
    """Refuse (E0305) KV policies and placements that the mapper does not have."""
    if options.kv not in ("auto", "resident"):
        raise fail(
            "E0305",
            f"--kv {options.kv} is not available yet: the cache is always resident in KV arrays",
            help="--kv resident, or auto",
        )
    if options.place not in ("auto", "all"):
        raise fail(
            "E0305",
            f"--place {options.place} is not available yet: the whole model is placed on CIM tiles",
            help="--place all, or auto",
        )
