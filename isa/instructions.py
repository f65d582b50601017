"""THE TABLE: every instruction, declared once.

From these declarations come the assembler, the encoder, the disassembler, the simulator's dispatch, the
verifier's checks, the scoreboard's hazards, `docs/isa.md` and the syntax highlighting. Reading an entry: the
annotations are the operands in order; `reads`/`writes`/`updates` say what is touched at a buffer address
(element type and dimensions); `ArrayUse` says which rows of an array are used.

Conventions. `n` rows come from a register, `cols` from a register or a constant; a length of zero makes the
instruction do nothing (a message of zero rows still synchronises). Blocks are row-major and dense unless there
is a pitch (in 4-byte words; 0 means dense). Arithmetic is float32, round to nearest even, multiply-adds not
fused; a row is reduced as 64 lane-strided partial results, then a binary tree (runtime/numerics.py gives every
function to the bit). No instruction moves data into a register: control flow, addresses and time depend on the
program and the step alone, never on values.
"""

from __future__ import annotations

from typing import Annotated

from .instruction import (
    S48,
    U7,
    U8,
    U12,
    U16,
    U24,
    ArrayMode,
    ArrayUse,
    Dest,
    DType,
    Energy,
    Inst,
    Label,
    Length,
    MemAccess,
    Mode,
    Operand,
    Timing,
    Unit,
    Work,
    reads,
    updates,
    writes,
)
from .operands import Addr, ArrayRef, Mem, PortRef, Reg, Special

F32, I32, I8, F16 = DType.F32, DType.I32, DType.I8, DType.F16

# ---------------------------------------------------------------------------------------- scalar and control


class _Scalar(Inst, unit=Unit.SCALAR, timing=Timing.SCALAR, energy=Energy.SCALAR):
    """Runs in the sequencer."""


class Halt(_Scalar, opcode=0x00):
    """End the step on this tile."""


class Li(_Scalar, opcode=0x01):
    """rd = value."""

    rd: Dest
    value: S48


class Ldp(_Scalar, opcode=0x02):
    """rd = parameter `index` of the tile's parameter block."""

    rd: Dest
    index: U8


class Sys(_Scalar, opcode=0x03):
    """rd = a fact of the step or of the current segment (segments, tokens, position, outputs, sequence)."""

    rd: Dest
    what: Special


class Seg(_Scalar, opcode=0x04):
    """Make segment `index` of the step the current one; `sys` then describes it."""

    index: Reg


class Sseg(_Scalar, opcode=0x07):
    """Make source segment `index` of the step the current one; `sys` then describes it."""

    index: Reg


class Page(_Scalar, opcode=0x14):
    """rd = the page of the KV arrays that holds the rows of page `index` of the current segment's sequence.

    The host's table of the step says which (`Segment.pages`); pages have `Limits.page_rows` rows. 0 where the sequence
    has no such page. Defined for segments of tokens.
    """

    rd: Dest
    index: Operand


class Jump(_Scalar, opcode=0x05):
    """Go on at `target`, which lies ahead."""

    target: Label


class Loop(_Scalar, opcode=0x06):
    """Repeat the instructions up to `end` (exclusive) `count` times, with rd = 0, 1, ..., count-1."""

    rd: Dest
    count: Length
    end: Label


class _Alu(_Scalar):
    rd: Dest
    a: Reg
    b: Operand


class Add(_Alu, opcode=0x08):
    """rd = a + b (64-bit, as all scalar arithmetic)."""


class Sub(_Alu, opcode=0x09):
    """rd = a - b."""


class Mul(_Alu, opcode=0x0A):
    """rd = a * b."""


class Div(_Alu, opcode=0x0B):
    """rd = a / b rounded down; b must not be zero."""


class Mod(_Alu, opcode=0x0C):
    """rd = a - b * (a / b rounded down); b must not be zero."""


class Min(_Alu, opcode=0x0D):
    """rd = the smaller of a and b."""


