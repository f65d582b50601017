"""Where a quantised file rounds activations: kept beside the graph while it is being recognised."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import FakeQuant


@dataclass(slots=True)
class Roundings:
    """`values`: values that are rounded wherever they are used. `inputs`: by the ONNX node of a product with a
    weight, the rounding of the activations that it reads. `count`: roundings in the file."""

    values: dict[str, FakeQuant] = field(default_factory=dict)
    inputs: dict[str, FakeQuant] = field(default_factory=dict)
    count: int = 0
