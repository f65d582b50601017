"""Which of the command line's choices the mapper has."""

from __future__ import annotations

from compiler.ir.graph import Embed, Graph, Role
from compiler.ir.mapping import Arithmetic
from compiler.pipeline import CompileOptions
from isa.diagnostics import fail


def arithmetic_of(weights: str) -> Arithmetic:
    """The arithmetic that `--weights` asks for. Weights of 4 bits lie in cells of 8."""
    return Arithmetic.INT8 if weights == "int4" else Arithmetic(weights)


def weight_bits(weights: str) -> int:
    """Bits that float weights are quantised to in int8 arithmetic."""
    return 4 if weights == "int4" else 8


def learned_positions(graph: Graph) -> int | None:
    """How many positions the model has learned embeddings for; None if it computes them."""
    source = graph.input(Role.POSITIONS)
    rows = [
        int(graph.constants[node.inputs[1]].shape[0]) - node.op.offset
        for node in graph.nodes
        if isinstance(node.op, Embed) and source is not None and node.inputs[0] == source.name
    ]
    return min(rows, default=None)


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