class Max(_Alu, opcode=0x0E):
    """rd = the larger of a and b."""


class Shl(_Alu, opcode=0x0F):
    """rd = a * 2**b, b in 0..31."""


class Shr(_Alu, opcode=0x10):
    """rd = a / 2**b rounded down, b in 0..31."""


class And(_Alu, opcode=0x11):
    """rd = bitwise a and b."""


class Or(_Alu, opcode=0x12):
    """rd = bitwise a or b."""


class Xor(_Alu, opcode=0x13):
    """rd = bitwise a xor b."""


class _Branch(_Scalar):
    a: Reg
    b: Operand
    target: Label


class Beq(_Branch, opcode=0x18):
    """Go on at `target`, which lies ahead, if a = b."""


class Bne(_Branch, opcode=0x19):
    """Go on at `target`, which lies ahead, if a differs from b."""


class Blt(_Branch, opcode=0x1A):
    """Go on at `target`, which lies ahead, if a < b."""


class Bge(_Branch, opcode=0x1B):
    """Go on at `target`, which lies ahead, if a >= b."""


# ------------------------------------------------------------------------------------------------------- CIM

Window = Annotated[ArrayRef, ArrayUse(ArrayMode.ACTIVATE, "row", "rows")]
RowsWritten = Annotated[ArrayRef, ArrayUse(ArrayMode.WRITE, "row", "n")]
RowsRead = Annotated[ArrayRef, ArrayUse(ArrayMode.READ, "row", "n")]


class _Cim(Inst, unit=Unit.CIM):
    """Runs in the CIM macros."""


class Mvm(_Cim, opcode=0x20, timing=Timing.ACTIVATE, energy=Energy.ACTIVATE):
    """Multiply n int8 vectors by rows row..row+rows-1 of array `a`; sums over rows, int32, one a column.

    dst[i, c] = sum over r of src[i, r] * a[row + r, c], added to what is at dst with `acc`.
    """

    a: Window
    dst: Annotated[Addr, writes(I32, "n", "a.cols")]
    src: Annotated[Addr, reads(I8, "n", "rows")]
    n: Reg
    row: Reg
    rows: Length
    acc: bool = False


class Mvmt(_Cim, opcode=0x21, timing=Timing.ACTIVATE, energy=Energy.ACTIVATE):
    """Multiply n int8 vectors by the transpose of a's rows; sums over columns, int32, one a row.

    dst[i, r] = sum over c of src[i, c] * a[row + r, c], added to what is at dst with `acc`.
    """

    a: Window
    dst: Annotated[Addr, writes(I32, "n", "rows")]
    src: Annotated[Addr, reads(I8, "n", "a.cols")]
    n: Reg
    row: Reg
    rows: Length
    acc: bool = False


class Wrow(_Cim, opcode=0x22, timing=Timing.ROW_WRITE, energy=Energy.ROW_WRITE):
    """Write n int8 rows and their float32 scales into array `a` from row `row` on (a KV append, a weight load)."""

    a: RowsWritten
    src: Annotated[Addr, reads(I8, "n", "a.cols")]
    scales: Annotated[Addr, reads(F32, "n")]
    n: Reg
    row: Reg


class Rrow(_Cim, opcode=0x23, timing=Timing.ROW_READ, energy=Energy.ROW_READ):
    """Read n int8 rows of array `a` and their scales back into the buffer."""

    a: RowsRead
    dst: Annotated[Addr, writes(I8, "n", "a.cols")]
    scales: Annotated[Addr, writes(F32, "n")]
    n: Reg
    row: Reg


class Wscale(_Cim, opcode=0x24, timing=Timing.ROW_WRITE, energy=Energy.ROW_WRITE):
    """Write the float32 column scales of array `a` (with new weights). Counts as one row."""

    a: Annotated[ArrayRef, ArrayUse(ArrayMode.WRITE_SCALES)]
    src: Annotated[Addr, reads(F32, "a.cols")]


