"""Code for each operation of a Mapping: one short function an operation."""

from __future__ import annotations

from functools import singledispatch

from compiler.ir.graph import Function, NormKind
from compiler.ir.mapping import Format
from compiler.ir.operations import (
    Activate,
    AddRow,
    Append,
    AttendStreamed,
    Finish,
    LoadRows,
    Lookup,
    MulRow,
    Multiply,
    Normalise,
    NormQuantise,
    Operation,
    Part,
    Quantise,
    Receive,
    Rotate,
    Scale,
    Send,
    Take,
)
from compiler.ir.operations import Add as AddValues
from compiler.ir.operations import Attend as AttendOperation
from compiler.ir.operations import Mul as MulValues
from isa.instruction import Inst
from isa.instructions import (
    Add,
    Copy,
    Deqb,
    Deqc,
    Gather,
    Li,
    Load,
    Mul,
    Mvm,
    Mvmf,
    Quant,
    Quantm,
    Recv,
    Rope,
    Smxd,
    Vadd,
    Vaddr,
    Vamax,
    Vgelu,
    Vgelut,
    Vmean,
    Vmul,
    Vmulc,
    Vmuli,
    Vmulr,
    Vouter,
    Vrelu,
    Vrstd,
    Vrstdm,
    Vscale,
    Vsigm,
    Vsilu,
    Vsubc,
    Vsumq,
    Vsumsq,
    Vtanh,
    Wrow,
    Wrowf,
)
from isa.instructions import Send as SendWords
from isa.operands import WORD_BYTES, ZERO, Addr, Mem, Reg

from .attend import emit_attend
from .blocks import appended_rows
from .codes import quantising
from .emitter import POSITION, Emitter, words
from .grouped import emit_grouped
from .layout import operands, taken
from .streamed import emit_streamed

_UNARY: dict[Function, type[Inst]] = {
    Function.RELU: Vrelu,
    Function.GELU: Vgelu,
    Function.GELU_TANH: Vgelut,
    Function.SILU: Vsilu,
    Function.SIGMOID: Vsigm,
    Function.TANH: Vtanh,
}


@singledispatch
def emit(op: Operation, e: Emitter) -> None:
    """Append the code of `op` to the role."""
    raise TypeError(f"no code for {type(op).__name__}")


def _part(e: Emitter, name: str, part: Part) -> tuple[Addr, int, int]:
    """Address, words and pitch of some columns of a value (pitch 0 when they are all of it)."""
    _, col, cols = part
    value = e.value(name)
    size = 1 if value.format is Format.Q8 else 4
    start = e.at(name)
    whole = words(value, value.cols)
    return Addr(start.base, start.offset + col * size), words(value, cols), 0 if cols == value.cols else whole


@emit.register
def _(op: Receive, e: Emitter) -> None:
    n = e.rows(op.out)
    for part in op.parts:
        dst, cols, pitch = _part(e, op.out, part)
        e.add(Recv(e.port(part[0]), dst, n, cols, pitch))
    scales, start = e.value(op.out).scales, e.at(f"{op.out}.scale") if op.scale or op.scales else Addr()
    for port, first, count in ((op.scale, 0, scales),) if op.scale else op.scales:
        at = Addr(start.base, start.offset + 4 * first)
        e.add(Recv(e.port(port), at, n, count, 0 if count == scales else scales))


@emit.register
def _(op: Send, e: Emitter) -> None:
    n = e.rows(op.value, wanted=op.wanted)
    for part in op.parts:
        src, cols, pitch = _part(e, op.value, part)
        e.add(SendWords(e.port(part[0]), src, n, cols, pitch))
    if op.scale:
        e.add(SendWords(e.port(op.scale), e.at(f"{op.value}.scale"), n, e.value(op.value).scales))


@emit.register
def _(op: Lookup, e: Emitter) -> None:
    limit = e.shared(f"limit{op.rows}", lambda rd: Li(rd, op.rows))
    table = Mem(op.space, e.table_register[op.table])
    e.add(Gather(e.at(op.out), e.at(op.ids), table, e.rows(op.out), e.value(op.out).cols, limit))


@emit.register
def _(op: LoadRows, e: Emitter) -> None:
    row_bytes = 4 * e.value(op.out).cols
    at = e.register()
    e.add(
        Mul(at, e.fact(POSITION), row_bytes),
        Add(at, at, e.table_register[op.table]),
        Load(e.at(op.out), Mem(op.space, at, op.offset * row_bytes), e.rows(op.out), e.value(op.out).cols),
    )


@emit.register
def _(op: AddValues, e: Emitter) -> None:
    e.add(Vadd(e.at(op.out), e.at(op.a), e.at(op.b), e.rows(op.out), e.value(op.out).cols))


