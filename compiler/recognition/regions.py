"""Pieces of a graph and what they compute: the tools of the recognition passes.

Recognition does not compare chains of operators with a template. It cuts out a region between a
value and the values it is computed from, evaluates the region on chosen inputs ("probes"), and asks
whether the results are those of a canonical operator. So it does not matter how an exporter wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from compiler.ir.dims import Shape, axes_of, resolve
from compiler.ir.evaluate import Interpreter, default_feed
from compiler.ir.graph import Input, Node, Onnx, Role
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array
from compiler.ops.registry import Trait, trait_of

Test = Callable[[Node], bool]

_DATA_ROLES = (Role.IDS, Role.PAST, Role.TOKEN_TYPES, Role.OTHER, Role.SOURCE, Role.CROSS, Role.WEIGHT)

SOURCE_TOKENS = 7
"""How many tokens the source has in a probe: a number that no probe has otherwise."""


class Survey:
    """Which values are *data* and which are *control*.

    Control values follow from sizes, the mask and the positions alone (with no padding they are
    known once the sizes are); data depends on tokens, the cache, or other inputs.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._data: set[str] = {i.name for i in editor.inputs if i.role in _DATA_ROLES}
        for node in editor.nodes():
            if not _is_sizes(node) and (
                not isinstance(node.op, Onnx) or any(i in self._data for i in node.inputs)
            ):
                self._data.update(v.name for v in node.outputs)

    def is_data(self, name: str) -> bool:
        """Whether the value depends on tokens, cache or other data."""
        if name in self._data:
            return True
        node = self.editor.producer(name)
        return node is not None and not isinstance(node.op, Onnx)

    def data_inputs(self, node: Node) -> tuple[str, ...]:
        """The distinct data inputs of a node."""
        return tuple(dict.fromkeys(i for i in node.inputs if self.is_data(i)))

    def roles(self, name: str) -> frozenset[Role]:
        """What kinds of input a value is computed from, as far as data goes."""
        found: set[Role] = set()
        seen, todo = {name}, [name]
        by_name = {i.name: i.role for i in self.editor.inputs}
        while todo:
            at = todo.pop()
            if at in by_name:
                found.add(by_name[at])
            node = self.editor.producer(at)
            for i in self.data_inputs(node) if node is not None else ():
                if i not in seen:
                    seen.add(i)
                    todo.append(i)
        return frozenset(found)

    def note(self, name: str) -> None:
        """Declare a new value to be data."""
        self._data.add(name)


def _is_sizes(node: Node) -> bool:
    return isinstance(node.op, Onnx) and node.op.kind in ("Shape", "Size")


def is_onnx(node: Node | None, *kinds: str) -> bool:
    """Whether the node is an ONNX operator of ai.onnx of one of the kinds."""
    return node is not None and isinstance(node.op, Onnx) and not node.op.domain and node.op.kind in kinds


def scalar(editor: Editor, name: str) -> float | None:
    """The value of a constant of one element."""
    constant = editor.constant(name)
    if (
        constant is None
        or constant.count != 1
        or not constant.has_data
        or constant.dtype.value in ("string", "other")
    ):
        return None
    return float(constant.data().reshape(-1)[0])


@dataclass(frozen=True, slots=True)
class Region:
    """The nodes between `roots` and `output`, producers first."""

    output: str
    roots: tuple[str, ...]
    nodes: tuple[Node, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The ONNX nodes of the region."""
        return merge_sources(self.nodes)


def merge_sources(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The ONNX nodes that the given nodes come from, each once."""
    return tuple(dict.fromkeys(source for node in nodes for source in node.sources))


def trace(survey: Survey, output: str, through: Test, limit: int = 400) -> Region:
    """Walk back from `output` over data inputs while `through` holds; where it does not are the roots."""
    editor = survey.editor
    nodes: dict[int, Node] = {}
    roots: dict[str, None] = {}
    todo = [output]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        node = editor.producer(name)
        if node is None or len(nodes) >= limit or not through(node):
            roots[name] = None
            continue
        nodes[id(node)] = node
        todo += reversed(survey.data_inputs(node))
    ordered = sorted(nodes.values(), key=editor.rank)
    return Region(output, tuple(roots), tuple(ordered))


def narrowings(survey: Survey, output: str, through: Test, limit: int = 40) -> list[str]:
    """The values that alone determine `output`, nearest first: where a backward walk has one strand."""
    editor = survey.editor
    frontier = {output}
    found: list[str] = []
    for _ in range(limit):
        made = [(editor.rank(n), v) for v in frontier if (n := editor.producer(v)) is not None and through(n)]
        if not made or (len(made) < len(frontier) and len(frontier) == 1):
            break
        _, last = max(made)
        node = editor.producer(last)
        assert node is not None
        frontier = (frontier - {v.name for v in node.outputs}) | set(survey.data_inputs(node))
        if len(frontier) == 1:
            found += frontier
    return found


def grow(survey: Survey, root: str, within: Test, limit: int = 60) -> list[Node]:
    """The nodes computed from `root` and constants alone, while `within` holds; producers first."""
    editor = survey.editor
    inside = {root}
    nodes: list[Node] = []
    ready = {id(n): n for n in editor.users(root)}
    while ready and len(nodes) < limit:
        fits = [n for n in ready.values() if within(n) and set(survey.data_inputs(n)) <= inside]
        if not fits:
            break
        node = min(fits, key=editor.rank)
        del ready[id(node)]
        nodes.append(node)
        for value in node.outputs:
            inside.add(value.name)
            ready.update((id(n), n) for n in editor.users(value.name))
    return nodes


def only_constants(survey: Survey, node: Node) -> bool:
    """Whether all inputs but the data ones are constants (not control values)."""
    editor = survey.editor
    return all(not i or survey.is_data(i) or editor.constant(i) is not None for i in node.inputs)


def is_movement(node: Node) -> bool:
    """Whether a node only moves elements."""
    return trait_of(node.op) is Trait.MOVEMENT


def is_elementwise(node: Node) -> bool:
    """Whether a node works element by element."""
    return trait_of(node.op) is Trait.ELEMENTWISE


def lead_of(inputs: Iterable[Input]) -> Shape | None:
    """[batch, sequence] as the inputs have them; None if no input has both."""
    by_token = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES)
    shapes = [(i.role, i.value.shape or ()) for i in inputs]
    known = [shape for role, shape in shapes if role in by_token and len(shape) == 2]
    rows = [shape for role, shape in shapes if role is Role.OTHER and len(shape) in (3, 4)]
    return known[0] if known else (rows[0][0], rows[0][-2]) if rows else None


