"""Decide which tile does what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from compiler.passes.partition_placement import first_that_fits
from compiler.pipeline import DEFAULT_CONTEXT, Compilation, Pass

if TYPE_CHECKING:
    from compiler.ir.graph import Graph


@dataclass(frozen=True)
class PlaceBlocks(Pass):
    """Cut the graph into stages and sections, and place weights, heads, KV regions and transfers on tiles.

    `hub_width`: columns of a hub value that one tile takes (0: by rule). `block`: rows of a KV block
    (rounded to macro rows).
    """

    hub_width: int = 0
    block: int = 512

    def run(self, c: Compilation) -> bool:
        """Sets `c.mapping`, with segments as long as asked for, or by rule, that the tile buffers allow."""
        first_that_fits(c, partial(self._place, c))
        return True

    def _place(self, c: Compilation, chip: Graph) -> None:
        """Place the chip's part of the graph."""
        from compiler.backend.build import choose_chunk, with_chunk
        from compiler.mapping.mapper import MapOptions, map_graph
        from compiler.mapping.options import (
            arithmetic_of,
            check_positions,
            kv_choice,
            learned_positions,
            source_rows,
            weight_bits,
        )
        from compiler.mapping.rules import segment_rows
        from compiler.optimisations import Optimisation
        from isa.program import Limits

        target, options = c.require_target(), c.options
        graph = c.require_graph()
        context = options.max_context or min(DEFAULT_CONTEXT, learned_positions(graph) or DEFAULT_CONTEXT)
        source = source_rows(graph, options.max_source, context)
        limits = Limits(context, chunk=1, sequences=options.batch, max_source=source)
        arithmetic = arithmetic_of(options.weights)
        choices = MapOptions(
            self.hub_width,
            self.block,
            weight_bits(options.weights),
            options.without,
            kv=kv_choice(options.kv),
            kv_tokens=options.kv_tokens,
        )
        if chip is not graph:
            check_positions(graph, context, source)
        mapping = map_graph(chip, target, limits, arithmetic, choices, c.notes)
        by_rule = segment_rows(chip, limits) if options.does(Optimisation.SEGMENTS) else None
        c.mapping = with_chunk(mapping, choose_chunk(mapping, target, options.chunk or by_rule))
