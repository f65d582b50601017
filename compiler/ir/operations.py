"""The operations of a Mapping: what a block of a template does with named values.

Operations name values, ports, arrays, constants and memory tables of their template; `Attend` and `Append` work on
KV arrays. What they compute follows from the graph's meaning (`compiler.ir.meaning`), what they become is in
`compiler.backend`.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Function, NormKind
from isa.operands import Space

from .streamed import Advance as Advance
from .streamed import Clear as Clear
from .streamed import Install as Install
from .streamed import MultiplyPieces as MultiplyPieces
from .streamed import Place as Place
from .streamed import Prefetch as Prefetch

Part = tuple[str, int, int]  # port, first column, columns


@dataclass(frozen=True, slots=True)
class Receive:
    """out = columns from ports, side by side. A Q8 value comes as bytes; `scale` is the port of its row scales.

    If a row has several scales (`MapValue.scales`), `scales` are the ports from which some of them come. `keeps` is a
    value that must stay in its place until this has come: one that the tile sends to itself.
    """

    out: str
    parts: tuple[Part, ...]
    scale: str = ""
    scales: tuple[Part, ...] = ()
    keeps: str = ""


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
class NormQuantise:
    """out (Q8) = x normalised, times `gain`, with one scale a row.

    With d = x (layer norm: x minus the mean) and r = 1 / sqrt(mean of d^2 + eps): d gain is quantised by its own
    largest magnitude, and the row's scale is times r. If the row is split over tiles, the sum of squares (ports `to`,
    `back`, as a mean before it) and the largest magnitude (ports `peak`, `top`) are combined at the same time.
    """

    out: str
    x: str
    kind: NormKind
    eps: float
    width: int
    gain: str
    to: str
    back: str
    peak: str
    top: str


@dataclass(frozen=True, slots=True)
class Quantise:
    """out (Q8) = x with one scale a row, or one for each of `MapValue.scales` equal parts of it. If the row is split
    over tiles, its largest magnitude goes through ports `to` and `back`. Scales are multiplied by `factor`, so that
    out stands for x * factor. Codes have `bits` bits: 8 if the row is split."""

    out: str
    x: str
    to: str = ""
    back: str = ""
    factor: float = 1.0
    bits: int = 8


@dataclass(frozen=True, slots=True)
class Take:
    """out (Q8) = columns of x (Q8) from `col` on, with their scales, which x has for equal parts of its columns: of as
    many as out has, out begins at a border. Where segments are one token, out lies in x."""

    out: str
    x: str
    col: int


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
    """Append rows of x, one KV head, to KV array `array` at the tokens' positions.

    With `ways` > 1 the head is dealt over as many tiles in blocks of `block` rows, `blocks` of them a sequence: block b
    of sequence s has number s * blocks + b, and belongs to tile number mod ways, where it is block number div ways.
    Parameter `way` says which tile this is: it appends what is its own.

    With `ring` a sequence has so many rows, and position p lies at p mod `ring`.
    """

    array: str
    x: str
    ways: int = 1
    way: str = ""
    block: int = 0
    blocks: int = 0
    ring: int = 0


@dataclass(frozen=True, slots=True)
class Attend:
    """out = softmax(scale q k^T) v over the cached tokens, for `group` query heads that share one KV head.

    q has group x dim columns, out group x v_dim. Tokens are taken in blocks of `block` rows with fixed borders,
    merged in order by online softmax. A token sees itself and those before it if `causal`, else the whole sequence
    as far as it has been appended. `window` > 0 limits how far back a token sees; `softcap` > 0 bounds scores.
    With `cross` the cached rows are those of the source, all of which are seen.

    `bias` is a constant ("" for none) that adds to the score of query head g and distance d = key - query position:
    entry g * (2 reach + 1) + reach + clip(d, -reach, reach), or, if `reach` is 0, entry g times d.

    A q that is Q8 has a scale for each query head, which is multiplied by `scale` in place.

    With `ways` > 1 this tile has some blocks of the head (see `Append`), and out is a sum that is to be divided, once
    the sums of all tiles have been added, by the sums of probabilities that value `sums` gets: pairs (0, l), one for
    each query head. The largest score of all tiles, on which both are based, goes through ports `to` and `back`.

    With `skip` blocks that no token of the segment sees, because they lie before its window, are passed over.
    `ring` > 0: a sequence has so many rows, whole blocks of them, and row p lies at p mod `ring`.
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
    ways: int = 1
    way: str = ""
    blocks: int = 0
    sums: str = ""
    to: str = ""
    back: str = ""
    skip: bool = False
    ring: int = 0


@dataclass(frozen=True, slots=True)
class AttendStreamed:
    """`Attend` with one KV head's rows in memory; appends the rows of `k` and `v` (float32) as well.

    Parameter `table` is where the head's region begins (`isa.interface.memory_planes`), with `rows` rows a sequence.
    Blocks of `block` rows are loaded one after another and written into arrays `keys` and `values`, which hold one.

    With `hot` = 0 all rows go to memory at once. Else the last rows lie in arrays `hot_keys` and `hot_values`, in rings
    of hot + block rows a sequence, and row p - `hot` is stored when row p is appended: blocks with rows in reach of
    the ring alone are attended to in the ring, those before in memory. With `early` blocks are loaded before
    the segment's own rows are there.
    """

    out: str
    q: str
    k: str
    v: str
    keys: str
    values: str
    table: str
    rows: int
    group: int
    dim: int
    v_dim: int
    scale: float
    block: int
    hot_keys: str = ""
    hot_values: str = ""
    hot: int = 0
    window: int = 0
    softcap: float = 0.0
    bias: str = ""
    reach: int = 0
    skip: bool = False
    early: bool = False

    def attend(self, *, hot: bool = False) -> Attend:
        """What is done with a block once it lies in arrays: those that blocks pass through, or the rings."""
        keys, values = (self.hot_keys, self.hot_values) if hot else (self.keys, self.values)
        sizes = self.group, self.dim, self.v_dim, self.scale, self.block, self.window, self.softcap
        return Attend(self.out, self.q, keys, values, *sizes, bias=self.bias, reach=self.reach)


@dataclass(frozen=True, slots=True)
class Finish:
    """out = x / sums, head by head: the end of attention over several tiles. `sums` has pairs (0, l), one a head."""

    out: str
    x: str
    sums: str
    heads: int


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
    | NormQuantise
    | Quantise
    | Take
    | Multiply
    | Rotate
    | Append
    | Attend
    | AttendStreamed
    | Finish
    | Clear
    | Place
    | Advance
    | Prefetch
    | Install
    | MultiplyPieces
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
        NormQuantise,
        Quantise,
        Take,
        Multiply,
        Rotate,
        Append,
        Attend,
        AttendStreamed,
        Finish,
        Clear,
        Place,
        Advance,
        Prefetch,
        Install,
        MultiplyPieces,
    )
}
"""The names of the operations in the text form."""
