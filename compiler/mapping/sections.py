"""Cut a canonical graph into what runs on hub tiles and what runs beside the arrays.

*Hub* values are whole rows of the model's width: embeddings, the residual stream, norms. A *section* begins
with linear layers that read one hub value (`first`), goes on with operators that work head by head or column by
column (`inner`), and ends with a linear layer whose output is a hub value again (`last`). Attention and the
feed-forward layers are sections: they can be cut into parts that need nothing of each other until `last`, whose
partial sums the network adds. A section may also end without `last`: its columns are then gathered by the hub (the
dense layer of a prediction head), or are the model's output.

Every section and hub operator has a *depth*: the number of sections before it. Hub operators of one depth form a
stage, which runs on one tile or, cut by columns, on several.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Add, Attention, Graph, Linear, Mul, Node, Norm, op_name
from isa.diagnostics import NodePlace, fail


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the graph between two hub stages. `input` and `output` name hub values."""

    depth: int
    input: str
    first: tuple[Node, ...]
    inner: tuple[Node, ...]
    last: Node | None
    output: str

    @property
    def is_causal(self) -> bool:
        """Whether its answer for a token needs no later token."""
        return self.attention is None or (
            isinstance(self.attention.op, Attention) and self.attention.op.causal
        )

    @property
    def attention(self) -> Node | None:
        """The attention operator, if it is an attention section."""
        return next((n for n in self.inner if isinstance(n.op, Attention)), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """The hub operators of one depth, in order."""

    depth: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The graph as stages and sections: stage 0, sections of depth 0, stage 1, ..."""

    stages: tuple[Stage, ...]
    sections: tuple[Section, ...]

    def sections_at(self, depth: int) -> tuple[Section, ...]:
        """The sections that read from stage `depth`."""
        return tuple(s for s in self.sections if s.depth == depth)


def node_place(graph: Graph, node: Node) -> NodePlace:
    """The place of a node for diagnostics: its first ONNX node."""
    name = node.sources[0] if node.sources else node.output.name
    return NodePlace(graph.model or graph.name, name, op_name(node.op))


def refuse(graph: Graph, node: Node, why: str, way_out: str) -> Exception:
    """The diagnostic for a node that cannot be mapped."""
    return fail("E0306", why, node_place(graph, node), way_out)


class _Cutter:
    """Walks the graph once; decides for each value whether it is a hub value or inside a section."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.depth = {i.name: 0 for i in graph.inputs}
        self.owner: dict[str, int] = {}  # value inside a section -> group
        self.groups: dict[int, list[Node]] = {}
        self.consumers = graph.consumers()
        self.hub: list[tuple[int, Node]] = []
        self.ends: dict[int, str] = {}  # group -> its output, where no linear layer ends it

    def run(self) -> Layout:
        for node in self.graph.nodes:
            values = [name for name in node.inputs if name and name not in self.graph.constants]
            if self._ends_sections(node, values):
                for name in values:
                    self._close(name)
            inside = [self.owner[name] for name in values if name in self.owner]
            if inside:
                self._inner(node, values, inside)
            elif isinstance(node.op, Linear):
                self._first(node)
            else:
                self._hub(node, values)
        for name in self.graph.outputs:
            self._close(name)
        sections = tuple(self._section(group, nodes) for group, nodes in self.groups.items())
        depths = sorted({depth for depth, _ in self.hub} | {s.depth for s in sections})
        stages = tuple(Stage(d, tuple(n for depth, n in self.hub if depth == d)) for d in depths)
        return Layout(stages, tuple(sorted(sections, key=lambda s: s.depth)))

    def _hub(self, node: Node, values: list[str]) -> None:
        depth = max((self.depth[name] for name in values), default=0)
        self.depth[node.output.name] = depth
        self.hub.append((depth, node))

    def _ends_sections(self, node: Node, values: list[str]) -> bool:
        """Whether an operator needs whole rows of what sections have cut: a norm, or a sum with a hub value."""
        if isinstance(node.op, Norm):
            return not _has_groups(node)
        return isinstance(node.op, Add | Mul) and len({self.owner.get(name, -1) for name in values}) > 1

    def _close(self, name: str) -> None:
        """Let a value inside a section be its output, gathered by the hub."""
        group = self.owner.pop(name, None)
        if group is not None:
            self.ends[group] = name
            self.depth[name] = self.depth[self.groups[group][0].inputs[0]] + 1

    def _first(self, node: Node) -> None:
        """A linear layer on a hub value: joins the section of its siblings, or ends at once on the hub."""
        group = next(
            (g for g, nodes in self.groups.items() if self._siblings(nodes[0], node)), len(self.groups)
        )
        self.groups.setdefault(group, []).append(node)
        if self._is_direct(node):
            self.depth[node.output.name] = self.depth[node.inputs[0]] + 1
        else:
            self.owner[node.output.name] = group

    def _siblings(self, a: Node, b: Node) -> bool:
        """Whether two linear layers on one hub value are joined further down."""
        if a.inputs[0] != b.inputs[0] or self._is_direct(a) or self._is_direct(b):
            return False
        return bool(self._reach(a) & self._reach(b))

    def _reach(self, node: Node) -> set[str]:
        """Outputs of the operators after `node`, up to and including the section's last linear layer."""
        seen: set[str] = set()
        todo = [node.output.name]
        while todo:
            for user in self.consumers.get(todo.pop(), ()):
                name = user.output.name
                if name not in seen:
                    seen.add(name)
                    if not isinstance(user.op, Linear) and not self._joins_hub(user):
                        todo.append(name)
        return seen

    def _is_direct(self, node: Node) -> bool:
        """Whether a first layer's output is a hub value (or the model's output) at once."""
        users = self.consumers.get(node.output.name, [])
        return not users or all(self._joins_hub(u) for u in users)

    def _joins_hub(self, user: Node) -> bool:
        """Whether an operator needs whole rows: a norm of all of it, or a sum with another value."""
        if isinstance(user.op, Add):
            return not any(name in self.graph.constants for name in user.inputs)
        return isinstance(user.op, Norm) and not _has_groups(user)

    def _inner(self, node: Node, values: list[str], inside: list[int]) -> None:
        if isinstance(node.op, Attention) and node.op.cross:
            raise refuse(
                self.graph,
                node,
                "attention with keys and values of another sequence has no mapping yet",
                "compile the encoder alone, or a decoder-only model",
            )
        if len(set(inside)) > 1 or len(inside) < len(values):
            raise refuse(
                self.graph,
                node,
                "the operator joins values of different sections",
                "report this model's structure",
            )
        group = inside[0]
        self.groups[group].append(node)
        if isinstance(node.op, Linear):
            self.depth[node.output.name] = self.depth[self.groups[group][0].inputs[0]] + 1
        else:
            self.owner[node.output.name] = group

    def _section(self, group: int, nodes: list[Node]) -> Section:
        head = nodes[0].inputs[0]
        first = tuple(n for n in nodes if isinstance(n.op, Linear) and n.inputs[0] == head)
        rest = [n for n in nodes if n not in first]
        last = next((n for n in rest if isinstance(n.op, Linear)), None)
        inner = tuple(n for n in rest if n is not last)
        output = last.output.name if last else self.ends.get(group, first[0].output.name)
        return Section(self.depth[head], head, first, inner, last, output)


def _has_groups(node: Node) -> bool:
    return isinstance(node.op, Norm) and node.op.groups > 1


def cut(graph: Graph) -> Layout:
    """Stages and sections of a canonical graph. Raises `CimError` E0306 for structures beyond this scheme."""
    return _Cutter(graph).run()
