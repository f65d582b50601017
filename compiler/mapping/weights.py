"""Weights as arrays hold them: int8 with a scale for each output channel, or for each channel and group of rows;
or float32 in ideal arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.explain import Heading, Note
from compiler.ir.graph import Graph, Node, Rotary
from compiler.ir.mapping import Arithmetic
from compiler.ir.quantised import IntegerWeight, fits_int8, has_offset, integers, row_block
from compiler.ir.tensor import Tensor
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import ArrayData, Slice

from .builder import MappingBuilder
from .rounding import WEIGHT_BITS, quantise_in_groups


def float32(tensor: Tensor) -> NDArray[np.float32]:
    """The data of a constant as float32."""
    return np.asarray(tensor.data(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Cells:
    """How a weight is held: rows of a group of scales (0: all rows are one), what makes values and scales, and
    whether something is to be added to every weight of a column."""

    block: int
    make: Callable[[], IntegerWeight]
    has_offset: bool = False


class Weights:
    """Declares the tensors of linear layers, constants and tables in a `MappingBuilder`.

    Integers of a quantised file are taken as they are. Other weights are quantised to int8, or with `bits` = 4 to
    4 bits in groups of `group` rows (0: a scale for all rows of a column). `notes` says which weights of the file could
    not be taken, and why.
    """

    def __init__(
        self, graph: Graph, builder: MappingBuilder, bits: int = WEIGHT_BITS, group: int = 0
    ) -> None:
        self.graph, self.builder, self.bits, self.group = graph, builder, bits, group
        self.notes: list[str] = []
        self.kept: set[str] = set()
        self._cells: dict[str, _Cells] = {}
        self._steps: dict[str, int] = {}
        self._shifts: dict[str, str] = {}
        self._gains: dict[str, str] = {}  # of rows, by weight

    def shape(self, node: Node) -> tuple[int, int]:
        """Rows K and columns N of a linear layer's weight."""
        rows, cols = self.graph.constants[node.inputs[1]].shape
        return int(rows), int(cols)

    def settle(self, node: Node, step: int) -> None:
        """Say that a weight's rows will be cut every `step`, before any array is made of it."""
        self._steps[node.inputs[1]] = step

    def block(self, node: Node, row: int, rows: int) -> int:
        """Rows that share scales in an array of the weight's rows row..row+rows-1; 0 if all do."""
        if self.builder.arithmetic is Arithmetic.FLOAT32:
            return 0
        block = self._held(node).block
        if not block or row // block == (row + rows - 1) // block:
            return 0
        return gcd(block, row)

    def _can_group(self, node: Node, block: int) -> bool:
        """Whether scales that change every `block` rows can be kept: a product takes groups of whole words."""
        rows, _ = self.shape(node)
        step = self._steps.get(node.inputs[1], rows)
        starts = range(0, rows, step)
        is_cut = any(row // block != (min(row + step, rows) - 1) // block for row in starts)
        return not is_cut or not (block % WORD_BYTES or step % WORD_BYTES or rows % WORD_BYTES)

    def array(self, node: Node, row: int, col: int, block: int = 0) -> ArrayData:
        """What an array holds whose first element is weight[row, col] of a linear layer. `block`: as `block` says."""
        name = node.inputs[1]
        weight = self.graph.constants[name]
        if self.builder.arithmetic is Arithmetic.FLOAT32:
            self.builder.tensor(name, DType.F32, weight.shape, lambda: float32(weight))
            return ArrayData(Slice(name, (row, col)))
        held = self._held(node)
        values = self.builder.tensor(f"{name}.int8", DType.I8, weight.shape, lambda: held.make().values)
        rows, cols = self.shape(node)
        if not held.block:
            scales = self.builder.tensor(f"{name}.scale", DType.F32, (cols,), lambda: held.make().scales[0])
            return ArrayData(Slice(values, (row, col)), Slice(scales, (col,)))
        step = block or held.block
        groups = -(-rows // step)

        def spread() -> NDArray[np.float32]:
            return np.asarray(held.make().scales[np.arange(groups) * step // held.block], np.float32)

        scales = self.builder.tensor(f"{name}.scale{step}", DType.F32, (groups, cols), spread)
        return ArrayData(Slice(values, (row, col)), Slice(scales, (row // step, col)))

    def offset(self, node: Node, col: int) -> Slice | None:
        """What is to be added to every weight of a column, from column `col` on; None if nothing."""
        if self.builder.arithmetic is Arithmetic.FLOAT32 or not self._held(node).has_offset:
            return None
        held, cols = self._held(node), self.shape(node)[1]

        def make() -> NDArray[np.float32]:
            offsets = held.make().offsets
            assert offsets is not None
            return offsets

        return Slice(self.builder.tensor(f"{node.inputs[1]}.offset", DType.F32, (cols,), make), (col,))

    def bits_of(self, node: Node) -> int:
        """Bits of the integers that arrays hold of a weight."""
        weight = self.graph.constants[node.inputs[1]]
        return self.bits if not weight.is_quantised else WEIGHT_BITS

    def is_plain(self, node: Node) -> bool:
        """Whether a weight has one scale a column and nothing that is added to every weight of it."""
        held = self._held(node)
        return not held.block and not held.has_offset

    def cells(self, node: Node) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
        """A plain weight as arrays hold it: values [K, N], and its column scales if they are integers."""
        if self.builder.arithmetic is Arithmetic.FLOAT32:
            return float32(self.graph.constants[node.inputs[1]]), None
        made = self._held(node).make()
        return made.values, made.scales[0]

    def bias_row(self, node: Node) -> NDArray[np.float32] | None:
        """The bias of a linear layer, or None if it has none."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return None
        return float32(self.graph.constants[node.inputs[2]]).reshape(-1)

    def _held(self, node: Node) -> _Cells:
        name = node.inputs[1]
        if name not in self._cells:
            self._cells[name] = self._from_file(node) or self._quantised(node)
        return self._cells[name]

    def _from_file(self, node: Node) -> _Cells | None:
        """The integers of the file, if it has some that arrays can take."""
        weight = self.graph.constants[node.inputs[1]]
        if not weight.is_quantised:
            return None
        block = row_block(weight)
        why = ""
        if block is None or (block and not self._can_group(node, block)):
            why = "their scales change along the rows in groups that are no whole words"
        elif not has_offset(weight) and not fits_int8(weight):
            why = "they do not fit int8 once their zero points are taken away"
        if block is None or why:
            place = node.sources[0] if node.sources else node.output.name
            self.notes.append(f"weights: the file's integers of {place} are quantised again: {why}")
            return None
        self.kept.add(node.inputs[1])

        @cache
        def make() -> IntegerWeight:
            found = integers(weight)
            assert found is not None
            return found

        return _Cells(block, make, has_offset(weight))

    def _quantised(self, node: Node) -> _Cells:
        weight = self.graph.constants[node.inputs[1]]
        asked = self.group if self.bits != WEIGHT_BITS and self.group < weight.shape[0] else 0
        block = asked if asked and self._can_group(node, asked) else 0
        if block != asked:
            place = node.sources[0] if node.sources else node.output.name
            why = f"groups of {asked} rows are not whole words of each tile's part"
            self.notes.append(f"weights: {place} has one scale a column: {why}")

        @cache
        def make() -> IntegerWeight:
            values, scales = quantise_in_groups(self._gained(node), self.bits, block)
            return IntegerWeight(values, scales, block)

        return _Cells(block, make)

    def _gained(self, node: Node) -> NDArray[np.float32]:
        """A weight with the gain that its input came without."""
        name = node.inputs[1]
        weight, gain = float32(self.graph.constants[name]), self._gains.get(name)
        return weight if gain is None else weight * float32(self.graph.constants[gain]).reshape(-1, 1)

    def summary(self) -> list[Note]:
        """What was taken from the file, for `--explain`."""
        kept = [f"weights: {len(self.kept)} keep the integers and scales of the file"] if self.kept else []
        return [Note(Heading.NEEDS, text) for text in (*kept, *self.notes)]

    def shift(self, value: str, constant: str) -> None:
        """Say that linear layers get `value` without a row that belongs to it: W (x + b) = W x + W b."""
        self._shifts[value] = constant

    def fold(self, gain: str, readers: Sequence[Node]) -> bool:
        """Let the linear layers `readers` get a value without its gain: W (g x) = (W g) x. False if they cannot:
        integers of a file stay as they are, and weights of 4 bits have too few levels for gains that differ."""
        names = {node.inputs[1] for node in readers}
        used = [node for node in self.graph.nodes if not names.isdisjoint(node.inputs)]
        is_apart = len(used) == len(readers) and all(node in readers for node in used)
        is_plain = not any(self.graph.constants[name].is_quantised for name in names)
        if self.bits != WEIGHT_BITS or not is_apart or not is_plain:
            return False
        self._gains |= dict.fromkeys(names, gain)
        return True

    def bias(self, node: Node, col: int) -> Slice | None:
        """The bias of a linear layer from column `col` on, or None if it has none: its own, and what the weights make
        of a shift that its input came without."""
        own = node.inputs[2] if len(node.inputs) > 2 else ""
        shift = self._shifts.get(node.inputs[0])
        cols = self.shape(node)[1]
        if shift is None:
            return self.row(own, cols, col) if own else None

        def make() -> NDArray[np.float32]:
            row = float32(self.graph.constants[shift]).reshape(-1).astype(np.float64)
            total = row @ float32(self.graph.constants[node.inputs[1]])
            return np.asarray(
                total + (float32(self.graph.constants[own]).reshape(-1) if own else 0), np.float32
            )

        name = f"{node.inputs[1]}.shifted"
        return Slice(self.builder.tensor(name, DType.F32, (cols,), make), (col,))

    def row(self, name: str, cols: int, col: int) -> Slice:
        """A constant of one row of `cols` columns (a single number is repeated), from column `col` on."""
        constant = self.graph.constants[name]

        def make() -> NDArray[np.float32]:
            return np.broadcast_to(float32(constant).reshape(-1), (cols,))

        tensor = name if constant.count == cols else f"{name}*{cols}"
        return Slice(self.builder.tensor(tensor, DType.F32, (cols,), make), (col,))

    def rows(self, names: list[str], width: int, at: tuple[int, int]) -> str:
        """A tensor with columns `at` (first, count) of constants of one row of `width`, one behind the other."""
        constants = [self.graph.constants[name] for name in names]
        col, cols = at

        def make() -> NDArray[np.float32]:
            rows = [np.broadcast_to(float32(c).reshape(-1), (width,))[col : col + cols] for c in constants]
            return np.concatenate(rows)

        tensor = f"{names[0]}*{len(names)}[{col}:{col + cols}]"
        return self.builder.tensor(tensor, DType.F32, (len(names) * cols,), make)

    def biases(self, name: str, reach: int, head: int) -> Slice:
        """Biases by distance [heads, 2r+1] up to `reach` (or slopes [heads], `reach` 0), laid flat, from a head on."""
        constant = self.graph.constants[name]
        entries = 2 * reach + 1
        total = int(constant.shape[0]) * entries

        def make() -> NDArray[np.float32]:
            table = float32(constant).reshape(len(float32(constant)), -1)
            middle = table.shape[1] // 2
            return np.ascontiguousarray(table[:, middle - reach : middle + reach + 1]).reshape(-1)

        tensor = name if total == constant.count else f"{name}[{-reach}:{reach}]"
        return Slice(self.builder.tensor(tensor, DType.F32, (total,), make), (head * entries,))

    def scalar(self, name: str) -> float | None:
        """The value of a constant of one element, or None if it has more."""
        constant = self.graph.constants[name]
        return float(float32(constant).reshape(-1)[0]) if constant.count == 1 else None

    def columns(self, name: str, col: int, cols: int, rows: int = 0) -> str:
        """A table [rows, cols] made of columns of a constant, of its first `rows` (0: of all)."""
        constant = self.graph.constants[name]
        have, total = (int(extent) for extent in constant.shape)
        rows = rows or have
        table = name if (col, cols) == (0, total) else f"{name}[{col}:{col + cols}]"
        table += f"[:{rows}]" if rows < have else ""

        def make() -> NDArray[np.float32]:
            return np.ascontiguousarray(float32(constant)[:rows, col : col + cols])

        return self.builder.tensor(table, DType.F32, (rows, cols), make)

    def rotary_table(self, node: Node, context: int) -> str:
        """A table [context, rotary_dim]: for each position rotary_dim/2 cosines, then as many sines.

        The angle is position * inv_freq in float32, as exporters compute it.
        """
        op = node.op
        assert isinstance(op, Rotary)
        frequencies = self.graph.constants[node.inputs[1]]

        def make() -> NDArray[np.float32]:
            angles = np.arange(context, dtype=np.float32)[:, None] * float32(frequencies).reshape(1, -1)
            turn = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
            return np.asarray(turn * np.float32(op.scaling), dtype=np.float32)

        scaled = "" if op.scaling == 1 else f"*{op.scaling:g}"
        return self.builder.tensor(
            f"rotary.{node.inputs[1]}{scaled}", DType.F32, (context, op.rotary_dim), make
        )
