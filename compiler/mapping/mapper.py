"""From a canonical graph to a Mapping: stage, sections, stage, sections, ... in the order of the data flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic, Mapping
from isa.hardware import Hardware
from isa.program import Limits

from .attention import AttentionBuilder
from .builder import MappingBuilder
from .feedforward import DirectBuilder, FeedForwardBuilder, to_host
from .feeds import HubState, Partial, connect_feed
from .hub import Sizes, StageBuilder
from .parts import Geometry, PartBuilder
from .sections import Layout, Section, Stage, cut
from .weights import Weights

HELD_SHARE = 0.6  # of a tile's buffer, for the residual stream of a whole sequence


@dataclass(frozen=True, slots=True)
class MapOptions:
    """Choices of the mapper. `hub_width`: columns of a hub value a tile takes; `block`: rows of a KV block;
    `weight_bits`: to what float weights are quantised in int8 arithmetic."""

    hub_width: int = 1024
    block: int = 512
    weight_bits: int = 8


class Mapper:
    """Maps one graph."""

    def __init__(
        self, graph: Graph, hardware: Hardware, limits: Limits, arithmetic: Arithmetic, options: MapOptions
    ) -> None:
        self.graph, self.limits, self.options = graph, limits, options
        self.builder = MappingBuilder(hardware, arithmetic)
        self.weights = Weights(graph, self.builder, options.weight_bits)
        rows = hardware.macro_rows
        most = -(-limits.max_context // rows) * rows
        block = min(max(options.block // rows, 1) * rows, most)
        self.parts = PartBuilder(graph, self.builder, self.weights, Geometry(hardware, limits, block))
        self.state = HubState()
        self.layout: Layout = cut(graph)

    def run(self) -> Mapping:
        """The Mapping. Raises `CimError` E03xx if the graph does not fit."""
        for stage in self.layout.stages:
            sections = self.layout.sections_at(stage.depth)
            self._stage(stage, sections)
            for section in sections:
                self._section(section)
            for name in dict.fromkeys(s.input for s in sections):
                connect_feed(self.builder, self.state.feeds[name])
        left = [name for name in self.graph.outputs if name in self.state.partials]
        if left:
            self._stage(Stage(len(self.layout.stages), ()), (), left)
        return self.builder.finish(self.graph.name, self.limits)

    def _stage(self, stage: Stage, sections: tuple[Section, ...], left: Sequence[str] = ()) -> None:
        """A hub stage: its operators, what its sections read, and what of it (or `left`) is the model's output."""
        wanted = list(dict.fromkeys(s.input for s in sections))
        outputs = {s.input for s in sections if s.output in self.graph.outputs}
        outputs -= {s.input for s in sections if s.output not in self.graph.outputs}
        kind = "embed" if stage.depth == 0 else "residual" if stage is not self.layout.stages[-1] else "final"
        two_passes = not all(s.is_causal for s in sections)
        sizes = Sizes(self._hub_width(), self.limits.max_context)
        builder = StageBuilder(self.graph, self.builder, self.weights, self.state, sizes)
        builder.build(stage, wanted, outputs, kind, two_passes=two_passes)
        made = {node.output.name for node in stage.nodes}
        for name in self.graph.outputs:
            if name in made or name in left:
                builder.to_host(name)

    def _hub_width(self) -> int:
        """Columns of a hub value a tile takes: fewer where it must hold a whole sequence between two passes."""
        width = self.options.hub_width
        if all(s.is_causal for s in self.layout.sections):
            return width
        rows = self.builder.hardware.buffer_bytes * HELD_SHARE / (4 * self.limits.max_context)
        return max(min(width, int(rows) // 32 * 32), 32)

    def _section(self, section: Section) -> None:
        feed = self.state.feeds[section.input]
        pieces: list[Partial]
        if section.attention is not None:
            pieces = AttentionBuilder(self.parts, section, feed).build()
        elif section.last is not None:
            pieces = FeedForwardBuilder(self.parts, section, feed).build()
        else:
            pieces = DirectBuilder(self.parts, section, feed).build()
        if section.output in self.graph.outputs and section.last is None:
            to_host(self.parts, section.output, pieces, section.first[0])
            return
        self.state.partials[section.output] = pieces
        if section.last is not None:
            self.state.bias[section.output] = section.last


def map_graph(
    graph: Graph,
    hardware: Hardware,
    limits: Limits,
    arithmetic: Arithmetic,
    options: MapOptions,
    notes: list[str] | None = None,
) -> Mapping:
    """Place a canonical graph on a target. What is worth saying about its weights goes to `notes`.

    Raises `CimError` E03xx if it does not fit.
    """
    mapper = Mapper(graph, hardware, limits, arithmetic, options)
    mapping = mapper.run()
    if notes is not None:
        notes += mapper.weights.summary()
    return mapping