class Mvmw(_Cim, opcode=0x25, timing=Timing.ACTIVATE, energy=Energy.ACTIVATE):
    """`mvm` of parts of vectors: rows of src are `pitch` words apart, and `rows` of their elements are taken.

    This is how weights whose scales change along the rows are used: a group of rows at a time, each group's sums
    dequantised by its own scales (`deqg`).
    """

    a: Window
    dst: Annotated[Addr, writes(I32, "n", "a.cols")]
    src: Annotated[Addr, reads(I8, "n", "rows", pitch="pitch")]
    n: Reg
    row: Reg
    rows: Length
    pitch: U16
    acc: bool = False


class Wrowc(_Cim, opcode=0x26, timing=Timing.ROW_WRITE, energy=Energy.ROW_WRITE):
    """Write n int8 rows into array `a` from row `row` on, with no scales: weights, whose scales go with columns.

    `wscale` writes those. This is how weights that do not fit the arrays come in piece after piece.
    """

    a: RowsWritten
    src: Annotated[Addr, reads(I8, "n", "a.cols")]
    n: Reg
    row: Reg


class Mvmf(_Cim, opcode=0x28, timing=Timing.ACTIVATE, energy=Energy.ACTIVATE):
    """`mvm` in ideal arithmetic: float32 vectors on a float32 array, each sum rounded once.

    No chip has this. It exists to tell mapping errors from quantisation errors; it costs what `mvm` costs.
    """

    a: Window
    dst: Annotated[Addr, writes(F32, "n", "a.cols")]
    src: Annotated[Addr, reads(F32, "n", "rows")]
    n: Reg
    row: Reg
    rows: Length


class Mvmtf(_Cim, opcode=0x29, timing=Timing.ACTIVATE, energy=Energy.ACTIVATE):
    """`mvmt` in ideal arithmetic."""

    a: Window
    dst: Annotated[Addr, writes(F32, "n", "rows")]
    src: Annotated[Addr, reads(F32, "n", "a.cols")]
    n: Reg
    row: Reg
    rows: Length


class Wrowf(_Cim, opcode=0x2A, timing=Timing.ROW_WRITE, energy=Energy.ROW_WRITE):
    """`wrow` in ideal arithmetic: float32 rows, no scales."""

    a: RowsWritten
    src: Annotated[Addr, reads(F32, "n", "a.cols")]
    n: Reg
    row: Reg


class Rrowf(_Cim, opcode=0x2B, timing=Timing.ROW_READ, energy=Energy.ROW_READ):
    """`rrow` in ideal arithmetic."""

    a: RowsRead
    dst: Annotated[Addr, writes(F32, "n", "a.cols")]
    n: Reg
    row: Reg


# ---------------------------------------------------------------------------------------------------- vector

Block = Annotated[Addr, reads(F32, "n", "cols")]
BlockOut = Annotated[Addr, writes(F32, "n", "cols")]
RowVector = Annotated[Addr, reads(F32, "cols")]
Column = Annotated[Addr, reads(F32, "n")]
ColumnOut = Annotated[Addr, writes(F32, "n")]
Scales = Annotated[ArrayRef, ArrayUse(ArrayMode.SCALES)]


class _Vector(Inst, unit=Unit.VECTOR, timing=Timing.VECTOR, energy=Energy.VECTOR):
    """Runs in the vector unit."""


class _Binary(_Vector):
    dst: BlockOut
    a: Block
    b: Block
    n: Reg
    cols: Length


class Vadd(_Binary, opcode=0x30, work=Work(alu=1)):
    """dst = a + b, element by element."""


class Vsub(_Binary, opcode=0x31, work=Work(alu=1)):
    """dst = a - b, element by element."""


class Vmul(_Binary, opcode=0x32, work=Work(alu=1)):
    """dst = a * b, element by element."""


