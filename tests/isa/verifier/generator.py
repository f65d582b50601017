"""Random programs on the target `tiny`: one to three tiles that talk, mostly right, sometimes broken on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType, Inst
from isa.operands import Addr, PortRef, Reg, Space, Special
from isa.program import (
    HOST,
    ArrayData,
    ArrayKind,
    ArraySpec,
    Channel,
    Constant,
    Direction,
    Endpoint,
    Limits,
    MemoryRegion,
    Port,
    Program,
    Reduce,
    Role,
    Segment,
    Slice,
    Stream,
    StreamPart,
    TensorInfo,
    Tile,
)

from .assembly import Item, Loop, at, flatten, tiny
from .choices import (
    ARRAY_COLS,
    ARRAY_ROWS,
    DRAM_BYTES,
    END,
    ONE,
    OUTPUTS,
    PARAM,
    POSITION,
    SEGMENT,
    SEGMENTS,
    SEQUENCE,
    TOKENS,
    WORDS_OF_ROW,
    Message,
    R,
    Random,
)
from .statements import Work


class TileText(Work):
    """Builds the text of one tile."""

    def messages(self, told: list[Message]) -> list[Item]:
        """The segment's work with its messages in between."""
        items: list[Item] = []
        for message in told:
            items += self.statements(self.rnd.randint(0, 3), 0)
            sends = message.source == self.number
            rows = OUTPUTS if message.outputs else TOKENS
            if self.rnd.random() < 0.01:
                rows = self.rows()
            self.ports.append(Port(f"c{message.channel}", Direction.OUT if sends else Direction.IN))
            port = PortRef(len(self.ports) - 1)
            if sends:
                fitting = [b for b in self.blocks if (b.rows, b.cols) == (rows, message.cols)]
                block = self.rnd.choice(fitting) if fitting else None
                if block is None:
                    block = self.target(rows, message.cols)
                    items.append(t.Vfill(at(block.offset), rows, message.cols, 3.0))
                items.append(t.Send(port, at(block.offset), rows, message.cols))
            else:
                block = self.target(rows, message.cols)
                items.append(t.Recv(port, at(block.offset), rows, message.cols))
            self.blocks.append(block)
        return items + self.statements(self.rnd.randint(0, 3), 0)

    def text(self, told: list[Message]) -> tuple[Inst, ...]:
        """The whole text: one loop over the segments, or two."""
        cut = self.rnd.randint(0, len(told)) if self.rnd.random() < 0.3 else len(told)
        items: list[Item] = [t.Ldp(PARAM, 0), t.Li(ONE, 1), t.Sys(SEGMENTS, Special.SEGMENTS)]
        items.append(self.loop(told[:cut], []))
        if cut < len(told):
            del self.blocks[1:]
            items.append(self.loop(told[cut:], self.recall(0)))
        return tuple(flatten([*items, t.Halt()]))

    def loop(self, told: list[Message], first: list[Item]) -> Loop:
        """A loop over the segments."""
        body: list[Item] = [
            t.Seg(SEGMENT),
            t.Sys(TOKENS, Special.TOKENS),
            t.Sys(POSITION, Special.POSITION),
            t.Sys(OUTPUTS, Special.OUTPUTS),
            t.Sys(SEQUENCE, Special.SEQUENCE),
            t.Sys(END, Special.END),
            t.Mul(R(19), TOKENS, self.rnd.choice([2, 3, 4])),
            t.Min(R(18), TOKENS, self.rnd.choice([1, 3, 6])),
            *first,
            *self.messages(told),
        ]
        return Loop(SEGMENT.index, SEGMENTS, body)


# ---------------------------------------------------------------------------------------------------- programs


def _conversation(rnd: Random, tiles: int) -> list[Message]:
    """Messages of a segment in an order in which they can happen."""
    told = [Message(HOST, 0, False, WORDS_OF_ROW, 0)]
    for _ in range(rnd.randint(0, 3) if tiles > 1 else 0):
        source = rnd.randint(0, tiles - 1)
        dest = (source + rnd.randint(1, tiles - 1)) % tiles
        told.append(Message(source, dest, rnd.random() < 0.2, rnd.choice([1, WORDS_OF_ROW]), len(told)))
    told.append(Message(rnd.randint(0, tiles - 1), HOST, True, WORDS_OF_ROW, len(told)))
    return told


def _channels(told: list[Message], texts: list[TileText]) -> tuple[Channel, ...]:
    def end(tile: int, number: int) -> Endpoint:
        if tile == HOST:
            return Endpoint(HOST, 0)
        names = [port.name for port in texts[tile].ports]
        return Endpoint(tile, names.index(f"c{number}"))

    return tuple(
        Channel(f"c{m.channel}", (end(m.source, m.channel),), (end(m.dest, m.channel),), Reduce.NONE)
        for m in told
    )


