"""Layer by layer: every operator of the canonical graph, as the machine computed it and as the reference has it.

The Mapping says which block of which tile makes which value, and the role's regions say where that lies. An observer
reads it from the tile's buffer when it has been written; the columns of all tiles, put side by side, are compared
with what `compiler.ir.evaluate` computes in float32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compiler.backend.emitter import PLACE
from compiler.ir import graph as g
from compiler.ir import mapping as m
from compiler.ir.evaluate import evaluate
from compiler.ir.side_by_side import Part, parts_of
from compiler.pipeline import Compilation
from isa.instruction import DType, Inst
from isa.operands import ZERO, Addr, Reg
from isa.program import Program, Role
from runtime.analog.options import AnalogOptions
from runtime.engine.state import TileState
from runtime.engine.trap import TrapError
from runtime.session import Session

Rows = NDArray[np.float32]

# Which operations of a Mapping make the value of which operator. (Linear layers are known by their weights.)
MAKERS: dict[type[g.Canonical], tuple[type[m.Operation], ...]] = {
    g.Embed: (m.Lookup, m.LoadRows),
    g.Norm: (m.Normalise, m.NormQuantise),
    g.Rotary: (m.Rotate,),
    g.Attention: (m.Attend,),
    g.Activation: (m.Activate,),
    g.Add: (m.Add, m.AddRow),
    g.Mul: (m.Mul, m.MulRow, m.Scale),
}


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far the value of an operator is off: |ours - reference| / |reference|, over all elements."""

    node: str
    op: str
    relative_error: float
    largest_error: float


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a tile's part of an operator's value lies: `cols` columns at `offset` behind `base` in the buffer, or those
    from `first` on of rows of `width` columns there.

    They are float32, or, with `scale`, bytes with a scale a row, which lies there behind `base`. It is complete when
    instructions of `site` have written it. `column` is the first of these columns in the whole value, where the
    Mapping says so (the weight block's own); otherwise parts go side by side in the order of tiles. `lacks_bias`: it is
    a linear layer's value without its bias, `lacks_shift`: a norm's without its shift, `lacks_gain`: without its gain.
    """

    tile: int
    site: int
    base: Reg
    offset: int
    cols: int
    column: int | None
    scale: int | None = None
    lacks_bias: bool = False
    lacks_shift: bool = False
    lacks_gain: bool = False
    first: int = 0
    width: int = 0

    def read(self, state: TileState, tokens: int) -> Rows:
        """The part's rows [tokens, cols]. Raises `TrapError` if not all of it has been written."""
        at = Addr(self.base, self.offset)
        if self.scale is None:
            rows = state.read(at, DType.F32, tokens, self.width or self.cols)
            return np.array(rows[:, self.first : self.first + self.cols], np.float32)
        scales = state.read(Addr(self.base, self.scale), DType.F32, tokens, 1)
        return np.asarray(state.read(at, DType.I8, tokens, self.cols) * scales, np.float32)


@dataclass(frozen=True, slots=True)
class _Maker:
    """A block of a tile that makes a value, for the nodes that its site names.

    `weights` is the tensor that it multiplies by and `rows` how many rows of it; "" and 0 if it multiplies by none.
    """

    op: m.Operation
    names: frozenset[str]
    tap: Tap
    weights: str = ""
    rows: int = 0


def node_name(node: g.Node) -> str:
    """What a person calls an operator: the ONNX node, or what the names of its nodes have in common."""
    if not node.sources:
        return node.output.name
    if len(node.sources) == 1:
        return node.sources[0]
    paths = [source.split("/") for source in node.sources]
    common = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    return "/".join(common) or node.output.name


def layer_errors(
    compilation: Compilation,
    ids: Sequence[int],
    analog: AnalogOptions = AnalogOptions(),  # noqa: B008  (frozen)
) -> tuple[LayerError, ...]:
    """Every operator whose value could be observed, in the order of the graph."""
    graph, program = compilation.require_graph(), compilation.require_program()
    reference: dict[str, Rows] = {}

    def keep(node: g.Node, value: NDArray[np.generic]) -> None:
        reference[node.output.name] = np.asarray(value, np.float32)

    evaluate(graph, np.asarray(ids, np.int64), observe=keep)
    taps = taps_of(graph, compilation.require_mapping(), program)
    recorder = Recorder(program, [tap for found in taps.values() for tap in found])
    Session(program, observer=recorder.observe, analog=analog).score(ids)
    errors = []
    for node in graph.nodes:
        want, parts = reference[node.output.name], taps[node.output.name]
        if any(tap.lacks_bias for tap in parts):
            want = want - np.asarray(graph.constants[node.inputs[2]].data(), np.float32)
        got = recorder.value(parts, want.shape[-1])
        if got is not None and got.shape == want.shape:
            errors.append(_error(node, _with_row(node, graph, parts, got), want))
    return tuple(errors)


def _with_row(node: g.Node, graph: g.Graph, parts: Sequence[Tap], value: Rows) -> Rows:
    """A norm's value with the gain and the shift that are in the weights and biases behind it."""
    if any(tap.lacks_gain for tap in parts):
        value = value * np.asarray(graph.constants[node.inputs[1]].data(), np.float32).reshape(-1)
    if any(tap.lacks_shift for tap in parts) and len(node.inputs) > 2 and node.inputs[2]:
        value = value + np.asarray(graph.constants[node.inputs[2]].data(), np.float32).reshape(-1)
    return value


def _error(node: g.Node, got: Rows, want: Rows) -> LayerError:
    difference = got.astype(np.float64) - want
    scale = float(np.linalg.norm(want.astype(np.float64))) or 1.0
    relative = float(np.linalg.norm(difference)) / scale
    return LayerError(
        node_name(node), g.op_name(node.op), relative, float(np.abs(difference).max(initial=0.0))
    )


# ------------------------------------------------------------------------------------------- where values lie


def taps_of(graph: g.Graph, mapping: m.Mapping, program: Program) -> dict[str, tuple[Tap, ...]]:
    """For each operator, by the name of its value, the parts of it that tiles make."""
    makers = list(_makers(mapping, program))
    return {node.output.name: tuple(_taps(node, graph, makers)) for node in graph.nodes}


def _makers(mapping: m.Mapping, program: Program) -> Iterator[_Maker]:
    """Every block of every tile that makes a float32 value, or a norm as it is quantised."""
    for number, tile in enumerate(mapping.tiles):
        template, role = mapping.template(tile.template), program.role(tile.template)
        values = {value.name: value for value in template.values}
        offsets = {region.name: region.offset for region in role.regions}
        twice = _behind_place(role)
        for block in template.blocks:
            out = getattr(block.op, "out", None)
            if out is None or not (_is_float(values[out]) or isinstance(block.op, m.NormQuantise)):
                continue
            site = role.sites.index(block.site)
            names = frozenset(tile.nodes[site].split(" "))
            offset = offsets[out]
            scale = None if _is_float(values[out]) else offsets[f"{out}.scale"]
            tap = Tap(number, site, PLACE if offset in twice else ZERO, offset, values[out].cols, None, scale)
            if isinstance(block.op, m.NormQuantise):
                tap = replace(tap, lacks_shift=True, lacks_gain=not block.op.gain)
            yield from _multipliers(block.op, names, tap, template, tile) or [_Maker(block.op, names, tap)]


def _is_float(value: m.MapValue) -> bool:
    return value.format is m.Format.F32


def _behind_place(role: Role) -> set[int]:
    """Offsets of values that have several places, taken in turn by segments."""
    operands = (getattr(inst, field.name) for inst in role.code for field in inst.layout)
    return {at.offset for at in operands if isinstance(at, Addr) and at.base == PLACE}


def _multipliers(
    op: m.Operation, names: frozenset[str], tap: Tap, template: m.Template, tile: m.MapTile
) -> list[_Maker]:
    """The makers that multiply by weights, one for each weight in the array: they say which columns they make."""
    if not isinstance(op, m.Multiply):
        return []
    index = next(i for i, array in enumerate(template.arrays) if array.name == op.array)
    data = tile.arrays[index]
    if data is None:
        return []
    start, rows = data.values.start[1], template.arrays[index].rows
    weights = data.values.tensor.removesuffix(".int8")
    parts = parts_of(weights)
    if not parts:
        return [_Maker(op, names, replace(tap, column=start), weights, rows)]
    head = start // tap.cols
    return [
        _Maker(op, names, _part_of(tap, part, column=head * part.cols), part.weight, rows) for part in parts
    ]


def _part_of(tap: Tap, part: Part, column: int) -> Tap:
    """The columns of one weight in rows to which several have come."""
    return replace(tap, column=column, cols=part.cols, first=part.first, width=tap.cols)


def _taps(node: g.Node, graph: g.Graph, makers: list[_Maker]) -> list[Tap]:
    """The parts of a node's value. Partial sums are not parts of it; then whoever receives the whole has it."""
    assert not isinstance(node.op, g.Onnx)
    names = frozenset(node.sources)
    named = [maker for maker in makers if names <= maker.names]
    if not isinstance(node.op, g.Linear):
        return [maker.tap for maker in _own(node, graph, named)]
    found = [maker for maker in named if maker.weights == node.inputs[1]]
    rows = graph.constants[node.inputs[1]].shape[0]
    if all(maker.rows == rows for maker in found):
        return [maker.tap for maker in found]
    whole = [maker for maker in named if maker.names == names and isinstance(maker.op, m.Receive | m.AddRow)]
    sums = [maker for maker in whole if isinstance(maker.op, m.Receive)]
    received = {(maker.tap.tile, maker.op.out) for maker in sums if isinstance(maker.op, m.Receive)}
    if any(isinstance(o.op, m.AddRow) and (o.tap.tile, o.op.x) not in received for o in whole):
        return [replace(maker.tap, lacks_bias=True) for maker in sums]  # it went to what the sum is added to
    return list({(maker.tap.tile, maker.tap.offset): maker.tap for maker in whole}.values())


def _own(node: g.Node, graph: g.Graph, makers: list[_Maker]) -> list[_Maker]:
    """Of the blocks at sites that name `node`, those that are its own: a site may serve several nodes, in order."""
    assert not isinstance(node.op, g.Onnx)
    by_site: dict[tuple[int, int], list[_Maker]] = defaultdict(list)
    for maker in makers:
        if isinstance(maker.op, MAKERS[type(node.op)]):
            by_site[maker.tap.tile, maker.tap.site].append(maker)
    own = []
    for group in by_site.values():
        peers = [
            n for n in graph.nodes if type(n.op) is type(node.op) and frozenset(n.sources) <= group[0].names
        ]
        if peers == [node]:
            own += group
        elif len(peers) == len(group):
            own.append(group[peers.index(node)])
    return own


# ------------------------------------------------------------------------------------------------- recording


class Recorder:
    """Reads the taps' rows from the tiles' buffers while a session runs."""

    def __init__(self, program: Program, taps: Sequence[Tap]) -> None:
        self._parts: dict[Tap, dict[int, Rows]] = {tap: {} for tap in taps}
        self._at: dict[tuple[int, int], list[Tap]] = defaultdict(list)
        for tap in self._parts:
            self._at[tap.tile, tap.site].append(tap)
        self._lines = [program.role(tile.role).lines for tile in program.tiles]
        self._copy = {
            head.tile: number % cache.copies
            for cache in program.caches
            for number, head in enumerate(cache.heads)
        }

    def observe(self, tile: int, index: int, inst: Inst, state: TileState) -> None:
        """After an instruction: note the rows of what its site makes; the site's last instruction has the last word."""
        for tap in self._at.get((tile, self._lines[tile][index]), ()):
            segment = state.segments[state.segment]
            try:
                self._parts[tap][segment.position] = tap.read(state, segment.tokens)
            except TrapError:  # not all of it has been written yet
                continue

    def value(self, taps: Sequence[Tap], width: int) -> Rows | None:
        """The whole value [tokens, width] from its parts, or None if they do not make one up."""
        parts = [(tap, self._rows(tap)) for tap in taps if self._parts[tap]]
        if not parts:
            return None
        if all(tap.column is not None for tap, _ in parts):
            value = np.full((len(parts[0][1]), width), np.nan, np.float32)
            for tap, rows in parts:
                value[:, tap.column : (tap.column or 0) + tap.cols] = rows
            return None if np.isnan(value).any() else value
        first = [(tap, rows) for tap, rows in parts if not self._copy.get(tap.tile)]
        if sum(tap.cols for tap, _ in first) == width:  # tiles with copies of a KV head make the same columns
            parts = first
        whole: Rows = np.concatenate([rows for _, rows in parts], axis=1)
        # Where several tiles make the same columns, the first copy will do.
        return whole[:, :width] if whole.shape[1] % width == 0 else None

    def _rows(self, tap: Tap) -> Rows:
        found = self._parts[tap]
        rows: Rows = np.concatenate([found[position] for position in sorted(found)])
        return rows