class Vdiv(_Binary, opcode=0x33, work=Work(sfu=1, alu=1)):
    """dst = a / b, element by element (correctly rounded)."""


class Vmax(_Binary, opcode=0x34, work=Work(alu=1)):
    """dst = the larger of a and b, element by element."""


class Vmin(_Binary, opcode=0x35, work=Work(alu=1)):
    """dst = the smaller of a and b, element by element."""


class _RowBroadcast(_Vector):
    dst: BlockOut
    src: Block
    row: RowVector
    n: Reg
    cols: Length


class Vaddr(_RowBroadcast, opcode=0x36, work=Work(alu=1)):
    """dst[i, j] = src[i, j] + row[j]: a bias."""


class Vmulr(_RowBroadcast, opcode=0x37, work=Work(alu=1)):
    """dst[i, j] = src[i, j] * row[j]: a gain."""


class _ColumnBroadcast(_Vector):
    dst: BlockOut
    src: Block
    column: Column
    n: Reg
    cols: Length


class Vsubc(_ColumnBroadcast, opcode=0x38, work=Work(alu=1)):
    """dst[i, j] = src[i, j] - column[i]: take a mean away."""


class Vmulc(_ColumnBroadcast, opcode=0x39, work=Work(alu=1)):
    """dst[i, j] = src[i, j] * column[i]: scale each row."""


class Vscale(_Vector, opcode=0x3A, work=Work(alu=2)):
    """dst[i, j] = (src[i, j] * column[i]) * row[j]: the last step of a norm."""

    dst: BlockOut
    src: Block
    column: Column
    row: RowVector
    n: Reg
    cols: Length


class Vouter(_Vector, opcode=0x3E, work=Work(alu=2)):
    """dst[i, j] = src[i, j] + column[i] * row[j]: what the zero points of weights add to a product."""

    dst: BlockOut
    src: Block
    column: Column
    row: RowVector
    n: Reg
    cols: Length


class _Immediate(_Vector):
    dst: BlockOut
    src: Block
    n: Reg
    cols: Length
    value: float


class Vaddi(_Immediate, opcode=0x3B, work=Work(alu=1)):
    """dst = src + value."""


class Vmuli(_Immediate, opcode=0x3C, work=Work(alu=1)):
    """dst = src * value."""


class Vfill(_Vector, opcode=0x3D, work=Work(alu=1)):
    """dst = value, everywhere."""

    dst: BlockOut
    n: Reg
    cols: Length
    value: float


class _Unary(_Vector):
    dst: BlockOut
    src: Block
    n: Reg
    cols: Length


class Vexp(_Unary, opcode=0x40, work=Work(sfu=1)):
    """dst = e to the src."""


class Vrecip(_Unary, opcode=0x41, work=Work(sfu=1)):
    """dst = 1 / src (correctly rounded)."""


class Vrsqrt(_Unary, opcode=0x42, work=Work(sfu=1)):
    """dst = 1 / square root of src."""


class Vsqrt(_Unary, opcode=0x43, work=Work(sfu=1)):
    """dst = square root of src (correctly rounded)."""


class Verf(_Unary, opcode=0x44, work=Work(sfu=1)):
    """dst = error function of src."""


class Vtanh(_Unary, opcode=0x45, work=Work(sfu=1)):
    """dst = hyperbolic tangent of src."""


class Vsigm(_Unary, opcode=0x46, work=Work(sfu=2, alu=1)):
    """dst = 1 / (1 + exp(-src))."""


class Vsilu(_Unary, opcode=0x47, work=Work(sfu=2, alu=2)):
    """dst = src / (1 + exp(-src))."""


class Vgelu(_Unary, opcode=0x48, work=Work(sfu=1, alu=4)):
    """dst = src * (1 + erf(src / sqrt 2)) / 2."""


class Vgelut(_Unary, opcode=0x49, work=Work(sfu=1, alu=8)):
    """dst = src * (1 + tanh(sqrt(2/pi) * (src + 0.044715 src^3))) / 2."""


