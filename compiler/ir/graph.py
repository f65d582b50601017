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
from isa.program import Moment

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

    rms:   x / sqrt(mean(x^2) + eps) * gamma + beta
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
    """`attention(q, k, v; bias?)`: q is heads x head_dim, k kv_heads x head_dim, v kv_heads x v_head_dim.

    For each head h, with its own kv head h * kv_heads // heads:
    softmax over tokens t of softcap(scale * q.k_t) + bias, times v_t. A token sees itself and the tokens before
    it if `causal`, of those only the last `window` (itself included) if that is set. `softcap` c is
    c * tanh(s / c). `cache` is the index in `Graph.caches` of the cache that k and v are
    appended to; without one the keys are those of the step.

    `bias` depends on the head and on how far the key is from the query, d = t - position of the query:
    bias[heads, 2r+1] adds bias[h, r + clip(d, -r, r)] (buckets of T5; 0 at d = 0, 0 for keys that are not seen),
    bias[heads] adds bias[h] * d (ALiBi).

    With `cross` the keys are rows of the source (`Role.SOURCE`), every one of which is seen. They are
    written to the cache by the first step of a sequence, while it is empty; later steps only read them, and do
    not look at k and v, which are "" in a model that never computes them (the cache comes as an input).

    In a file with an encoder the source's rows are made here: values of shape [source, features], by the same
    operators. An attention whose q is one of them is the encoder's own: neither causal nor `cross`, without a cache.
    Later steps have no rows of the source: whatever is made of them is empty, and nobody reads it.
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
    cross: bool = False


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


@dataclass(frozen=True, slots=True)
class FakeQuant:
    """`fakequant(x)`: x rounded to the numbers that the file's integers can express.

    (clip(round(x / scale) + zero, low, high) - zero) * scale, ties to even. Without a scale it follows from the
    values of all rows (DynamicQuantizeLinear): the range of x and 0, in steps of 1/255.
    """

    scale: float | None = None
    zero: int = 0
    low: int = 0
    high: int = 255


Canonical = Embed | Norm | Linear | Rotary | Attention | Activation | Add | Mul | FakeQuant
Operator = Onnx | Canonical

CANONICAL: Mapping[str, type[Canonical]] = {
    c.__name__.lower(): c for c in (Embed, Norm, Linear, Rotary, Attention, Activation, Add, Mul, FakeQuant)
}
"""The names of the canonical operators in the text form."""


def op_name(op: Operator) -> str:
    """`linear`, `onnx.MatMul`, `com.microsoft.QuickGelu`: as the text form and diagnostics say it."""
    if isinstance(op, Onnx):
        return f"{op.domain or 'onnx'}.{op.kind}"
    return type(op).__name__.lower()


class Role(Enum):
    """What an input of the model is for. The importer tells by name, shape and use.

    Positions are those of the tokens, [tokens], or, in another input, those of the source: [source], counted from 0.
    """

    IDS = "ids"
    POSITIONS = "positions"
    MASK = "mask"
    TOKEN_TYPES = "token_types"
    PAST = "past"
    CROSS = "cross"
    """Keys or values of another sequence, kept from the first step on."""
    SOURCE = "source"
    """Rows of another sequence (what an encoder made): [source, features]."""
    SOURCE_IDS = "source_ids"
    """Token ids of another sequence, in a file that holds its encoder too: [source]."""
    START = "start"
    """How many tokens a buffer for the cache holds before the step."""
    SWITCH = "switch"
    """Chooses between the two graphs of a merged decoder; gone once these are one."""
    WEIGHT = "weight"
    """A weight that the file makes an input, and whose value is not given."""
    OTHER = "other"
    """Rows that take the place of embeddings, [tokens, features], if floats; anything else cannot be fed."""


@dataclass(frozen=True, slots=True)
class Value:
    """A name with its type. The shape is None where even the number of axes is unknown."""

    name: str
    dtype: DType
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the model. With `heads`, the file has its rows as [batch, heads, tokens, depth]."""

    value: Value
    role: Role
    heads: int = 0

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
    empty where the file has no such input or output (a model exported without a cache). Where both have one
    name, the file holds both in one tensor [2, batch, kv_heads, tokens, head_dim]. `flat` says that the file has
    [batch, tokens, kv_heads*head_dim] instead.
    """

    layer: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    past_key: str = ""
    past_value: str = ""
    present_key: str = ""
    present_value: str = ""
    cross: bool = False
    """Whether it holds the source's keys and values, written once."""
    flat: bool = False

    @property
    def is_stacked(self) -> bool:
        """Whether keys and values are halves of one output of the file."""
        return bool(self.present_key) and self.present_key == self.present_value


@dataclass(frozen=True, slots=True)
class Partition:
    """A piece of the model that the host runs, before, within or after the step.

    `model` holds the bytes of an ONNX model (uint8); `inputs` and `outputs` are its own, in its order, and
    have the axes that the file gives them. What the chip takes of them, or gives to them, are rows.
    `sources` are its ONNX nodes. Of a part within the step, `definition` is the model without weights, and
    `positions` the input with the positions of its rows ("" for none); see `isa.program.HostPart`.
    """

    name: str
    moment: Moment
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: Tensor
    sources: tuple[str, ...] = ()
    definition: str = ""
    positions: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A model. Nodes are in an order in which every value is made before it is used.

    Graph outputs are names of values. Treat as immutable; passes use `rewrite.Editor`. With `hosts`, nodes,
    inputs and outputs are those of the chip's part, and `results` are the outputs of the whole model.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    caches: tuple[Cache, ...] = ()
    model: str = field(default="", compare=False)
    """The path of the model file, for diagnostics."""
    hosts: tuple[Partition, ...] = ()
    results: tuple[str, ...] = ()
    by_head: tuple[tuple[str, int], ...] = ()
    """Outputs that the file has as [batch, heads, tokens, depth], with the number of heads."""

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
