"""Random programs on the target `tiny`: one to three tiles that talk, mostly right, sometimes broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType, Inst
from isa.operands import Addr, ArrayRef, Mem, PortRef, Reg, Space, Special
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

from .assembly import Item, Loop, Unless, at, flatten, tiny

R = Reg
ZERO, SEGMENTS, SEGMENT, TOKENS, POSITION, OUTPUTS, SEQUENCE = (R(i) for i in range(7))
TEMPS = (14, 15, 16)
COUNTERS = range(20, 25)
POINTERS = range(25, 30)
PARAM = R(30)
END = R(31)
ONE = R(17)
ARRAY_ROWS, ARRAY_COLS = 16, 8
WORDS_OF_ROW = 8  # columns of most blocks
DRAM_BYTES = 4096


class Random:
    """Random choices that a seed determines."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.default_rng(seed)

    def random(self) -> float:
        """A number in 0..1."""
        return float(self._source.random())

    def randint(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        return int(self._source.integers(low, high + 1))

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.randint(0, len(options) - 1)]


@dataclass(frozen=True)
class Block:
    """A float32 block in the buffer: where, rows in a register, columns."""

    offset: int
    rows: Reg
    cols: int


@dataclass(frozen=True)
class Message:
    """A message of a conversation: from tile, to tile (HOST is -1), rows, columns."""

    source: int
    dest: int
    outputs: bool
    cols: int
    channel: int