class Vrelu(_Unary, opcode=0x4A, work=Work(alu=1)):
    """dst = src where positive, else 0."""


class Vabs(_Unary, opcode=0x4B, work=Work(alu=1)):
    """dst = magnitude of src."""


class Vneg(_Unary, opcode=0x4C, work=Work(alu=1)):
    """dst = -src."""


class _Reduce(_Vector):
    dst: ColumnOut
    src: Block
    n: Reg
    cols: Length


class Vsum(_Reduce, opcode=0x50, work=Work(alu=1, trees=1)):
    """dst[i] = sum of row i."""


class Vsumsq(_Reduce, opcode=0x51, work=Work(alu=2, trees=1)):
    """dst[i] = sum of the squares of row i."""


class Vmaxr(_Reduce, opcode=0x52, work=Work(alu=1, trees=1)):
    """dst[i] = largest element of row i (-inf if it is empty)."""


class Vamax(_Reduce, opcode=0x53, work=Work(alu=1, trees=1)):
    """dst[i] = largest magnitude in row i (0 if it is empty)."""


class Vmean(_Vector, opcode=0x55, work=Work(alu=1, row_alu=1, trees=1)):
    """dst[i] = (sum of row i) * factor: a mean, or the part of it that these columns have."""

    dst: ColumnOut
    src: Block
    n: Reg
    cols: Length
    factor: float


class Vrstd(_Vector, opcode=0x56, work=Work(row_alu=2, row_sfu=1, cols=1)):
    """dst[i] = 1 / square root of (src[i] * factor + eps): the factor of a norm from a sum of squares."""

    dst: ColumnOut
    src: Column
    n: Reg
    factor: float
    eps: float


class Vrstdm(_Vector, opcode=0x57, work=Work(row_alu=3, row_sfu=1, cols=1)):
    """dst[i] = dst[i] * what `vrstd` gives: the factor of a norm taken into scales."""

    dst: Annotated[Addr, updates(F32, "n")]
    src: Column
    n: Reg
    factor: float
    eps: float


class Vsumq(_Vector, opcode=0x54, work=Work(alu=1, row_alu=1, trees=1)):
    """Sums of quantised rows: dst[i] = (sum of the integers of row i) * scales[i]. The sum is exact."""

    dst: ColumnOut
    src: Annotated[Addr, reads(I8, "n", "cols")]
    scales: Column
    n: Reg
    cols: Length


class Quant(_Vector, opcode=0x58, work=Work(alu=3, row_alu=1, trees=1, row_sfu=1)):
    """Quantise each row to int8: scales[i] = max|src[i]| / 127, dst = src / scale, to nearest even, within 127."""

    dst: Annotated[Addr, writes(I8, "n", "cols")]
    scales: ColumnOut
    src: Block
    n: Reg
    cols: Length


class Quantl(_Vector, opcode=0x6B, work=Work(alu=3, row_alu=1, trees=1, row_sfu=1)):
    """`quant` to fewer levels: scales[i] = max|src[i]| / levels, dst = src / scale, to nearest even, within `levels`.

    7 levels are 4 bits; 127 give what `quant` gives, to the bit; 0 gives zeros with scales of 0. Codes are int8 all the
    same: this is how keys and values of fewer bits are made.
    """

    dst: Annotated[Addr, writes(I8, "n", "cols")]
    scales: ColumnOut
    src: Block
    n: Reg
    cols: Length
    levels: U7


class Quantx(_Vector, opcode=0x59, work=Work(alu=2, row_sfu=1)):
    """Quantise each row to int8 with the given scale (0 gives zeros)."""

    dst: Annotated[Addr, writes(I8, "n", "cols")]
    scales: Column
    src: Block
    n: Reg
    cols: Length


