"""Pieces of a graph and what they compute: the tools of the recognition passes.

Recognition does not compare chains of operators with a template. It cuts out a region between a
value and the values it is computed from, evaluates the region on chosen inputs ("probes"), and asks
whether the results are those of a canonical operator. So it does not matter how an exporter wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from compiler.ir.dims import Extent, Shape, axes_of, axis, resolve
from compiler.ir.evaluate import Interpreter, default_feed
from compiler.ir.feeding import is_of_source
from compiler.ir.graph import Input, Node, Onnx, Role
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array
from compiler.ops.registry import Trait, trait_of

Test = Callable[[Node], bool]

SOURCES = (Role.SOURCE, Role.SOURCE_IDS, Role.CROSS)
"""What belongs to the other sequence."""

_DATA_ROLES = (Role.IDS, Role.PAST, Role.TOKEN_TYPES, Role.OTHER, Role.WEIGHT, *SOURCES)

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
        self._of_source = {i.name: i.role in SOURCES for i in editor.inputs}
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

    def of_source(self, name: str) -> bool:
        """Whether a value follows from the source alone."""
        todo = [name]
        while todo:
            top = todo[-1]
            node = self.editor.producer(top)
            data = self.data_inputs(node) if node is not None else ()
            missing = [i for i in data if i not in self._of_source]
            if missing and top not in self._of_source:
                todo += missing
                continue
            if top not in self._of_source:
                alone = all(self._of_source[i] for i in data) if data else self._counts_source(node)
                self._of_source[top] = alone
            todo.pop()
        return self._of_source[name]

    def _counts_source(self, node: Node | None) -> bool:
        """Whether a node looks up rows by positions of the source."""
        names = node.inputs if node is not None else ()
        return any(i.name in names and is_of_source(i) for i in self.editor.inputs)

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
    """[batch, sequence] as the inputs have them, the batch 1 where they have but one sequence; None if none has it."""
    by_token = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES)
    shapes = [(i.role, i.value.shape or ()) for i in inputs]
    known = [shape for role, shape in shapes if role in by_token and len(shape) == 2]
    rows = [shape for role, shape in shapes if role is Role.OTHER and len(shape) in (3, 4)]
    single = [s[0] for role, s in shapes if (role, len(s)) in ((Role.IDS, 1), (Role.OTHER, 2))]
    if not known and not rows:
        return (1, single[0]) if single else None
    return known[0] if known else (rows[0][0], rows[0][-2])


def is_single(inputs: Iterable[Input]) -> bool:
    """Whether the model takes one sequence, without an axis to count sequences: ids [tokens] or rows [tokens, .]."""
    ranks = [(i.role, len(i.value.shape or ())) for i in inputs]
    single = ((Role.IDS, 1), (Role.OTHER, 2))
    batched = ((Role.IDS, 2), (Role.OTHER, 3), (Role.OTHER, 4))
    return any(r in single for r in ranks) and not any(r in batched for r in ranks)


def source_of(inputs: Iterable[Input]) -> Extent:
    """How many rows the source has: a number if the file fixes it."""
    shapes = [(i.role, i.value.shape or ()) for i in inputs]
    found = [s[-1 if role is Role.SOURCE_IDS else -2] for role, s in shapes if role in SOURCES and len(s) > 1]
    return next((e for e in found if isinstance(e, int)), axis("source"))


@dataclass(slots=True)
class Prober:
    """Evaluates control values, and regions on stand-in data, at chosen sizes.

    Data is float64, and so are control values unless they are wanted as the file's own arithmetic has them.
    """

    survey: Survey
    _probes: dict[tuple[bool, int, int, int, int], Interpreter] = field(default_factory=dict)

    def has_past(self) -> bool:
        """Whether the model has cache inputs (so that positions need not start at 0)."""
        return any(i.role is Role.PAST for i in self.survey.editor.inputs)

    def at(
        self, sequence: int, past: int = 0, batch: int = 1, source: int = SOURCE_TOKENS, *, wide: bool = True
    ) -> Interpreter:
        """An interpreter for control values with these sizes (or those that the file fixes)."""
        fixed = self._fixed()
        batch, sequence = fixed.get("batch", batch), fixed.get("sequence", sequence)
        past = fixed.get("past", past if self.has_past() else 0)
        key = (wide, batch, sequence, past, self._source(source))
        if key not in self._probes:
            sizes = self._sizes(*key[1:])
            interpreter = Interpreter(self.survey.editor, {}, sizes, wide=wide)
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

    def _source(self, wanted: int) -> int:
        """How many tokens the source has: what is wanted unless the file fixes it."""
        extent = source_of(self.survey.editor.inputs)
        return extent if isinstance(extent, int) else wanted

    def _sizes(self, batch: int, sequence: int, past: int, source: int) -> dict[str, int]:
        sizes = {"batch": batch, "sequence": sequence, "past": past, "source": source}
        for given in self.survey.editor.inputs:
            for extent in given.value.shape or ():
                for name in axes_of(extent):
                    # An axis that no input names as one of ours: as long as the tokens so far.
                    sizes.setdefault(name, sequence + past)
        return sizes


@dataclass(frozen=True, slots=True)
class Lengths:
    """Probes at lengths of the rows that attend to each other: the tokens', or those of the source alone.

    In the file's own arithmetic: at the border of a bucket of distances, float64 would fall on the other side.
    """

    prober: Prober
    of_source: bool = False

    def at(self, step: int, past: int = 0) -> Interpreter:
        """A probe with so many rows in the step, and in the cache."""
        if self.of_source:
            return self.prober.at(3, source=step, wide=False)
        return self.prober.at(step, past, wide=False)

    def has_past(self) -> bool:
        """Whether rows may be in a cache."""
        return not self.of_source and self.prober.has_past()

    def of(self, probe: Interpreter) -> tuple[int, int]:
        """How many rows the step and the cache of a probe have."""
        sizes = probe.sizes
        return (sizes["source"], 0) if self.of_source else (sizes["sequence"], sizes["past"])


def random_rows(*shape: int) -> Array:
    """Reproducible stand-in data, small enough that epsilons show."""
    generator = np.random.default_rng(20250817)
    return generator.standard_normal(shape) * 0.05 + 0.02
