"""What of a model the chip works on, and what the host does within each step: `--place`.

The canonical graph is cut in two. The chip keeps attention, or attention and feed-forward layers; all else goes to
parts that the host runs. A part takes what the chip has made of the part before, so parts have *levels*: level 0 needs
nothing of the chip, level n + 1 something that the chip makes of what level n sent it. Rows of a source and rows of
tokens are never in one part.

Rotary embeddings, wherever they are, and norms of heads between a projection and attention stay on the chip: rows are
as wide before them as after, so the link carries no more, and the host need not know where in its sequence a row is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from compiler.ir.dims import axis
from compiler.ir.graph import (
    Attention,
    Graph,
    Input,
    Mul,
    Node,
    Norm,
    Partition,
    Role,
    Rotary,
    Value,
)
from compiler.ir.tensor import DType, tensor
from compiler.mapping.cutting import cut, domains_of, widths_of
from compiler.mapping.sections import Domain
from isa.diagnostics import NamedPlace, fail
from isa.program import Moment


class Placement(Enum):
    """What the chip works on."""

    ALL = "all"
    ATTENTION_FFN = "attention+ffn"
    ATTENTION = "attention"
    HOST = "host"


TOKEN_IDS = "input_ids"
"""The stream of token ids, whatever the file calls its input."""

_ONE = "host.one"

CANDIDATES = (Placement.ALL, Placement.ATTENTION_FFN, Placement.ATTENTION)
"""What `--place auto` tries, in this order: the first that fits the target is taken."""


def split(graph: Graph, placement: Placement) -> Graph:
    """The chip's part of a canonical graph; its `hosts` have the parts of the host, in the order in which they run.

    Raises `CimError` E0305 where the model has nothing that the chip is to keep.
    """
    if placement is Placement.ALL:
        return graph
    if placement is Placement.HOST:
        return _nothing_on_chip(graph)
    graph = _with_plain_ids(graph)
    chip = _chip_nodes(graph, placement)
    graph, chip = _with_copies(graph, chip)
    kept = _Splitter(graph, chip).graph_of_chip()
    if not kept.outputs:
        raise _refused(graph, f"--place {placement.value}: no output needs what the chip would keep")
    return kept


def _nothing_on_chip(graph: Graph) -> Graph:
    """A graph for the chip without operators: the host does all of it, and keeps the cache."""
    from compiler.frontend.host_decoder import host_decoder

    attentions = [node for node in graph.nodes if isinstance(node.op, Attention)]
    plain = [a for a in attentions if _is_plain(a)]
    if not attentions or len(plain) < len(attentions):
        why = "attention without a cache of all earlier tokens" if attentions else "no attention"
        raise _refused(graph, f"--place host is for plain decoders; the model has {why}")
    numbers = [i.name for i in graph.inputs if i.role in (Role.IDS, Role.POSITIONS)]
    numbers = [name for name in numbers if name in _names(graph.nodes)]
    model, definition = host_decoder("decoder", graph, numbers, graph.outputs, widths_of(graph))
    sources = tuple(dict.fromkeys(source for node in graph.nodes for source in node.sources))
    whole = Partition(
        "decoder", Moment.BEFORE, tuple(numbers), graph.outputs, model, sources, definition=definition
    )
    results = graph.results or graph.outputs
    return Graph(graph.name, (), (), (), {}, (), graph.model, (*graph.hosts, whole), results)


def _is_plain(attention: Node) -> bool:
    """Whether it sees all earlier tokens of its own sequence, and scores have no bias."""
    op = attention.op
    assert isinstance(op, Attention)
    has_bias = len(attention.inputs) > 3 and bool(attention.inputs[3])
    return op.causal and op.cache is not None and op.window is None and not op.cross and not has_bias


def ids_name(graph: Graph) -> tuple[str, str] | None:
    """What the file calls the token ids, and what the program calls them; None if these are the same."""
    given = graph.input(Role.IDS)
    if given is None or any(i.name == TOKEN_IDS for i in graph.inputs):
        return None
    return given.name, TOKEN_IDS


def _with_plain_ids(graph: Graph) -> Graph:
    """The graph, its token ids under the name that programs give them."""
    names = ids_name(graph)
    if names is None:
        return graph
    old, new = names
    inputs = tuple(replace(i, value=replace(i.value, name=new)) if i.name == old else i for i in graph.inputs)
    nodes = tuple(
        replace(node, inputs=tuple(new if name == old else name for name in node.inputs))
        if old in node.inputs
        else node
        for node in graph.nodes
    )
    return replace(graph, inputs=inputs, nodes=nodes)


def _refused(graph: Graph, why: str) -> Exception:
    return fail("E0305", why, NamedPlace(graph.model or graph.name), "--place all")


# ---------------------------------------------------------------------------------------------- what the chip does


def _chip_nodes(graph: Graph, placement: Placement) -> set[int]:
    """The operators that stay on the chip, by identity."""
    attentions = [node for node in graph.nodes if isinstance(node.op, Attention)]
    if not attentions:
        raise _refused(graph, f"--place {placement.value}: the model has no attention")
    chip = {id(node) for node in graph.nodes if isinstance(node.op, Attention | Rotary)}
    for node in attentions:
        chip |= {id(inner) for inner in _heads(graph, node)}
    if placement is Placement.ATTENTION_FFN:
        layers = [s for s in cut(graph).sections if not s.lanes and s.last is not None]
        if not layers:
            why = (
                f"--place {placement.value}: the model has no feed-forward layers, two linear layers in a row"
            )
            raise _refused(graph, why)
        for s in layers:
            chip |= {id(node) for node in (*s.first, *s.inner, s.last) if node is not None}
    return chip


def _heads(graph: Graph, attention: Node) -> Iterator[Node]:
    """The operators on heads right above an attention, that nothing else reads."""
    producers, consumers = graph.producers(), graph.consumers()
    for name in attention.inputs[:3]:
        node = producers.get(name)
        while node is not None and _is_on_heads(node) and len(consumers[node.output.name]) == 1:
            yield node
            node = producers.get(node.inputs[0])


def _is_on_heads(node: Node) -> bool:
    return isinstance(node.op, Rotary) or (isinstance(node.op, Norm) and node.op.groups > 1)


def _levels(graph: Graph, chip: set[int]) -> dict[str, int]:
    """The level of every value: how often rows have gone to the chip and back before it is made."""
    made_by_chip: set[str] = set()
    level: dict[str, int] = {i.name: 0 for i in graph.inputs}
    for node in graph.nodes:
        out, data = node.output.name, [n for n in node.inputs if n in level]
        if id(node) in chip:
            made_by_chip.add(out)
            level[out] = max((level[n] for n in data), default=0)
        else:
            level[out] = max((level[n] + (n in made_by_chip) for n in data), default=0)
    for node in graph.nodes:
        if isinstance(node.op, Attention):  # what it alone reads waits for it
            level |= dict.fromkeys((n.output.name for n in _heads(graph, node)), level[node.output.name])
    return level


def _with_copies(graph: Graph, chip: set[int]) -> tuple[Graph, set[int]]:
    """The graph with copies, made on the host, of two kinds of values.

    What the host makes both for the chip and as an output: one name is one stream. And what the chip makes and needs
    again after the host has worked in between: it does not wait there with the rows of a whole step.
    """
    level, domain = _levels(graph, chip), domains_of(graph)
    by_chip = {n.output.name for n in graph.nodes if id(n) in chip}
    twice = set(graph.outputs) - by_chip

    def is_copied(name: str, node: Node) -> bool:
        if name in twice:
            return True
        out = node.output.name
        return name in by_chip and domain[name] is domain[out] and level[name] < level[out]

    nodes, kept = list[Node](), set[int]()
    copied: set[str] = set()
    for node in graph.nodes:
        if id(node) not in chip:
            nodes.append(node)
            continue
        some = {name for name in node.inputs if name in level and is_copied(name, node)}
        nodes += [_copy(graph, name) for name in some - copied]
        copied |= some
        nodes.append(replace(node, inputs=tuple(f"{n}.copy" if n in some else n for n in node.inputs)))
        kept.add(id(nodes[-1]))
    constants = {**graph.constants, _ONE: tensor(np.ones(1, np.float32))} if copied else graph.constants
    return replace(graph, nodes=tuple(nodes), constants=constants), kept


def _copy(graph: Graph, name: str) -> Node:
    value = next(value for value in graph.values() if value.name == name)
    sources = next((n.sources for n in graph.nodes if n.output.name == name), ())
    return Node(Mul(), (name, _ONE), (replace(value, name=f"{name}.copy"),), sources)


# --------------------------------------------------------------------------------------------------- the host's parts

_Key = tuple[Domain, int]  # whose rows, and the level


@dataclass(slots=True)
class _Part:
    """Operators of the host of one domain and level."""

    key: _Key
    nodes: list[Node]

    @property
    def name(self) -> str:
        """`part3`; `source1` for rows of a source."""
        domain, level = self.key
        return f"{'source' if domain is Domain.SOURCE else 'part'}{level}"

    @property
    def made(self) -> set[str]:
        """The values that it makes."""
        return {node.output.name for node in self.nodes}


class _Splitter:
    """Cuts one graph."""

    def __init__(self, graph: Graph, chip: set[int]) -> None:
        self.graph = graph
        self.domain = domains_of(graph)
        self.widths = widths_of(graph)
        self.chip = [node for node in graph.nodes if id(node) in chip]
        self.by_chip = {node.output.name for node in self.chip}
        self.parts = self._parts(chip)
        self.makers = {name: part for part in self.parts for name in part.made}

    def _parts(self, chip: set[int]) -> list[_Part]:
        """The host's operators by domain and level, as far as they are needed; those of the source first."""
        level = _levels(self.graph, chip)
        needed = {*self.graph.outputs, *_names(self.chip)}
        parts: dict[_Key, _Part] = {}
        for node in reversed(self.graph.nodes):
            out = node.output.name
            if id(node) not in chip and out in needed:
                needed |= set(node.inputs)
                key = self.domain[out], level[out]
                parts.setdefault(key, _Part(key, [])).nodes.insert(0, node)
        return sorted(parts.values(), key=lambda p: (p.key[0] is Domain.TOKENS, p.key[1]))

    def graph_of_chip(self) -> Graph:
        """The chip's graph, with the parts."""
        graph = self.graph
        read = set(_names(self.chip))
        sent = {name: part for name, part in self.makers.items() if name in read}
        own = [i for i in graph.inputs if i.name in read]
        roles = {Domain.SOURCE: Role.SOURCE, Domain.TOKENS: Role.OTHER}
        given = [Input(self._rows(name), roles[part.key[0]]) for name, part in sent.items()]
        taken = {n for part in self.parts for n in _names(part.nodes) if n in self.by_chip}
        outputs = [o for o in graph.outputs if o in self.by_chip]
        within = [self._partition(part, read) for part in self.parts]
        around = {m: [p for p in graph.hosts if p.moment is m] for m in (Moment.BEFORE, Moment.AFTER)}
        return Graph(
            graph.name,
            (*own, *given),
            tuple(dict.fromkeys([*outputs, *(n.output.name for n in self.chip if n.output.name in taken)])),
            tuple(self.chip),
            {name: constant for name, constant in graph.constants.items() if name in read},
            graph.caches,
            graph.model,
            (*around[Moment.BEFORE], *within, *around[Moment.AFTER]),
            graph.results,
        )

    def _rows(self, name: str) -> Value:
        """The type of rows at the border."""
        whose = axis("source" if self.domain[name] is Domain.SOURCE else "tokens")
        return Value(name, DType.FLOAT32, (whose, self.widths[name]))

    def _partition(self, part: _Part, read: set[str]) -> Partition:
        """A part as an ONNX model."""
        from compiler.frontend.host_model import host_model

        graph, made = self.graph, part.made
        inputs = tuple(
            n for n in dict.fromkeys(_names(part.nodes)) if n and n not in made and n not in graph.constants
        )
        others = {n for other in self.parts if other is not part for n in _names(other.nodes)}
        wanted = read | others | set(graph.outputs)
        outputs = tuple(n.output.name for n in part.nodes if n.output.name in wanted)
        written = host_model(part.name, graph, part.nodes, (inputs, outputs), self.widths)
        positions = {i.name for i in graph.inputs if i.role is Role.POSITIONS}
        at = next((name for name in inputs if name in positions), "")
        sources = tuple(dict.fromkeys(source for node in part.nodes for source in node.sources))
        return Partition(
            part.name, Moment.WITHIN, inputs, outputs, written.model, sources, written.definition, at
        )


def _names(nodes: Iterable[Node]) -> list[str]:
    return [name for node in nodes for name in node.inputs]
