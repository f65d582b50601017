"""The Mapping level: which tile does what, with which block of which weight, and who sends what to whom.

A *template* is the work of a tile as a list of blocks on named values; tiles that do the same work on other
weights share one. A value is a block of rows, one a token of the current segment; its number of columns is
fixed, its number of rows is the segment's. Weights, constants and memory tables are slots of the template,
which each tile fills with slices of tensors. Templates become roles, one to one. The operations of blocks are in
`compiler.ir.operations`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from isa.instruction import DType
from isa.interface import KvCache, KvPolicy
from isa.program import (
    ArrayData,
    ArraySpec,
    BarrierGroup,
    Channel,
    Limits,
    MemoryRegion,
    Port,
    Replica,
    Slice,
    Stream,
    TensorInfo,
)

from .operations import (
    OPERATIONS,
    Activate,
    Add,
    AddRow,
    Advance,
    Append,
    Attend,
    AttendStreamed,
    Clear,
    Finish,
    Install,
    LoadRows,
    Lookup,
    Mul,
    MulRow,
    Multiply,
    MultiplyPieces,
    Normalise,
    NormQuantise,
    Operation,
    Part,
    Place,
    Prefetch,
    Quantise,
    Receive,
    Rotate,
    Scale,
    Send,
    Take,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

__all__ = [
    "FIRST_OF_ROW",
    "OPERATIONS",
    "Activate",
    "Add",
    "AddRow",
    "Advance",
    "Append",
    "Arithmetic",
    "Attend",
    "AttendStreamed",
    "Block",
    "Clear",
    "ConstantSlot",
    "Finish",
    "Format",
    "Install",
    "LoadRows",
    "Lookup",
    "MapTile",
    "MapValue",
    "Mapping",
    "Mul",
    "MulRow",
    "Multiply",
    "MultiplyPieces",
    "NormQuantise",
    "Normalise",
    "Operation",
    "Part",
    "Place",
    "Prefetch",
    "Quantise",
    "Receive",
    "Repeat",
    "Rotate",
    "Rows",
    "Scale",
    "Send",
    "Take",
    "Template",
]


FIRST_OF_ROW = "_i0"
"""How the name of an array ends of which there is one for each iteration of the loops around: name_i0, name_i1, ..."""


class Rows(Enum):
    """How many rows a value has.

    One a token of the segment; one a token whose outputs are wanted; or one a token of every sequence, of which an
    operation sees the segment's. Values of the last kind live from one pass over the segments to the next.
    In a pass over the source's segments (`Template.source_phases`) tokens are rows of the source.
    Values of kind STEP live from pass to pass too, but hold the step's rows alone, each segment's at a place of its
    own; one of kind ONCE is a single row, the same for all segments.
    """

    TOKENS = "tokens"
    OUTPUTS = "outputs"
    SEQUENCE = "sequence"
    STEP = "step"
    ONCE = "once"


class Format(Enum):
    """How a value lies in the buffer."""

    F32 = "f32"
    I32 = "i32"
    Q8 = "q8"  # int8 rows, and beside them a float32 scale a row (or several)


@dataclass(frozen=True, slots=True)
class MapValue:
    """A block of rows in the tile buffer. `scales`: of a Q8 value, how many a row has, each for an equal part."""

    name: str
    format: Format
    cols: int
    rows: Rows = Rows.TOKENS
    scales: int = 1


FOUND = "found"
"""The site at which a tile receives rows of a table that other tiles look up for it."""


@dataclass(frozen=True, slots=True)
class Block:
    """One operation, done for `site`: the label whose ONNX nodes each tile names.

    A tile passes over the segments of a step once for each `phase`: attention that sees later tokens needs all keys
    and values before the first score.
    """

    op: Operation
    site: str
    phase: int = 0


@dataclass(frozen=True, slots=True)
class ConstantSlot:
    """A constant of one row that lies in the buffer; with `times`, one row for each iteration of the outermost loop, or
    `by_position` for each position of a token."""

    name: str
    cols: int
    times: int = 0
    by_position: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop around whole passes: those from `first` to `last` are done `count` times. Loops nest."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Template:
    """The work of a tile. `tables` are parameters: addresses of memory tables, and the `way` of dealt attention.

    The first `source_phases` of its passes go over the step's source segments, the others over those of tokens; those
    in `once` go over none, and are done once. `repeats` are loops around passes, outer ones before inner ones.
    """

    name: str
    blocks: tuple[Block, ...]
    values: tuple[MapValue, ...]
    arrays: tuple[ArraySpec, ...] = ()
    ports: tuple[Port, ...] = ()
    constants: tuple[ConstantSlot, ...] = ()
    tables: tuple[str, ...] = ()
    source_phases: int = 0
    repeats: tuple[Repeat, ...] = ()
    once: tuple[int, ...] = ()

    def around(self, phase: int) -> tuple[Repeat, ...]:
        """The loops around a pass, outer ones first."""
        return tuple(r for r in self.repeats if r.first <= phase <= r.last)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of its blocks, each once, in order."""
        return tuple(dict.fromkeys(block.site for block in self.blocks))


@dataclass(frozen=True, slots=True)
class MapTile:
    """A tile that does a template's work: where it is, and what fills the slots.

    `tables` are addresses, `arrays` is None for KV arrays, `nodes` goes with the template's sites.
    """

    name: str
    template: str
    x: int
    y: int
    tables: tuple[int, ...] = ()
    arrays: tuple[ArrayData | None, ...] = ()
    constants: tuple[Slice, ...] = ()
    nodes: tuple[str, ...] = ()


class Arithmetic(Enum):
    """What the arrays compute with."""

    INT8 = "int8"
    FLOAT32 = "float32"  # ideal: for telling mapping errors from quantisation errors

    @property
    def dtype(self) -> DType:
        """Element type of arrays."""
        return DType.I8 if self is Arithmetic.INT8 else DType.F32


@dataclass(frozen=True, slots=True)
class Mapping:
    """A model on a target. `data` makes each tensor's contents when asked; it is not part of the text. `replicas`: see
    `Program`."""

    name: str
    target: str
    arithmetic: Arithmetic
    limits: Limits
    templates: tuple[Template, ...]
    tiles: tuple[MapTile, ...]
    channels: tuple[Channel, ...]
    barriers: tuple[BarrierGroup, ...] = ()
    tensors: tuple[TensorInfo, ...] = ()
    memory: tuple[MemoryRegion, ...] = ()
    streams: tuple[Stream, ...] = ()
    caches: tuple[KvCache, ...] = ()
    replicas: tuple[Replica, ...] = ()
    data: dict[str, Callable[[], np.ndarray]] | None = field(default=None, compare=False, repr=False)

    @property
    def is_resident(self) -> bool:
        """Whether all keys and values lie in arrays."""
        return all(cache.policy is KvPolicy.RESIDENT for cache in self.caches)

    def template(self, name: str) -> Template:
        """The template of this name; KeyError if there is none."""
        return next(t for t in self.templates if t.name == name)
