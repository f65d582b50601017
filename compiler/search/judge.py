"""What a choice of the mapper costs: predicted cycles of the steps that stand for a model's use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from compiler.backend.build import build_program, choose_chunk, with_chunk
from compiler.backend.room import check_ports
from compiler.cost import Predictor
from compiler.explain.note import Note
from compiler.ir.mapping import Mapping
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.replicas import with_copies
from compiler.mapping.settle import Settled, settle
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.interface import KvPolicy
from isa.program import Origin, Program, Segment

from .shorten import Depths, depths_of
from .steps import Prefill, steps_of

PATIENCE = 1.25
"""How much slower than the best a decode may be for its prefill to be looked at."""

INSTRUCTION_WORK = 0.05
"""What it takes to predict one instruction of a class of tiles, in tiles that are mapped."""


LONGEST = 60_000
"""What predicting a prefill with rows in memory may take, as far as a decode's segments tell: keys and values of
hundreds of thousands of tokens take minutes to predict, and memory binds them whatever the choice."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the search decides: the mapper's options, and the longest segment (0: by rule)."""

    options: MapOptions
    chunk: int = 0

    def in_arrays(self, why: str) -> Choice:
        """The same with all keys and values in arrays, on as few tiles a head as that takes, unless a policy is asked
        for."""
        if self.options.kv.policy is not None:
            return self
        return replace(self, options=replace(self.options, kv=KvChoice(KvPolicy.RESIDENT, why=why)))


@dataclass(frozen=True, slots=True)
class Score:
    """Cycles of a step with a token of each sequence at the full context, cycles of a prefill there, and tiles."""

    decode: float
    prefill: float
    tiles: int
    chunk: int

    @property
    def mean(self) -> float:
        """Geometric mean of both."""
        return math.sqrt(self.decode * self.prefill)

    @property
    def key(self) -> tuple[float, int]:
        """Smaller is better: what is fast, then what takes fewer tiles."""
        return self.mean, self.tiles


