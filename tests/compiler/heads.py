"""Mappings of one tile with an attention head, written by hand: attention without a model around it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compiler.backend.build import build_program, choose_chunk, with_chunk
from compiler.ir import meaning
from compiler.ir.graph import Attention
from compiler.ir.mapping import Arithmetic, Block, ConstantSlot, Format, Mapping, MapTile, MapValue, Template
from compiler.ir.operations import Append, Attend, Receive, Send
from isa.hardware import load_target
from isa.instruction import DType
from isa.interface import CacheHead, KvCache
from isa.program import (
    HOST,
    ArrayKind,
    ArraySpec,
    Channel,
    Direction,
    Endpoint,
    Limits,
    Origin,
    Port,
    Program,
    Segment,
    Slice,
    Stream,
    StreamPart,
    TensorInfo,
    segments_of,
)
from runtime.machine import Machine
from runtime.segments import source_segments_of

F32 = NDArray[np.float32]
GROUP, DIM, V_DIM = 2, 8, 4
WIDTHS = {"q": GROUP * DIM, "k": DIM, "v": V_DIM, "out": GROUP * V_DIM}
TARGET = load_target("tiny")


@dataclass(frozen=True)
class Head:
    """What a test wants of the head. `bias` is [group, 2 reach + 1] or [group]; with `given` keys and values are not
    appended, but put into the cache by the host."""

    cross: bool = False
    causal: bool = True
    window: int = 0
    softcap: float = 0.0
    scale: float = DIM**-0.5
    bias: tuple[tuple[float, ...], ...] | tuple[float, ...] = ()
    arithmetic: Arithmetic = Arithmetic.FLOAT32
    block: int = 16
    context: int = 48
    source: int = 0
    sequences: int = 1
    chunk: int = 8
    given: bool = False

    @property
    def widths(self) -> dict[str, int]:
        """Columns of what goes in and out."""
        return {name: cols for name, cols in WIDTHS.items() if name not in "kv" or not self.given}

    @property
    def reach(self) -> int:
        """How far the bias tells distances apart; 0 for slopes."""
        return self.table.shape[1] // 2 if self.table.ndim == 2 else 0

    @property
    def table(self) -> F32:
        """The bias as the graph has it."""
        return np.array(self.bias, np.float32)


def template(head: Head) -> Template:
    """Keys and values are appended; then, in a pass of its own unless tokens see only those before, out = attention."""
    phase = 0 if head.causal or head.given else 1
    rows = (head.source if head.cross else head.context) * head.sequences
    dtype = head.arithmetic.dtype
    attend = Attend(
        *("out", "q", "keys", "values", GROUP, DIM, V_DIM, head.scale, head.block, head.window, head.softcap),
        causal=head.causal,
        cross=head.cross,
        bias="bias" if head.bias else "",
        reach=head.reach,
    )
    return Template(
        "head",
        (
            *_appends(head),
            Block(Receive("q", (("q", 0, GROUP * DIM),)), "queries", phase),
            Block(attend, "attention", phase),
            Block(Send("out", (("out", 0, GROUP * V_DIM),), wanted=True), "attention", phase),
        ),
        tuple(MapValue(name, Format.F32, cols) for name, cols in head.widths.items()),
        (
            ArraySpec("keys", ArrayKind.KV, rows, DIM, dtype),
            ArraySpec("values", ArrayKind.KV, rows, V_DIM, dtype),
        ),
        tuple(Port(name, Direction.OUT if name == "out" else Direction.IN) for name in head.widths),
        (ConstantSlot("bias", head.table.size),) if head.bias else (),
        source_phases=1 if head.cross and not head.given else 0,
    )


def _appends(head: Head) -> Iterator[Block]:
    for value, array, cols in (("k", "keys", DIM), ("v", "values", V_DIM)):
        if not head.given:
            yield Block(Receive(value, ((value, 0, cols),)), array)
            yield Block(Append(array, value), array)


def _streams(head: Head) -> Iterator[Stream]:
    for index, (name, cols) in enumerate(head.widths.items()):
        direction = Direction.OUT if name == "out" else Direction.IN
        is_source = head.cross and name in "kv"
        yield Stream(name, direction, DType.F32, cols, (StreamPart(index, 0, cols),), is_source)


def mapping(head: Head) -> Mapping:
    """The head on one tile, fed by the host."""
    ends = [(Endpoint(HOST, 0), Endpoint(0, index)) for index in range(len(head.widths))]
    channels = tuple(
        Channel(name, (end if name == "out" else host,), (host if name == "out" else end,))
        for name, (host, end) in zip(head.widths, ends, strict=True)
    )
    constants = (Slice("bias", (0,)),) if head.bias else ()
    limits = Limits(head.context, 1, 64, head.sequences, head.source)
    made = template(head)
    return Mapping(
        *("head", TARGET.name, head.arithmetic, limits, (made,)),
        tiles=(MapTile("t0", "head", 0, 0, (), (None, None), constants, made.sites),),
        channels=channels,
        tensors=(TensorInfo("bias", DType.F32, (head.table.size,)),) if head.bias else (),
        streams=tuple(_streams(head)),
        caches=(KvCache(0, (CacheHead(0, 0, 1),), head.cross),),
        data={"bias": lambda: head.table.reshape(-1)} if head.bias else {},
    )


def program(head: Head) -> Program:
    """The head's program."""
    made = mapping(head)
    made = with_chunk(made, choose_chunk(made, TARGET, head.chunk))
    return build_program(made, TARGET, Origin(), shapes_only=False)