class Quantm(_Vector, opcode=0x63, work=Work(alu=2, row_alu=1, row_sfu=1)):
    """Quantise each row to int8 with scale = scales[i] / 127, which replaces scales[i]: the largest magnitude of the
    whole row, of which src may be a part."""

    dst: Annotated[Addr, writes(I8, "n", "cols")]
    scales: Annotated[Addr, updates(F32, "n")]
    src: Block
    n: Reg
    cols: Length


class Quantw(_Vector, opcode=0x5A, work=Work(alu=4, row_alu=1, trees=1, row_sfu=1)):
    """`quant` of src[i, j] * (scale of row row+j of array a): fold V's scales into the probabilities."""

    a: Annotated[ArrayRef, ArrayUse(ArrayMode.SCALES, "row", "cols")]
    dst: Annotated[Addr, writes(I8, "n", "cols")]
    scales: ColumnOut
    src: Block
    n: Reg
    row: Reg
    cols: Length


class Deqc(_Vector, opcode=0x5C, work=Work(alu=3, cols="a.cols")):
    """Sums of `mvm` to float32: dst[i, c] = (src[i, c] * scales[i]) * (scale of column c of a)."""

    a: Scales
    dst: Annotated[Addr, writes(F32, "n", "a.cols")]
    src: Annotated[Addr, reads(I32, "n", "a.cols")]
    scales: Column
    n: Reg


class Deqb(_Vector, opcode=0x5B, work=Work(alu=4, cols="a.cols")):
    """`deqc` with a bias: dst[i, c] = (src[i, c] * scales[i]) * (scale of column c of a) + row[c].

    What `deqc` and then `vaddr` give, to the bit.
    """

    a: Scales
    dst: Annotated[Addr, writes(F32, "n", "a.cols")]
    src: Annotated[Addr, reads(I32, "n", "a.cols")]
    scales: Column
    row: Annotated[Addr, reads(F32, "a.cols")]
    n: Reg


class Deqg(_Vector, opcode=0x62, work=Work(alu=4, cols="a.cols")):
    """Sums of `mvmw` to float32: dst[i, c] = (src[i, c] * scales[i]) * (scale of column c in group `group` of a).

    With `acc` that is added to what is at dst.
    """

    a: Scales
    dst: Annotated[Addr, writes(F32, "n", "a.cols")]
    src: Annotated[Addr, reads(I32, "n", "a.cols")]
    scales: Column
    n: Reg
    group: Reg
    acc: bool = False


class Deqr(_Vector, opcode=0x5D, work=Work(alu=3)):
    """Sums of `mvmt` to float32: dst[i, j] = (src[i, j] * scales[i]) * (scale of row row+j of a)."""

    a: Annotated[ArrayRef, ArrayUse(ArrayMode.SCALES, "row", "cols")]
    dst: BlockOut
    src: Annotated[Addr, reads(I32, "n", "cols")]
    scales: Column
    n: Reg
    row: Reg
    cols: Length


class Deq(_Vector, opcode=0x5E, work=Work(alu=2)):
    """Integer sums to float32 by row scales alone: dst[i, j] = src[i, j] * scales[i]."""

    dst: BlockOut
    src: Annotated[Addr, reads(I32, "n", "cols")]
    scales: Column
    n: Reg
    cols: Length


class Vf16(_Vector, opcode=0x5F, work=Work(alu=1)):
    """dst = src rounded to float16 (for messages and buffers of half the size)."""

    dst: Annotated[Addr, writes(F16, "n", "cols")]
    src: Block
    n: Reg
    cols: Length


class Vf32(_Vector, opcode=0x60, work=Work(alu=1)):
    """dst = src widened from float16."""

    dst: BlockOut
    src: Annotated[Addr, reads(F16, "n", "cols")]
    n: Reg
    cols: Length


class _Distance(_Vector):
    dst: BlockOut
    src: Block


