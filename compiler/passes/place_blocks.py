"""Decide which tile does what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from compiler.explain import Heading, Note
from compiler.passes.partition_placement import PartitionPlacement, first_that_fits
from compiler.pipeline import DEFAULT_CONTEXT, Compilation, CompileOptions, Pass, run_pipeline
from isa.diagnostics import CimError
from isa.operands import Space

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.ir.mapping import Mapping
    from compiler.mapping.mapper import MapOptions
    from compiler.mapping.problem import Problem
    from compiler.placement import Placement
    from isa.hardware import Hardware


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
        if not c.require_chip().nodes:
            c.mapping = _nothing(c)
            return True
        mark = len(c.notes)
        try:
            taken = first_that_fits(c, partial(self._place, c))
        except CimError as error:
            if c.is_trial:
                raise
            raise self._advised(error, c) from None
        if taken is not None and not c.is_trial:
            self._weigh(c, taken, mark)
        return True

    def _weigh(self, c: Compilation, taken: Placement, mark: int) -> None:
        """Place the graph anew where that is estimated to be faster than as `taken`, whose notes begin at `mark`."""
        from compiler.placing import Weighing

        weighing = Weighing(c, taken, partial(self._tried, c))
        best = weighing.best()
        if best is not None:
            del c.notes[mark:]
            c.chip = best
            self._place(c, best)
        c.notes += weighing.notes()

    def _tried(self, c: Compilation, chip: Graph) -> Mapping:
        """A mapping of another part of the graph, by rule. Raises `CimError` if it does not fit."""
        trial = Compilation(c.model, c.options, c.target, c.graph, chip, is_trial=True)
        self._place(trial, chip)
        return trial.require_mapping()

    def _advised(self, error: CimError, c: Compilation) -> CimError:
        """The refusal with what would lift it."""
        from compiler.advice import Refused, advised

        graph = c.require_graph()
        needs = partial(self._needs, c)
        return advised(error, Refused(len(graph.nodes), _context(c), c.options, c.require_target(), needs))

    def _needs(self, c: Compilation, options: CompileOptions, target: Hardware) -> int | None:
        """Bytes of the fullest chip's DRAM with other options or on another target; None if the graph does not fit.

        Where there is one chip, it does not matter where on it tiles lie.
        """
        from compiler.optimisations import Optimisation

        if target.tiles == target.tiles_per_chip:
            options = replace(options, without=options.without | {Optimisation.PLACEMENT})
        trial = Compilation(c.model, options, target, c.graph, is_trial=True)
        try:
            run_pipeline((PartitionPlacement(), self), trial)
        except CimError:
            return None
        regions = [r for r in trial.require_mapping().memory if r.space is Space.DRAM]
        return max((r.offset + r.bytes for r in regions), default=0)

    def _place(self, c: Compilation, chip: Graph) -> None:
        """Place the chip's part of the graph: by the choices that a search finds, or by the mapper's own rules."""
        from compiler.mapping.options import arithmetic_of, check_positions, keeps_nothing, source_rows
        from compiler.mapping.rules import segment_rows
        from compiler.optimisations import Optimisation
        from compiler.search import Choice, Problem, by_rule, search, with_copies_of_all
        from isa.program import Limits

        graph, options, context = c.require_graph(), c.options, _context(c)
        source = source_rows(graph, options.max_source, context)
        takes_turns = chip is graph and keeps_nothing(graph)
        sequences = 1 if takes_turns else options.batch
        limits = Limits(context, chunk=1, sequences=sequences, max_source=source)
        if chip is not graph:
            check_positions(graph, context, source)
        rows = segment_rows(chip, limits) if options.does(Optimisation.SEGMENTS) else 0
        arithmetic = arithmetic_of(options.weights)
        problem = Problem(chip, c.require_target(), limits, arithmetic, options.chunk, options.prefill)
        asked = Choice(self._asked(options), rows)
        if c.is_trial and not takes_turns:
            _check_rows(problem, asked.options)
        improve = search if options.does(Optimisation.SEARCH) else None
        found = by_rule(problem, asked) if c.is_trial else with_copies_of_all(problem, asked, improve)
        c.mapping = found.mapping
        c.notes += found.notes
        if sequences < options.batch:
            c.notes.append(_turns(options.batch))

    def _asked(self, options: CompileOptions) -> MapOptions:
        """What the command line asks of the mapper."""
        from compiler.mapping.mapper import MapOptions
        from compiler.mapping.options import check_numbers, kv_choice, weight_bits
        from compiler.mapping.rounding import WEIGHT_GROUP

        check_numbers(options.weights, options.group, options.kv_bits)
        return MapOptions(
            self.hub_width,
            self.block,
            weight_bits(options.weights),
            WEIGHT_GROUP if options.group is None else options.group,
            options.kv_bits,
            options.without,
            kv_choice(options.kv),
            kv_tokens=options.kv_tokens,
        )


def _nothing(c: Compilation) -> Mapping:
    """The mapping of a graph that leaves nothing to the chip; its steps are single segments."""
    from compiler.ir.mapping import Mapping
    from compiler.mapping.options import arithmetic_of
    from isa.program import Limits

    context = _context(c)
    name, target = c.require_graph().name, c.require_target().name
    return Mapping(name, target, arithmetic_of(c.options.weights), Limits(context, context), (), (), ())


def _check_rows(problem: Problem, asked: MapOptions) -> None:
    """Refuse (E0304) what has more rows of keys and values than all arrays have cells, if they are to lie in arrays: of
    a trial no more is asked than whether it fits, and this is known before anything is mapped."""
    from compiler.mapping.folded_mapping import row_cells
    from isa.diagnostics import fail
    from isa.interface import KvPolicy

    hardware = problem.hardware
    need = row_cells(problem.graph, problem.limits, asked.kv_tokens or 0)
    have = hardware.tiles * hardware.written_cells
    if asked.kv.policy is KvPolicy.RESIDENT and need > have:
        raise fail("E0304", f"keys and values need {need:,} cells of arrays, the target has {have:,}")


def _turns(batch: int) -> Note:
    """Why the program takes one sequence a step."""
    return Note(
        Heading.CHOICES,
        f"Batch: the {batch} sequences take turns, one a step. Tokens see later ones and nothing is kept from step to "
        "step, so the same tiles serve any number of sequences.",
    )


def _context(c: Compilation) -> int:
    """The longest sequence: as asked for, or by default."""
    from compiler.mapping.options import learned_positions

    known = learned_positions(c.require_graph())
    return c.options.max_context or min(DEFAULT_CONTEXT, known or DEFAULT_CONTEXT)
