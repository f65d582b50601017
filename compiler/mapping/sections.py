"""What a graph is cut into: hub stages, and the sections between them.

*Hub* values are whole rows: embeddings, the residual stream, norms. A *section* begins with linear layers that read
a hub value (`first`), goes on with operators that work head by head or column by column (`inner`), and ends with a
linear layer whose output is a hub value again (`last`). Attention and the feed-forward layers are sections: they can
be cut into parts that need nothing of each other until `last`, whose partial sums the network adds. A section may
also end without `last`: its columns are then gathered by the hub (the dense layer of a prediction head), or are the
model's output.

An attention section has three *lanes*, for q, k and v. Each reads a hub value of its own, through a linear layer or
bare, and has its own operators up to attention.

Every stage and section works on the rows of one *domain*: those of the tokens, or those of the source that
cross-attention looks at. It has a *depth*: the number of sections before it. Hub operators of one domain, depth and
width form a stage, which runs on one tile or, cut by columns, on several.

Attention that sees later rows answers only once it has had them all. Its stage runs in one *round* over the segments,
what comes after it in the next; other sections of the same depth wait for that round, so that all of the next depth
have their inputs together. What an earlier round has made is kept for a later one by a stage's tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from compiler.ir.graph import Attention, Graph, Node, op_name
from isa.diagnostics import NodePlace, fail


class Domain(Enum):
    """Whose rows a value has."""

    SOURCE = "source"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Lane:
    """What attention's q, k or v is made of: a hub value, its linear layer (None: bare), the operators after that."""

    input: str
    domain: Domain
    linear: Node | None
    chain: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """A hub value that a section reads: whole rows for linear layers, or some columns of them.

    The stage of its domain and `depth` sends it; with `is_late` in the round after its own.
    """

    name: str
    domain: Domain
    is_whole: bool
    depth: int
    is_late: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the graph between two hub stages. `lanes` of attention are q, k, v; None is one that is not computed.

    `is_result`: its columns are the model's output, and nothing else reads them. `source_depth` is that of the stage
    which sends its lanes rows of the source. `is_late`: others of its depth see later rows, it does not.
    """

    depth: int
    domain: Domain
    first: tuple[Node, ...]
    inner: tuple[Node, ...]
    last: Node | None
    output: str
    lanes: tuple[Lane | None, ...] = ()
    is_result: bool = False
    source_depth: int = 0
    is_late: bool = False

    @property
    def attention(self) -> Node | None:
        """The attention operator, if it is an attention section."""
        return self.inner[0] if self.lanes else None

    @property
    def is_causal(self) -> bool:
        """Whether its answer for a row needs no later row."""
        op = self.inner[0].op if self.lanes else None
        return not isinstance(op, Attention) or op.causal or op.cross

    @property
    def inputs(self) -> dict[str, Domain]:
        """The hub values it reads, and whose rows they are."""
        if not self.lanes:
            return {self.first[0].inputs[0]: self.domain}
        return {lane.input: lane.domain for lane in self.lanes if lane is not None}

    def read(self, lane: Lane) -> Read:
        """What a lane reads."""
        is_own = lane.domain is self.domain
        depth = self.depth if is_own else self.source_depth
        return Read(lane.input, lane.domain, lane.linear is not None, depth, self.is_late and is_own)

    @property
    def reads(self) -> tuple[Read, ...]:
        """All that it reads, each once."""
        if not self.lanes:
            (name,) = self.inputs
            return (Read(name, self.domain, is_whole=True, depth=self.depth, is_late=self.is_late),)
        return tuple(dict.fromkeys(self.read(lane) for lane in self.lanes if lane is not None))


@dataclass(frozen=True, slots=True)
class Stage:
    """The hub operators of one domain, depth and width, in order.

    `reads` are what sections read of it, `outputs` what the host gets, `holds` values of sections that it takes in
    only to keep them for a later round.
    """

    depth: int
    domain: Domain
    width: int
    round: int
    nodes: tuple[Node, ...]
    reads: tuple[Read, ...] = ()
    outputs: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The graph as stages and sections: stages of depth 0, sections of depth 0, stages of depth 1, ...; the source's
    before those of the tokens."""

    stages: tuple[Stage, ...]
    sections: tuple[Section, ...]
    direct: frozenset[str] = frozenset()
    """Of these values attention gets columns straight from the host, not from a stage."""

    @property
    def steps(self) -> tuple[tuple[Domain, int], ...]:
        """Domains and depths in order."""
        found = {(stage.domain, stage.depth) for stage in self.stages}
        found |= {(section.domain, section.depth) for section in self.sections}
        return tuple(sorted(found, key=lambda at: (at[0] is Domain.TOKENS, at[1])))

    def stages_at(self, domain: Domain, depth: int) -> tuple[Stage, ...]:
        """The stages of a depth, one for each width."""
        return tuple(s for s in self.stages if (s.domain, s.depth) == (domain, depth))

    def sections_at(self, domain: Domain, depth: int) -> tuple[Section, ...]:
        """The sections that read from the stages of a depth."""
        return tuple(s for s in self.sections if (s.domain, s.depth) == (domain, depth))


def node_place(graph: Graph, node: Node) -> NodePlace:
    """The place of a node for diagnostics: its first ONNX node."""
    name = node.sources[0] if node.sources else node.output.name
    return NodePlace(graph.model or graph.name, name, op_name(node.op))


def refuse(graph: Graph, node: Node, why: str, way_out: str) -> Exception:
    """The diagnostic for a node that cannot be mapped."""
    return fail("E0306", why, node_place(graph, node), way_out)
