"""Sections on tiles: each is cut into parts that need nothing of each other until the network adds their results.

A part of an attention section is one KV head with its query heads; a part of any other section is a range of the
columns between its first and last linear layers. A part goes on one tile if its arrays fit there (*fused*).
Otherwise (*spread*) the first layers are cut by columns over tiles of their own, attention has a tile for its KV
arrays, and the last layer is cut by rows and columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from compiler.ir.graph import Activation, Add, Graph, Linear, Mul, Node, Norm, Rotary
from compiler.ir.mapping import (
    Activate,
    AddRow,
    Arithmetic,
    Format,
    MulRow,
    Multiply,
    Normalise,
    Quantise,
    Rotate,
    Rows,
    Scale,
)
from compiler.ir.mapping import Add as AddBlock
from compiler.ir.mapping import Mul as MulBlock
from compiler.optimisations import Optimisation
from isa.diagnostics import fail
from isa.hardware import Hardware
from isa.operands import WORD_BYTES
from isa.program import ArrayKind, ArraySpec, Limits

from .angles import SHARED, Angles
from .builder import MappingBuilder, TileBuilder
from .feeds import Feed, Partial
from .joined import JoinedWeights
from .policies import KvChoice, KvPlan
from .sections import Domain, node_place, refuse
from .weights import Weights

_STEMS = {Rotary: "turned", Activation: "act"}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that decide how sections are cut."""

    hardware: Hardware
    limits: Limits
    most_rows: int  # of a KV block
    without: frozenset[Optimisation] = frozenset()
    kv: KvChoice = KvChoice()  # noqa: RUF009  (frozen)
    kv_bits: int = 8  # of keys and values, in int8 arithmetic

    def does(self, optimisation: Optimisation) -> bool:
        """Whether an optimisation is wanted."""
        return optimisation not in self.without

    def longest(self, domain: Domain) -> int:
        """Rows of the longest sequence."""
        return self.limits.max_source if domain is Domain.SOURCE else self.limits.max_context

    def block(self, domain: Domain) -> int:
        """Rows of a KV block: whole macros, and no more than the longest sequence needs."""
        rows = self.hardware.macro_rows
        return min(max(self.most_rows // rows, 1), -(-self.longest(domain) // rows)) * rows

    def kv_rows(self, domain: Domain) -> int:
        """Rows of a KV array: all pages that sequences share, or for each the longest, rounded up to whole blocks."""
        block = self.block(domain)
        if self.limits.pages and domain is Domain.TOKENS:
            return self.limits.pages * self.limits.page_rows
        return -(-self.longest(domain) // block) * block * self.limits.sequences

    def macros(self, rows: int, cols: int) -> int:
        """Macros that an array of rows x cols elements occupies."""
        return math.ceil(rows / self.hardware.macro_rows) * math.ceil(cols / self.hardware.macro_cols)

    def columns(self, rows: int, arrays: int = 1) -> int:
        """The most columns that each of `arrays` arrays of `rows` rows can have on one tile; 0 if none fits."""
        stacked = math.ceil(rows / self.hardware.macro_rows) * arrays
        return self.hardware.macros_per_tile // stacked * self.hardware.macro_cols


class PartBuilder:
    """Adds what parts share: receiving, multiplying, and operators between linear layers."""

    def __init__(self, graph: Graph, builder: MappingBuilder, weights: Weights, geometry: Geometry) -> None:
        self.graph, self.builder, self.weights, self.geometry = graph, builder, weights, geometry
        shared = SHARED if geometry.does(Optimisation.SHARE_ANGLES) else 1
        self.angles = Angles(builder, geometry.does(Optimisation.KEEP_ANGLES), shared)
        self.plans: dict[str, KvPlan] = {}  # where attention's rows lie, by the name of its output

    def kv_array(self, name: str, rows: int, cols: int) -> ArraySpec:
        """An array for rows of keys or values."""
        dtype, bits = self.builder.arithmetic.dtype, self.geometry.kv_bits
        return ArraySpec(name, ArrayKind.KV, rows, cols, dtype, bits=bits)

    @property
    def quantised(self) -> bool:
        """Whether arrays take int8 (not ideal arithmetic)."""
        return self.builder.arithmetic is Arithmetic.INT8

    def multiply(
        self,
        tile: TileBuilder,
        node: Node,
        x: str,
        name: str,
        at: tuple[int, int],
        size: tuple[int, int],
        bias: bool,
        rows: Rows = Rows.TOKENS,
    ) -> str:
        """name = x times weight[at:at+size] of a linear layer, on `tile`; returns the value's name.

        With `rows` OUTPUTS only wanted rows are multiplied, of x that may have all: if its rows are whole words, else
        the verifier does not see that those lie among all.
        """
        dtype, block = self.builder.arithmetic.dtype, self.weights.block(node, at[0], size[0])
        spec = ArraySpec(f"w_{name}", ArrayKind.WEIGHT, *size, dtype, block, bits=self.weights.bits_of(node))
        array = tile.array(spec, self.weights.array(node, *at, block=block))
        content = self.weights.bias(node, at[1]) if bias else None
        constant = tile.constant(f"b_{name}", size[1], content) if content is not None else ""
        whole = tile.values[x].cols % WORD_BYTES == 0 or tile.values[x].format is not Format.Q8
        taken = rows if rows is Rows.OUTPUTS and whole else tile.values[x].rows
        tile.value(name, Format.F32, size[1], taken)
        shift = self.weights.offset(node, at[1])
        offset = tile.constant(f"z_{name}", size[1], shift) if shift is not None else ""
        tile.add(Multiply(name, x, array, constant, offset), name, [node])
        return name

    def multiply_joined(self, tile: TileBuilder, joined: JoinedWeights, x: str, head: int) -> str:
        """The columns of several linear layers that a head has, with their biases; returns the value's name."""
        rows, cols = linear_shape(self.weights, joined.nodes[0])[0], joined.cols
        bits, dtype = max(map(self.weights.bits_of, joined.nodes)), self.builder.arithmetic.dtype
        spec = ArraySpec("w_joined", ArrayKind.WEIGHT, rows, cols, dtype, bits=bits)
        array, content = tile.array(spec, joined.array(head)), joined.bias(head)
        constant = tile.constant("b_joined", cols, content) if content is not None else ""
        tile.value("joined", Format.F32, cols, tile.values[x].rows)
        tile.add(Multiply("joined", x, array, constant), "joined", joined.nodes)
        return "joined"

    def receive(
        self, feed: Feed, tile: TileBuilder, name: str = "x", site: str = "input", only: range | None = None
    ) -> str:
        """A hub value on `tile`, or the columns of its shards `only`, as arrays take it; returns the value's name."""
        feed.receive(tile, name, site, only)
        return name if feed.quantised else self.quantise(tile, name, feed.made_by)

    def quantise(
        self,
        tile: TileBuilder,
        x: str,
        nodes: list[Node],
        scales: int = 1,
        factor: float = 1.0,
        bits: int = 8,
    ) -> str:
        """x as arrays take it: quantised under another name, or x itself in ideal arithmetic.

        `scales`: of how many equal parts each gets a scale of its own. `factor`: what scales are multiplied by. `bits`:
        of a code.
        """
        if not self.quantised:
            return x
        value = tile.values[x]
        name = tile.value(f"{x}q" if bits == 8 else f"{x}q{bits}", Format.Q8, value.cols, value.rows, scales)
        tile.add(Quantise(name, x, factor=factor, bits=bits), "quantise", nodes)
        return name

    def columnwise(self, tile: TileBuilder, node: Node, local: dict[str, str], col: int, width: int) -> None:
        """An operator that works column by column, on the columns from `col` on (of `width`) that the tile has."""
        inputs = [local[name] for name in node.inputs if name in local]
        constants = [name for name in node.inputs if name in self.graph.constants]
        value = tile.values[inputs[0]]
        stem = f"{inputs[0]}_act" if isinstance(node.op, Activation) else "_".join(inputs)
        out = local[node.output.name] = tile.value(_fresh(tile, stem), Format.F32, value.cols, value.rows)
        match node.op:
            case Add() | Mul() if constants:
                self._with_constant(tile, node, inputs[0], out, (col, width))
            case Activation(kind=kind):
                tile.add(Activate(out, inputs[0], kind), "activation", [node])
            case Add():
                tile.add(AddBlock(out, inputs[0], inputs[1]), "sum", [node])
            case Mul():
                tile.add(MulBlock(out, inputs[0], inputs[1]), "gate", [node])
            case _:
                raise refuse(
                    self.graph, node, "the operator does not work column by column", "report this model"
                )

    def _with_constant(self, tile: TileBuilder, node: Node, x: str, out: str, at: tuple[int, int]) -> None:
        """A sum or product with a constant: one number, or one row of which the tile takes its columns."""
        constant = next(name for name in node.inputs if name in self.graph.constants)
        adds, (col, width) = isinstance(node.op, Add), at
        factor = None if adds else self.weights.scalar(constant)
        if factor is not None:
            tile.add(Scale(out, x, factor), "scale", [node])
            return
        row = tile.constant(f"{out}_row", tile.values[out].cols, self.weights.row(constant, width, col))
        tile.add(AddRow(out, x, row) if adds else MulRow(out, x, row), "row", [node])

    def headwise(
        self, tile: TileBuilder, node: Node, local: dict[str, str], heads: int, at: tuple[int, int]
    ) -> None:
        """An operator that works head by head, on the `heads` heads the tile has of its input.

        `at`: the first column of these heads, and the columns of all.
        """
        x = next(local[name] for name in node.inputs if name in local)
        value = tile.values[x]
        stem = f"{x}_{_STEMS.get(type(node.op), 'normed')}"
        out = local[node.output.name] = tile.value(_fresh(tile, stem), Format.F32, value.cols, value.rows)
        match node.op:
            case Add() | Mul() if any(name in self.graph.constants for name in node.inputs):
                self._with_constant(tile, node, x, out, at)
            case Activation(kind=kind):
                tile.add(Activate(out, x, kind), "activation", [node])
            case Rotary(head_dim=dim, rotary_dim=rot, interleaved=interleaved):
                limits = self.geometry.limits
                tensor = self.weights.rotary_table(node, max(limits.max_context, limits.max_source))
                angles = self.angles.on(tile, tensor, rot, node)
                tile.add(Rotate(out, x, angles, dim, rot, interleaved), "rotary", [node])
            case Norm(kind=kind, eps=eps):
                width = value.cols // heads
                gain = tile.constant(f"{out}_gain", width, self.weights.row(node.inputs[1], width, 0))
                shift = ""
                if len(node.inputs) > 2 and node.inputs[2]:
                    shift = tile.constant(f"{out}_shift", width, self.weights.row(node.inputs[2], width, 0))
                tile.add(Normalise(out, x, kind, eps, width, gain, shift, groups=heads), "head_norm", [node])
            case _:
                raise refuse(self.graph, node, "the operator does not work head by head", "report this model")


def _fresh(tile: TileBuilder, stem: str) -> str:
    """A value name that the tile does not have yet."""
    return stem if stem not in tile.values else f"{stem}{len(tile.values)}"


@dataclass(slots=True)
class LastLayer:
    """Collects partial results of a section's last layer: tiles that hold the same columns are added up."""

    partials: dict[tuple[int, int], Partial]

    def add(self, tile: TileBuilder, name: str, col: int, cols: int) -> None:
        """`tile` has columns col.. of a partial sum as value `name`."""
        partial = self.partials.setdefault((col, cols), Partial([], name, col, cols))
        partial.tiles.append(tile)


def check_macros(graph: Graph, node: Node, need: int, have: int, what: str, way_out: str) -> None:
    """Refuse (E0302, for the KV cache E0304) what does not fit a tile."""
    if need > have:
        code = "E0304" if what.startswith("KV") else "E0302"
        raise fail(
            code, f"{what} needs {need:,} macros, a tile has {have:,}", node_place(graph, node), way_out
        )


def linear_shape(weights: Weights, node: Node) -> tuple[int, int]:
    """(K, N) of a linear layer."""
    assert isinstance(node.op, Linear)
    return weights.shape(node)