@emit.register
def _(op: MulValues, e: Emitter) -> None:
    e.add(Vmul(e.at(op.out), e.at(op.a), e.at(op.b), e.rows(op.out), e.value(op.out).cols))


@emit.register
def _(op: AddRow, e: Emitter) -> None:
    e.add(Vaddr(e.at(op.out), e.at(op.x), e.at(op.row), e.rows(op.out), e.value(op.out).cols))


@emit.register
def _(op: MulRow, e: Emitter) -> None:
    e.add(Vmulr(e.at(op.out), e.at(op.x), e.at(op.row), e.rows(op.out), e.value(op.out).cols))


@emit.register
def _(op: Scale, e: Emitter) -> None:
    e.add(Vmuli(e.at(op.out), e.at(op.x), e.rows(op.out), e.value(op.out).cols, op.factor))


@emit.register
def _(op: Activate, e: Emitter) -> None:
    out, x, n, cols = e.at(op.out), e.at(op.x), e.rows(op.out), e.value(op.out).cols
    if op.function is Function.QUICK_GELU:  # x * sigmoid(1.702 x)
        gate = e.tmp("gate")
        e.add(Vmuli(gate, x, n, cols, 1.702), Vsigm(gate, gate, n, cols), Vmul(out, x, gate, n, cols))
        return
    e.add(_UNARY[op.function](out, x, n, cols))  # type: ignore[call-arg]


def _reduce(e: Emitter, op: Normalise | Quantise, by: type[Vsumsq | Vamax], x: Addr, to: str) -> Addr:
    """Reduce the rows of x to the column at `to`: over this tile's columns, and through the network over all
    tiles' if the row is split. What is sent lies apart from what comes back, or the two would wait for each other.
    """
    groups = op.groups if isinstance(op, Normalise) else 1
    n, cols = e.rows(op.out, groups), e.value(op.x).cols // groups
    whole = e.tmp(to) if isinstance(op, Normalise) else e.at(f"{op.out}.scale")
    if not op.to:
        e.add(by(whole, x, n, cols))
        return whole
    part = e.tmp("part")
    e.add(by(part, x, n, cols), *_exchange(e, op, part, whole, n))
    return whole


def _exchange(
    e: Emitter, op: Normalise | NormQuantise | Quantise, part: Addr, whole: Addr, n: Reg
) -> tuple[Inst, ...]:
    """Code that makes a column whole over all tiles of a row that is split."""
    if not op.to:
        return ()
    return SendWords(e.port(op.to), part, n, 1), Recv(e.port(op.back), whole, n, 1)


@emit.register
def _(op: Normalise, e: Emitter) -> None:
    cols = e.value(op.x).cols // op.groups
    n = e.rows(op.out, op.groups)
    out, x = e.at(op.out), e.at(op.x)
    if op.kind is NormKind.LAYER:  # x - mean(x), then as rms
        mean = e.tmp("mean")
        part = e.tmp("part") if op.to else mean
        e.add(Vmean(part, x, n, cols, 1 / op.width), *_exchange(e, op, part, mean, n))
        e.add(Vsubc(out, x, mean, n, cols))
        x = out
    total = _reduce(e, op, Vsumsq, x, "sum")
    e.add(Vrstd(total, total, n, 1 / op.width, op.eps))
    e.add(Vscale(out, x, total, e.at(op.gain), n, cols) if op.gain else Vmulc(out, x, total, n, cols))
    if op.shift:
        e.add(Vaddr(out, out, e.at(op.shift), n, cols))


@emit.register
def _(op: NormQuantise, e: Emitter) -> None:
    n, cols = e.rows(op.out), e.value(op.x).cols
    x, scaled, scale = e.at(op.x), e.tmp("scaled"), e.at(f"{op.out}.scale")
    total = e.tmp("sum")
    part = e.tmp("part") if op.to else total
    if op.kind is NormKind.LAYER:
        mean, centred = e.tmp("mean"), e.tmp("centred")
        own = part if op.to else mean
        e.add(Vmean(own, x, n, cols, 1 / op.width), *_exchange(e, op, own, mean, n))
        e.add(Vsubc(centred, x, mean, n, cols))
        x = centred
    if op.gain:
        e.add(Vmulr(scaled, x, e.at(op.gain), n, cols))
    y = scaled if op.gain else x
    if not op.to:  # the row is not split
        e.add(Quant(e.at(op.out), scale, y, n, cols), Vsumsq(total, x, n, cols))
    else:
        largest = e.tmp("largest")
        e.add(Vamax(largest, y, n, cols))
        e.add(SendWords(e.port(op.peak), largest, n, 1), Recv(e.port(op.top), scale, n, 1))
        e.add(Vsumsq(part, x, n, cols), *_exchange(e, op, part, total, n))
        e.add(Quantm(e.at(op.out), scale, y, n, cols))
    e.add(Vrstdm(scale, total, n, 1 / op.width, op.eps))