def rows(head: Head, tokens: int, source: int = 0, seed: int = 0) -> dict[str, F32]:
    """Random inputs: `tokens` queries, and as many keys and values, or those of `source` rows."""
    random = np.random.default_rng(seed)
    counts = {"q": tokens, "k": source if head.cross else tokens, "v": source if head.cross else tokens}
    return {n: random.standard_normal((count, WIDTHS[n]), np.float32) for n, count in counts.items()}


def expected(head: Head, inputs: dict[str, F32]) -> F32:
    """What the graph's attention makes of the whole sequence at once."""
    op = Attention(
        *(GROUP, 1, DIM, V_DIM, head.scale, head.causal),
        head.window or None,
        head.softcap or None,
        cross=head.cross,
    )
    k, v = inputs["k"][None, None], inputs["v"][None, None]
    bias = head.table if head.bias else None
    return np.asarray(meaning.attention(op, inputs["q"][None], k, v, bias)[0], np.float32)


def token_cuts(head: Head, start: int, stop: int, source: int, sequence: int = 0) -> list[Segment]:
    """Segments of tokens start..stop-1, all with outputs."""
    cuts = segments_of(stop - start, start, head.chunk, last_only=False, sequence=sequence)
    return [replace(cut, source=source) for cut in cuts]


def run(machine: Machine, head: Head, inputs: dict[str, F32], cuts: list[int], sequence: int = 0) -> F32:
    """The outputs of all tokens, in steps that end at `cuts` and at the end; the source goes with the first step."""
    tokens, source = len(inputs["q"]), len(inputs["k"]) if head.cross else 0
    outputs = []
    borders = [0, *cuts, tokens]
    for start, stop in itertools.pairwise(borders):
        segments = token_cuts(head, start, stop, source, sequence)
        given = {name: values[start:stop] for name, values in inputs.items()}
        if head.given:
            given = {"q": given["q"]}
        elif head.cross:
            first = source_segments_of(source, head.chunk, sequence=sequence) if start == 0 else ()
            segments = [*first, *segments]
            given |= {name: inputs[name] if first else inputs[name][:0] for name in "kv"}
        outputs.append(machine.step(segments, given)["out"])
    return np.concatenate(outputs)
