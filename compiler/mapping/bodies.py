"""Which values of a graph lie inside sections, and which are whole rows on the hub.

A linear layer on a hub value, and what follows column by column or head by head, is inside a section until another
linear layer ends it. Where something needs whole rows of a value inside (a norm, a sum with another value, the
model's output), the value is *closed*: it becomes the end of its section. Closing a value changes what comes
after it, so the graph is walked until nothing more is closed; what is closed stays closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import Activation, Add, Attention, Graph, Linear, Mul, Node, Norm, Rotary

from .sections import Domain, Lane


@dataclass(frozen=True, slots=True)
class Body:
    """What makes a value inside a section: its first layers and the operators after them, or attention and those.

    `before_heads` is the value before the first operator that works head by head ("" if there is none).
    """

    nodes: tuple[Node, ...]
    hub: str = ""
    attention: Node | None = None
    before_heads: str = ""

    @property
    def first(self) -> tuple[Node, ...]:
        """Its first linear layers."""
        return tuple(node for node in self.nodes if isinstance(node.op, Linear))

    @property
    def inner(self) -> tuple[Node, ...]:
        """The operators after them."""
        return tuple(node for node in self.nodes if not isinstance(node.op, Linear))


def is_headwise(node: Node) -> bool:
    """Whether an operator needs whole heads, but not whole rows."""
    return isinstance(node.op, Rotary) or (isinstance(node.op, Norm) and node.op.groups > 1)


@dataclass(slots=True)
class Bodies:
    """The bodies of a graph's values. `made` has one for every value that a section can make."""

    graph: Graph
    made: dict[str, Body] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._order = {id(node): index for index, node in enumerate(self.graph.nodes)}
        self._producers = self.graph.producers()
        self._consumers = self.graph.consumers()
        while self._walk():
            pass

    _order: dict[int, int] = field(init=False, repr=False)
    _producers: dict[str, Node] = field(init=False, repr=False)
    _consumers: dict[str, list[Node]] = field(init=False, repr=False)

    def data(self, node: Node) -> list[str]:
        """The inputs of a node that are values."""
        return [name for name in node.inputs if name and name not in self.graph.constants]

    def inside(self, name: str) -> Body | None:
        """The body that a value lies inside of; None if it is a hub value."""
        return None if name in self.closed else self.made.get(name)

    def lane(self, name: str, domain: Domain) -> Lane | None:
        """What attention's input `name` is made of; None if it is not computed. Closes what no lane can begin with."""
        if not name:
            return None
        chain: list[Node] = []
        while self.inside(name) is not None:
            node = self._producers[name]
            if isinstance(node.op, Linear):
                return Lane(node.inputs[0], domain, node, tuple(chain))
            if isinstance(node.op, Attention) or len(self.data(node)) != 1:
                self._close(name)
                break
            chain.insert(0, node)
            name = self.data(node)[0]
        while name in self._producers and is_headwise(self._producers[name]):
            chain.insert(0, self._producers[name])
            name = self._producers[name].inputs[0]
        return Lane(name, domain, None, tuple(chain))

    def _walk(self) -> bool:
        """Find the bodies once; true if values had to be closed."""
        before = len(self.closed)
        self.made.clear()
        for node in self.graph.nodes:
            body = self._body(node)
            if body is not None:
                self.made[node.output.name] = body
        self._close_shared()
        return len(self.closed) > before

    def _body(self, node: Node) -> Body | None:
        values = self.data(node)
        bodies = [body for body in map(self.inside, values) if body is not None]
        match node.op:
            case Attention():
                for name in values:
                    self.lane(name, Domain.TOKENS)
                return Body((node,), attention=node)
            case Linear():
                if not bodies:
                    return Body((node,), values[0])
                if bodies[0].before_heads and not bodies[0].attention:
                    self._close(values[0])
                return None
            case Add() | Mul() | Activation() | Rotary() | Norm() if len(bodies) == len(values):
                joined = self._join(node, bodies)
                if joined is not None:
                    return joined
        for name in values:
            if self.inside(name) is not None:
                self._close(name)
        return None

    def _join(self, node: Node, bodies: list[Body]) -> Body | None:
        """The body of an operator on values inside; None if it needs whole rows."""
        if isinstance(node.op, Norm) and not is_headwise(node):
            return None
        first, last = bodies[0], bodies[-1]
        if len(bodies) > 1:
            if first.attention or last.attention or first.hub != last.hub:
                return None
            if isinstance(node.op, Add) and not {*map(id, first.nodes)} & {*map(id, last.nodes)}:
                return None
        nodes = {id(n): n for body in bodies for n in body.nodes} | {id(node): node}
        ordered = tuple(sorted(nodes.values(), key=lambda n: self._order[id(n)]))
        before = next((body.before_heads for body in bodies if body.before_heads), "")
        if not before and is_headwise(node):
            before = node.inputs[0]
        return Body(ordered, first.hub, first.attention, before)

    def _close(self, name: str) -> None:
        """Let a value inside a section be its end; before operators on heads, which the hub then does."""
        body = self.made.get(name)
        before = body.before_heads if body is not None and not body.attention else ""
        self.closed.add(before or name)

    def _close_shared(self) -> None:
        """Close what several sections would make again: cached attention, what two layers read, what is also output."""
        for name, body in self.made.items():
            if name in self.closed:
                continue
            users = self._consumers.get(name, [])
            ends = sum(isinstance(user.op, Linear) for user in users)
            is_output = name in self.graph.outputs
            has_heads = bool(body.before_heads) and body.attention is None
            is_shared = ends > 1 or (body.attention is not None and len(users) > 1)
            if is_shared or (is_output and (users or has_heads)):
                self._close(name)
