"""What a program is to those who feed it: where its KV caches lie, what the ONNX file's inputs and outputs are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .instruction import DType


@dataclass(frozen=True, slots=True)
class CacheHead:
    """Where keys and values of one KV head lie: arrays `keys` and `values` of tile `tile` (indices), and, if the cache
    has rows in memory, the region `memory` of that tile's chip (an index into `Program.memory`)."""

    tile: int
    keys: int
    values: int
    memory: int = -1


class KvPolicy(Enum):
    """Where the rows of a cache lie."""

    RESIDENT = "resident"  # in KV arrays
    TIERED = "tiered"  # the last ones in KV arrays, all before them in memory
    STREAMED = "streamed"  # in memory; blocks of them pass through KV arrays


@dataclass(frozen=True, slots=True)
class Plane:
    """Rows of one kind in a cache's memory region: where they begin, and the bytes of each; they lie densely."""

    offset: int
    row_bytes: int


def memory_planes(rows: int, key_cols: int, value_cols: int, dtype: DType) -> tuple[Plane, ...]:
    """The planes of a region for `rows` rows: keys, values, and with int8 their scales."""
    widths = [key_cols * dtype.bytes, value_cols * dtype.bytes]
    if dtype is DType.I8:
        widths += [DType.F32.bytes] * 2
    starts = [sum(widths[:at]) * rows for at in range(len(widths))]
    return tuple(Plane(start, width) for start, width in zip(starts, widths, strict=True))


def plane_bytes(rows: int, planes: tuple[Plane, ...]) -> int:
    """Bytes of a region with these planes."""
    return rows * sum(plane.row_bytes for plane in planes)


@dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache of one attention layer, head by head.

    Sequence s has rows s*R.. of each array, R being the array's rows over `Limits.sequences`. With `cross` the rows
    are those of the source, written once; else one a token.

    With `ways` > 1 each head is dealt over so many entries of `heads` that follow each other, in blocks of `block`
    rows: block b of sequence s, of `blocks` each, has number s * blocks + b =: g; it lies in array g mod ways, at rows
    (g div ways) * block...

    With `copies` > 1 so many entries (or `ways` of them) that follow each other hold the same head: each is looked at
    by some of the query heads that share it.

    With `ring` a sequence has so many rows of an array, and position p lies at p mod `ring`: the last rows are there.

    With `rows` > 0 the cache has rows in memory, so many a sequence: sequence s has rows s * rows... of each plane
    (`memory_planes`) of a head's region. A sequence of n tokens has its rows 0..n - hot there; `hot` = 0 says that the
    arrays hold no rows from step to step.

    Keys and values may lie there divided by factors, one for each channel of a head: then the two tensors
    [heads, d] named here hold these.
    """

    layer: int
    heads: tuple[CacheHead, ...]
    cross: bool = False
    ways: int = 1
    block: int = 0
    blocks: int = 0
    ring: int = 0
    rows: int = 0
    hot: int = 0
    copies: int = 1
    key_factors: str = ""
    value_factors: str = ""

    @property
    def policy(self) -> KvPolicy:
        """Where its rows lie."""
        if not self.rows:
            return KvPolicy.RESIDENT
        return KvPolicy.TIERED if self.hot else KvPolicy.STREAMED

    @property
    def count(self) -> int:
        """How many KV heads there are."""
        return len(self.heads) // (self.ways * self.copies)


class Use(Enum):
    """What an input or output of the ONNX file is for."""

    IDS = "ids"
    POSITIONS = "positions"
    MASK = "mask"
    SOURCE_MASK = "source_mask"
    TOKEN_TYPES = "token_types"
    KEYS = "keys"
    VALUES = "values"
    KEYS_VALUES = "keys_values"  # both, stacked on a leading axis
    START = "start"  # how many tokens the cache holds
    SWITCH = "switch"  # whether the cache is used (merged decoders)
    SOURCE = "source"  # rows that an encoder made, or ids for it; an output: rows of the source
    ROWS = "rows"  # rows or ids by stream, whatever they mean
    OTHER = "other"  # nothing that the program reads


@dataclass(frozen=True, slots=True)
class ModelValue:
    """An input or output of the ONNX file, and what it is in the program.

    `stream` names the stream that carries it ("" if none does). Keys and values say which cache of
    `Program.caches` they are: [batch, heads, tokens, d], or [batch, tokens, heads*d] if `flat`. `heads` > 0 says that
    the file has rows as [batch, heads, tokens, depth].
    """

    name: str
    use: Use
    stream: str = ""
    cache: int = -1
    flat: bool = False
    heads: int = 0


@dataclass(frozen=True, slots=True)
class Interface:
    """The inputs and outputs of the ONNX file, in its order.

    `padding` are token ids that must not be among the tokens: the file counts positions without them, the program with.
    """

    inputs: tuple[ModelValue, ...] = ()
    outputs: tuple[ModelValue, ...] = ()
    padding: tuple[int, ...] = ()
