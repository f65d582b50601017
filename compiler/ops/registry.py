"""One table of ONNX operators: what becomes of each, in which forms, and what it means.

`cim ops` prints it, docs/ops.md is generated from it, recognition and `Legalise` consult it. The entry of an
operator holds its kernel (reference meaning, also used to fold constants) and its shape rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.ir.graph import Onnx
from compiler.ops.call import Kernel, ShapeRule
from compiler.ops.elementwise import ELEMENTWISE
from compiler.ops.fused import FUSED
from compiler.ops.layout import LAYOUT, MAKING
from compiler.ops.quantised import QUANTISED, QUANTISED_MICROSOFT, QUANTISED_NOTES
from compiler.ops.reduction import PRODUCTS, REDUCTIONS, ROWWISE
from compiler.ops.rotary import ROTARY
from compiler.ops.shapes import SHAPES

MICROSOFT = "com.microsoft"


class Fate(Enum):
    """What becomes of an operator."""

    CHIP = "on chip"
    """Becomes, alone or with its neighbours, a canonical operator."""
    LAYOUT = "layout"
    """Moves elements; absorbed into how the neighbours read and write."""
    FOLDED = "folded"
    """Computed by the compiler: constants, shapes, masks, positions."""
    HOST = "host"
    """Has no place on the chip: runs on the host, in front of the first layer or behind the last."""
    REFUSED = "refused"


OFF_CHIP = (Fate.HOST, Fate.REFUSED)
"""Between two layers such operators stand in the way."""


class Trait(Enum):
    """How an operator treats the elements of its inputs; recognition walks through by trait."""

    ELEMENTWISE = "elementwise"
    MOVEMENT = "movement"
    REDUCTION = "reduction"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class OpEntry:
    """One operator. `becomes` names canonical operators; `note` the forms, or the reason of a refusal."""

    domain: str
    kind: str
    fate: Fate
    becomes: tuple[str, ...] = ()
    note: str = ""
    help: str = ""
    trait: Trait = Trait.OTHER
    kernel: Kernel | None = None
    shape: ShapeRule | None = None
    expands: bool = False
    """Whether other operators are written in its place before anything else (so that it has no kernel)."""


_KERNELS: Mapping[str, Kernel] = {
    **ELEMENTWISE,
    **LAYOUT,
    **MAKING,
    **PRODUCTS,
    **REDUCTIONS,
    **ROWWISE,
    **ROTARY,
    **QUANTISED,
}

_CHIP: Mapping[str, tuple[tuple[str, ...], str]] = {
    "MatMul": (("linear", "attention"), "activation x weight, or a product of attention"),
    "Gemm": (("linear",), "activation x weight, alpha = beta = 1, either orientation of the weight"),
    "Softmax": (("attention",), "over the keys of an attention"),
    "LayerNormalization": (("norm",), "over the last axis"),
    "RMSNormalization": (("norm",), "over the last axis"),
    "SimplifiedLayerNormalization": (("norm",), "over the last axis"),
    "Einsum": (("linear", "attention"), "of two operands, without repeated letters"),
    "Gather": (("embed",), "rows of a table by token id or position; elsewhere folded"),
    "Add": (("add", "linear", "norm"), "of two activations, or a bias"),
    "Sub": (("norm", "rotary"), "inside a normalisation or a rotation"),
    "Mul": (("mul", "norm", "rotary", "activation"), "of two activations, or inside a pattern"),
    "Div": (("norm", "attention", "activation"), "inside a pattern"),
    "Pow": (("norm", "activation"), "inside a pattern"),
    "Sqrt": (("norm",), "inside a normalisation"),
    "Reciprocal": (("norm",), "inside a normalisation"),
    "ReduceMean": (("norm",), "over the last axis, inside a normalisation"),
    "Relu": (("activation",), ""),
    "Gelu": (("activation",), "exact or tanh"),
    "Swish": (("activation",), "alpha = 1"),
    "Sigmoid": (("activation",), "alone or in x * sigmoid(x)"),
    "Tanh": (("activation", "attention"), "alone, in a GELU, or as soft cap of the scores"),
    "Erf": (("activation",), "in a GELU"),
    "Clip": (("activation",), "as ReLU"),
    "Max": (("activation",), "as ReLU"),
    "Neg": (("rotary",), "inside a rotation"),
    "Sin": (("rotary",), "of position x frequency"),
    "Cos": (("rotary",), "of position x frequency"),
    "RotaryEmbedding": (("rotary",), "heads of [batch, heads, tokens, depth] or rows"),
    **{kind: QUANTISED_NOTES[kind] for kind in QUANTISED},
}

_ATTENTION_FORMS = "no output of scores, no window to the right"

_FOLDED: Mapping[str, str] = {
    "Constant": "",
    "Identity": "",
    "Cast": "between float types, or of constants, shapes and masks",
    "CastLike": "as Cast",
    "Dropout": "inference mode",
    "Shape": "sizes stay symbolic",
    "IsNaN": "the guard behind a softmax",
    "Where": "masks, and the guard behind a softmax",
}

_CNN_HELP = (
    "in front of a transformer's layers, or behind them, the host runs it; a whole CNN is not compiled"
)

_HOSTED: tuple[tuple[str, str, str, str], ...] = (
    ("", "Conv", "convolutions have no mapping to the attention and feed-forward tiles", _CNN_HELP),
    ("", "ConvTranspose", "convolutions have no mapping to the tiles", _CNN_HELP),
    ("", "ConvInteger", "convolutions have no mapping to the tiles", _CNN_HELP),
    ("", "QLinearConv", "convolutions have no mapping to the tiles", _CNN_HELP),
    ("", "MaxPool", "pooling over images has no mapping to the tiles", _CNN_HELP),
    ("", "AveragePool", "pooling over images has no mapping to the tiles", _CNN_HELP),
    ("", "GlobalAveragePool", "pooling over images has no mapping to the tiles", _CNN_HELP),
    ("", "BatchNormalization", "batch normalisation belongs to convolutional networks", _CNN_HELP),
    ("", "LSTM", "recurrent layers are not transformer blocks", _CNN_HELP),
    ("", "GRU", "recurrent layers are not transformer blocks", _CNN_HELP),
    ("", "RNN", "recurrent layers are not transformer blocks", _CNN_HELP),
    ("", "If", "control flow over data cannot be scheduled ahead", "export the model without branches"),
    (
        "",
        "Scan",
        "steps that wait for each other have no mapping to the tiles",
        "export one step of the scan",
    ),
)

_REFUSED: tuple[tuple[str, str, str, str], ...] = (
    (
        "",
        "Loop",
        "how often a loop runs depends on data, so it cannot be scheduled ahead",
        "export one step of the loop",
    ),
    ("", "LinearAttention", "its recurrent state is none that an array of keys and values holds", ""),
    ("", "CausalConvWithState", "its convolution state is none that an array of keys and values holds", ""),
    ("", "FlexAttention", "it is written as a program over scores", "export plain attention with its mask"),
    (MICROSOFT, "LinearAttention", "its recurrent state is none that an array of keys and values holds", ""),
    (MICROSOFT, "MoE", "which weights a token needs depends on data", "compile a model without experts"),
    (MICROSOFT, "QMoE", "which weights a token needs depends on data", "compile a model without experts"),
    (MICROSOFT, "PagedAttention", "pages of its cache are a server's", "export GroupQueryAttention"),
    (MICROSOFT, "SparseAttention", "which blocks of keys it sees is data", "export plain attention"),
    (MICROSOFT, "LongformerAttention", "which keys a token sees is data", "export plain attention"),
    (
        MICROSOFT,
        "PackedAttention",
        "it takes padding out by data",
        "export Attention; sequences come without padding",
    ),
    (
        MICROSOFT,
        "PackedMultiHeadAttention",
        "it takes padding out by data",
        "export MultiHeadAttention; sequences come without padding",
    ),
    (
        MICROSOFT,
        "WhisperBeamSearch",
        "a search loop in a node cannot be scheduled ahead",
        "compile the decoder inside it",
    ),
    (
        MICROSOFT,
        "BeamSearch",
        "a search loop in a node cannot be scheduled ahead",
        "compile the decoder inside it",
    ),
    (
        MICROSOFT,
        "GreedySearch",
        "a search loop in a node cannot be scheduled ahead",
        "compile the decoder inside it",
    ),
    (
        MICROSOFT,
        "Sampling",
        "a search loop in a node cannot be scheduled ahead",
        "compile the decoder inside it",
    ),
)


def _trait(kind: str) -> Trait:
    if kind in LAYOUT:
        return Trait.MOVEMENT
    if kind in ELEMENTWISE:
        return Trait.ELEMENTWISE
    return Trait.REDUCTION if kind in REDUCTIONS else Trait.OTHER


def _known(kind: str) -> OpEntry:
    """The entry of an ai.onnx operator that has a kernel."""
    becomes, note = _CHIP.get(kind, ((), ""))
    if becomes:
        fate = Fate.CHIP
    elif kind in LAYOUT:
        fate, note = Fate.LAYOUT, "rearranging heads, tokens and features"
    else:
        fate, note = Fate.FOLDED, _FOLDED.get(kind, "of constants, shapes, masks and positions")
    return OpEntry("", kind, fate, becomes, note, "", _trait(kind), _KERNELS[kind], SHAPES.get(kind))


def _entries() -> Iterable[OpEntry]:
    yield from (_known(kind) for kind in _KERNELS)
    yield OpEntry(
        "", "Attention", Fate.CHIP, ("attention",), _ATTENTION_FORMS, shape=SHAPES["Attention"], expands=True
    )
    note = "rows appended to a cache input, linear"
    shape = SHAPES["TensorScatter"]
    yield OpEntry("", "TensorScatter", Fate.CHIP, ("attention",), note, shape=shape, expands=True)
    for kind, fused in FUSED.items():
        yield OpEntry(MICROSOFT, kind, Fate.CHIP, fused.becomes, fused.note, shape=fused.shape, expands=True)
    for kind, kernel in QUANTISED_MICROSOFT.items():
        becomes, note = QUANTISED_NOTES[kind]
        yield OpEntry(MICROSOFT, kind, Fate.CHIP, becomes, note, kernel=kernel, shape=SHAPES.get(kind))
    for domain, kind, reason, way_out in _HOSTED:
        yield OpEntry(domain, kind, Fate.HOST, (), reason, way_out, shape=SHAPES.get(kind))
    for domain, kind, reason, way_out in _REFUSED:
        yield OpEntry(domain, kind, Fate.REFUSED, (), reason, way_out, shape=SHAPES.get(kind))


OPERATORS: Mapping[tuple[str, str], OpEntry] = {(e.domain, e.kind): e for e in _entries()}
"""Every operator that is known, by domain and type."""


def entry_of(op: Onnx) -> OpEntry | None:
    """The table's entry; None for an unknown operator."""
    return OPERATORS.get((op.domain, op.kind))


def kernel_of(op: Onnx) -> Kernel | None:
    """The reference meaning of an operator, if it has one here."""
    entry = entry_of(op)
    return None if entry is None else entry.kernel


def trait_of(op: object) -> Trait:
    """How an operator treats elements; `OTHER` for canonical operators."""
    entry = entry_of(op) if isinstance(op, Onnx) else None
    return Trait.OTHER if entry is None else entry.trait


def support_table() -> tuple[OpEntry, ...]:
    """All entries, by domain, fate and name: what `cim ops` prints."""
    order = list(Fate)
    return tuple(sorted(OPERATORS.values(), key=lambda e: (e.domain, order.index(e.fate), e.kind)))