@dataclass(slots=True)
class Form:
    """A graph mapped, and its predictor, whatever its segments."""

    mapping: Mapping
    like: Predictor | None = None
    predictors: dict[int, Predictor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """The whole graph mapped, and what is worth saying about it."""

    settled: Settled
    notes: tuple[Note, ...]


class Judge:
    """Scores choices for one problem."""

    def __init__(self, problem: Problem, rules: Settled | None = None) -> None:
        """`rules`: the whole graph as it has been mapped already."""
        self.problem = problem
        self.depths: Depths = depths_of(problem.graph)
        self._forms: dict[MapOptions, list[Form] | None] = {}
        self._wholes: dict[MapOptions, Whole] = {}
        self._scores: dict[Choice, Score | None] = {}
        self._same: dict[MapOptions, MapOptions] = {}
        self.work = 0.0  # tiles mapped and instructions predicted: what the search has cost
        if rules is not None:
            self._keep(Whole(rules, ()))

    @property
    def judged(self) -> int:
        """Choices looked at."""
        return len(self._scores)

    def score(self, choice: Choice, than: Score | None = None) -> Score | None:
        """The score of a choice; None if it does not fit, or its decode is so much slower `than` another's that it is
        not worth more."""
        if choice not in self._scores:
            self.mappings(choice.options)
            first = replace(choice, options=self._same.get(choice.options, choice.options))
            self._scores[choice] = self.score(first, than) if first != choice else self._score(choice, than)
        return self._scores[choice]

    def settled(self, choice: Choice) -> Choice | None:
        """What the rules make of a choice, of the whole graph, which is mapped for it; None if it does not fit. Where
        no short forms stand for the graph, that mapping is what is predicted."""
        notes: list[Note] = []
        try:
            found = settle(self.problem, choice.options, notes)
        except CimError:
            return None
        self.work += len(found.mapping.tiles)
        self._keep(Whole(found, tuple(notes)))
        return replace(choice, options=found.options)

    def whole(self, options: MapOptions) -> Whole | None:
        """The whole graph by settled options, if it has been mapped."""
        return self._wholes.get(options)

    def _keep(self, whole: Whole) -> None:
        options = whole.settled.options
        self._wholes.setdefault(options, whole)
        if self._is_whole and options not in self._forms:
            self._enter(options, self._formed([whole.settled.mapping]))

    @property
    def _is_whole(self) -> bool:
        """Whether the graph itself is predicted."""
        return self.depths.graphs == (self.problem.graph,)

    def mappings(self, options: MapOptions) -> list[Mapping] | None:
        """The graphs of all depths, mapped; None if one cannot be, or the whole would have too many tiles."""
        if options not in self._forms:
            forms = self._mapped(options)
            if options not in self._forms:
                self._enter(options, forms)
        forms = self._forms[options]
        return None if forms is None else [form.mapping for form in forms]

    def _enter(self, options: MapOptions, forms: list[Form] | None) -> None:
        """Note what options come to: the forms of others, if these came to the same mappings."""
        same = next((o for o, other in self._forms.items() if forms and _are_same(forms, other)), None)
        self._forms[options] = forms if same is None else self._forms[same]
        if same is not None:
            self._same[options] = same

    def _mapped(self, options: MapOptions) -> list[Form] | None:
        if self._is_whole:
            found = self.settled(Choice(options))
            return None if found is None else self._forms[found.options]
        try:
            mappings = [
                settle(replace(self.problem, graph=graph), options).mapping for graph in self.depths.graphs
            ]
        except CimError:
            return None
        self.work += sum(len(m.tiles) for m in mappings)
        return self._formed(mappings)

    def _formed(self, mappings: list[Mapping]) -> list[Form] | None:
        """The graphs of all depths, mapped; None if messages do not fit ports, or the whole has too many tiles."""
        try:
            for mapping in mappings:
                check_ports(mapping, self.problem.hardware)
        except CimError:
            return None
        return (
            [Form(mapping) for mapping in mappings]
            if self._tiles(mappings) <= self.problem.hardware.tiles
            else None
        )

    def _tiles(self, mappings: list[Mapping]) -> int:
        """Tiles of the whole graph."""
        return math.ceil(self.depths.extrapolated([float(len(m.tiles)) for m in mappings]))

    def _score(self, choice: Choice, than: Score | None) -> Score | None:
        mappings, p = self.mappings(choice.options), self.problem
        if mappings is None:
            return None
        try:
            chunk = choose_chunk(mappings[-1], p.hardware, p.chunk or choice.chunk or None)
        except CimError:
            return None
        predictors = self._predictors(choice.options, chunk)
        if predictors is None:
            return None
        limits = with_chunk(mappings[-1], chunk).limits
        steps = steps_of(p.graph, limits, predictors[-1].turns, p.prefill)
        before = self.work
        decode = self._deep(predictors, steps.decode) if steps.decode else 0.0
        segments = sum(len(step) for step in steps.prefill.samples)
        if predictors[-1].uses_memory and (self.work - before) / len(steps.decode) * segments > LONGEST:
            return None
        if than is not None and decode > PATIENCE * than.decode:
            return None
        prefill = self._prefill(predictors, steps.prefill)
        return Score(decode or prefill, prefill, self._tiles(mappings), chunk)

    def _predictors(self, options: MapOptions, chunk: int) -> list[Predictor] | None:
        """The predictors of all depths; None if nothing can be predicted."""
        for form in self._forms[options] or []:
            if chunk not in form.predictors:
                mapping = with_segments(form.mapping, chunk, self.problem.hardware, options)
                program = program_of(mapping, self.problem.hardware, options)
                form.predictors[chunk] = Predictor(program, form.like)
                form.like = form.like or form.predictors[chunk]
        found = [form.predictors[chunk] for form in self._forms[options] or []]
        return found if all(predictor.is_possible for predictor in found) else None

    def _cycles(self, predictor: Predictor, step: tuple[Segment, ...]) -> float:
        """Cycles of one form of the graph for a step."""
        told = predictor.step(step)
        self.work += INSTRUCTION_WORK * told.instructions
        return float(told.cycles)

    def _deep(self, predictors: list[Predictor], step: tuple[Segment, ...]) -> float:
        """Cycles of the whole graph for a step whose segments do not wait for each other."""
        return self.depths.extrapolated([self._cycles(p, step) for p in predictors])

    def _prefill(self, predictors: list[Predictor], steps: Prefill) -> float:
        """Cycles of the whole graph for many segments: those of the deepest form, and what the first segment takes
        through the layers that this lacks. The others follow it at the pace of the slowest stage; where rows come from
        memory, which layers share, each layer adds as much."""

        def cycles(predictor: Predictor) -> float:
            told = predictor.pair(steps.whole) if len(steps.samples) > 1 else None
            if told is not None:
                self.work += INSTRUCTION_WORK * told.instructions
                return float(told.cycles)
            return steps.extrapolated([self._cycles(predictor, step) for step in steps.samples])

        if predictors[-1].uses_memory:
            return self.depths.extrapolated([cycles(predictor) for predictor in predictors])
        whole = cycles(predictors[-1])
        if len(predictors) == 1:
            return whole
        return whole + self._deep(predictors, steps.first) - self._cycles(predictors[-1], steps.first)


def _are_same(forms: list[Form], others: list[Form] | None) -> bool:
    """Whether other options have led to the same mappings."""
    return others is not None and [f.mapping for f in forms] == [f.mapping for f in others]


def with_segments(mapping: Mapping, chunk: int, hardware: Hardware, options: MapOptions) -> Mapping:
    """The mapping with its longest segment decided, and with it how many copies of arrays serve one."""
    mapping = with_chunk(mapping, chunk)
    return with_copies(mapping, hardware) if options.does(Optimisation.COPY_ARRAYS) else mapping


def program_of(mapping: Mapping, hardware: Hardware, options: MapOptions) -> Program:
    """The program as it will be emitted: costs only, no weights."""
    double = options.does(Optimisation.DOUBLE_BUFFER)
    return build_program(mapping, hardware, Origin(), shapes_only=True, double=double)
