"""A hand-written attention role: K and V appended to arrays, online softmax over blocks of tokens, one head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType, Inst
from isa.interface import CacheHead, KvCache
from isa.operands import Addr, ArrayRef, PortRef, Reg, Special
from isa.program import (
    HOST,
    ArrayKind,
    ArraySpec,
    Channel,
    Constant,
    Direction,
    Endpoint,
    Limits,
    Port,
    Program,
    Role,
    Slice,
    Stream,
    StreamPart,
    Tile,
)
from tests.values.bench import info, tiny

WIDTH = 16  # features of a head
BLOCK = 8  # tokens of an online-softmax block
CONTEXT, CHUNK, SEQUENCES = 40, 8, 2
LIMITS = Limits(CONTEXT, CHUNK, segments=64, sequences=SEQUENCES)
K, V = ArrayRef(0), ArrayRef(1)

_BLOCK_BYTES = CHUNK * WIDTH * 4


def _at(number: int) -> Addr:
    return Addr(offset=number * _BLOCK_BYTES)


QKV = Addr(offset=0)  # three blocks
Q, KV, CODES, Q8, SUMS, P, P8, OB, O = (_at(number) for number in range(3, 12))
SCALES, Q_SCALES, P_SCALES, ML, MLB = (Addr(offset=8192 + 64 * number) for number in range(5))

BIAS = Addr(offset=8192 + 64 * 5)

SEGMENTS, I, TOKENS, POSITION, BASE, OUTPUTS, TOTAL, BLOCKS, J, ROW, HI, END, FIRST, DISTANCE = map(
    Reg, range(1, 15)
)


def _append(part: int, array: ArrayRef) -> list[Inst]:
    """Quantise one of the three parts of the rows received, and append it."""
    return [
        t.Copy(KV, Addr(offset=QKV.offset + part * WIDTH * 4), TOKENS, WIDTH, 0, 3 * WIDTH),
        t.Quant(CODES, SCALES, KV, TOKENS, WIDTH),
        t.Wrow(array, CODES, SCALES, TOKENS, FIRST),
    ]


def biased_by_table(entries: int) -> list[Inst]:
    """Add entry (distance + half) of a table to the scores."""
    return [t.Vrel(P, P, BIAS, TOKENS, BLOCK, DISTANCE, 1, entries)]


BIASED_BY_SLOPE: list[Inst] = [t.Vslope(P, P, BIAS, TOKENS, BLOCK, DISTANCE, 1)]
"""Add the distance times a number to the scores."""


def _block(scale: float, bias: Sequence[Inst]) -> list[Inst]:
    """Scores of one block of tokens, their softmax, the weighted sum of V, the merge with the blocks before."""
    return [
        t.Mul(ROW, J, BLOCK),
        t.Add(HI, POSITION, 1),
        t.Sub(HI, HI, ROW),
        t.Sub(DISTANCE, ROW, POSITION),
        t.Add(ROW, ROW, BASE),
        t.Mvmt(K, SUMS, Q8, TOKENS, ROW, BLOCK),
        t.Deqr(K, P, SUMS, Q_SCALES, TOKENS, ROW, BLOCK),
        t.Vmuli(P, P, TOKENS, BLOCK, scale),
        *bias,
        t.Smx(P, P, MLB, TOKENS, BLOCK, HI, Reg(0), 1, True),
        t.Quantw(V, P8, P_SCALES, P, TOKENS, ROW, BLOCK),
        t.Mvm(V, SUMS, P8, TOKENS, ROW, BLOCK),
        t.Deq(OB, SUMS, P_SCALES, TOKENS, WIDTH),
        t.Smxm(ML, O, MLB, OB, TOKENS, WIDTH),
    ]


def attention_code(bias: Sequence[Inst] = ()) -> tuple[Inst, ...]:
    """The role's text: for each segment, append its K and V, then attend from its Q."""
    inner = _block(WIDTH**-0.5, bias)
    body = [
        t.Seg(I),
        t.Sys(TOKENS, Special.TOKENS),
        t.Sys(POSITION, Special.POSITION),
        t.Sys(BASE, Special.SEQUENCE),
        t.Mul(BASE, BASE, CONTEXT),
        t.Add(FIRST, BASE, POSITION),
        t.Recv(PortRef(0), QKV, TOKENS, 3 * WIDTH),
        *_append(1, K),
        *_append(2, V),
        t.Copy(Q, QKV, TOKENS, WIDTH, 0, 3 * WIDTH),
        t.Quant(Q8, Q_SCALES, Q, TOKENS, WIDTH),
        t.Vfill(O, TOKENS, WIDTH, 0.0),
        t.Vfill(ML, TOKENS, 2, float("-inf")),
        t.Add(TOTAL, POSITION, TOKENS),
        t.Add(BLOCKS, TOTAL, BLOCK - 1),
        t.Div(BLOCKS, BLOCKS, BLOCK),
    ]
    tail: list[Inst] = [
        t.Smxd(O, O, ML, TOKENS, WIDTH),
        t.Sys(OUTPUTS, Special.OUTPUTS),
        t.Send(PortRef(1), O, OUTPUTS, WIDTH),
    ]
    inner_start = 2 + len(body) + 1
    inner_end = inner_start + len(inner)
    end = inner_end + len(tail)
    return (
        t.Sys(SEGMENTS, Special.SEGMENTS),
        t.Loop(I, SEGMENTS, end),
        *body,
        t.Loop(J, BLOCKS, inner_end),
        *inner,
        *tail,
        t.Halt(),
    )


def attention_program(bias: Sequence[Inst] = (), table: NDArray[np.float32] | None = None) -> Program:
    """One tile, fed by the host with rows of Q, K and V, giving rows of attention output back.

    `bias` changes the scores of a block, `table` [entries] is what it reads at BIAS.
    """
    rows = CONTEXT * SEQUENCES
    arrays = (ArraySpec("k", ArrayKind.KV, rows, WIDTH), ArraySpec("v", ArrayKind.KV, rows, WIDTH))
    ports = (Port("qkv", Direction.IN), Port("o", Direction.OUT))
    data = {} if table is None else {"bias": table}
    constants = tuple(Constant(name, BIAS.offset, DType.F32, held.shape) for name, held in data.items())
    role = Role("attention", attention_code(bias), arrays=arrays, ports=ports, constants=constants)
    channels = (
        Channel("qkv", (Endpoint(HOST, 0),), (Endpoint(0, 0),)),
        Channel("o", (Endpoint(0, 1),), (Endpoint(HOST, 0),)),
    )
    streams = (
        Stream("qkv", Direction.IN, DType.F32, 3 * WIDTH, (StreamPart(0, 0, 3 * WIDTH),)),
        Stream("o", Direction.OUT, DType.F32, WIDTH, (StreamPart(1, 0, WIDTH),)),
    )
    slices = tuple(Slice(name, (0,)) for name in data)
    tile = Tile("head", "attention", 0, 0, arrays=(None, None), constants=slices)
    return Program(
        tiny(),
        LIMITS,
        (role,),
        (tile,),
        channels=channels,
        streams=streams,
        tensors=info(data),
        caches=(KvCache(0, (CacheHead(0, 0, 1),)),),
        data=data,
    )
