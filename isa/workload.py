"""What a model asks of any machine, whatever the mapping: a chain of blocks, each with its products, attention, norms.

The compiler makes it from the canonical graph and the program carries it, so that the least time of any step can be
computed from a `.cim` file alone (`isa.bound`). It holds shapes only. Blocks depend on each other in order; equal runs
of them, such as the layers of a model, are stored once with a count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Place(Enum):
    """Who does the work."""

    CHIP = "chip"
    HOST = "host"


class Task(Enum):
    """What a vector operator does with a row."""

    EMBED = "embed"  # a row of a table, chosen by an id
    POSITION = "position"  # a row of a table, chosen by the position
    RMS = "rms"
    LAYER = "layer"
    ADD = "add"
    MUL = "mul"
    ROTARY = "rotary"
    RELU = "relu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    SILU = "silu"
    SIGMOID = "sigmoid"
    TANH = "tanh"


@dataclass(frozen=True, slots=True)
class RowWork:
    """An operator on rows of `width` columns; `entries` are the rows of the table that it looks up."""

    task: Task
    width: int
    entries: int = 0
    place: Place = Place.CHIP


@dataclass(frozen=True, slots=True)
class Product:
    """Linear layers that read the same row: `rows` x `cols` weights in all, of `bits` bits each."""

    rows: int
    cols: int
    bits: int = 8
    place: Place = Place.CHIP

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return -(-self.rows * self.cols * self.bits // 8)


@dataclass(frozen=True, slots=True)
class AttentionWork:
    """Attention of one layer. `window` 0: the whole sequence. With `cross` the keys are rows of the source.

    `cached`: keys and values are kept from step to step.
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int = 0
    causal: bool = True
    cross: bool = False
    cached: bool = True

    @property
    def row_bytes(self) -> int:
        """Bytes of the keys and values of one row, int8."""
        return self.kv_heads * (self.head_dim + self.v_head_dim)

    def seen(self, context: int) -> int:
        """How many of `context` rows one row looks at."""
        return min(context, self.window) if self.window and not self.cross else context


@dataclass(frozen=True, slots=True)
class SectionWork:
    """From a row of the model's width to another: linear layers `first`, what lies between, a linear layer `last`.

    `attention` comes behind `first`; `source` are its linear layers on rows of the source. `before` and `inner` are
    operators on columns or heads, in front of attention and behind it (or, without attention, behind `first`).
    `is_result`: its columns are the model's output. Without `on_path` it is work to do, but nothing of the next block
    needs it.
    """

    first: tuple[Product, ...] = ()
    source: tuple[Product, ...] = ()
    before: tuple[RowWork, ...] = ()
    attention: AttentionWork | None = None
    inner: tuple[RowWork, ...] = ()
    last: Product | None = None
    is_result: bool = False
    on_path: bool = True

    @property
    def products(self) -> tuple[Product, ...]:
        """All linear layers."""
        return (*self.first, *self.source, *(() if self.last is None else (self.last,)))

    @property
    def on_chip(self) -> tuple[Product, ...]:
        """The linear layers on the chip."""
        return tuple(product for product in self.products if product.place is Place.CHIP)

    @property
    def columns(self) -> int:
        """Columns of what comes out."""
        if self.last is not None:
            return self.last.cols
        if self.attention is not None:
            return self.attention.heads * self.attention.v_head_dim
        return sum(product.cols for product in self.first)


@dataclass(frozen=True, slots=True)
class Block:
    """Operators on whole rows, one after another (`hub`), then sections side by side.

    `aside` are operators on whole rows that not all of the sections wait for. `result` are columns of hub values that
    are the model's output.
    """

    is_source: bool = False
    hub: tuple[RowWork, ...] = ()
    aside: tuple[RowWork, ...] = ()
    sections: tuple[SectionWork, ...] = ()
    result: int = 0

    @property
    def result_columns(self) -> int:
        """Columns that go to the host."""
        return self.result + sum(section.columns for section in self.sections if section.is_result)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`count` runs of the same blocks."""

    count: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """A model's work on one row, block by block; those of the source come first.

    `row_columns` are the columns of rows that the host sends instead of ids. `is_ideal`: arrays take float32 rows as
    they are, which no chip does.
    """

    repeats: tuple[Repeat, ...] = ()
    row_columns: int = 0
    is_ideal: bool = False

    def blocks(self) -> Iterator[Block]:
        """All blocks in order."""
        for repeat in self.repeats:
            for _ in range(repeat.count):
                yield from repeat.blocks

    def sections(self) -> Iterator[SectionWork]:
        """All sections in order."""
        for block in self.blocks():
            yield from block.sections

    @property
    def weights(self) -> int:
        """How many weights linear layers on the chip have: cells of arrays."""
        return sum(p.rows * p.cols for s in self.sections() for p in s.on_chip)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of linear layers on the chip."""
        return sum(p.bytes for s in self.sections() for p in s.on_chip)

    @property
    def kv_row_bytes(self) -> int:
        """Bytes of keys and values that one token adds, int8."""
        attended = (s.attention for s in self.sections())
        return sum(a.row_bytes for a in attended if a is not None and a.cached and not a.cross)

    def __bool__(self) -> bool:
        return bool(self.repeats)


def folded(blocks: tuple[Block, ...]) -> tuple[Repeat, ...]:
    """Blocks in order with equal runs stored once."""
    repeats: list[Repeat] = []
    at = 0
    while at < len(blocks):
        period, count = _run(blocks, at)
        repeats.append(Repeat(count, blocks[at : at + period]))
        at += period * count
    return tuple(repeats)


def _run(blocks: tuple[Block, ...], at: int, longest: int = 8) -> tuple[int, int]:
    """The period and count of the run at `at` that covers most blocks; (1, 1) if nothing repeats."""
    best = 1, 1
    for period in range(1, longest + 1):
        pattern, count = blocks[at : at + period], 1
        while blocks[at + count * period : at + (count + 1) * period] == pattern:
            count += 1
        if count > 1 and count * period > best[0] * best[1]:
            best = period, count
    return best