def _shuffled(rnd: Random, told: list[Message]) -> list[Message]:
    """Now and then, two neighbouring messages the other way round: tiles may then wait for each other."""
    told = list(told)
    if len(told) > 1 and rnd.random() < 0.15:
        first = rnd.randint(0, len(told) - 2)
        told[first], told[first + 1] = told[first + 1], told[first]
    return told


def _mutated(rnd: Random, code: tuple[Inst, ...]) -> tuple[Inst, ...]:
    """Now and then, one instruction left out or with another constant."""
    if rnd.random() > 0.3:
        return code
    index = rnd.randint(0, len(code) - 2)
    inst = code[index]
    if rnd.random() < 0.3 and not any(f.is_label for f in inst.layout):
        return (*code[:index], t.Add(R(0), R(0), 0), *code[index + 1 :])
    changes: dict[str, Any] = {}
    for f in inst.layout:
        value = getattr(inst, f.name)
        if f.is_label or changes or isinstance(value, Special):
            continue
        if isinstance(value, Addr):
            changes[f.name] = replace(value, offset=max(0, value.offset + 4 * rnd.randint(-40, 40)))
        elif isinstance(value, Reg) and value.index and rnd.random() < 0.5:
            changes[f.name] = rnd.choice([TOKENS, OUTPUTS, POSITION, R(18), R(19)])
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            changes[f.name] = value + rnd.choice([-1, 1])
    return (*code[:index], replace(inst, **changes), *code[index + 1 :])  # type: ignore[type-var]


_WEIGHTS: dict[str, NDArray[Any]] = {
    "w": np.arange(ARRAY_ROWS * ARRAY_COLS, dtype=np.int8).reshape(ARRAY_ROWS, ARRAY_COLS),
    "s": np.ones(ARRAY_COLS, np.float32),
    "g": np.ones((1, WORDS_OF_ROW), np.float32),
}


def random_program(rnd: Random) -> Program:
    """A program that may or may not be right."""
    context, chunk = rnd.choice([8, 20, 32]), rnd.choice([1, 4, 8])
    limits = Limits(context, chunk, segments=rnd.choice([1, 6]), sequences=rnd.choice([1, 2]))
    tiles = rnd.randint(1, 3)
    told = _conversation(rnd, tiles)
    texts = [TileText(rnd, limits, number) for number in range(tiles)]
    roles, placed = [], []
    kv_rows = limits.sequences * context - (1 if rnd.random() < 0.03 else 0)
    for number, text in enumerate(texts):
        mine = [m for m in told if number in (m.source, m.dest)]
        code = _mutated(rnd, text.text(_shuffled(rnd, mine)))
        roles.append(
            Role(
                f"role{number}",
                code,
                ("memory",),
                (
                    ArraySpec("w", ArrayKind.WEIGHT, ARRAY_ROWS, ARRAY_COLS),
                    ArraySpec("kv", ArrayKind.KV, kv_rows, ARRAY_COLS),
                ),
                tuple(text.ports),
                (Constant("g", 0, DType.F32, (1, WORDS_OF_ROW)),),
            )
        )
        data = ArrayData(Slice("w", (0, 0)), Slice("s", (0,)))
        base = rnd.choice([0, 64, DRAM_BYTES - 64 - 512])
        placed.append(
            Tile(f"t{number}", f"role{number}", number, 0, (base,), (data, None), (Slice("g", (0, 0)),))
        )
    return Program(
        tiny(),
        limits,
        tuple(roles),
        tuple(placed),
        _channels(told, texts),
        tensors=tuple(TensorInfo(n, DType(v.dtype.name), v.shape) for n, v in _WEIGHTS.items()),
        memory=(MemoryRegion("scratch", Space.DRAM, 0, 0, DRAM_BYTES),),
        streams=(
            Stream("x", Direction.IN, DType.F32, WORDS_OF_ROW, (StreamPart(0, 0, WORDS_OF_ROW),)),
            Stream(
                "y", Direction.OUT, DType.F32, WORDS_OF_ROW, (StreamPart(len(told) - 1, 0, WORDS_OF_ROW),)
            ),
        ),
        data=_WEIGHTS,
    )


def random_step(rnd: Random, limits: Limits) -> tuple[Segment, ...]:
    """Segments within the limits, extreme ones often."""
    segments = []
    for _ in range(rnd.randint(1, min(3, limits.segments))):
        position = rnd.choice([0, limits.max_context - 1, rnd.randint(0, limits.max_context - 1)])
        room = min(limits.chunk - position % limits.chunk, limits.max_context - position)
        tokens = rnd.choice([1, room, rnd.randint(1, room)])
        outputs = rnd.choice([0, tokens])
        segments.append(Segment(tokens, position, outputs, rnd.randint(0, limits.sequences - 1)))
    return tuple(segments)
