"""The search over the mapper's choices: short forms of graphs, and what is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mapping.systems import with_chips
from compiler.cost import Predictor
from compiler.driver import compile_model
from compiler.ir.graph import Graph
from compiler.ir.mapping import Arithmetic
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.optimisations import Optimisation
from compiler.passes import GRAPH_PIPELINE
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from compiler.search import Choice, Problem, by_rule, search
from compiler.search.axes import AXES
from compiler.search.choose import _most_work
from compiler.search.judge import Judge, Score, program_of
from compiler.search.shorten import depths_of
from compiler.search.steps import steps_of
from isa.hardware import load_target
from isa.interface import KvPolicy
from isa.program import Limits, segments_of
from models import PYTINY as FILE
from models import path
from models.make import make

TARGET = load_target("dcim22")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return run_pipeline(GRAPH_PIPELINE, Compilation(path(FILE), CompileOptions())).require_graph()


def _problem(graph: Graph, context: int = 64) -> Problem:
    return Problem(graph, TARGET, Limits(context, 1), Arithmetic.INT8, None)


def test_a_deep_graph_is_shortened_to_one_layer_and_two(graph: Graph) -> None:
    depths = depths_of(graph)
    assert depths.count == 4
    one, two = (len(short.nodes) for short in depths.graphs)
    assert len(graph.nodes) - two == 2 * (two - one)
    for short in depths.graphs:
        made = {node.output.name for node in short.nodes} | {i.name for i in short.inputs}
        assert all(
            name in made or name in short.constants for node in short.nodes for name in node.inputs if name
        )
        assert set(short.outputs) <= made


def test_costs_are_extrapolated_by_layers(graph: Graph) -> None:
    depths = depths_of(graph)
    assert depths.extrapolated([10.0, 13.0]) == 10.0 + 3 * 3.0
    assert replace(depths, graphs=depths.graphs[:1]).extrapolated([10.0]) == 10.0


def test_short_forms_tell_what_the_whole_takes(graph: Graph) -> None:
    problem = _problem(graph)
    rules = by_rule(problem, Choice(MapOptions(), 8))
    score = Judge(problem).score(rules.choice)
    assert score is not None
    program = program_of(rules.mapping, TARGET, MapOptions())
    whole = Predictor(program)
    assert score.decode == pytest.approx(whole.step(segments_of(1, 63, 8)).cycles, rel=0.1)
    assert score.prefill == pytest.approx(whole.step(segments_of(64, 0, 8)).cycles, rel=0.1)
    assert score.tiles == len(program.tiles)


def test_a_prefill_is_extrapolated_over_its_segments(graph: Graph) -> None:
    steps = steps_of(graph, Limits(1024, 1)).prefill
    few, many = (sum(s.tokens for s in step) for step in steps.samples)
    assert few < many < steps.tokens
    assert steps.extrapolated([100.0 + 7 * few, 100.0 + 7 * many]) == 100.0 + 7 * steps.tokens
    assert len(steps_of(graph, Limits(1024, 4)).prefill.samples) == 1


def test_a_prefill_of_so_many_tokens_begins_a_sequence(graph: Graph) -> None:
    last, first = steps_of(graph, Limits(1024, 4)), steps_of(graph, Limits(1024, 4), prefill=96)
    assert last.decode == first.decode
    assert (last.prefill.whole[0].position, last.prefill.tokens) == (960, 64)
    assert (first.prefill.whole[0].position, first.prefill.tokens) == (0, 96)
    assert steps_of(graph, Limits(80, 4), prefill=96).prefill.tokens == 80


def test_choices_are_judged_by_the_prompts_that_are_asked_for(graph: Graph) -> None:
    problem = _problem(graph, 256)
    rules = by_rule(problem, Choice(MapOptions()))
    long, short = (Judge(replace(problem, prefill=tokens)).score(rules.choice) for tokens in (200, 20))
    assert long is not None
    assert short is not None
    assert long.decode == short.decode
    assert long.prefill > short.prefill
    told = []
    for tokens in (200, 20):
        options = CompileOptions(max_context=256, prefill=tokens, explain=True)
        notes = compile_model(path(FILE), options, TARGET).notes
        told += [note.text for note in notes if "mappings were predicted" in note.text]
    assert len(set(told)) == 2


def test_for_longer_prompts_more_may_be_looked_at_up_to_twice_as_much() -> None:
    most = [_most_work(100, 1, prefill) for prefill in (8, 64, 96, 128, 1000)]
    assert most == [most[0], most[0], 1.5 * most[0], 2 * most[0], 2 * most[0]]


def test_the_choice_is_no_slower_than_the_rules(graph: Graph) -> None:
    problem, start = _problem(graph), Choice(MapOptions(), 16)
    rules = by_rule(problem, start)
    found = search(problem, start, rules)
    judge = Judge(problem)
    chosen, score = judge.score(found.choice), judge.score(rules.choice)
    assert chosen is not None
    assert score is not None
    assert chosen.key <= score.key
    assert "mappings were predicted" in found.notes[0].text


def test_choices_with_the_same_mapping_are_predicted_once(graph: Graph) -> None:
    problem = _problem(graph)
    choice = by_rule(problem, Choice(MapOptions())).choice
    judge = Judge(problem)
    score, before = judge.score(choice), judge.work
    assert score is not None and before > 0
    wide = replace(choice, options=replace(choice.options, spread=choice.options.spread + 1e-9))
    assert judge.score(wide) == score
    assert judge.work - before < before / 2  # mapped again, and no more


def test_more_tiles_a_head_bring_blocks_for_each_of_them(graph: Graph) -> None:
    dense = load_target("dcim3")
    judge = Judge(Problem(graph, dense, Limits(512, 1), Arithmetic.INT8, None))
    now = Choice(MapOptions(context_ways=4, context_block=128, stream=False, spread=1.0), 4)
    score = judge.score(now)
    assert score is not None
    (axis,) = (axis for axis in AXES if axis.name == "tiles a head")
    fewer, more = axis.neighbours(judge, now, score)
    assert (fewer.options.context_ways, more.options.context_ways) == (2, 8)
    assert more.options.context_block * 8 == 512
    better = judge.score(more)
    assert better is not None
    assert better.prefill < score.prefill


def test_where_more_tiles_do_not_fit_the_rules_make_room(graph: Graph) -> None:
    problem = replace(_problem(graph, 512), limits=Limits(512, 1, sequences=32))
    judge = Judge(problem)
    now = Choice(MapOptions(context_ways=2, stream=False, spread=2.0), 4)
    assert judge.mappings(replace(now.options, context_ways=4)) is None
    (axis,) = (axis for axis in AXES if axis.name == "tiles a head")
    _, more = axis.neighbours(judge, now, Score(1.0, 1.0, 1, 4))
    assert more.options.context_ways == 4
    assert judge.mappings(more.options) is not None


def test_what_is_asked_for_is_not_searched(graph: Graph) -> None:
    problem = replace(_problem(graph), chunk=4)
    asked = Choice(MapOptions(kv=KvChoice(KvPolicy.STREAMED)), 16)
    found = search(problem, asked, by_rule(problem, asked))
    assert found.mapping.limits.chunk == 4
    assert {cache.policy for cache in found.mapping.caches} == {KvPolicy.STREAMED}


@pytest.mark.slow
def test_a_large_model_is_searched_unless_that_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "gpt2.onnx"
    make("gpt2", file, layers=4, shapes_only=True)
    system = with_chips(TARGET, 8)
    cycles = []
    for without in (frozenset[Optimisation](), frozenset({Optimisation.SEARCH})):
        options = CompileOptions(max_context=256, shapes_only=True, without=without)
        c = compile_model(file, options, system)
        assert any("mappings were predicted" in note.text for note in c.notes) is not bool(without)
        program = c.require_program()
        steps = (segments_of(1, 255, program.limits.chunk), segments_of(128, 128, program.limits.chunk))
        predictor = Predictor(program)
        cycles.append([predictor.step(step).cycles for step in steps])
    found, by_rules = cycles
    assert found[0] * found[1] <= 1.02 * by_rules[0] * by_rules[1]


def test_large_models_with_streamed_weights_are_not_searched(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DRAM binds them whatever the choice, and their predictions take long."""
    monkeypatch.delattr("compiler.search.choose.Judge")
    problem, resident = _problem(graph), Choice(MapOptions(hub_width=64), 4)
    streamed = Choice(MapOptions(stream=True, kv=KvChoice(KvPolicy.STREAMED)), 4)
    with pytest.raises(NameError):
        search(problem, resident, by_rule(problem, resident))
    found = search(problem, streamed, by_rule(problem, streamed))
    assert found.settled.options.stream
