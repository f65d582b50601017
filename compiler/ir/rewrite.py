"""A graph that can be changed: what passes work on. `finish` gives an immutable `Graph` again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from compiler.ir.dims import Shape
from compiler.ir.graph import Cache, Graph, Input, Node, Operator, Partition, Value
from compiler.ir.tensor import DType, Tensor


@dataclass(slots=True)
class Placed:
    """A node and where it stands in the order."""

    node: Node
    rank: float


class Editor:
    """Index of a graph by value, with insertion, removal and replacement of nodes."""

    def __init__(self, graph: Graph) -> None:
        self.name = graph.name
        self.model = graph.model
        self.inputs: list[Input] = list(graph.inputs)
        self.outputs: list[str] = list(graph.outputs)
        self.constants: dict[str, Tensor] = dict(graph.constants)
        self.caches: list[Cache] = list(graph.caches)
        self.hosts: list[Partition] = list(graph.hosts)
        self.results: tuple[str, ...] = graph.results
        self.by_head: dict[str, int] = dict(graph.by_head)
        self.changed = False
        self._nodes: dict[int, Placed] = {}
        self._producer: dict[str, int] = {}
        self._users: dict[str, dict[int, None]] = {}
        self._values: dict[str, Value] = {i.name: i.value for i in graph.inputs}
        self._next = 0
        for node in graph.nodes:
            self._add(node, float(self._next))

    # Looking.

    def nodes(self) -> Iterator[Node]:
        """All nodes, in order, as they were when the walk began."""
        yield from [p.node for p in sorted(self._nodes.values(), key=lambda p: p.rank)]

    def producer(self, value: str) -> Node | None:
        """The node that makes `value`; None for inputs and constants."""
        at = self._producer.get(value)
        return None if at is None else self._nodes[at].node

    def users(self, value: str) -> list[Node]:
        """The nodes that use `value`, in no particular order."""
        return [self._nodes[at].node for at in self._users.get(value, ())]

    def only_user(self, value: str) -> Node | None:
        """The node that uses `value` if nothing else does, and it does so once; None too for graph outputs.

        x * x uses x twice: what is done to x for its sake would be done to both sides.
        """
        users = self.users(value)
        is_alone = len(users) == 1 and users[0].inputs.count(value) == 1 and value not in self.outputs
        return users[0] if is_alone else None

    def value(self, name: str) -> Value | None:
        """The type of a value; for a constant, its own."""
        if name in self.constants:
            constant = self.constants[name]
            return Value(name, constant.dtype, constant.shape)
        return self._values.get(name)

    def shape(self, name: str) -> Shape | None:
        """The shape of a value or constant, if known."""
        value = self.value(name)
        return None if value is None else value.shape

    def constant(self, name: str) -> Tensor | None:
        """The constant of this name."""
        return self.constants.get(name)

    def rank(self, node: Node) -> float:
        """Where `node` stands: producers before users."""
        return self._nodes[self._producer[node.outputs[0].name]].rank

    def holds(self, node: Node) -> bool:
        """Whether `node` is still there, unchanged."""
        return self.producer(node.outputs[0].name) is node

    # Changing.

    def insert(
        self,
        op: Operator,
        inputs: Iterable[str],
        output: Value,
        sources: tuple[str, ...],
        after: Node | None = None,
    ) -> Node:
        """Add a node. It stands where the last of its inputs is made, or right after `after`."""
        node = Node(op, tuple(inputs), (output,), sources)
        made = [self._nodes[self._producer[i]].rank for i in node.inputs if i in self._producer]
        if after is not None:
            made.append(self.rank(after))
        self._add(node, max(made, default=-1.0) + 1e-6)
        return node

    def place(self, node: Node, rank: float) -> None:
        """Add a node at a place in the order (see `rank`)."""
        self._add(node, rank)

    def reserve(self, value: Value) -> None:
        """Take a name, and give it a type, before the node that makes the value is added."""
        self._values[value.name] = value

    def replace(self, node: Node, new: Node) -> None:
        """Put `new` in the place of `node`."""
        at = self._producer[node.outputs[0].name]
        rank = self._nodes[at].rank
        self.remove(node)
        self._add(new, rank)

    def remove(self, node: Node) -> None:
        """Take a node out. Its outputs must be made by another node before `finish`, or be unused."""
        at = self._producer[node.outputs[0].name]
        del self._nodes[at]
        for name in node.inputs:
            self._users[name].pop(at, None)
        for value in node.outputs:
            if self._producer.get(value.name) == at:
                del self._producer[value.name]
        self.changed = True

    def redirect(self, old: str, new: str) -> None:
        """Let every user of `old` use `new`. A graph output keeps its name: see `finish`."""
        for node in self.users(old):
            self.replace(node, replace(node, inputs=tuple(new if i == old else i for i in node.inputs)))
        self.outputs = [new if o == old else o for o in self.outputs]
        self.changed = True

    def add_constant(self, name: str, value: Tensor) -> str:
        """Add a constant under `name`, or a name like it if another constant has it."""
        name = name if self.constants.get(name) == value else self.fresh(name)
        self.constants[name] = value
        return name

    def shared_constant(self, name: str, value: Tensor) -> str:
        """A constant that has this value; made under `name` if there is none."""
        same = next((n for n, constant in self.constants.items() if constant == value), None)
        return same or self.add_constant(name, value)

    def fresh(self, name: str) -> str:
        """`name`, or `name.1`, `name.2` ... if it is taken."""
        candidate, count = name, 0
        while candidate in self._values or candidate in self.constants:
            count += 1
            candidate = f"{name}.{count}"
        return candidate

    def reshape_input(self, given: Input, shape: Shape) -> None:
        """Give an input of the model another shape."""
        new = replace(given, value=replace(given.value, shape=shape))
        self.inputs = [new if i.name == given.name else i for i in self.inputs]
        self._values[given.name] = new.value

    def retype(self, node: Node, types: Iterable[tuple[DType, Shape | None]]) -> None:
        """Set the types of a node's outputs."""
        outputs = tuple(Value(v.name, d, s) for v, (d, s) in zip(node.outputs, types, strict=True))
        if outputs != node.outputs:
            at = self._producer[node.outputs[0].name]
            self._nodes[at].node = replace(node, outputs=outputs)
            self._values.update((v.name, v) for v in outputs)

    # Done.

    def finish(self, keep_dead: bool = False) -> Graph:
        """The graph: nodes in order; dead nodes (unless `keep_dead`) and unused constants gone."""
        nodes = self._ordered(set(self._nodes) if keep_dead else self._live())
        used = {name for node in nodes for name in node.inputs} | set(self.outputs)
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(self.outputs),
            tuple(nodes),
            {name: value for name, value in self.constants.items() if name in used},
            tuple(self.caches),
            self.model,
            tuple(self.hosts),
            self.results,
            tuple((name, heads) for name, heads in self.by_head.items() if name in self.outputs),
        )

    def _add(self, node: Node, rank: float) -> None:
        at, self._next = self._next, self._next + 1
        self._nodes[at] = Placed(node, rank)
        for value in node.outputs:
            if value.name:
                self._producer[value.name] = at
                self._values[value.name] = value
        for name in node.inputs:
            self._users.setdefault(name, {})[at] = None
        self.changed = True

    def _live(self) -> set[int]:
        todo = [self._producer[o] for o in self.outputs if o in self._producer]
        live: set[int] = set(todo)
        while todo:
            for name in self._nodes[todo.pop()].node.inputs:
                at = self._producer.get(name)
                if at is not None and at not in live:
                    live.add(at)
                    todo.append(at)
        return live

    def _ordered(self, live: set[int]) -> list[Node]:
        """Kahn's algorithm; among the ready nodes the one of lowest rank goes first."""
        waits: dict[int, int] = {}
        feeds: dict[int, list[int]] = {}
        for at in live:
            makers = {self._producer[i] for i in self._nodes[at].node.inputs if i in self._producer}
            waits[at] = len(makers)
            for maker in makers:
                feeds.setdefault(maker, []).append(at)
        ready: list[tuple[float, int]] = []
        for at, count in waits.items():
            if not count:
                heappush(ready, (self._nodes[at].rank, at))
        order: list[Node] = []
        while ready:
            at = heappop(ready)[1]
            order.append(self._nodes[at].node)
            for user in feeds.get(at, ()):
                waits[user] -= 1
                if not waits[user]:
                    heappush(ready, (self._nodes[user].rank, user))
        return order
