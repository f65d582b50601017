"""A canonical graph as work: what any mapping has to do, in the order in which it depends on itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from compiler.ir.graph import (
    Activation,
    Attention,
    Embed,
    Function,
    Graph,
    Linear,
    Mul,
    Node,
    Norm,
    NormKind,
    Role,
    Rotary,
)
from compiler.ir.tensor import DType
from compiler.mapping.cutting import cut
from compiler.mapping.sections import Domain, Layout, Section, Stage
from isa.workload import AttentionWork, Block, Place, Product, RowWork, SectionWork, Task, Workload, folded

_FUNCTIONS: Mapping[Function, Task] = {function: Task(function.value) for function in Function}


def workload_of(
    graph: Graph, weight_bits: int = 8, is_ideal: bool = False, chip: Graph | None = None
) -> Workload:
    """The work of a canonical graph on one row; `is_ideal` in float32 arithmetic. The host does what is not in `chip`,
    the chip's part of it.

    Raises `CimError` E0306 for structures that cannot be cut.
    """
    return replace(_Worker(graph, cut(graph), weight_bits, chip or graph).run(), is_ideal=is_ideal)


@dataclass(frozen=True, slots=True)
class _Depth:
    """Stages and sections of one domain and depth."""

    stages: tuple[Stage, ...]
    sections: tuple[Section, ...]

    def nodes(self) -> Iterator[Node]:
        """Hub operators."""
        for stage in self.stages:
            yield from stage.nodes


class _Worker:
    """Turns a layout into blocks."""

    def __init__(self, graph: Graph, layout: Layout, bits: int, chip: Graph) -> None:
        self.on_chip = {node.output.name for node in chip.nodes}
        self.graph, self.layout, self.bits = graph, layout, bits
        self.hub = {node.output.name: node for stage in layout.stages for node in stage.nodes}
        self.width: dict[str, int] = {i.name: _columns(i.value.shape) for i in graph.inputs}
        for node in graph.nodes:
            self.width[node.output.name] = self._width(node)

    def run(self) -> Workload:
        blocks: list[Block] = []
        for domain in (Domain.SOURCE, Domain.TOKENS):
            depths = [
                _Depth(self.layout.stages_at(domain, depth), self.layout.sections_at(domain, depth))
                for where, depth in self.layout.steps
                if where is domain
            ]
            blocks += self._chain(depths, domain is Domain.SOURCE)
        rows = [i for i in self.graph.inputs if i.role in (Role.OTHER, Role.SOURCE)]
        return Workload(folded(tuple(blocks)), max((self.width[i.name] for i in rows), default=0))

    def _chain(self, depths: list[_Depth], is_source: bool) -> list[Block]:
        """The blocks of a domain. From the last to the first: what all of the next block's sections need."""
        blocks: list[Block] = []
        needed: list[Section] | None = None
        for depth in reversed(depths):
            below = None if needed is None else self._common(needed)
            kept = [s for s in depth.sections if below is None or s.output in below]
            nodes = tuple(depth.nodes())
            readers = kept or needed
            common = self._common(readers) if readers else {node.output.name for node in nodes}
            hub = _longest(nodes, common)
            aside = [node for node in depth.nodes() if node not in hub]
            results = sum(self.width[name] for stage in depth.stages for name in stage.outputs)
            sections = tuple(self._section(s, any(s is k for k in kept)) for s in depth.sections)
            blocks.insert(
                0,
                Block(is_source, tuple(map(self._row, hub)), tuple(map(self._row, aside)), sections, results),
            )
            needed = kept or needed
        return blocks

    def _common(self, sections: Iterable[Section]) -> set[str]:
        """The values that every one of these sections depends on through rows of the hub, as far as other sections."""
        sets = [
            self._ancestors(name for name, domain in s.inputs.items() if domain is s.domain) for s in sections
        ]
        return set.intersection(*sets) if sets else set()

    def _ancestors(self, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = [name for name in names if name]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                node = self.hub.get(name)
                todo += [n for n in node.inputs if n] if node is not None else []
        return found

    # -------------------------------------------------------------------------------------------- operators

    def _width(self, node: Node) -> int:
        match node.op:
            case Attention(heads=heads, v_head_dim=dim):
                return heads * dim
            case Embed() | Linear():
                return int(self.graph.constants[node.inputs[1]].shape[-1])
            case _:
                data = (self.width.get(name, 0) for name in node.inputs if name not in self.graph.constants)
                return max(data, default=0)

    def _place(self, node: Node) -> Place:
        return Place.CHIP if node.output.name in self.on_chip else Place.HOST

    def _row(self, node: Node) -> RowWork:
        task, width, entries = self._task(node), self.width[node.output.name], 0
        if isinstance(node.op, Embed):
            entries = int(self.graph.constants[node.inputs[1]].shape[0])
        return RowWork(task, width, entries, self._place(node))

    def _task(self, node: Node) -> Task:
        match node.op:
            case Embed():
                source = next((i for i in self.graph.inputs if i.name == node.inputs[0]), None)
                is_position = source is not None and source.role is Role.POSITIONS
                return Task.POSITION if is_position else Task.EMBED
            case Norm(kind=kind):
                return Task.RMS if kind is NormKind.RMS else Task.LAYER
            case Activation(kind=function):
                return _FUNCTIONS[function]
            case Rotary():
                return Task.ROTARY
            case Mul():
                return Task.MUL
            case _:
                return Task.ADD

    def _product(self, nodes: Iterable[Node]) -> tuple[Product, ...]:
        """Linear layers side by side, those that read the same value as one."""
        columns: dict[tuple[str, Place], tuple[int, int]] = {}
        bits = 32  # of a weight on the host, which computes in the file's own format
        for node in nodes:
            if self.graph.constants[node.inputs[1]].dtype is DType.FLOAT16:
                bits = 16
            rows, cols = (int(extent) for extent in self.graph.constants[node.inputs[1]].shape)
            key = node.inputs[0], self._place(node)
            columns[key] = rows, columns.get(key, (rows, 0))[1] + cols
        return tuple(
            Product(rows, cols, self.bits if place is Place.CHIP else bits, place)
            for (_, place), (rows, cols) in columns.items()
        )

    def _section(self, section: Section, on_path: bool) -> SectionWork:
        own = section.first
        source: tuple[Node, ...] = ()
        before: list[RowWork] = []
        attention = None
        inner = section.inner
        if section.lanes:
            lanes = [lane for lane in section.lanes if lane is not None]
            theirs = {id(lane.linear) for lane in lanes if lane.domain is not section.domain}
            own = tuple(node for node in section.first if id(node) not in theirs)
            source = tuple(node for node in section.first if id(node) in theirs)
            if section.lanes[0] is not None:
                before = [self._row(node) for node in section.lanes[0].chain]
            op = inner[0].op
            assert isinstance(op, Attention)
            attention, inner = _attention(op, section.domain), inner[1:]
        last = None if section.last is None else self._product([section.last])[0]
        return SectionWork(
            self._product(own),
            self._product(source),
            tuple(before),
            attention,
            tuple(map(self._row, inner)),
            last,
            section.is_result,
            on_path,
        )


def _attention(op: Attention, domain: Domain) -> AttentionWork:
    return AttentionWork(
        op.heads,
        op.kv_heads,
        op.head_dim,
        op.v_head_dim,
        op.window or 0,
        op.causal,
        op.cross,
        op.cache is not None and domain is Domain.TOKENS,
    )


def _columns(shape: tuple[object, ...] | None) -> int:
    return shape[-1] if shape and isinstance(shape[-1], int) else 0


def _longest(nodes: tuple[Node, ...], common: set[str]) -> list[Node]:
    """The longest chain of those of these operators whose results are in `common`."""
    chains: dict[str, list[Node]] = {}
    best: list[Node] = []
    for node in nodes:
        if node.output.name not in common:
            continue
        before = max((chains.get(name, []) for name in node.inputs), key=_weight, default=[])
        chain = chains[node.output.name] = [*before, node]
        best = max(best, chain, key=_weight)
    return best


def _weight(chain: list[Node]) -> int:
    return sum(3 if isinstance(node.op, Norm) else 1 for node in chain)
