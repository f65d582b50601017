"""The border of a model: what the ONNX file takes and gives, whatever the compiler makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Input


@dataclass(frozen=True, slots=True)
class Border:
    """The inputs and the names of the outputs of the ONNX file, in its order, used or not.

    `of_source` names the inputs that belong to another sequence: what an encoder made, and its mask. `unused` those
    that no node reads.
    """

    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    of_source: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
