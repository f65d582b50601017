"""Random statements of one tile: mostly right, now and then broken on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from isa import instructions as t
from isa.instruction import Inst
from isa.operands import Addr, ArrayRef, Mem, Reg, Space, Special
from isa.program import Limits, Port

from .assembly import Item, Loop, Unless, at
from .choices import (
    ARRAY_COLS,
    ARRAY_ROWS,
    COUNTERS,
    END,
    ONE,
    OUTPUTS,
    PARAM,
    POINTERS,
    POSITION,
    SEQUENCE,
    TEMPS,
    TOKENS,
    WORDS_OF_ROW,
    ZERO,
    Block,
    R,
    Random,
)


@dataclass
class Work:
    """Makes statements of one tile, and remembers what they have written."""

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
    in_source: bool = False  # whether the pass is over source segments
    cached: bool = False  # whether KV arrays are caches, in which segments find what is theirs

    # --------------------------------------------------------------------------------------------- resources

    def room(self, rows: int, cols: int) -> int:
        """Space for a block of at most rows x cols words; now and then too little."""
        offset = self.top
        need = rows * cols * 4
        if self.rnd.random() < 0.02:
            need = max(4, need - 64)
        self.top += -(-need // 64) * 64
        return offset

    @property
    def longest(self) -> int:
        """Rows that a sequence, or its source, has at most."""
        return self.limits.max_source if self.in_source else self.limits.max_context

    def temp(self) -> Reg:
        """The next temporary register."""
        self.temps += 1
        return R(TEMPS[self.temps % len(TEMPS)])

    def most(self, rows: Reg) -> int:
        """The largest number of rows that a register holds."""
        return 4 * self.limits.chunk if rows not in (TOKENS, OUTPUTS) else self.limits.chunk

    def rows(self) -> Reg:
        """A register with a number of rows."""
        chosen: Reg = self.rnd.choice([TOKENS, TOKENS, TOKENS, OUTPUTS, R(19), R(18), ONE])
        return chosen

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
            self.activation(at(y), at(q), rows, row, acc),
            self.rnd.choice(
                [
                    t.Deqc(ArrayRef(0), at(y), at(y), at(s), rows),
                    t.Deqg(ArrayRef(0), at(y), at(y), at(s), rows, self.rnd.choice([ZERO, ZERO, row])),
                ]
            ),
        ]

    def activation(self, y: Addr, q: Addr, rows: Reg, row: Reg, acc: bool) -> Inst:
        """Whole rows of the block through the array, or a part of each."""
        if self.rnd.random() < 0.7:
            return t.Mvm(ArrayRef(0), y, q, rows, row, WORDS_OF_ROW, acc)
        part, skip = self.rnd.choice([3, 4]), self.rnd.choice([0, 0, 4])
        return t.Mvmw(ArrayRef(0), y, replace(q, offset=q.offset + skip), rows, row, part, 2, acc)

    def append(self, depth: int) -> list[Item]:
        """Append rows to the KV array and use it in blocks of four positions."""
        if self.limits.max_context > ARRAY_ROWS * 8:
            return []
        q, s = self.room(self.limits.chunk, 2), self.room(self.limits.chunk, 1)
        source = self.source()
        if source.cols < WORDS_OF_ROW or source.rows != TOKENS:
            return []
        row = self.temp()
        items: list[Item] = [
            t.Quant(at(q), at(s), at(source.offset), TOKENS, WORDS_OF_ROW),
            *self.first_row(row),
            t.Wrow(ArrayRef(2 if self.in_source else 1), at(q), at(s), TOKENS, row),
        ]
        return items + (self.attend(q, s) if depth < 2 else [])

    @property
    def is_paged(self) -> bool:
        """Whether sequences share the KV array of the rows in pages."""
        return self.limits.pages > 0 and not self.in_source

    def first_row(self, row: Reg) -> list[Item]:
        """The row of the KV array for the segment's first token."""
        position = POSITION if self.rnd.random() < 0.95 else TOKENS
        if not self.is_paged:
            return [t.Mul(row, SEQUENCE, self.longest), t.Add(row, row, position)]
        size, page = self.limits.page_rows, self.temp()
        return [
            t.Div(page, position, size),
            t.Mod(row, POSITION, size),
            t.Page(page, page),
            t.Mul(page, page, size),
            t.Add(row, row, page),
        ]

    def length(self, length: Reg, cross: bool) -> Item:
        """The rows to look at: up to the segment's last, all of the sequence, or those of the source."""
        if cross:
            return t.Sys(length, Special.SOURCE)
        whole = self.rnd.random() < (0.05 if self.cached else 0.3)
        return t.Add(length, END, 0) if whole else t.Add(length, POSITION, TOKENS)

    def attend(self, q: int, s: int) -> list[Item]:
        """Scores in blocks of positions, summed up."""
        cross = self.limits.max_source > 0 and not self.in_source and self.rnd.random() < 0.5
        paged = self.is_paged and (not cross or self.rnd.random() < 0.03)
        block = self.rnd.choice([4, 8, 16])
        if paged and self.rnd.random() < 0.95:
            block = self.limits.page_rows
        array = ArrayRef(2 if cross or self.in_source else 1)
        longest = self.limits.max_source if cross and self.rnd.random() < 0.95 else self.longest
        length, blocks, base, row, rows = R(7), R(8), R(9), R(10), R(11)
        scores, sums = self.room(self.limits.chunk, block), self.room(self.limits.chunk, 1)
        total = self.room(self.limits.chunk, 1)
        self.blocks.append(Block(total, TOKENS, 1))
        return [
            self.length(length, cross),
            t.Add(blocks, length, block - 1 if self.rnd.random() < 0.95 else block),
            t.Div(blocks, blocks, block),
            t.Mul(base, SEQUENCE, longest),
            t.Vfill(at(total), TOKENS, 1, 0.0),
            Loop(
                24,
                blocks,
                [
                    t.Mul(row, R(24), block),
                    t.Sub(rows, length, row),
                    t.Min(rows, rows, block),
                    *([t.Page(row, R(24)), t.Mul(row, row, block)] if paged else [t.Add(row, row, base)]),
                    t.Mvmt(array, at(scores), at(q), TOKENS, row, rows),
                    t.Deqr(array, at(scores), at(scores), at(s), TOKENS, row, rows),
                    *self.bias(scores, row, rows),
                    t.Vsum(at(sums), at(scores), TOKENS, rows),
                    t.Vadd(at(total), at(total), at(sums), TOKENS, 1),
                ],
            ),
        ]

    def bias(self, scores: int, first: Reg, cols: Reg) -> list[Item]:
        """Now and then, a bias by distance on scores; its table is the constant of the role."""
        group = self.rnd.choice([1, 2, 8])
        entries = 1 if group == 1 else WORDS_OF_ROW
        if self.rnd.random() < 0.3:
            return [t.Vslope(at(scores), at(scores), at(0), TOKENS, cols, first, group)]
        if self.rnd.random() < 0.3 and group != 2:
            return [t.Vrel(at(scores), at(scores), at(0), TOKENS, cols, first, group, entries)]
        return []

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
        kept = Block(self.room(self.longest, source.cols), TOKENS, source.cols)
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