class Vrel(_Distance, opcode=0x68, work=Work(alu=1)):
    """Add a bias by distance to scores: dst[i, j] = src[i, j] + table[i mod group, reach + d], with
    d = first + j - i / group (integer division: group rows share a token), clipped to -reach..reach.

    The table has group rows of 2 reach + 1 numbers, which is `entries` in all (T5: Raffel et al., JMLR 2020).
    """

    table: Annotated[Addr, reads(F32, "entries")]
    n: Reg
    cols: Length
    first: Reg
    group: U8
    entries: U12


class Vslope(_Distance, opcode=0x69, work=Work(alu=2)):
    """Add a bias that grows with the distance: dst[i, j] = src[i, j] + slopes[i mod group] * (first + j - i / group).

    (ALiBi: Press et al., ICLR 2022.) Group rows share a token.
    """

    slopes: Annotated[Addr, reads(F32, "group")]
    n: Reg
    cols: Length
    first: Reg
    group: U8


class Rope(_Vector, opcode=0x61, work=Work(alu=3)):
    """Rotary embedding: in each `dim`-wide head of a row, turn the first `rot` features by the row's angles.

    table[i] holds rot/2 cosines, then rot/2 sines. Pairs are (j, j + rot/2), or (2j, 2j+1) with `interleaved`.
    x' = x cos - y sin; y' = y cos + x sin. cols is a multiple of dim.
    """

    dst: BlockOut
    src: Block
    table: Annotated[Addr, reads(F32, "n", "rot")]
    n: Reg
    cols: U16
    dim: U12
    rot: U12
    interleaved: bool = False


class Smx(_Vector, opcode=0x64, work=Work(alu=3, sfu=1, trees=2)):
    """One block of online softmax: ml[i] = (m, l), m the largest valid score of row i, l the sum of p.

    p[i, j] = exp(s[i, j] - m) where column j is valid, else 0. Valid are columns below `hi`, with `causal`
    below hi + i / group (integer division: group rows share a token); with `window` also not below
    lo + i / group. A row without valid columns has m = -inf, l = 0.
    """

    p: BlockOut
    s: Block
    ml: Annotated[Addr, writes(F32, "n", 2)]
    n: Reg
    cols: Length
    hi: Reg
    lo: Reg
    group: U8
    causal: bool = False
    window: bool = False


class Smxi(_Vector, opcode=0x67, work=Work(alu=6, sfu=1, trees=2)):
    """`smx` of the sums of `mvmt`, in place: s[i, j] = (sums[i, j] * scales[i]) * (scale of row row+j of a).

    What `deqr` and then `smx` give, to the bit; the probabilities take the place of the sums.
    """

    a: Annotated[ArrayRef, ArrayUse(ArrayMode.SCALES, "row", "cols")]
    s: Annotated[Addr, updates(I32, "n", "cols")]
    ml: Annotated[Addr, writes(F32, "n", 2)]
    scales: Column
    n: Reg
    row: Reg
    cols: Reg
    hi: Reg
    lo: Reg
    group: U8
    causal: bool = False
    window: bool = False


class Smxm(_Vector, opcode=0x65, work=Work(alu=3, row_alu=6, row_sfu=2)):
    """Merge block (mlb, ob) of online softmax into (ml, o): both are rescaled to the larger m and added.

    With M = max(m, mb), a = exp(m - M), b = exp(mb - M): o = o*a + ob*b, l = l*a + lb*b, m = M. An empty side
    (m = -inf) leaves the other unchanged to the bit.
    """

    ml: Annotated[Addr, updates(F32, "n", 2)]
    o: Annotated[Addr, updates(F32, "n", "cols")]
    mlb: Annotated[Addr, reads(F32, "n", 2)]
    ob: Block
    n: Reg
    cols: Length


