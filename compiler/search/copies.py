"""Whether several copies of the whole program are better than one: each maps its share of a batch's sequences onto a
piece of the mesh, all alike, and sequences are dealt among them (`Program.replicas`).

One copy with more tiles a stage is soon as fast as it gets: a row goes through the same stages, and these wait for
each other. Copies have nothing to do with each other but the host's link. So they are weighed wherever the weights fit
several times beside the caches, which copies share out among them, by what the rules make of them; the other choices
are searched for what is best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from compiler.capacity import capacity_of
from compiler.cost.copies import side_by_side
from compiler.explain.note import Heading, Note
from compiler.explain.words import several
from compiler.mapping.folded_mapping import row_cells, weight_cells
from compiler.mapping.problem import Problem
from compiler.mapping.rules import BESIDE
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.program import MemoryRegion, Replica

from .choose import Found, by_rule
from .judge import Choice, Judge, Score

WORTH = 0.9
"""What copies have to come to, by rule: about as much as a search may find for one."""

Improve = Callable[[Problem, Choice, Found, Judge | None], Found]
"""How a mapping of one copy goes on from what the rules make of it, and who has judged that."""


@dataclass(frozen=True, slots=True)
class Copies:
    """So many copies across the mesh and down, each a piece of it, and what the rules make of one."""

    across: int
    down: int
    problem: Problem
    rules: Found
    judge: Judge
    score: Score

    @property
    def count(self) -> int:
        """How many there are."""
        return self.across * self.down

    def placed(self, found: Found, whole: Hardware) -> Found:
        """What was found for one copy, on the whole target, with the others beside it."""
        wide, tall = self.problem.hardware.mesh_x, self.problem.hardware.mesh_y
        corners = [Replica(x * wide, y * tall) for y in range(self.down) for x in range(self.across)]
        memory = tuple(_on_whole(region, self.problem.hardware, whole) for region in found.mapping.memory)
        return replace(found, mapping=replace(found.mapping, memory=memory, replicas=tuple(corners[1:])))


def with_copies_of_all(problem: Problem, asked: Choice, improve: Improve | None = None) -> Found:
    """What the rules make of the problem, or of its share for each of several copies, where these are predicted to be
    faster; and what `improve` makes of that. Raises `CimError` if the rules find nothing that fits."""
    rules = by_rule(problem, asked)
    may = _may_have_copies(problem, asked) and _keeps_to_itself(rules)
    one = _scored(1, 1, problem, rules) if may else None
    weighed = [one, *_weighed(problem, asked)] if one is not None else []
    best = min(weighed, key=lambda copies: copies.score.key, default=None)
    if best is None or best.count == 1 or best.score.mean > WORTH * weighed[0].score.mean:
        return improve(problem, asked, rules, one.judge if one else None) if improve else rules
    found = improve(best.problem, asked, best.rules, best.judge) if improve else best.rules
    note = _note(best, weighed, found, problem)
    placed = best.placed(found, problem.hardware)
    return replace(placed, notes=(note, *found.notes))


def _may_have_copies(problem: Problem, asked: Choice) -> bool:
    """Whether several copies could be right at all, as far as that is known before anything is mapped."""
    limits, graph = problem.limits, problem.graph
    return (
        asked.options.does(Optimisation.REPLICAS)
        and limits.sequences > 1
        and not limits.max_source
        and not graph.hosts
        and asked.options.kv_tokens is None
        and _fit(problem, 2)
    )


def _fit(problem: Problem, count: int) -> bool:
    """Whether the weights of so many copies fit, and the caches, of which each copy has those of its sequences."""
    graph, rows = problem.graph, row_cells(problem.graph, problem.limits)
    return capacity_of(problem.hardware).holds(BESIDE * count * weight_cells(graph), rows)


def _keeps_to_itself(found: Found) -> bool:
    """Whether a mapping has weights, keys and values in arrays alone: copies share memories."""
    mapping = found.mapping
    is_written = any(region.tensor is None for region in mapping.memory)
    return mapping.is_resident and not (is_written or mapping.limits.pages or found.settled.options.stream)


def _weighed(problem: Problem, asked: Choice) -> Iterator[Copies]:
    """Two copies, four, ... as long as the sequences can be dealt among them and one fits its piece as a whole."""
    count = 2
    while problem.limits.sequences % count == 0 and _fit(problem, count):
        piece = next(_pieces(problem.hardware, count), None)
        if piece is None:
            return
        across, down, hardware = piece
        limits = replace(problem.limits, sequences=problem.limits.sequences // count)
        share = replace(problem, hardware=hardware, limits=limits)
        try:
            rules = by_rule(share, _in_arrays(asked))
        except CimError:
            return
        found = _scored(across, down, share, rules)
        if found is None:
            return
        yield found
        count *= 2


def _in_arrays(asked: Choice) -> Choice:
    """What is asked, with all weights, keys and values in arrays: other mappings are no copies."""
    kept = asked.in_arrays("copies share no memory that is written")
    return replace(kept, options=replace(kept.options, stream=False))


def _scored(across: int, down: int, problem: Problem, rules: Found) -> Copies | None:
    """What the rules make of one copy, with the time in which the host's link has the outputs of all of them."""
    judge = Judge(problem, rules.settled)
    score = judge.score(rules.choice)
    if score is None:
        return None
    count, streams = across * down, rules.mapping.streams
    rows = problem.limits.sequences * count
    decode, prefill = (
        side_by_side(problem.hardware, streams, cycles, rows, count)
        for cycles in (score.decode, score.prefill)
    )
    return Copies(
        across, down, problem, rules, judge, Score(decode, prefill, count * score.tiles, score.chunk)
    )


