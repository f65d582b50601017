"""The Mapping level: which tile does what, with which block of which weight, and who sends what to whom.

A *template* is the work of a tile as a list of blocks on named values; tiles that do the same work on other
weights share one. A value is a block of rows, one a token of the current segment; its number of columns is
fixed, its number of rows is the segment's. Weights, constants and memory tables are slots of the template,
which each tile fills with slices of tensors. Templates become roles, one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from compiler.ir.graph import Function, NormKind
from isa.instruction import DType
from isa.interface import KvCache
from isa.operands import Space
from isa.program import (
    ArrayData,
    ArraySpec,
    BarrierGroup,
    Channel,
    Limits,
    MemoryRegion,
    Port,
    Slice,
    Stream,
    TensorInfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

Part = tuple[str, int, int]  # port, first column, columns


class Rows(Enum):
    """How many rows a value has.

    One a token of the segment; one a token whose outputs are wanted; or one a token of the whole sequence, of which
    an operation sees the segment's. Values of the last kind live from one pass over the segments to the next.
    In a pass over the source's segments (`Template.source_phases`) tokens are rows of the source.
    """

    TOKENS = "tokens"
    OUTPUTS = "outputs"
    SEQUENCE = "sequence"


class Format(Enum):
    """How a value lies in the buffer."""

    F32 = "f32"
    I32 = "i32"
    Q8 = "q8"  # int8 rows, and beside them a float32 scale a row


@dataclass(frozen=True, slots=True)
class MapValue:
    """A block of rows in the tile buffer."""

    name: str
    format: Format
    cols: int
    rows: Rows = Rows.TOKENS


@dataclass(frozen=True, slots=True)
class Receive:
    """out = columns from ports, side by side. A Q8 value comes as bytes; `scale` is the port of its row scales."""

    out: str
    parts: tuple[Part, ...]
    scale: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Send columns of `value` to ports; of a Q8 value the row scales go to port `scale`, if there is one.

    With `wanted` only the rows whose outputs are wanted are sent.
    """

    value: str
    parts: tuple[Part, ...]
    scale: str = ""
    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """out[i] = row ids[i] of memory table `table` (a parameter: the table's address in `space`)."""

    out: str
    ids: str
    table: str
    rows: int
    space: Space


@dataclass(frozen=True, slots=True)
class LoadRows:
    """out[i] = row (position of token i) + offset of memory table `table`, in `space`."""

    out: str
    table: str
    space: Space
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Add:
    """out = a + b."""

    out: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Mul:
    """out = a * b."""

    out: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class AddRow:
    """out = x + row, where `row` is a constant of one row: a bias."""

    out: str
    x: str
    row: str


@dataclass(frozen=True, slots=True)
class MulRow:
    """out = x * row, where `row` is a constant of one row."""

    out: str
    x: str
    row: str


@dataclass(frozen=True, slots=True)
class Scale:
    """out = x * factor."""

    out: str
    x: str
    factor: float


@dataclass(frozen=True, slots=True)
class Activate:
    """out = function(x), element by element."""

    out: str
    x: str
    function: Function


@dataclass(frozen=True, slots=True)
class Normalise:
    """Normalise rows of `width` columns, of which this tile has `x`, perhaps not all.

    If the row is split over tiles, its sums are made whole through the network: sent to port `to`, received
    from port `back` (the reduction of all tiles' parts). `gain`, `shift` are constants of one row ("" for none).
    `groups` equal parts of the row are normalised separately (then it is not split).
    """

    out: str
    x: str
    kind: NormKind
    eps: float
    width: int
    gain: str
    shift: str = ""
    to: str = ""
    back: str = ""
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Quantise:
    """out (Q8) = x with one scale a row. If the row is split over tiles, its largest magnitude goes through
    ports `to` and `back`."""

    out: str
    x: str
    to: str = ""
    back: str = ""


@dataclass(frozen=True, slots=True)
class Multiply:
    """out = x times the weights in `array`, dequantised; plus the constant `bias` ("" for none).

    `offset` is a constant that adds its element to every weight of a column: the sum of x's row times it is added.
    """

    out: str
    x: str
    array: str
    bias: str = ""
    offset: str = ""


@dataclass(frozen=True, slots=True)
class Rotate:
    """out = x with rotary embedding: heads of `dim` columns, the first `rot` of each turned by `table`'s angles."""

    out: str
    x: str
    table: str
    dim: int
    rot: int
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """Append rows of x, one KV head, to KV array `array` at the tokens' positions."""

    array: str
    x: str


