"""Coordinate descent over the mapper's choices: one axis after the other, as long as the next step is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.backend.build import choose_chunk
from compiler.backend.room import check_ports
from compiler.explain.note import Heading, Note
from compiler.ir.mapping import Mapping
from compiler.mapping.folded_mapping import weight_cells
from compiler.mapping.problem import Problem
from compiler.mapping.settle import Settled, settle
from isa.diagnostics import CimError

from .axes import Axis, axes_of
from .judge import Choice, Judge, Score, with_segments
from .starts import Group, starts
from .steps import PREFILL

BETTER = 0.99  # what a change has to come to: less is not worth leaving the rules for
WORK, WORK_PER_TILE, WORK_OF_BATCH, WORK_PER_SEQUENCE, MOST_WORK = 3_500, 3, 6_000, 350, 30_000
"""What may be looked at (`Judge.work`): so much, and so much for each tile of the mapping by rule, for several
sequences (of which two are predicted) and for each behind the first, and no more."""

LONGER = 2
"""Times as much for prompts that are said to be so many times as long, or longer: of those, samples are predicted."""

WORTH = 1 << 20
"""Weights from which on all axes are searched; of smaller graphs, only whether fewer chips are better."""


@dataclass(frozen=True, slots=True)
class Found:
    """A mapping of the whole graph, its segments decided; what it came of, and what was weighed, in words."""

    mapping: Mapping
    settled: Settled
    chunk: int
    notes: tuple[Note, ...]

    @property
    def choice(self) -> Choice:
        """The choice that led to it."""
        return Choice(self.settled.options, self.chunk)


def by_rule(problem: Problem, asked: Choice) -> Found:
    """What the mapper's rules make of the choices that are asked for. Raises `CimError` if it does not fit."""
    notes: list[Note] = []
    settled = settle(problem, asked.options, notes)
    return _with_segments(problem, settled, asked.chunk, notes)


def search(problem: Problem, asked: Choice, rules: Found, judge: Judge | None = None) -> Found:
    """The best choice found from that of the rules on: this one, if nothing is predicted to be better, or nothing can
    be predicted. `judge`: one of this problem, who knows that choice already."""
    chips = {problem.hardware.chip_of(tile.x, tile.y) for tile in rules.mapping.tiles}
    is_small = weight_cells(problem.graph) < WORTH
    in_arrays = rules.mapping.is_resident
    is_best = is_small and len(chips) == 1 and in_arrays
    # by DRAM, and takes long to predict
    is_bound = rules.settled.options.stream and (in_arrays or not is_small)
    passes = rules.settled.options.passing > 0
    if rules.mapping.limits.pages or is_best or is_bound or passes:
        return rules
    judge = judge or Judge(problem, rules.settled)
    score = judge.score(rules.choice)
    if score is None:
        return rules
    most = _most_work(len(rules.mapping.tiles), problem.limits.sequences, problem.prefill or PREFILL)
    descent = _Descent(judge, rules.choice, score, most)
    for group in starts(judge, asked, rules.choice, rules.mapping):
        descent.compare(group)
    before = None
    while not is_small and before != descent.choice:
        before = descent.choice
        for axis in axes_of(judge):
            descent.along(axis)
    found = _whole(judge, descent.choice, rules)
    return replace(found, notes=(*descent.report(score), *found.notes))


def _most_work(tiles: int, sequences: int, prefill: int) -> float:
    """What the search of a mapping with so many tiles by rule may look at, for prompts of so many tokens."""
    batch = WORK_OF_BATCH + WORK_PER_SEQUENCE * (sequences - 1) if sequences > 1 else 0
    usual = min(WORK + WORK_PER_TILE * tiles + batch, MOST_WORK)
    return usual * min(max(prefill / PREFILL, 1), LONGER)