class Smxs(_Vector, opcode=0x6A, work=Work(alu=1, row_alu=2, row_sfu=1)):
    """Rescale a part of online softmax to the largest m of all parts, `top`, so that parts can be added up.

    With w = exp(m - top), 0 where m = -inf: o = o*w, and ml = (0, l*w). A part without valid columns becomes zeros.
    """

    ml: Annotated[Addr, updates(F32, "n", 2)]
    o: Annotated[Addr, updates(F32, "n", "cols")]
    top: Column
    n: Reg
    cols: Length


class Smxd(_Vector, opcode=0x66, work=Work(alu=1, row_sfu=1)):
    """Finish softmax: dst[i] = o[i] * (1 / l[i]); a row with l = 0 (fully masked) gives zeros."""

    dst: BlockOut
    o: Block
    ml: Annotated[Addr, reads(F32, "n", 2)]
    n: Reg
    cols: Length


# ---------------------------------------------------------------------------------------------------- memory


class _Dma(Inst, unit=Unit.DMA):
    """Runs in the DMA engine."""


class Copy(_Dma, opcode=0x70, timing=Timing.COPY, energy=Energy.COPY):
    """Move n rows of `cols` words inside the tile buffer, rows dpitch and spitch words apart."""

    dst: Annotated[Addr, writes(I32, "n", "cols", pitch="dpitch")]
    src: Annotated[Addr, reads(I32, "n", "cols", pitch="spitch")]
    n: Reg
    cols: Length
    dpitch: U16 = 0
    spitch: U16 = 0


class Load(_Dma, opcode=0x71, timing=Timing.MEMORY, energy=Energy.MEMORY):
    """Read n rows of `cols` words from memory, `pitch` bytes apart there (0: dense), into the buffer."""

    dst: Annotated[Addr, writes(I32, "n", "cols")]
    src: Annotated[Mem, MemAccess(Mode.READ)]
    n: Reg
    cols: Length
    pitch: U24 = 0


class Store(_Dma, opcode=0x72, timing=Timing.MEMORY, energy=Energy.MEMORY):
    """Write n rows of `cols` words from the buffer to memory, `pitch` bytes apart there (0: dense)."""

    dst: Annotated[Mem, MemAccess(Mode.WRITE)]
    src: Annotated[Addr, reads(I32, "n", "cols")]
    n: Reg
    cols: Length
    pitch: U24 = 0


class Gather(_Dma, opcode=0x73, timing=Timing.MEMORY, energy=Energy.MEMORY):
    """Read the rows `ids[i]` of a table in memory, `cols` words each (embeddings). `limit` rows exist."""

    dst: Annotated[Addr, writes(I32, "n", "cols")]
    ids: Annotated[Addr, reads(I32, "n")]
    src: Annotated[Mem, MemAccess(Mode.READ, indexed=True)]
    n: Reg
    cols: Length
    limit: Reg


# --------------------------------------------------------------------------------------------------- network


class _Network(Inst, unit=Unit.NETWORK):
    """Runs in the network port."""


class Send(_Network, opcode=0x80, timing=Timing.MESSAGE, energy=Energy.MESSAGE):
    """Send n rows of `cols` words, `pitch` words apart (0: dense), to the channel at `port`.

    A channel may have several receivers (multicast) and several senders, whose messages the network adds, or
    takes the larger of, element by element, as float32 (in-network reduction, in the channel's order).
    """

    port: PortRef
    src: Annotated[Addr, reads(I32, "n", "cols", pitch="pitch")]
    n: Reg
    cols: Length
    pitch: U16 = 0


class Recv(_Network, opcode=0x81, timing=Timing.MESSAGE, energy=Energy.MESSAGE):
    """Receive n rows of `cols` words, `pitch` words apart (0: dense), from the channel at `port`."""

    port: PortRef
    dst: Annotated[Addr, writes(I32, "n", "cols", pitch="pitch")]
    n: Reg
    cols: Length
    pitch: U16 = 0


class Barrier(_Network, opcode=0x82, timing=Timing.BARRIER, energy=Energy.BARRIER):
    """Wait until every tile that takes part in the barrier at `port` has come to it."""

    port: PortRef
