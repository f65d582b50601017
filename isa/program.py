"""A program: role texts, the parameter blocks of tiles, channels, memory contents and where it all came from.

A *role* is the text that all tiles doing the same work share: instructions, and the shapes of the arrays,
constants and ports they name. A *tile* fills a role in: a place on the mesh, parameter values, slices of tensors for
arrays and constants. Tiles meet only through channels and barriers. A *step* is a list of segments, and runs each text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from .instruction import DType, Inst
from .interface import Interface, KvCache
from .operands import Space
from .segments import Segment as Segment
from .segments import segments_of as segments_of
from .workload import Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .hardware import Hardware

FORMAT_VERSION = 1
HOST = -1  # the tile number of the host in an endpoint


class ArrayKind(Enum):
    """What an array is for: weights stay, KV rows are appended, a stream of weights is written before it is used."""

    WEIGHT = "weight"
    KV = "kv"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """A logical array of a role: rows x cols elements, built of ceil(rows/R) x ceil(cols/C) macros.

    Rows and columns of one array never share a macro with another array. A KV array has a float32 scale for each
    row, a weight array one for each column, or, with `block`, one for each column and group of `block` rows; they
    are kept beside the cells. `copies` of the grid have the same contents and share an activation's vectors.

    Elements of an int8 array are integers of `bits` bits, which may be fewer than its cells have room for."""

    name: str
    kind: ArrayKind
    rows: int
    cols: int
    dtype: DType = DType.I8
    block: int = 0
    copies: int = 1
    bits: int = 8

    @property
    def groups(self) -> int:
        """Groups of rows that have column scales of their own."""
        return -(-self.rows // self.block) if self.block else 1

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of the column scales."""
        return (self.groups, self.cols) if self.block else (self.cols,)

    def macros(self, macro_rows: int, macro_cols: int) -> int:
        """How many macros of macro_rows x macro_cols elements the array occupies, with its copies."""
        return -(-self.rows // macro_rows) * -(-self.cols // macro_cols) * self.copies


@dataclass(frozen=True, slots=True)
class Constant:
    """A range of the tile buffer that is loaded with the program: gains, biases."""

    name: str
    offset: int
    dtype: DType
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes it takes, rounded up to words."""
        count = 1
        for extent in self.shape:
            count *= extent
        return -(-count * self.dtype.bytes // 4) * 4


@dataclass(frozen=True, slots=True)
class Region:
    """A named range of the tile buffer; for people who read listings."""

    name: str
    offset: int
    bytes: int


class Direction(Enum):
    """Which way a port goes."""

    IN = "in"
    OUT = "out"
    BARRIER = "barrier"


@dataclass(frozen=True, slots=True)
class Port:
    """An end of a channel (or a barrier), as the role sees it."""

    name: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Role:
    """One text. `lines[i]` is the index in `sites` of what instruction i does, or -1; a site is a label such as
    `q_proj`, and each tile says which ONNX nodes stand behind it."""

    name: str
    code: tuple[Inst, ...]
    params: tuple[str, ...] = ()
    arrays: tuple[ArraySpec, ...] = ()
    ports: tuple[Port, ...] = ()
    constants: tuple[Constant, ...] = ()
    regions: tuple[Region, ...] = ()
    sites: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.lines:  # one form for "no line table", so that equal roles compare equal
            object.__setattr__(self, "lines", (-1,) * len(self.code))


@dataclass(frozen=True, slots=True)
class Slice:
    """A block of a tensor beginning at `start`; its shape is that of the array or constant it fills."""

    tensor: str
    start: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ArrayData:
    """What a weight array holds: values [rows, cols] and its float32 column scales (`ArraySpec.scale_shape`)."""

    values: Slice
    scales: Slice | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """A parameter block: a role filled in, at tile coordinates (x, y) of the whole system's mesh.

    `arrays[i]` is None for KV arrays. `nodes[i]` names the ONNX nodes behind site i of the role.
    """

    name: str
    role: str
    x: int
    y: int
    params: tuple[int, ...] = ()
    arrays: tuple[ArrayData | None, ...] = ()
    constants: tuple[Slice, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port of a tile (an index into `Program.tiles`, or HOST with port 0)."""

    tile: int
    port: int


class Reduce(Enum):
    """What the network does with the messages of several senders."""

    NONE = "none"
    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Channel:
    """An ordered sequence of messages. Each receiver gets every message.

    With several sources, the k-th messages of all are combined by `reduce` element by element, as float32, in a
    binary tree over the sources in the order given: ((s0+s1)+(s2+s3))+...
    """

    name: str
    sources: tuple[Endpoint, ...]
    dests: tuple[Endpoint, ...]
    reduce: Reduce = Reduce.NONE


@dataclass(frozen=True, slots=True)
class BarrierGroup:
    """Tiles that wait for each other."""

    name: str
    members: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that the program's file carries, or only declares (`--shapes-only`)."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """A range of a chip's memory: loaded with a tensor, or reserved (`tensor` None, contents undefined)."""

    name: str
    space: Space
    chip: int
    offset: int
    bytes: int
    tensor: str | None = None


@dataclass(frozen=True, slots=True)
class StreamPart:
    """Columns of a stream on a channel; one of several (OUT, of equal width) gives each for all segments in turn."""

    channel: int
    column: int
    columns: int


@dataclass(frozen=True, slots=True)
class Stream:
    """What the host exchanges with the chip in every segment, in channel messages.

    `input_ids` (IN: to the chip): int32 [tokens, 1]. `logits` (OUT): float32 [outputs, columns]. Messages of a
    `source` stream go with the step's source segments instead, and have all their rows, in and out: [tokens, columns].
    With `every`, so has an OUT stream of the tokens: a host part works on them, wanted or not.

    A stream without `parts` does not reach the chip: the host's parts within the step read it (IN) or make it (OUT).
    """

    name: str
    direction: Direction
    dtype: DType
    columns: int
    parts: tuple[StreamPart, ...]
    source: bool = False
    every: bool = False


class Moment(Enum):
    """When the host runs its part of a model."""

    BEFORE = "before"  # the step: it makes rows that the chip takes
    AFTER = "after"  # the step: it takes rows that the chip made
    WITHIN = "within"  # the step: it takes rows, and makes rows that the chip goes on with


@dataclass(frozen=True, slots=True)
class HostPart:
    """A piece of the model that the host runs, an ONNX model of its own: tensor `model` (int8) holds its bytes.

    `inputs` and `outputs` are the ONNX model's, in its order. Those that are streams of the program have one row a
    token there; the ONNX model says which axes they have here. `definition` is the same model without its weights, in
    Base64: enough to tell what it costs. `nodes` are the ONNX nodes of the original file.

    A part WITHIN the step works row by row: each input and output is [rows] or [rows, features] of all tokens of the
    step (or of its source rows), whatever sequences they are of. It runs once a step, when all segments' messages of
    the OUT streams among its inputs have come; then its outputs that are IN streams go to the chip, segment by
    segment. Other inputs are IN streams that no part makes, what earlier parts have made, and `positions`: the
    positions of its rows. If rows of an OUT stream that is not `every` are among its inputs, it runs on the rows whose
    outputs are wanted alone.
    """

    name: str
    moment: Moment
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: str
    definition: str
    nodes: tuple[str, ...] = ()
    positions: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program is compiled for; the verifier proves it for everything within.

    A segment has 1..chunk tokens, does not cross a multiple of `chunk`, and ends within max_context; a step has
    1..segments segments; sequences are numbered 0..sequences-1. Source segments, of which there are
    0..segments, are the same for the rows of another sequence, of which there are up to max_source.

    With `pages`, sequences share the KV arrays of tokens: these have `pages` pages of `page_rows` rows (a multiple of
    chunk), and each segment says which of them its sequence has. Without, each sequence has the same number of rows.
    Where heads are dealt over `page_ways` arrays (a power of two), page b of sequence s is in array (b xor s) mod that.
    """

    max_context: int
    chunk: int
    segments: int = 4096
    sequences: int = 1
    max_source: int = 0
    pages: int = 0
    page_rows: int = 0
    page_ways: int = 1

    def is_paged(self, cache: KvCache) -> bool:
        """Whether sequences share a cache in pages."""
        return self.pages > 0 and not (cache.cross or cache.ring or cache.rows)

    def way(self, sequence: int, index: int) -> int:
        """Which of the arrays that a head is dealt over has page `index` of a sequence."""
        return (sequence ^ index) % self.page_ways

    def pages_for(self, tokens: int) -> int:
        """How many pages so many tokens of a sequence take."""
        return -(-tokens // self.page_rows)


@dataclass(frozen=True, slots=True)
class Replica:
    """A further copy of all tiles on the mesh: where its corner (0, 0) lies."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What made the program."""

    tool: str = ""
    model: str = ""
    model_hash: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """All that a machine needs. `data` maps tensor names to arrays, or is None for a shapes-only program.

    `replicas` are further copies of all tiles and channels, among which the sequences are dealt: with n copies in all,
    sequence s of a step is number s div n of copy s mod n. Each works as if it were alone, and rests in a step without
    segments for it; they share the host's link, and the memories of chips. All else, `limits` too, is of one copy.

    `results` names the model's outputs where host partitions make some of them. `caches` say where keys and values
    lie, `interface` what the ONNX file's inputs and outputs are, `workload` what the model asks of any machine.
    """

    target: Hardware
    limits: Limits
    roles: tuple[Role, ...]
    tiles: tuple[Tile, ...]
    channels: tuple[Channel, ...] = ()
    barriers: tuple[BarrierGroup, ...] = ()
    tensors: tuple[TensorInfo, ...] = ()
    memory: tuple[MemoryRegion, ...] = ()
    streams: tuple[Stream, ...] = ()
    origin: Origin = Origin()
    hosts: tuple[HostPart, ...] = ()
    results: tuple[str, ...] = ()
    caches: tuple[KvCache, ...] = ()
    interface: Interface = Interface()  # noqa: RUF009  (frozen)
    workload: Workload = Workload()  # noqa: RUF009  (frozen)
    replicas: tuple[Replica, ...] = ()
    data: Mapping[str, NDArray[Any]] | None = field(default=None, compare=False, repr=False)

    @property
    def corners(self) -> tuple[Replica, ...]:
        """Where the corners of all copies lie, the first included."""
        return (Replica(0, 0), *self.replicas)

    @property
    def tile_count(self) -> int:
        """How many tiles all copies have together."""
        return len(self.tiles) * len(self.corners)

    @property
    def step_limits(self) -> Limits:
        """The limits of a step of all copies: their sequences together."""
        return replace(self.limits, sequences=self.limits.sequences * len(self.corners))

    def role(self, name: str) -> Role:
        """The role of this name; KeyError if there is none."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(name)