@dataclass(slots=True)
class Prober:
    """Evaluates control values, and regions on stand-in data, at chosen sizes, in float64."""

    survey: Survey
    _probes: dict[tuple[int, int, int], Interpreter] = field(default_factory=dict)

    def has_past(self) -> bool:
        """Whether the model has cache inputs (so that positions need not start at 0)."""
        return any(i.role is Role.PAST for i in self.survey.editor.inputs)

    def at(self, sequence: int, past: int = 0, batch: int = 1) -> Interpreter:
        """An interpreter for control values with these sizes (or those that the file fixes)."""
        fixed = self._fixed()
        batch, sequence = fixed.get("batch", batch), fixed.get("sequence", sequence)
        past = fixed.get("past", past if self.has_past() else 0)
        key = (batch, sequence, past)
        if key not in self._probes:
            sizes = self._sizes(batch, sequence, past)
            interpreter = Interpreter(self.survey.editor, {}, sizes, wide=True)
            for given in self.survey.editor.inputs:
                feed = default_feed(given, sizes)
                if feed is not None and given.role is not Role.TOKEN_TYPES:
                    interpreter.feeds[given.name] = feed
            self._probes[key] = interpreter
        return self._probes[key]

    def evaluate(
        self, probe: Interpreter, nodes: Iterable[Node], stand_ins: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The values of `nodes` (producers first) when data values are `stand_ins`."""
        local = Interpreter(self.survey.editor, dict(stand_ins), probe.sizes, wide=True)
        for node in nodes:
            for name in node.inputs:
                if name and name not in local.feeds:
                    local.feeds[name] = probe.value(name)
            local.run_node(node)
        return local.feeds

    def shape(self, probe: Interpreter, name: str) -> tuple[int, ...] | None:
        """The shape of a value at the probe's sizes, if it is known."""
        shape = self.survey.editor.shape(name)
        if shape is None or any(not axes_of(e) <= set(probe.sizes) for e in shape):
            return None
        return tuple(resolve(e, probe.sizes) for e in shape)

    def _fixed(self) -> dict[str, int]:
        """Sizes that the file, or the user, fixed."""
        inputs = self.survey.editor.inputs
        pasts = [i.value.shape for i in inputs if i.role is Role.PAST and len(i.value.shape or ()) in (4, 5)]
        named = [*zip(("batch", "sequence"), lead_of(inputs) or (), strict=False)]
        named += [(name, shape[at]) for shape in pasts if shape for name, at in (("batch", -4), ("past", -2))]
        return {name: extent for name, extent in named if isinstance(extent, int)}

    def _source(self) -> int:
        """How many tokens the source has."""
        shapes = [(i.role, i.value.shape or ()) for i in self.survey.editor.inputs]
        found = [s[-2] for role, s in shapes if role in (Role.SOURCE, Role.CROSS) and len(s) > 2]
        return next((e for e in found if isinstance(e, int)), SOURCE_TOKENS)

    def _sizes(self, batch: int, sequence: int, past: int) -> dict[str, int]:
        sizes = {"batch": batch, "sequence": sequence, "past": past, "source": self._source()}
        for given in self.survey.editor.inputs:
            for extent in given.value.shape or ():
                for name in axes_of(extent):
                    # An axis that no input names as one of ours: as long as the tokens so far.
                    sizes.setdefault(name, sequence + past)
        return sizes


def random_rows(*shape: int) -> Array:
    """Reproducible stand-in data, small enough that epsilons show."""
    generator = np.random.default_rng(20250817)
    return generator.standard_normal(shape) * 0.05 + 0.02