@dataclass
class TileText:
    """Builds the text of one tile."""

    rnd: Random
    limits: Limits
    number: int
    top: int = 512
    blocks: list[Block] = field(default_factory=lambda: [Block(0, ONE, WORDS_OF_ROW)])
    prologue: list[Item] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    counters: int = 0
    pointers: int = 0
    temps: int = 0
    kept: list[Block] = field(default_factory=list)  # rows of the whole sequence, written by the first loop

    # --------------------------------------------------------------------------------------------- resources

    def room(self, rows: int, cols: int) -> int:
        """Space for a block of at most rows x cols words; now and then too little."""
        offset = self.top
        need = rows * cols * 4
        if self.rnd.random() < 0.02:
            need = max(4, need - 64)
        self.top += -(-need // 64) * 64
        return offset

    def temp(self) -> Reg:
        """The next temporary register."""
        self.temps += 1
        return R(TEMPS[self.temps % len(TEMPS)])

    def most(self, rows: Reg) -> int:
        """The largest number of rows that a register holds."""
        return 4 * self.limits.chunk if rows not in (TOKENS, OUTPUTS) else self.limits.chunk

    def rows(self) -> Reg:
        """A register with a number of rows."""
        return self.rnd.choice([TOKENS, TOKENS, TOKENS, OUTPUTS, R(19), R(18), ONE])

    def source(self) -> Block:
        """A block that was written, or that looks like one."""
        if not self.blocks or self.rnd.random() < 0.004:
            return Block(4 * self.rnd.randint(0, 4000), self.rows(), self.rnd.choice([1, WORDS_OF_ROW]))
        block: Block = self.rnd.choice(self.blocks)
        if self.rnd.random() < 0.006:
            return replace(block, rows=self.rows())
        return block

    def target(self, rows: Reg, cols: int) -> Block:
        """A block to write: a new one, or an old one of this shape."""
        old = [b for b in self.blocks if b.rows == rows and b.cols == cols]
        if old and self.rnd.random() < 0.4:
            found: Block = self.rnd.choice(old)
            return found
        return Block(self.room(self.most(rows), cols), rows, cols)

    # -------------------------------------------------------------------------------------------- statements

    def statements(self, count: int, depth: int) -> list[Item]:
        """Some work."""
        kinds = [self.scalar, self.fill, self.unary, self.unary, self.binary, self.reduce, self.columns]
        kinds += [self.multiply, self.multiply, self.append, self.memory, self.keep]
        if depth < 2:
            kinds += [self.swept, self.swept, self.branch, self.branch, self.blocks_loop, self.again]
        items: list[Item] = []
        for _ in range(count):
            kind = self.rnd.choice(kinds)
            items += kind(depth)
        return items or [t.Add(ZERO, ZERO, 0)]

    def scalar(self, depth: int) -> list[Item]:
        """A scalar operation that is not needed for anything, or that changes a number of rows."""
        kind = self.rnd.choice([t.Add, t.Sub, t.Mul, t.Min, t.Max, t.Div, t.Mod, t.Shr, t.And])
        small = {t.Div: 1, t.Mod: 1, t.And: 0}.get(kind, 0)
        a = self.rnd.choice([TOKENS, POSITION, OUTPUTS, SEQUENCE, PARAM, *map(R, TEMPS)])
        return [kind(self.temp(), a, self.rnd.randint(small, 4))]

    def fill(self, depth: int) -> list[Item]:
        """A new block."""
        rows = self.rows()
        block = self.target(rows, self.rnd.choice([1, WORDS_OF_ROW, WORDS_OF_ROW]))
        self.blocks.append(block)
        return [t.Vfill(at(block.offset), block.rows, block.cols, 1.0)]

    def unary(self, depth: int) -> list[Item]:
        """A block from a block."""
        source = self.source()
        dest = self.target(source.rows, source.cols)
        self.blocks.append(dest)
        return [t.Vrelu(at(dest.offset), at(source.offset), source.rows, source.cols)]

    def binary(self, depth: int) -> list[Item]:
        """A block from two, which may not fit."""
        a = self.source()
        b = self.rnd.choice([x for x in self.blocks if (x.rows, x.cols) == (a.rows, a.cols)] or [a])
        dest = self.target(a.rows, a.cols)
        self.blocks.append(dest)
        return [t.Vadd(at(dest.offset), at(a.offset), at(b.offset), a.rows, a.cols)]

    def reduce(self, depth: int) -> list[Item]:
        """A column from a block."""
        source = self.source()
        dest = self.target(source.rows, 1)
        self.blocks.append(dest)
        return [t.Vsum(at(dest.offset), at(source.offset), source.rows, source.cols)]

    def columns(self, depth: int) -> list[Item]:
        """A block put together of columns by strided copies; now and then with a gap."""
        source = self.source()
        parts = 2
        wide = Block(self.room(self.most(source.rows), parts * source.cols), source.rows, parts * source.cols)
        items: list[Item] = []
        for part in range(parts):
            if self.rnd.random() < 0.02:
                continue
            dest = at(wide.offset + 4 * part * source.cols)
            items.append(t.Copy(dest, at(source.offset), source.rows, source.cols, wide.cols, 0))
        self.blocks.append(wide)
        return items

    def multiply(self, depth: int) -> list[Item]:
        """Quantise a block, multiply it by the weight array, dequantise."""
        source = self.source()
        if source.cols < WORDS_OF_ROW:
            return []
        rows, most = source.rows, self.most(source.rows)
        q, s, y = self.room(most, 2), self.room(most, 1), self.room(most, ARRAY_COLS)
        row = ZERO if self.rnd.random() < 0.7 else self.temp()
        acc = self.rnd.random() < 0.1
        self.blocks += [Block(y, rows, ARRAY_COLS), Block(s, rows, 1)]
        return [
            t.Quant(at(q), at(s), at(source.offset), rows, WORDS_OF_ROW),
            t.Mvm(ArrayRef(0), at(y), at(q), rows, row, WORDS_OF_ROW, acc),
            t.Deqc(ArrayRef(0), at(y), at(y), at(s), rows),
        ]

    def append(self, depth: int) -> list[Item]:
        """Append rows to the KV array and use it in blocks of four positions."""
        if self.limits.max_context > ARRAY_ROWS * 8:
            return []
        q, s = self.room(self.limits.chunk, 2), self.room(self.limits.chunk, 1)
        source = self.source()
        if source.cols < WORDS_OF_ROW or source.rows != TOKENS:
            return []
        row, context = self.temp(), self.limits.max_context
        items: list[Item] = [
            t.Quant(at(q), at(s), at(source.offset), TOKENS, WORDS_OF_ROW),
            t.Mul(row, SEQUENCE, context),
            t.Add(row, row, POSITION if self.rnd.random() < 0.95 else TOKENS),
            t.Wrow(ArrayRef(1), at(q), at(s), TOKENS, row),
        ]
        return items + (self.attend(q, s) if depth < 2 else [])

    def attend(self, q: int, s: int) -> list[Item]:
        """Scores in blocks of positions, summed up."""
        block = self.rnd.choice([4, 8, 16])
        length, blocks, base, row, rows = R(7), R(8), R(9), R(10), R(11)
        scores, sums = self.room(self.limits.chunk, block), self.room(self.limits.chunk, 1)
        total = self.room(self.limits.chunk, 1)
        self.blocks.append(Block(total, TOKENS, 1))
        return [
            t.Add(length, POSITION, TOKENS) if self.rnd.random() < 0.7 else t.Add(length, END, 0),
            t.Add(blocks, length, block - 1 if self.rnd.random() < 0.95 else block),
            t.Div(blocks, blocks, block),
            t.Mul(base, SEQUENCE, self.limits.max_context),
            t.Vfill(at(total), TOKENS, 1, 0.0),
            Loop(
                24,
                blocks,
                [
                    t.Mul(row, R(24), block),
                    t.Sub(rows, length, row),
                    t.Min(rows, rows, block),
                    t.Add(row, row, base),
                    t.Mvmt(ArrayRef(1), at(scores), at(q), TOKENS, row, rows),
                    t.Deqr(ArrayRef(1), at(scores), at(scores), at(s), TOKENS, row, rows),
                    t.Vsum(at(sums), at(scores), TOKENS, rows),
                    t.Vadd(at(total), at(total), at(sums), TOKENS, 1),
                ],
            ),
        ]

    def memory(self, depth: int) -> list[Item]:
        """Store a block to this tile's place in memory and load one from there."""
        source = self.source()
        dest = self.target(source.rows, source.cols)
        self.blocks.append(dest)
        place = Mem(Space.DRAM, PARAM, 4 * self.rnd.randint(0, 64))
        return [
            t.Store(place, at(source.offset), source.rows, source.cols),
            t.Load(at(dest.offset), place, source.rows, source.cols),
        ]

    def swept(self, depth: int) -> list[Item]:
        """A block written row by row through a pointer, read as a whole afterwards."""
        if self.pointers >= len(POINTERS) or self.counters >= len(COUNTERS) - 1:
            return []
        pointer, counter = POINTERS[self.pointers], COUNTERS[self.counters]
        self.pointers, self.counters = self.pointers + 1, self.counters + 1
        rows = self.rnd.choice([TOKENS, TOKENS, R(19), R(18)])
        count: Reg | int = rows if self.rnd.random() < 0.6 else self.rnd.randint(0, 6)
        cols = self.rnd.choice([1, 4, WORDS_OF_ROW])
        offset = self.room(max(self.most(rows), 8), cols)
        body: list[Item] = [t.Vfill(at(0, pointer, step=True), ONE, cols, 2.0)]
        if self.rnd.random() < 0.3:
            body = [t.Vfill(at(0, pointer), ONE, cols, 2.0), t.Add(R(pointer), R(pointer), 4 * cols)]
        body += self.statements(self.rnd.randint(0, 2), depth + 1)
        if isinstance(count, Reg):
            self.blocks.append(Block(offset, rows, cols))
        return [t.Li(R(pointer), offset), Loop(counter, count, body)]

    def branch(self, depth: int) -> list[Item]:
        """Work that is skipped sometimes."""
        kind = self.rnd.choice([t.Beq, t.Bne, t.Blt, t.Bge])
        a = self.rnd.choice([TOKENS, OUTPUTS, POSITION, PARAM, END, R(19)])
        known = len(self.blocks)
        body = self.statements(self.rnd.randint(1, 3), depth + 1)
        if self.rnd.random() < 0.8:
            del self.blocks[known:]
        return [Unless(kind, a, self.rnd.randint(0, 4), body)]

    def again(self, depth: int) -> list[Item]:
        """Work that is done a few times."""
        if self.counters >= len(COUNTERS) - 1:
            return []
        counter = COUNTERS[self.counters]
        self.counters += 1
        known = len(self.blocks)
        count = self.rnd.choice([TOKENS, OUTPUTS, R(19), self.rnd.randint(0, 40)])
        body = self.statements(self.rnd.randint(1, 3), depth + 1)
        if count == OUTPUTS and self.rnd.random() < 0.8:
            del self.blocks[known:]
        return [Loop(counter, count, body)]

    def blocks_loop(self, depth: int) -> list[Item]:
        """Row blocks of a block, each used alone."""
        if self.counters >= len(COUNTERS) - 1:
            return []
        counter = COUNTERS[self.counters]
        self.counters += 1
        source = self.source()
        size, dest = self.rnd.choice([2, 4]), self.room(4, source.cols)
        blocks, rows, pointer = R(12), R(13), R(29)
        return [
            t.Add(blocks, source.rows, size - 1),
            t.Div(blocks, blocks, size),
            Loop(
                counter,
                blocks,
                [
                    t.Mul(rows, R(counter), size),
                    t.Mul(pointer, rows, 4 * source.cols),
                    t.Sub(rows, source.rows, rows),
                    t.Min(rows, rows, size),
                    t.Vrelu(at(dest), at(source.offset, 29), rows, source.cols),
                ],
            ),
        ]

    def keep(self, depth: int) -> list[Item]:
        """Rows put where the whole sequence has room, for the loop after this one."""
        source = self.source()
        if source.rows != TOKENS:
            return []
        kept = Block(self.room(self.limits.max_context, source.cols), TOKENS, source.cols)
        if self.rnd.random() < 0.95:
            self.kept.append(kept)
        step = 4 * source.cols if self.rnd.random() < 0.95 else 4
        return [
            t.Mul(R(29), POSITION, step),
            t.Copy(at(kept.offset, 29), at(source.offset), TOKENS, source.cols),
        ]

    def recall(self, depth: int) -> list[Item]:
        """Rows that the loop before this one kept."""
        if not self.kept:
            return []
        kept = self.rnd.choice(self.kept)
        dest = self.target(TOKENS, kept.cols)
        self.blocks.append(dest)
        return [
            t.Mul(R(29), POSITION, 4 * kept.cols),
            t.Vrelu(at(dest.offset), at(kept.offset, 29), TOKENS, kept.cols),
        ]

    # ------------------------------------------------------------------------------------------- whole texts

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