def _pieces(hardware: Hardware, count: int) -> Iterator[tuple[int, int, Hardware]]:
    """The ways to cut a mesh into so many equal pieces, across and down, those first that are most nearly square."""
    found = []
    for across in range(1, count + 1):
        piece = _piece(hardware, across, count // across) if count % across == 0 else None
        if piece is not None:
            found.append((across, count // across, piece))
    yield from sorted(found, key=lambda f: abs(f[2].mesh_x - f[2].mesh_y))


def _piece(hardware: Hardware, across: int, down: int) -> Hardware | None:
    """A piece of the mesh: of whole chips along a side that has several, else of a chip."""
    chip, system = hardware.chip, hardware.system
    for axis, parts in (("x", across), ("y", down)):
        chips, tiles = getattr(system, f"chips_{axis}"), getattr(chip, f"tiles_{axis}")
        if chips.value > 1:
            size = chips.model_copy(update={"value": float(chips.value // parts)})
            system = system.model_copy(update={f"chips_{axis}": size})
        else:
            size = tiles.model_copy(update={"value": float(tiles.value // parts)})
            chip = chip.model_copy(update={f"tiles_{axis}": size})
        if size.value < 1:
            return None
    return hardware.model_copy(update={"chip": chip, "system": system})


def _on_whole(region: MemoryRegion, piece: Hardware, whole: Hardware) -> MemoryRegion:
    """A region of a chip of the first piece, by its number in the whole system."""
    row, column = divmod(region.chip, int(piece.system.chips_x.value))
    return replace(region, chip=row * int(whole.system.chips_x.value) + column)


def _note(best: Copies, weighed: list[Copies], found: Found, problem: Problem) -> Note:
    """What was weighed and what came of it."""
    sequences, (one, *_) = problem.limits.sequences, weighed
    others = "; ".join(
        f"{copies.count}: {copies.score.decode:,.0f} cycles a token, {copies.score.prefill:,.0f} a prefill"
        for copies in weighed
    )
    text = (
        f"Copies of the whole program: {best.count}, each for {several(sequences // best.count, 'sequence')} of the "
        f"{sequences} on {len(found.mapping.tiles):,} tiles, as weights fit so often beside the caches; one for all "
        f"would take {one.score.tiles:,} of {problem.hardware.tiles:,}. By rule, copies take: {others}"
    )
    return Note(Heading.CHOICES, text)
