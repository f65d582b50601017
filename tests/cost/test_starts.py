"""Where a search begins: what is mapped to find that out, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from benchmarks.mapping.systems import with_chips
from compiler.cost.flows import Flow
from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic
from compiler.mapping.folded_mapping import cells, weight_cells
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.settle import settle
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from compiler.search import Choice, Found, by_rule, search, with_copies_of_all
from compiler.search.choose import _Descent, _whole
from compiler.search.judge import Judge, Score
from compiler.search.shorten import depths_of
from compiler.search.starts import Group, cells_needed, starts
from isa.hardware import load_target
from isa.interface import KvPolicy
from isa.program import Limits
from models import PYTINY as FILE
from models import path

SYSTEM = with_chips(load_target("dcim22"), 16)  # 4 x 4


@pytest.fixture(scope="module")
def graph() -> Graph:
    return run_pipeline(GRAPH_PIPELINE, Compilation(path(FILE), CompileOptions())).require_graph()


@pytest.fixture(scope="module")
def rules(graph: Graph) -> Found:
    return by_rule(_problem(graph), Choice(MapOptions(), 8))


def _problem(graph: Graph, **limits: int) -> Problem:
    return Problem(graph, SYSTEM, Limits(**({"max_context": 64, "chunk": 1} | limits)), Arithmetic.INT8, None)


@dataclass
class Settler:
    """A judge that settles nothing, and notes on how many chips it was to."""

    problem: Problem
    fits: bool = True
    asked: list[tuple[int, int]] = field(default_factory=list)

    def settled(self, choice: Choice) -> Choice | None:
        self.asked.append(choice.options.chips)
        return choice if self.fits else None


def _chips(judge: Settler, rules: Found) -> Group:
    everywhere = tuple(
        replace(tile, x=i % SYSTEM.mesh_x, y=i // SYSTEM.mesh_x % SYSTEM.mesh_y)
        for i, tile in enumerate(rules.mapping.tiles * 64)
    )
    mapping = replace(rules.mapping, tiles=everywhere)
    return next(starts(judge, Choice(MapOptions()), rules.choice, mapping))  # type: ignore[arg-type]


def test_chips_that_hold_neither_weights_nor_rows_are_not_mapped(graph: Graph, rules: Found) -> None:
    all_of_them = Settler(_problem(graph))
    assert [label for label, _ in _chips(all_of_them, rules).others] == ["4 x 2", "4 x 1", "2 x 1", "1 x 1"]
    row = cells_needed(graph, Limits(1, 1), rules.mapping)[1]
    longest = (cells(SYSTEM.with_chips(4, 2)) - weight_cells(graph)) // row
    for more, chips in ((0, [(4, 2)]), (1, [])):
        judge = Settler(_problem(graph, max_context=longest + more))
        assert [
            options.chips for _, choice in _chips(judge, rules).others for options in (choice.options,)
        ] == chips
        assert judge.asked == chips


def test_cells_are_counted_for_rows_of_all_sequences_in_arrays(graph: Graph, rules: Found) -> None:
    weights, limits = weight_cells(graph), Limits(64, 1, sequences=3)
    _, one = cells_needed(graph, Limits(64, 1), rules.mapping)
    assert one > 0
    assert cells_needed(graph, limits, rules.mapping) == (weights, 3 * one)
    streamed = by_rule(_problem(graph), Choice(MapOptions(kv=KvChoice(KvPolicy.STREAMED)), 8))
    assert cells_needed(graph, limits, streamed.mapping) == (weights, 0)


def test_halving_ends_where_the_rules_find_nothing(graph: Graph, rules: Found) -> None:
    judge = Settler(_problem(graph), fits=False)
    assert list(_chips(judge, rules).others) == []
    assert judge.asked == [(4, 2)]


class Scores:
    """A judge that knows the cycles of a decode and of a prefill by tokens a segment."""

    work = 0.0

    def __init__(self, cycles: dict[int, float | None]) -> None:
        self._cycles, self.asked = cycles, list[int]()

    def score(self, choice: Choice, than: Score | None = None) -> Score | None:
        self.asked.append(choice.chunk)
        found = self._cycles[choice.chunk]
        return None if found is None else Score(found, found, 1, choice.chunk)


@pytest.mark.parametrize(
    ("further", "second", "asked"),
    [(True, 110.0, [1, 2]), (True, None, [1, 2]), (True, 95.0, [1, 2, 3]), (False, 110.0, [1, 2, 3])],
)
def test_what_goes_further_than_a_slower_choice_is_not_looked_at(
    further: bool, second: float | None, asked: list[int]
) -> None:
    judge = Scores({1: 95.0, 2: second, 3: 50.0})
    descent = _Descent(judge, Choice(MapOptions(), 0), Score(100.0, 100.0, 1, 0), 1000)  # type: ignore[arg-type]
    others = ((str(n), Choice(MapOptions(), n)) for n in (1, 2, 3))
    descent.compare(Group("chips", "all", others, further))
    assert judge.asked == asked
    assert descent.choice.chunk == (3 if 3 in asked else 1)


def test_what_is_settled_is_not_mapped_again(graph: Graph, rules: Found) -> None:
    """It is what is predicted, where no short forms stand for the graph, and what is taken in the end."""
    whole, short = _problem(graph), replace(_problem(graph), graph=depths_of(graph).graphs[-1])
    for problem in (whole, short):
        judge, asked = Judge(problem), Choice(MapOptions(spread=1.0), 8)
        found = judge.settled(asked)
        assert found is not None
        kept = judge.whole(found.options)
        assert kept is not None and kept.notes
        assert settle(problem, found.options) == kept.settled
        assert judge.work == len(kept.settled.mapping.tiles)
        taken = _whole(judge, found, rules)
        assert taken.settled is kept.settled and taken.notes == kept.notes
        if problem is short:
            assert judge.mappings(found.options) == [kept.settled.mapping]
            assert judge.work == len(kept.settled.mapping.tiles)


def test_what_takes_minutes_to_predict_is_left_to_the_rules(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decode tells what predicting a prefill would take, before it is predicted."""
    problem, asked = _problem(graph), Choice(MapOptions(kv=KvChoice(KvPolicy.STREAMED)), 8)
    found = by_rule(problem, asked)
    judge = Judge(problem)
    assert judge.score(found.choice) is not None
    monkeypatch.setattr("compiler.search.judge.LONGEST", 1.0)
    short = Judge(problem)
    assert short.score(found.choice) is None
    assert 0 < short.work < judge.work
    assert search(problem, asked, found) is found
    kept = Choice(MapOptions(kv=KvChoice(KvPolicy.RESIDENT)), 8)
    assert short.score(kept) is not None  # with rows in arrays choices matter, whatever they take to predict


