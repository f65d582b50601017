"""The Graph level: operators on tensors, from the ONNX file as read to a few canonical operators.

One `Graph` type serves both ends. After import its nodes carry `Onnx` operators; the graph passes
replace them, a few at a time, by the canonical ones below; `Legalise` leaves only those. Each value
keeps one meaning all the way (`compiler.ir.evaluate`), and each node remembers in `sources` the
ONNX nodes it came from.

Canonical operators work on *rows*: a value is [tokens, features] and row t belongs to token t.
While ONNX nodes are still around, rows may have other leading axes ([batch, sequence, features]);
the meaning per row is the same. Inputs of each are listed as `op(data; constants)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from compiler.ir.dims import Shape
from compiler.ir.tensor import DType, Tensor

AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Tensor
"""What an attribute of an ONNX node may hold. A nested graph is named, not kept (`"graph:NAME"`)."""


class NormKind(Enum):
    """The two normalisations of a row."""

    RMS = "rms"
    LAYER = "layer"


class Function(Enum):
    """Functions of one number."""

    RELU = "relu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    SILU = "silu"
    SIGMOID = "sigmoid"
    TANH = "tanh"


@dataclass(frozen=True, slots=True)
class Onnx:
    """An ONNX operator as the file has it: domain ("" is ai.onnx), type, and the version of the
    domain's operator set that the file imports."""

    domain: str
    kind: str
    version: int
    attributes: tuple[tuple[str, AttributeValue], ...] = ()

    def get(self, name: str) -> AttributeValue | None:
        """The attribute `name`, or None if the node does not set it."""
        return next((value for key, value in self.attributes if key == name), None)


@dataclass(frozen=True, slots=True)
class Embed:
    """`embed(ids; table[V, d])`: row `ids + offset` of the table. Ids are tokens or positions."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class Norm:
    """`norm(x; gamma, beta?)`: each of `groups` equal parts of a row is normalised by itself.

    rms:   x / sqrt(mean(x^2) + eps) * gamma
    layer: (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta
    `gamma` and `beta` are as long as one part. Queries and keys have `groups` = heads when they are
    normalised head by head; everything else has one.
    """

    kind: NormKind
    eps: float
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Linear:
    """`linear(x; W[K, N], bias[N]?)`: x @ W + bias."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """`rotary(x; inv_freq[rotary_dim/2])` on rows of `heads` x `head_dim`.

    Of each head the first `rotary_dim` channels form pairs: (i, i + rotary_dim/2), or (2i, 2i + 1)
    when interleaved. Pair i of the token at absolute position p is turned by p * inv_freq[i] and
    multiplied by `scaling`. Other channels pass.
    """

    heads: int
    head_dim: int
    rotary_dim: int
    interleaved: bool = False
    scaling: float = 1.0


@dataclass(frozen=True, slots=True)
class Attention:
    """`attention(q, k, v)`: q is heads x head_dim, k kv_heads x head_dim, v kv_heads x v_head_dim.

    For each head h, with its own kv head h * kv_heads // heads:
    softmax over tokens t of softcap(scale * q.k_t), times v_t. A token sees itself and the tokens before
    it if `causal`, of those only the last `window` (itself included) if that is set. `softcap` c is
    c * tanh(s / c). `cache` is the index in `Graph.caches` of the cache that k and v are
    appended to; without one the keys are those of the step.
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    cache: int | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """`activation(x)`: a function of every element."""

    kind: Function


@dataclass(frozen=True, slots=True)
class Add:
    """`add(a, b)`: element by element. `b` may be a constant of one row or of one number."""


@dataclass(frozen=True, slots=True)
class Mul:
    """`mul(a, b)`: element by element. `b` may be a constant of one row or of one number."""


Canonical = Embed | Norm | Linear | Rotary | Attention | Activation | Add | Mul
Operator = Onnx | Canonical

CANONICAL: Mapping[str, type[Canonical]] = {
    c.__name__.lower(): c for c in (Embed, Norm, Linear, Rotary, Attention, Activation, Add, Mul)
}
"""The names of the canonical operators in the text form."""


def op_name(op: Operator) -> str:
    """`linear`, `onnx.MatMul`, `com.microsoft.QuickGelu`: as the text form and diagnostics say it."""
    if isinstance(op, Onnx):
        return f"{op.domain or 'onnx'}.{op.kind}"
    return type(op).__name__.lower()


class Role(Enum):
    """What an input of the model is for. The importer tells by name and shape."""

    IDS = "ids"
    POSITIONS = "positions"
    MASK = "mask"
    TOKEN_TYPES = "token_types"
    PAST = "past"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Value:
    """A name with its type. The shape is None where even the number of axes is unknown."""

    name: str
    dtype: DType
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the model."""

    value: Value
    role: Role

    @property
    def name(self) -> str:
        """Name of the value."""
        return self.value.name


@dataclass(frozen=True, slots=True)
class Node:
    """`outputs = op(inputs)`. Inputs name values or constants; "" is an omitted optional input."""

    op: Operator
    inputs: tuple[str, ...]
    outputs: tuple[Value, ...]
    sources: tuple[str, ...] = ()

    @property
    def output(self) -> Value:
        """The first output (canonical operators have just one)."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True)
class Cache:
    """Keys and values of one attention layer, kept from step to step.

    `key` and `value` are [batch, kv_heads, tokens, head_dim] in the model file; the names are
    empty where the file has no such input or output (a model exported without a cache).
    """

    layer: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    past_key: str = ""
    past_value: str = ""
    present_key: str = ""
    present_value: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A model. Nodes are in an order in which every value is made before it is used.

    Graph outputs are names of values. Treat as immutable; passes use `rewrite.Editor`.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    caches: tuple[Cache, ...] = ()
    model: str = field(default="", compare=False)
    """The path of the model file, for diagnostics."""

    def values(self) -> Iterator[Value]:
        """Every value that is not a constant: inputs, then outputs of nodes."""
        yield from (i.value for i in self.inputs)
        for node in self.nodes:
            yield from node.outputs

    def input(self, role: Role) -> Input | None:
        """The first input of this role."""
        return next((i for i in self.inputs if i.role is role), None)

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value.name: node for node in self.nodes for value in node.outputs if value.name}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that use each value or constant, in order."""
        users: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                users.setdefault(name, []).append(node)
        return users

    @property
    def is_canonical(self) -> bool:
        """Whether no ONNX operator is left."""
        return not any(isinstance(node.op, Onnx) for node in self.nodes)
