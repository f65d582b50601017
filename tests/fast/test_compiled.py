"""The fast engine on what the compiler makes, and on programs that come to no good end."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.mapping.systems import with_chips
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa import instructions as t
from isa.diagnostics import CimError
from isa.hardware import load_target
from isa.program import Program, segments_of
from models import PYTINY, path
from runtime.fast import Timing, timer_of
from runtime.fast.simulator import FastSimulator
from runtime.fast.steps import Step
from runtime.fast.traces import Traces
from runtime.fast.words import Words, enlarged, reserved
from runtime.timing import Simulator, simulate
from tests.fast.calls import calls_of
from tests.timing.programs import ONE_TOKEN, P0, P1, R, at, channel, program, role
from tests.timing.test_messages import pair, recv, send

from .test_equal import assert_equal, machine


@cache
def compiled(kv: str = "auto", chips: int = 1, batch: int = 2) -> Program:
    """The trained model on some chips."""
    options = CompileOptions(max_context=64, batch=batch, kv=kv)
    return compile_model(path(PYTINY), options, with_chips(load_target("dcim22"), chips)).require_program()


@pytest.mark.parametrize(("kv", "chips"), [("auto", 1), ("streamed", 1), ("auto", 4)])
def test_the_trained_model(kv: str, chips: int) -> None:
    p = compiled(kv, chips)
    each = [segments_of(1, 40 + 9 * at, p.limits.chunk, sequence=at) for at in range(2)]
    assert_equal(p, segments_of(3, 0, p.limits.chunk), [s for cut in each for s in cut])


def test_parts_on_the_host() -> None:
    options = CompileOptions(max_context=64, batch=1, place="attention")
    p = compile_model(path(PYTINY), options, load_target("dcim22")).require_program()
    assert_equal(p, segments_of(3, 0, p.limits.chunk), segments_of(1, 40, p.limits.chunk))


def test_steps_that_need_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long step after a short one, where no addresses can be reserved: arenas grow while the kernel waits."""
    sizes: list[int] = []

    def noted(words: Words, size: int) -> Words:
        sizes.append(size)
        return enlarged(words, size)

    monkeypatch.setattr("runtime.fast.words.memory_words", lambda: 0)
    monkeypatch.setattr("runtime.fast.steps._FIRST_ROOM", 1 << 10)
    monkeypatch.setattr("runtime.fast.steps.enlarged", noted)
    p = compiled()
    fast = FastSimulator(p)
    for tokens in (1, 6, 30, 2):
        segments = segments_of(tokens, 0, p.limits.chunk)
        assert fast.alone(segments) == simulate(p, segments)
    assert len(sizes) > 1


def test_tokens_that_pass_as_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tokens one behind the other some go through equal traces: their time is known, their energy is their own."""
    gone = calls_of(monkeypatch, Step, "run")
    p = compiled()
    fast, all_ = FastSimulator(p), range(8, 48)
    found = [fast.alone(segments_of(1, position, p.limits.chunk)) for position in all_]
    assert len(gone) < len(all_)
    alone = FastSimulator(p, reuse=False)
    assert found == [alone.alone(segments_of(1, position, p.limits.chunk)) for position in all_]
    assert found[-1] == simulate(p, segments_of(1, 47, p.limits.chunk))


def test_more_operations_under_way_than_traces_were_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.fast.traces.FIRST_REACH", 2)
    widened = calls_of(monkeypatch, Traces, "widen")
    p = compiled()
    segments = segments_of(12, 0, p.limits.chunk)
    assert FastSimulator(p).alone(segments) == simulate(p, segments)
    assert widened


def test_traces_of_earlier_steps_go_when_they_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.fast.traces._MOST_ITEMS", 10)
    forgotten = calls_of(monkeypatch, Traces, "forget")
    p = compiled()
    fast = FastSimulator(p)
    for position in (3, 4, 3):
        segments = segments_of(1, position, p.limits.chunk)
        assert fast.alone(segments) == simulate(p, segments)
    assert len(forgotten) == 2


def test_arenas_have_addresses_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    few = np.arange(5)
    monkeypatch.setattr("runtime.fast.words.memory_words", lambda: 1 << 33)
    arena = reserved(few, 100)
    assert arena.size >= 100 and arena[:5].tolist() == few.tolist()
    monkeypatch.setattr("runtime.fast.words.memory_words", lambda: 1 << 58)  # more than there are addresses
    assert reserved(few, 100).size == 100


_RING = role("a", (t.Li(R(1), 1), recv(port=P0), t.Vrelu(at(0), at(0), R(1), 8), send(port=P1)), ports="io")
DEADLOCK = program([_RING] * 2, [(0, 0), (1, 0)], [channel([(0, 1)], [(1, 0)]), channel([(1, 1)], [(0, 0)])])
SIZES = pair((t.Li(R(1), 1), send(64)), (t.Li(R(1), 1), recv(32)))
LEFT = pair((t.Li(R(1), 1), send(64)), (t.Li(R(1), 1),))
TRAP = program([role("a", (t.Li(R(1), 0), t.Div(R(2), R(1), R(1))))])
LENGTH = program([role("a", (t.Li(R(1), -3), t.Vfill(at(0), R(1), 4, 1.0)))])
PORT = program([role("a", (t.Li(R(1), 1), t.Send(P0, at(0), R(1), 4)), ports="o")])


@pytest.mark.parametrize("p", [DEADLOCK, SIZES, LEFT, TRAP, LENGTH, PORT])
def test_diagnostics_are_those_of_the_reference(p: Program) -> None:
    assert FastSimulator(p).alone(ONE_TOKEN) is None
    with pytest.raises(CimError) as expected:
        simulate(p, ONE_TOKEN)
    with pytest.raises(CimError) as found:
        FastSimulator(p).step(ONE_TOKEN)
    assert str(found.value) == str(expected.value)


def test_which_engine_is_taken() -> None:
    p = pair((t.Li(R(1), 1), send(64)), (t.Li(R(1), 1), recv(64)))
    assert isinstance(timer_of(p, [ONE_TOKEN]), Simulator)
    assert isinstance(timer_of(p, [ONE_TOKEN] * 6000), FastSimulator)
    assert isinstance(timer_of(p, [ONE_TOKEN] * 6000, traced=True), Simulator)
    assert isinstance(timer_of(p, [ONE_TOKEN], Timing.FAST), FastSimulator)
    assert isinstance(timer_of(p, [ONE_TOKEN] * 6000, Timing.REFERENCE), Simulator)


def test_cycles_do_not_depend_on_what_was_simulated_before() -> None:
    p = program([role("a", (t.Li(R(1), 3), t.Vfill(at(0), R(1), 40, 1.0)))], target=machine(2, 1, 64, 8))
    first, second = FastSimulator(p), FastSimulator(p)
    assert first.step(ONE_TOKEN) == first.step(ONE_TOKEN) == second.step(ONE_TOKEN)