@emit.register
def _(op: Quantise, e: Emitter) -> None:
    n, cols, scales = e.rows(op.out), e.value(op.out).cols, e.value(op.out).scales
    out, scale, x = e.at(op.out), e.at(f"{op.out}.scale"), e.at(op.x)
    if op.to:
        _reduce(e, op, Vamax, x, "scale")
        e.add(Quantm(out, scale, x, n, cols))
    else:
        first, parts, each = *_parts(op, e), cols // scales
        out, x = (Addr(at.base, at.offset + size * first * each) for at, size in ((out, 1), (x, WORD_BYTES)))
        at = Addr(scale.base, scale.offset + WORD_BYTES * first)
        e.add(quantising(out, at, x, e.rows(op.out, parts), each, op.bits))
    if op.factor != 1:
        e.add(Vmuli(scale, scale, n, scales, op.factor))


def _parts(op: Quantise, e: Emitter) -> tuple[int, int]:
    """The first of a row's parts with scales of their own that anybody takes, and how many from there on: others need
    not be quantised where segments are one row. In longer ones the parts of a row do not follow those of the next."""
    value = e.value(op.out)
    takes = [take for take in taken(e.template, e.limits).values() if take.x == op.out]
    uses = sum(op.out in operands(block.op) for block in e.template.blocks)
    if len(takes) != uses - 1 or not takes or op.factor != 1:  # one use is this
        return 0, value.scales
    each = value.cols // value.scales
    first = min(take.col for take in takes) // each
    end = max(-(-(take.col + e.value(take.out).cols) // each) for take in takes)
    return first, end - first


@emit.register
def _(op: Take, e: Emitter) -> None:
    if op.out in e.plan.inside:
        return
    n, x, out = e.rows(op.out), e.value(op.x), e.value(op.out)
    first = op.col * x.scales // x.cols
    start, scales = e.at(op.x), e.at(f"{op.x}.scale")
    rows = Addr(start.base, start.offset + op.col), words(out, out.cols), words(x, x.cols)
    e.add(Copy(e.at(op.out), rows[0], n, rows[1], 0, rows[2]))
    at = Addr(scales.base, scales.offset + 4 * first)
    e.add(Copy(e.at(f"{op.out}.scale"), at, n, out.scales, 0, x.scales))


@emit.register
def _(op: Multiply, e: Emitter) -> None:
    n, out, array = e.rows(op.out), e.at(op.out), e.array(op.array)
    spec = e.spec(op.array)
    if spec.block:
        emit_grouped(op, spec, e)
    elif e.int8:
        scale = e.at(f"{op.x}.scale")
        e.add(Mvm(array, out, e.at(op.x), n, ZERO, spec.rows))
        if op.bias and not op.offset:
            e.add(Deqb(array, out, out, scale, e.at(op.bias), n))
            return
        e.add(Deqc(array, out, out, scale, n))
    else:
        e.add(Mvmf(array, out, e.at(op.x), n, ZERO, spec.rows))
    if op.offset:
        total = e.tmp("total")
        e.add(Vsumq(total, e.at(op.x), e.at(f"{op.x}.scale"), n, spec.rows))
        e.add(Vouter(out, out, total, e.at(op.offset), n, spec.cols))
    if op.bias:
        e.add(Vaddr(out, out, e.at(op.bias), n, spec.cols))


@emit.register
def _(op: Rotate, e: Emitter) -> None:
    n, cols = e.rows(op.out), e.value(op.out).cols
    e.add(Rope(e.at(op.out), e.at(op.x), e.at(op.table), n, cols, op.dim, op.rot, op.interleaved))


@emit.register
def _(op: Append, e: Emitter) -> None:
    n, array, x = e.rows(op.x), e.array(op.array), e.at(op.x)
    count, row = appended_rows(op, e)
    if not e.int8:
        e.add(Wrowf(array, x, count, row))
        return
    if e.value(op.x).format is Format.Q8:
        e.add(Wrow(array, x, e.at(f"{op.x}.scale"), count, row))
        return
    rows, scale, cols = e.tmp("rows"), e.tmp("scale"), e.spec(op.array).cols
    bits = e.spec(op.array).bits
    e.add(quantising(rows, scale, x, n, cols, bits), Wrow(array, rows, scale, count, row))


@emit.register
def _(op: AttendOperation, e: Emitter) -> None:
    emit_attend(op, e)


@emit.register
def _(op: AttendStreamed, e: Emitter) -> None:
    emit_streamed(op, e)


@emit.register
def _(op: Finish, e: Emitter) -> None:
    heads = op.heads
    n, cols = e.rows(op.out, heads), e.value(op.out).cols // heads
    e.add(Smxd(e.at(op.out), e.at(op.x), e.at(op.sums), n, cols))
