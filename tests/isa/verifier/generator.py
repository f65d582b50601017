"""Random programs on the target `tiny`: one to three tiles that talk, mostly right, sometimes broken on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.instruction import DType, Inst
from isa.interface import CacheHead, KvCache
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
from runtime.paging import PagePool

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
        """The whole text: passes over the source, if there is one, then those over the tokens."""
        items: list[Item] = [t.Ldp(PARAM, 0), t.Li(ONE, 1)]
        if self.limits.max_source:
            self.in_source = True
            items += self.passes([m for m in told if m.of_source])
            self.in_source = self.rnd.random() < 0.01
            if self.rnd.random() < 0.95:
                self.kept.clear()
        items += self.passes([m for m in told if not m.of_source])
        return tuple(flatten([*items, t.Halt()]))

    def passes(self, told: list[Message]) -> list[Item]:
        """One loop over the segments of a list, or two."""
        cut = self.rnd.randint(0, len(told)) if self.rnd.random() < 0.3 else len(told)
        if self.rnd.random() < 0.95:
            del self.blocks[1:]
        count = Special.SOURCES if self.in_source else Special.SEGMENTS
        items: list[Item] = [t.Sys(SEGMENTS, count), self.loop(told[:cut], [])]
        if cut < len(told):
            del self.blocks[1:]
            items.append(self.loop(told[cut:], self.recall(0)))
        return items

    def appended(self) -> list[Item]:
        """Rows appended to the cache, and looked at; or, now and then, looked at alone."""
        block = self.target(TOKENS, WORDS_OF_ROW)
        known, self.blocks = self.blocks, [block]
        items: list[Item] = [t.Vfill(at(block.offset), TOKENS, WORDS_OF_ROW, 1.0), *self.append(0)]
        self.blocks = known
        if self.rnd.random() < 0.06:
            return [item for item in items if not isinstance(item, t.Wrow)]
        return items

    def loop(self, told: list[Message], first: list[Item]) -> Loop:
        """A loop over the segments."""
        body: list[Item] = [
            t.Sseg(SEGMENT) if self.in_source else t.Seg(SEGMENT),
            t.Sys(TOKENS, Special.TOKENS),
            t.Sys(POSITION, Special.POSITION),
            t.Sys(OUTPUTS, Special.OUTPUTS),
            t.Sys(SEQUENCE, Special.SEQUENCE),
            t.Sys(END, Special.END),
            t.Mul(R(19), TOKENS, self.rnd.choice([2, 3, 4])),
            t.Min(R(18), TOKENS, self.rnd.choice([1, 3, 6])),
            *first,
            *(self.appended() if self.cached else []),
            *self.messages(told),
        ]
        return Loop(SEGMENT.index, SEGMENTS, body)


# ---------------------------------------------------------------------------------------------------- programs


def _conversation(rnd: Random, tiles: int, with_source: bool) -> list[Message]:
    """Messages of a segment in an order in which they can happen; the first is the host's, the last to the host.

    With a source, the second is the host's too, some others are about the source, and one of these may be to the host.
    """
    told = [Message(HOST, 0, False, WORDS_OF_ROW, 0)]
    if with_source:
        told.append(Message(HOST, rnd.randint(0, tiles - 1), False, WORDS_OF_ROW, 1, of_source=True))
    for _ in range(rnd.randint(0, 3) if tiles > 1 else 0):
        source = rnd.randint(0, tiles - 1)
        dest = (source + rnd.randint(1, tiles - 1)) % tiles
        of_source = with_source and rnd.random() < 0.5
        outputs = rnd.random() < 0.2
        told.append(Message(source, dest, outputs, rnd.choice([1, WORDS_OF_ROW]), len(told), of_source))
    if with_source and rnd.random() < 0.5:
        outputs = rnd.random() < 0.1
        told.append(
            Message(rnd.randint(0, tiles - 1), HOST, outputs, WORDS_OF_ROW, len(told), of_source=True)
        )
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


def _limits(rnd: Random, *, paged: bool) -> Limits:
    """What a program is for; its sequences share KV arrays if `paged`."""
    context, chunk = rnd.choice([8, 20, 32]), rnd.choice([1, 4, 8])
    max_source = rnd.choice([0, 0, 5, 20])
    limits = Limits(context, chunk, rnd.choice([1, 6]), rnd.choice([1, 2]), max_source)
    if not paged:
        return limits
    rows = rnd.choice([8, 16])
    pages = limits.sequences * -(-context // rows)
    return replace(limits, pages=pages + rnd.randint(0, 2), page_rows=rows)


def random_program(rnd: Random, *, cached: bool = False, paged: bool = False) -> Program:
    """A program that may or may not be right; its KV arrays are caches if `cached`, shared in pages if `paged`."""
    limits = _limits(rnd, paged=paged)
    context, max_source = limits.max_context, limits.max_source
    tiles = rnd.randint(1, 3)
    told = _conversation(rnd, tiles, max_source > 0)
    texts = [TileText(rnd, limits, number, cached=cached) for number in range(tiles)]
    roles, placed = [], []
    kv_rows = (limits.pages * limits.page_rows or limits.sequences * context) - (
        1 if rnd.random() < 0.03 else 0
    )
    source_rows = max(1, limits.sequences * max_source - (1 if rnd.random() < 0.03 else 0))
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
                    ArraySpec("source", ArrayKind.KV, source_rows, ARRAY_COLS),
                    ArraySpec("kv.values", ArrayKind.KV, kv_rows, 1),
                    ArraySpec("source.values", ArrayKind.KV, source_rows, 1),
                ),
                tuple(text.ports),
                (Constant("g", 0, DType.F32, (1, WORDS_OF_ROW)),),
            )
        )
        data = ArrayData(Slice("w", (0, 0)), Slice("s", (0,)))
        base = rnd.choice([0, 64, DRAM_BYTES - 64 - 512])
        placed.append(
            Tile(
                f"t{number}", f"role{number}", number, 0, (base,), (data, *[None] * 4), (Slice("g", (0, 0)),)
            )
        )
    return Program(
        tiny(),
        limits,
        tuple(roles),
        tuple(placed),
        _channels(told, texts),
        tensors=tuple(TensorInfo(n, DType(v.dtype.name), v.shape) for n, v in _WEIGHTS.items()),
        memory=(MemoryRegion("scratch", Space.DRAM, 0, 0, DRAM_BYTES),),
        streams=_streams(told),
        caches=_caches(tiles, max_source > 0) if cached else (),
        data=_WEIGHTS,
    )


def _caches(tiles: int, with_source: bool) -> tuple[KvCache, ...]:
    """The KV arrays of each tile as caches; nothing uses the values."""
    tokens = KvCache(0, tuple(CacheHead(tile, 1, 3) for tile in range(tiles)))
    source = KvCache(0, tuple(CacheHead(tile, 2, 4) for tile in range(tiles)), cross=True)
    return (tokens, source) if with_source else (tokens,)


def _streams(told: list[Message]) -> tuple[Stream, ...]:
    """What the host exchanges: `x`, and `s` if there is a source, to the chip; from it `y`, maybe `z` of the source."""

    def whole(channel: int) -> tuple[StreamPart]:
        return (StreamPart(channel, 0, WORDS_OF_ROW),)

    streams = [
        Stream("x", Direction.IN, DType.F32, WORDS_OF_ROW, whole(0)),
        Stream("y", Direction.OUT, DType.F32, WORDS_OF_ROW, whole(len(told) - 1)),
    ]
    if told[1].of_source:
        streams.append(Stream("s", Direction.IN, DType.F32, WORDS_OF_ROW, whole(1), source=True))
    streams += [
        Stream("z", Direction.OUT, DType.F32, WORDS_OF_ROW, whole(m.channel), source=True)
        for m in told
        if m.of_source and m.dest == HOST
    ]
    return tuple(streams)


def random_step(rnd: Random, limits: Limits) -> tuple[Segment, ...]:
    """Segments within the limits, extreme ones often."""
    sources, ends = list[Segment](), dict[int, int]()
    for _ in range(rnd.randint(0, min(3, limits.segments)) if limits.max_source else 0):
        position, tokens = _piece(rnd, limits.max_source, limits.chunk)
        sequence = rnd.randint(0, limits.sequences - 1)
        sources.append(Segment(tokens, position, 0, sequence, is_source=True))
        ends[sequence] = max(ends.get(sequence, 0), position + tokens)
    segments = []
    for _ in range(rnd.randint(1, min(3, limits.segments))):
        position, tokens = _piece(rnd, limits.max_context, limits.chunk)
        sequence = rnd.randint(0, limits.sequences - 1)
        source = ends.get(sequence, rnd.choice([0, limits.max_source]))
        segments.append(Segment(tokens, position, rnd.choice([0, tokens]), sequence, source=source))
    return (*(replace(segment, source=ends[segment.sequence]) for segment in sources), *segments)


def random_story(rnd: Random, limits: Limits) -> list[tuple[Segment, ...]]:
    """Steps in which each sequence, and its source, goes on where it was, or begins anew."""
    lengths, sources, steps = dict[int, int](), dict[int, int](), list[tuple[Segment, ...]]()
    for _ in range(5):
        written = _next(rnd, sources, limits.max_source, limits) if limits.max_source else []
        tokens = _next(rnd, lengths, limits.max_context, limits) or [(0, 1, 0)]
        lengths[tokens[-1][2]] = tokens[-1][0] + tokens[-1][1]
        before = [
            Segment(count, at, 0, sequence, is_source=True, source=sources[sequence])
            for at, count, sequence in written
        ]
        after = [
            Segment(count, at, 0, sequence, source=sources.get(sequence, 0)) for at, count, sequence in tokens
        ]
        steps.append((*before, *after))
    return _on_pages(rnd, limits, steps) if limits.pages else steps


def _on_pages(rnd: Random, limits: Limits, steps: list[tuple[Segment, ...]]) -> list[tuple[Segment, ...]]:
    """The steps with pages, some page first; a sequence that begins anew gets new ones."""
    pool, order = PagePool(limits), sorted(range(limits.pages), key=lambda _: rnd.random())
    placed = []
    for step in steps:
        tokens = [segment for segment in step if not segment.is_source]
        for segment in tokens:
            if not segment.position:
                pool.release(segment.sequence)
        tokens = [replace(s, pages=tuple(order[p] for p in s.pages)) for s in pool.placed(tokens)]
        placed.append((*(segment for segment in step if segment.is_source), *tokens))
    return placed


def _next(rnd: Random, lengths: dict[int, int], rows: int, limits: Limits) -> list[tuple[int, int, int]]:
    """Position, rows and sequence of the next segments; `lengths` become those after them."""
    pieces: list[tuple[int, int, int]] = []
    for _ in range(rnd.randint(0, min(3, limits.segments))):
        sequence = rnd.randint(0, limits.sequences - 1)
        at = lengths.get(sequence, 0)
        if at >= rows or (not any(piece[2] == sequence for piece in pieces) and rnd.random() < 0.2):
            at = 0
        if at == 0 and any(piece[2] == sequence for piece in pieces):
            continue  # a sequence begins anew between steps
        count = rnd.randint(1, min(limits.chunk - at % limits.chunk, rows - at))
        lengths[sequence] = at + count
        pieces.append((at, count, sequence))
    return pieces


def _piece(rnd: Random, rows: int, chunk: int) -> tuple[int, int]:
    """Position and tokens of a segment of a sequence of at most this many rows."""
    position = rnd.choice([0, rows - 1, rnd.randint(0, rows - 1)])
    room = min(chunk - position % chunk, rows - position)
    return position, rnd.choice([1, room, rnd.randint(1, room)])