@dataclass(frozen=True, slots=True)
class Attend:
    """out = softmax(scale q k^T) v over the cached tokens, for `group` query heads that share one KV head.

    q has group x dim columns, out group x v_dim. Tokens are taken in blocks of `block` rows with fixed borders,
    merged in order by online softmax. A token sees itself and those before it if `causal`, else the whole sequence
    as far as it has been appended. `window` > 0 limits how far back a token sees; `softcap` > 0 bounds scores.
    With `cross` the cached rows are those of the source, all of which are seen.

    `bias` is a constant ("" for none) that adds to the score of query head g and distance d = key - query position:
    entry g * (2 reach + 1) + reach + clip(d, -reach, reach), or, if `reach` is 0, entry g times d.
    """

    out: str
    q: str
    keys: str
    values: str
    group: int
    dim: int
    v_dim: int
    scale: float
    block: int
    window: int = 0
    softcap: float = 0.0
    causal: bool = True
    cross: bool = False
    bias: str = ""
    reach: int = 0


Operation = (
    Receive
    | Send
    | Lookup
    | LoadRows
    | Add
    | Mul
    | AddRow
    | MulRow
    | Scale
    | Activate
    | Normalise
    | Quantise
    | Multiply
    | Rotate
    | Append
    | Attend
)

OPERATIONS: dict[str, type[Operation]] = {
    cls.__name__.lower(): cls
    for cls in (
        Receive,
        Send,
        Lookup,
        LoadRows,
        Add,
        Mul,
        AddRow,
        MulRow,
        Scale,
        Activate,
        Normalise,
        Quantise,
        Multiply,
        Rotate,
        Append,
        Attend,
    )
}
"""The names of the operations in the text form."""


@dataclass(frozen=True, slots=True)
class Block:
    """One operation, done for `site`: the label whose ONNX nodes each tile names.

    A tile passes over the segments of a step once for each `phase`: attention that sees later tokens needs all keys
    and values before the first score.
    """

    op: Operation
    site: str
    phase: int = 0


@dataclass(frozen=True, slots=True)
class ConstantSlot:
    """A constant of one row that lies in the buffer."""

    name: str
    cols: int


@dataclass(frozen=True, slots=True)
class Template:
    """The work of a tile. `tables` are parameters that hold addresses of memory tables.

    The first `source_phases` of its passes go over the step's source segments, the others over those of tokens.
    """

    name: str
    blocks: tuple[Block, ...]
    values: tuple[MapValue, ...]
    arrays: tuple[ArraySpec, ...] = ()
    ports: tuple[Port, ...] = ()
    constants: tuple[ConstantSlot, ...] = ()
    tables: tuple[str, ...] = ()
    source_phases: int = 0

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of its blocks, each once, in order."""
        return tuple(dict.fromkeys(block.site for block in self.blocks))


@dataclass(frozen=True, slots=True)
class MapTile:
    """A tile that does a template's work: where it is, and what fills the slots.

    `tables` are addresses, `arrays` is None for KV arrays, `nodes` goes with the template's sites.
    """

    name: str
    template: str
    x: int
    y: int
    tables: tuple[int, ...] = ()
    arrays: tuple[ArrayData | None, ...] = ()
    constants: tuple[Slice, ...] = ()
    nodes: tuple[str, ...] = ()


class Arithmetic(Enum):
    """What the arrays compute with."""

    INT8 = "int8"
    FLOAT32 = "float32"  # ideal: for telling mapping errors from quantisation errors

    @property
    def dtype(self) -> DType:
        """Element type of arrays."""
        return DType.I8 if self is Arithmetic.INT8 else DType.F32


@dataclass(frozen=True, slots=True)
class Mapping:
    """A model on a target. `data` makes each tensor's contents when asked; it is not part of the text."""

    name: str
    target: str
    arithmetic: Arithmetic
    limits: Limits
    templates: tuple[Template, ...]
    tiles: tuple[MapTile, ...]
    channels: tuple[Channel, ...]
    barriers: tuple[BarrierGroup, ...] = ()
    tensors: tuple[TensorInfo, ...] = ()
    memory: tuple[MemoryRegion, ...] = ()
    streams: tuple[Stream, ...] = ()
    caches: tuple[KvCache, ...] = ()
    data: dict[str, Callable[[], np.ndarray]] | None = field(default=None, compare=False, repr=False)

    def template(self, name: str) -> Template:
        """The template of this name; KeyError if there is none."""
        return next(t for t in self.templates if t.name == name)