def test_a_search_goes_on_with_the_judge_of_the_copies(graph: Graph) -> None:
    """What copies of the whole were weighed by is not predicted again."""
    problem, asked = _problem(graph, sequences=2), Choice(MapOptions(), 8)
    judged: list[int] = []

    def improve(share: Problem, asked: Choice, found: Found, judge: Judge | None) -> Found:
        assert judge is not None and judge.problem is share
        judged.append(judge.judged)
        before = judge.work
        assert judge.score(found.choice) is not None
        assert judge.work == before
        return search(share, asked, found, judge)

    with_copies_of_all(problem, asked, improve)
    assert judged == [1]


def test_messages_come_in_the_order_in_which_each_tile_comes_to_them() -> None:
    flow = Flow(((0, 0), (1, 0)), ((2, 0),), route=None)  # type: ignore[arg-type]
    for end, name in (((1, 0), "b0"), ((1, 0), "b1"), ((0, 0), "a0"), ((0, 0), "a1"), ((2, 0), "c0")):
        assert not flow.complete()
        flow.post(end, name)  # type: ignore[arg-type]
    assert flow.complete()
    assert [str(o) for o in flow.coming[0].values()] == ["b0", "a0", "c0"]
    flow.is_gathering = False
    flow.post((2, 0), "c1")  # type: ignore[arg-type]
    assert not flow.complete()
    flow.next()
    assert flow.complete()
    assert [str(o) for o in flow.coming[0].values()] == ["b1", "a1", "c1"]
    flow.next()
    assert not flow.complete() and not flow.coming
