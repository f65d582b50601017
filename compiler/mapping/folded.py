"""Streamed weights: a mapping whose tiles do the work of all layers in a loop, each with the weights of its turn.

Three kinds of tiles take part. *Hub* tiles hold columns of the hub's rows of all segments of the step; they send
quantised rows out, and stream the last layers of sections, whose results they add up where they are needed. *Front*
tiles stream the first layers. *Core* tiles hold KV heads of all layers and attend. A section is done in rounds: in
each, front tiles make some inner columns or heads, and hub tiles multiply them by the rows of the last layer that
belong to them. Each round's weights are loaded while the round before is computed; all segments go through a round
before the next, so each weight is read once a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.ir.graph import Add, Attention, Graph, Mul, Node, Norm, Rotary
from compiler.ir.mapping import Format, Install, Prefetch, Rows
from compiler.ir.streamed import LINE_BYTES
from isa.hardware import Hardware
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import Limits

from .builder import TileBuilder
from .fold_sizes import AttentionShape, LinearShape, Shapes, Sizes
from .folding import Fold
from .parts import Geometry, PartBuilder, linear_shape
from .pieces import Piece, Stack
from .policies import can_stream, resident
from .sections import Domain, Section


@dataclass(frozen=True, slots=True)
class Job:
    """What all builders of a folded mapping share."""

    parts: PartBuilder
    fold: Fold
    sizes: Sizes

    @property
    def limits(self) -> Limits:
        """Limits, with as many segments of one token as a step's rows."""
        return self.parts.geometry.limits

    @property
    def hardware(self) -> Hardware:
        """The target."""
        return self.parts.geometry.hardware

    @property
    def dtype(self) -> DType:
        """Elements of arrays."""
        return self.parts.builder.arithmetic.dtype

    @property
    def sections(self) -> tuple[tuple[Section, ...], ...]:
        """The sections of the body, each with one for every iteration."""
        found = ([item.work for item in items] for items in self.fold.body)
        return tuple(
            tuple(s for s in works if isinstance(s, Section))
            for works in found
            if isinstance(works[0], Section)
        )

    @property
    def results(self) -> tuple[Section, ...]:
        """The sections after the loop: those whose columns are the model's outputs."""
        return tuple(item.work for item in self.fold.after if isinstance(item.work, Section))

    def rounds(self, section: Section) -> int:
        """How many rounds a section of the body takes."""
        if section.attention is not None:
            op = section.attention.op
            assert isinstance(op, Attention)
            return op.kv_heads // self.sizes.cores
        return -(-self.columns(section) // (self.sizes.front * self.sizes.columns))

    def result_rounds(self, section: Section) -> tuple[int, ...]:
        """Rounds of the output layer: those in which every front tile has all its columns, then one with the rest."""
        at_once = self.sizes.front * self.sizes.columns * self.arrays
        whole, rest = divmod(self.columns(section), at_once)
        return (*((whole,) if whole else ()), *((1,) if rest else ()))

    @property
    def arrays(self) -> int:
        """Arrays of a front tile."""
        return max([1, *(len(s[0].first) for s in self.sections if not s[0].lanes)])

    def heads(self, section: Section) -> AttentionShape:
        """The sizes of an attention section."""
        return attention_shape(self.parts.geometry, section)

    def columns(self, section: Section) -> int:
        """Columns of each first layer."""
        return linear_shape(self.parts.weights, section.first[0])[1]


def attention_shape(geometry: Geometry, section: Section) -> AttentionShape:
    """The sizes of an attention section."""
    assert section.attention is not None
    op = section.attention.op
    assert isinstance(op, Attention)
    return AttentionShape(
        op.kv_heads,
        op.heads // op.kv_heads,
        op.head_dim,
        op.v_head_dim,
        resident(geometry, op, Domain.TOKENS).kept,
        can_stream(geometry, op, Domain.TOKENS),
    )


def shapes_of(parts: PartBuilder, fold: Fold, width: int) -> Shapes:
    """The sizes of a folded model."""
    body = [items[0].work for items in fold.body]
    sections = [work for work in body if isinstance(work, Section)]
    results = [item.work for item in fold.after if isinstance(item.work, Section)]
    return Shapes(
        width,
        fold.count,
        tuple(attention_shape(parts.geometry, s) for s in sections if s.attention is not None),
        tuple(
            LinearShape(len(s.first), linear_shape(parts.weights, s.first[0])[1])
            for s in sections
            if s.attention is None
        ),
        tuple(linear_shape(parts.weights, s.first[0])[1] for s in results),
    )


class Streamer:
    """What a tile that streams weights does between its passes: take in a piece, begin to load the next.

    `turns` are the sections of the loop and then those behind it, as (rounds, a piece's bytes), in order; of the
    first `loops` of them each is done in every iteration of the outer loop.
    """

    def __init__(self, job: Job, tile: TileBuilder, turns: list[tuple[int, int]], loops: int) -> None:
        self.job, self.tile, self.turns, self.loops = job, tile, turns, loops
        self.stack = Stack(job.parts.weights)
        lines = max([size for _, size in turns], default=0) // WORD_BYTES
        tile.value("stage", Format.F32, max(lines, 1), Rows.ONCE)
        tile.tables["pieces"] = ""

    def begin(self) -> None:
        """Load the first piece."""
        self.tile.next_pass(once=True)
        self.tile.add(Prefetch("stage", "pieces", self.turns[0][1] // LINE_BYTES), "load")

    def turn(self, number: int, arrays: tuple[str, ...], rows: tuple[str, ...], nodes: list[Node]) -> None:
        """At the start of a round: take in its piece and begin to load the next."""
        self.tile.next_pass(once=True)
        self.tile.add(Install("stage", arrays, rows), "weights", nodes)
        self.tile.add(Prefetch("stage", "pieces", *self._next(number)), "load")

    def _next(self, number: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Lines of the next piece: those of the same section but in its last round, and so on."""
        size = [bytes_ // LINE_BYTES for _, bytes_ in self.turns] + [0]
        following = [*range(1, len(self.turns)), len(self.turns)]
        after, changes = following[number], []
        if number == self.loops - 1:
            changes.append((size[0] - size[number], 1))
            changes.append((size[after] - size[0], 2))
        else:
            changes.append((size[after] - size[number], 1))
        return size[number], tuple(change for change in changes if change[0])

    def finish(self, name: str) -> None:
        """Place the pieces in DRAM, once all are known."""
        stack, builder = self.stack, self.job.parts.builder
        tensor = builder.tensor(f"pieces.{name}", DType.I8, (stack.bytes,), stack.contents)
        builder.table(self.tile, "pieces", tensor, dram=True)


def pieces_in_order(job: Job, body: list[list[Piece]], results: list[Piece]) -> Iterator[Piece]:
    """The pieces of a tile in the order in which its loops use them; `body[section][iteration * rounds + round]`."""
    for iteration in range(job.fold.count):
        for pieces in body:
            rounds = len(pieces) // job.fold.count
            yield from pieces[iteration * rounds : (iteration + 1) * rounds]
    yield from results


# ------------------------------------------------------------------------------------------- what is not possible


def problem(graph: Graph, parts: PartBuilder, fold: Fold | None) -> str:
    """Why a graph's weights cannot be streamed; "" if they can."""
    if fold is None:
        return "no layers were found that hand on one value"
    works = [item.work for item in (*fold.before, *fold.after)] + [items[0].work for items in fold.body]
    sections = [work for work in works if isinstance(work, Section)]
    if any(isinstance(item.work, Section) for item in fold.before):
        return "a section lies before the first layer"
    if any(isinstance(item.work, Section) and not item.work.is_result for item in fold.after):
        return "the layers are not alike"
    for section in sections:
        found = _section_problem(graph, parts, section)
        if found:
            return found
    if any(isinstance(work, Node) and isinstance(work.op, Rotary) for work in works):
        return "positions are turned on whole rows"
    if any(isinstance(work, Node) and isinstance(work.op, Norm) and work.op.groups > 1 for work in works):
        return "norms work on parts of whole rows"
    return ""


def _section_problem(graph: Graph, parts: PartBuilder, section: Section) -> str:
    linears = [*section.first, *([section.last] if section.last else [])]
    linears += [lane.linear for lane in section.lanes if lane is not None and lane.linear is not None]
    if section.domain is not Domain.TOKENS:
        return "rows of a source are not streamed"
    if len(section.inputs) != 1:
        return "a section reads several hub values"
    if (section.last is None) != section.is_result:
        return "a section without a last layer is gathered by the hub"
    if not all(parts.weights.is_plain(node) for node in linears):
        return "scales of weights change along their rows, or weights have zero points"
    for node in section.inner:
        names = [name for name in node.inputs if name in graph.constants]
        is_row = isinstance(node.op, Add | Mul) and any(graph.constants[name].count > 1 for name in names)
        if is_row or (isinstance(node.op, Add) and names):
            return "columns have a constant row of their own"
    return _attention_problem(graph, section) if section.lanes else ""


def _attention_problem(graph: Graph, section: Section) -> str:
    assert section.attention is not None
    op, node = section.attention.op, section.attention
    assert isinstance(op, Attention)
    if op.cross or not op.causal or any(lane is None or lane.linear is None for lane in section.lanes):
        return "attention is not causal self-attention on linear layers"
    if len(node.inputs) > 3 and node.inputs[3]:
        return "scores have a bias by distance"
    chains = [n for lane in section.lanes if lane is not None for n in lane.chain]
    chains += section.inner[1:]
    for other in chains:
        if isinstance(other.op, Add | Mul) and any(name in graph.constants for name in other.inputs):
            return "heads have a constant row of their own"
    return ""
