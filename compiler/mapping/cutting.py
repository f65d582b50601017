"""Cut a canonical graph into hub stages and sections.

What lies inside sections is known from `bodies`. Here the graph is walked backwards from its outputs for the hub
operators and sections that they need, then forwards for depths.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.dims import axes_of
from compiler.ir.graph import Attention, Embed, Graph, Input, Linear, Node, Role
from isa.diagnostics import NamedPlace, fail

from .bodies import Bodies, Body
from .hostfeeds import levels
from .sections import Domain, Lane, Layout, Read, Section, Stage, refuse

_Place = tuple[Domain, int, int]  # domain, depth, width


def _is_source(given: Input) -> bool:
    """Whether an input has rows (or ids) of the source."""
    shape = given.value.shape or ()
    return given.role is Role.SOURCE or (bool(shape) and "source" in axes_of(shape[0]))


class _Rows:
    """Domain and width of every value."""

    def __init__(self, graph: Graph, bodies: Bodies) -> None:
        self.graph, self.bodies, self.producers = graph, bodies, graph.producers()
        self.domain = {i.name: Domain.SOURCE if _is_source(i) else Domain.TOKENS for i in graph.inputs}
        self.mixed: set[str] = set()
        self.widths = {i.name: self._columns(i) for i in graph.inputs}
        for node in graph.nodes:
            self._node(node)

    def width(self, name: str) -> int:
        """Columns of a value. Refused (E0306) if they do not follow from the graph."""
        width = self.widths[name]
        if not width:
            raise fail("E0306", f"the width of the rows {name!r} is not known", NamedPlace(self.graph.name))
        return width

    @staticmethod
    def _columns(given: Input) -> int:
        shape = given.value.shape
        return shape[-1] if shape and isinstance(shape[-1], int) else 0

    def _node(self, node: Node) -> None:
        out, data = node.output.name, self.bodies.data(node)
        match node.op:
            case Attention(heads=heads, v_head_dim=dim):
                data, self.widths[out] = data[:1], heads * dim
            case Embed() | Linear():
                self.widths[out] = int(self.graph.constants[node.inputs[1]].shape[-1])
            case _:
                self.widths[out] = next((self.widths[n] for n in data if self.widths[n]), 0)
        if len({self.domain[name] for name in data}) > 1:
            for name in data:
                self._adopt(name)
        if len({self.domain[name] for name in data}) > 1:
            self.mixed.add(out)
        self.domain[out] = self.domain[data[0]] if data else Domain.TOKENS

    def _adopt(self, name: str) -> None:
        """Let an embedding of positions that is joined to rows of the source be one of source positions."""
        node = self.producers.get(name)
        if node is not None and isinstance(node.op, Embed):
            given = next((i for i in self.graph.inputs if i.name == node.inputs[0]), None)
            if given is not None and given.role is Role.POSITIONS:
                self.domain[name] = Domain.SOURCE


class _Cutter:
    """Cuts one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.bodies = Bodies(graph)
        self.rows = _Rows(graph, self.bodies)
        self.domain, self.width = self.rows.domain, self.rows.width
        self.consumers = graph.consumers()
        self.order = {id(node): index for index, node in enumerate(graph.nodes)}
        self.hub: list[Node] = []
        self.sections: dict[str, Section] = {}  # by output
        self.placed: set[int] = set()  # operators inside them
        made = levels(graph)
        self.depth = {i.name: made.get(i.name, 0) for i in graph.inputs}
        self.direct: set[str] = set()  # rows of the host that attention reads as they are
        self.slow: set[tuple[Domain, int]] = set()  # where sections see later rows

    def run(self) -> Layout:
        self._collect()
        self._find_direct()
        self._deepen()
        sections = sorted(self.sections.values(), key=self._rank)
        return Layout(self._stages(sections), tuple(sections), frozenset(self.direct))

    def _rank(self, section: Section) -> tuple[bool, int, int]:
        began = min(self.order[id(node)] for node in (*section.first, *section.inner))
        return section.domain is Domain.TOKENS, section.depth, began

    # ---------------------------------------------------------------------------------- what the outputs need

    def _collect(self) -> None:
        """Find the hub operators and sections that the outputs need, and attention whose cache someone reads."""
        needed = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            name = node.output.name
            is_cached = isinstance(node.op, Attention) and node.op.cache is not None
            if name not in needed and not (is_cached and id(node) not in self.placed):
                continue
            if name in self.rows.mixed:
                raise refuse(
                    self.graph,
                    node,
                    "it joins rows of the tokens with rows of the source",
                    "report this model",
                )
            body = self.bodies.made.get(name)
            if body is not None:
                needed |= self._section(body, None, name)
            elif isinstance(node.op, Linear):
                before = self.bodies.inside(node.inputs[0])
                assert before is not None  # a linear layer on a hub value has a body of its own
                needed |= self._section(before, node, name)
            else:
                self._check_widths(node)
                self.hub.insert(0, node)
                needed |= set(self.bodies.data(node))

    def _check_widths(self, node: Node) -> None:
        """Refuse an operator on the hub whose inputs are not equally wide."""
        widths = set() if isinstance(node.op, Embed) else {self.width(x) for x in self.bodies.data(node)}
        if len(widths) > 1:
            sizes = " and ".join(f"{width:,}" for width in sorted(widths))
            raise refuse(self.graph, node, f"its inputs are rows of {sizes} columns", "rows of one width")

    def _section(self, body: Body, last: Node | None, output: str) -> set[str]:
        """Note the section that makes `output`; returns the hub values it reads."""
        first, lanes = body.first, self._lanes(body)
        if lanes:
            linears = {id(lane.linear): lane.linear for lane in lanes if lane is not None and lane.linear}
            first = tuple(sorted(linears.values(), key=lambda n: self.order[id(n)]))
        is_result = last is None and output in self.graph.outputs and not self.consumers.get(output)
        domain = self.domain[output]
        section = Section(0, domain, first, body.inner, last, output, lanes, is_result=is_result)
        self.sections[output] = section
        self.placed |= {id(node) for node in body.inner}
        return set(section.inputs)

    def _lanes(self, body: Body) -> tuple[Lane | None, ...]:
        node = body.attention
        if node is None:
            return ()
        assert isinstance(node.op, Attention)
        own = self.domain[node.inputs[0]]
        theirs = Domain.SOURCE if node.op.cross else own
        lanes = tuple(
            self.bodies.lane(name, domain)
            for name, domain in zip(node.inputs[:3], (own, theirs, theirs), strict=False)
        )
        if lanes[0] is None or (not node.op.cross and None in lanes):
            raise refuse(
                self.graph, node, "attention without queries, keys or values", "an export that has them"
            )
        if node.op.cross and own is Domain.SOURCE:
            raise refuse(
                self.graph,
                node,
                "rows of the source look at another sequence: there is one source",
                "report this model",
            )
        for lane in lanes:
            if lane is not None and self.domain[lane.input] is not lane.domain:
                whose = "tokens" if lane.domain is Domain.SOURCE else "source"
                raise refuse(
                    self.graph,
                    node,
                    f"keys or values come from rows of the {whose}: {lane.input!r}",
                    "an export whose encoder rows are an input of their own",
                )
        return lanes

    def _find_direct(self) -> None:
        """What attention reads as it is of the host's rows, if the host has parts: no hub stage needs to pass it on."""
        bare = {r.name for s in self.sections.values() for r in s.reads if not r.is_whole}
        given = {i.name for i in self.graph.inputs} if levels(self.graph) else set()
        self.direct = bare & given

    def _is_direct(self, read: Read) -> bool:
        return read.name in self.direct and not read.is_whole

    # ------------------------------------------------------------------------------------------------ depths

    def _deepen(self) -> None:
        """The depth of every hub value, and that of every section."""
        hub = {node.output.name for node in self.hub}
        for node in self.graph.nodes:
            name = node.output.name
            if name in self.sections:
                section = self.sections[name]
                own, source = 0, 0
                for given, domain in section.inputs.items():
                    if domain is section.domain:
                        own = max(own, self.depth[given])
                    else:
                        source = max(source, self.depth[given])
                self.sections[name] = replace(section, depth=own, source_depth=source)
                self.depth[name] = own + 1
            elif name in hub:
                self.depth[name] = max((self.depth[n] for n in self.bodies.data(node)), default=0)
        self.slow = {(s.domain, s.depth) for s in self.sections.values() if not s.is_causal}
        for name, section in self.sections.items():
            if all(map(self._is_direct, section.reads)):
                continue
            if section.is_causal and not section.is_result and (section.domain, section.depth) in self.slow:
                self.sections[name] = replace(section, is_late=True)

    def _round(self, domain: Domain, depth: int) -> int:
        """How many rounds over the segments are over before a depth begins."""
        return sum(where is domain and before < depth for where, before in self.slow)

    def _place(self, name: str, depth: int | None = None) -> _Place:
        return self.domain[name], self.depth[name] if depth is None else depth, self.width(name)

    def _stages(self, sections: list[Section]) -> tuple[Stage, ...]:
        nodes: dict[_Place, list[Node]] = {}
        reads: dict[_Place, list[Read]] = {}
        outputs: dict[_Place, list[str]] = {}
        for node in self.hub:
            nodes.setdefault(self._place(node.output.name), []).append(node)
        for section in sections:
            for read in (r for r in section.reads if not self._is_direct(r)):
                reads.setdefault(self._place(read.name, read.depth), []).append(read)
        for name in dict.fromkeys(self.graph.outputs):
            self._output(name, outputs)
        holds = self._holds(sections)
        places = sorted(
            {*nodes, *reads, *outputs, *holds}, key=lambda p: (p[0] is Domain.TOKENS, p[1], -p[2])
        )
        return tuple(
            Stage(
                at[1],
                at[0],
                at[2],
                self._round(at[0], at[1]),
                tuple(nodes.get(at, ())),
                tuple(dict.fromkeys(reads.get(at, ()))),
                tuple(outputs.get(at, ())),
                tuple(holds.get(at, ())),
            )
            for at in places
        )

    def _holds(self, sections: list[Section]) -> dict[_Place, list[str]]:
        """Outputs of sections that are first used in a later round than they are made in."""
        used: dict[str, int] = {}
        for node in self.hub:
            for name in self.bodies.data(node):
                used[name] = min(used.get(name, self.depth[node.output.name]), self.depth[node.output.name])
        for section in sections:
            for read in section.reads:
                used[read.name] = min(used.get(read.name, read.depth), read.depth)
        for name in self.graph.outputs:
            used[name] = self.depth[name]
        holds: dict[_Place, list[str]] = {}
        for section in sections:
            domain, depth, _ = place = self._place(section.output)
            first = used.get(section.output, depth)  # nothing may read it but its cache
            if self._round(domain, first) > self._round(domain, depth):
                holds.setdefault(place, []).append(section.output)
        return holds

    def _output(self, name: str, outputs: dict[_Place, list[str]]) -> None:
        if name not in self.sections or not self.sections[name].is_result:
            outputs.setdefault(self._place(name), []).append(name)


def domains_of(graph: Graph) -> dict[str, Domain]:
    """Whose rows each value of a graph has."""
    return _Rows(graph, Bodies(graph)).domain


def widths_of(graph: Graph) -> dict[str, int]:
    """Columns of each value of a graph; 0 where they are not known."""
    return _Rows(graph, Bodies(graph)).widths


def cut(graph: Graph) -> Layout:
    """Stages and sections of a canonical graph. Raises `CimError` E0306 for structures beyond this scheme."""
    return _Cutter(graph).run()
