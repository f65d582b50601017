"""Find the layers of a canonical graph: its hub operators and sections in order, and the stretch that repeats.

The mapper knows no layers (stages and sections follow from the graph). Where weights are streamed, tiles do the work
of all layers in a loop, so the loop must be found: the shortest run of items that comes again and again with the same
operators, shapes and connections, and that hands on one value from one time to the next.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields

from compiler.ir.graph import Attention, Graph, Node, Rotary

from .sections import Layout, Section


@dataclass(frozen=True, slots=True)
class Item:
    """A hub operator or a section: what it reads of other items, and what it makes."""

    work: Node | Section
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class Fold:
    """A graph as items before a loop, `count` times the body, and items after it.

    `body[i][k]` is item i of the body in iteration k. `carry[k]` is the value that iteration k begins with; the last is
    what the loop leaves.
    """

    before: tuple[Item, ...]
    body: tuple[tuple[Item, ...], ...]
    after: tuple[Item, ...]
    carry: tuple[str, ...]

    @property
    def count(self) -> int:
        """Iterations."""
        return len(self.carry) - 1


def items_of(graph: Graph, layout: Layout) -> tuple[Item, ...]:
    """Hub operators and sections in the order of the data flow."""
    found: list[Item] = []
    for domain, depth in layout.steps:
        for stage in layout.stages_at(domain, depth):
            for node in stage.nodes:
                data = tuple(name for name in node.inputs if name and name not in graph.constants)
                found.append(Item(node, data, node.output.name))
        for section in layout.sections_at(domain, depth):
            found.append(Item(section, tuple(section.inputs), section.output))
    return tuple(found)


def fold(graph: Graph, layout: Layout) -> Fold | None:
    """The fold with the longest loop, of those that leave nothing but results behind it if there are any; None if no
    stretch with a section hands on one value alone."""
    items = items_of(graph, layout)
    keys = [_key(graph, items, at) for at in range(len(items))]
    best: Fold | None = None
    longest = False, False, 0
    for start in range(1, len(items)):
        for period in range(1, len(items) - start + 1):
            count = _repeats(keys, start, period)
            while count and not _hands_on_one(items, start, period, count):
                count -= 1
            found = [item for item in items[start : start + period] if isinstance(item.work, Section)]
            has_section = bool(found) and all(map(_is_inner, found))
            end = start + period * count
            is_whole = not any(_is_inner(item) for item in (*items[:start], *items[end:]))
            size = is_whole, count > 1, count * period
            if has_section and count and size > longest:
                best, longest = _folded(items, start, period, count), size
    return best


def _is_inner(item: Item) -> bool:
    """Whether an item is a section that something in the model reads."""
    return isinstance(item.work, Section) and not item.work.is_result


def _repeats(keys: list[Hashable], start: int, period: int) -> int:
    """How often the stretch of `period` items from `start` on comes one after the other."""
    at = start + period
    while at + period <= len(keys) and keys[at : at + period] == keys[start : start + period]:
        at += period
    return (at - start) // period


def _hands_on_one(items: tuple[Item, ...], start: int, period: int, count: int) -> bool:
    """Whether iterations read nothing but their own values and the last of the one before, and what follows nothing
    but the loop's last value and its own."""
    made = {item.output: at for at, item in enumerate(items)}
    end = start + period * count
    for at in range(start, len(items)):
        own = start + (at - start) // period * period if at < end else end
        if any(not own - 1 <= made.get(name, -1) for name in items[at].inputs):
            return False
    return True


def _folded(items: tuple[Item, ...], start: int, period: int, count: int) -> Fold:
    body = tuple(tuple(items[start + k * period + i] for k in range(count)) for i in range(period))
    carry = tuple(items[start + k * period - 1].output for k in range(count + 1))
    return Fold(items[:start], body, items[start + period * count :], carry)


# ------------------------------------------------------------------------------------------------ what is the same


def _key(graph: Graph, items: tuple[Item, ...], at: int) -> Hashable:
    """What must be equal in two items for one text to do both: operators, shapes, and how far back inputs lie."""
    item = items[at]
    made = {other.output: index for index, other in enumerate(items[:at])}
    distances = tuple(at - made[name] if name in made else name for name in item.inputs)
    if isinstance(item.work, Node):
        return distances, _node(graph, item.work)
    section = item.work
    lanes = tuple(
        None if lane is None else tuple(_node(graph, node) for node in (lane.linear, *lane.chain) if node)
        for lane in section.lanes
    )
    nodes = (*section.first, *section.inner, *([section.last] if section.last else []))
    return distances, lanes, tuple(_node(graph, node) for node in nodes), section.is_result


def _node(graph: Graph, node: Node) -> Hashable:
    """An operator, its own fields and the shapes of its constants; of what is no row of weights, the constant."""
    own = tuple(
        (f.name, getattr(node.op, f.name))
        for f in fields(node.op)
        if not (isinstance(node.op, Attention) and f.name == "cache")
    )
    constants = tuple(_constant(graph, node, name) for name in node.inputs if name in graph.constants)
    return type(node.op), own, constants


def _constant(graph: Graph, node: Node, name: str) -> Hashable:
    """A constant's shape; of angles and of single numbers, which texts have in them, its value."""
    tensor = graph.constants[name]
    if tensor.count == 1 or isinstance(node.op, Rotary):
        return tensor.shape, tensor.data().tobytes()
    return tensor.shape