def _whole(judge: Judge, choice: Choice, rules: Found) -> Found:
    """The whole graph by a choice; by the rules, if that does not fit after all: short forms promised too much. What
    the rules keep in arrays stays there: of a short form it did."""
    problem, known = judge.problem, judge.whole(choice.options)
    try:
        if choice.options == rules.settled.options:
            return _with_segments(problem, rules.settled, choice.chunk, rules.notes)
        if known is not None:
            found = _with_segments(problem, known.settled, choice.chunk, known.notes)
        else:
            found = by_rule(problem, choice)
        if rules.mapping.is_resident and not found.mapping.is_resident:
            return by_rule(problem, choice.in_arrays("all rows fit arrays"))
        return found
    except CimError:
        return rules


def _with_segments(problem: Problem, settled: Settled, chunk: int, notes: Sequence[Note]) -> Found:
    """A mapping with segments as long as its values fit the tile buffers."""
    check_ports(settled.mapping, problem.hardware)
    taken = choose_chunk(settled.mapping, problem.hardware, problem.chunk or chunk or None)
    mapping = with_segments(settled.mapping, taken, problem.hardware, settled.options)
    return Found(mapping, settled, chunk, tuple(notes))


class _Descent:
    """Where the search is, and how much it may still look at."""

    def __init__(self, judge: Judge, choice: Choice, score: Score, most: float) -> None:
        self._judge = judge
        self.choice, self.score = choice, score
        self._most = judge.work + most
        self._weighed: dict[str, tuple[dict[str, Score], str]] = {}
        self._out = 0

    @property
    def _is_spent(self) -> bool:
        """Whether the search has looked at as much as it may."""
        return self._judge.work >= self._most

    def compare(self, group: Group) -> None:
        """Go on from the best of where the search is, and of a group's other choices."""
        weighed, taken = {group.now: self.score}, group.now
        for label, choice in () if self._is_spent else group.others:
            score = self._judge.score(choice, self.score)
            self._out += score is None
            is_slower = score is None or score.mean > self.score.mean
            if score is not None:
                weighed[label] = score
                if _is_better(score, self.score):
                    self.choice, self.score, taken = choice, score, label
            if self._is_spent or (group.further and is_slower):
                break
        self._note(group.name, weighed, taken)

    def along(self, axis: Axis) -> None:
        """Follow one axis while it gets better."""
        weighed = {axis.value(self.choice, self.score): self.score}
        moved = True
        while moved:
            moved = False
            for choice in axis.neighbours(self._judge, self.choice, self.score):
                if self._is_spent:
                    break
                score = self._judge.score(choice, self.score)
                self._out += score is None
                if score is None or axis.value(choice, score) in weighed:
                    continue
                weighed[axis.value(choice, score)] = score
                if _is_better(score, self.score):
                    self.choice, self.score, moved = choice, score, True
                    break
        self._note(axis.name, weighed, axis.value(self.choice, self.score))

    def _note(self, name: str, weighed: dict[str, Score], taken: str) -> None:
        if len(weighed) > 1:
            self._weighed[name] = weighed, taken

    def report(self, first: Score) -> list[Note]:
        """What was weighed and what came of it."""
        said = f"{self._judge.judged} mappings were predicted: {_cycles(self.score)}"
        if self.score != first:
            said += f"; by rule {_cycles(first)}, {first.mean / self.score.mean:.2f} x as long"
        if self._out:
            said += f"; {self._out} do not fit or take much longer for a token, and were looked at no further"
        others = (_weighed(name, *each) for name, each in self._weighed.items())
        return [Note(Heading.CHOICES, text) for text in (said, *others)]


def _is_better(score: Score, than: Score) -> bool:
    return score.mean < BETTER * than.mean


def _cycles(score: Score) -> str:
    return f"{score.decode:,.0f} cycles a token, {score.prefill:,.0f} a prefill"


def _weighed(name: str, weighed: dict[str, Score], taken: str) -> str:
    """`tokens a segment: 4 taken (...); 8: ...`."""
    others = [f"{value}: {_cycles(score)}" for value, score in weighed.items() if value != taken]
    return f"{name}: {taken} taken ({_cycles(weighed[taken])}); " + "; ".join(others)
