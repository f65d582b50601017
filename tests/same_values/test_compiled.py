"""The fast engine of values on what the compiler makes, and what it leaves to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.mapping.systems import with_chips
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa import instructions as t
from isa.hardware import load_target
from isa.operands import Addr, PortRef, Reg
from isa.program import Channel, Direction, Endpoint, Port, Program, Segment, segments_of
from models import PYTINY, path
from runtime.engine.state import TileState
from runtime.machine import Machine
from runtime.values import EngineKind, plan
from runtime.values.copies import FastCopy
from tests.values.bench import ONE, Bench, mesh
from tests.values.conftest import assert_same_state

CONTEXT = 64


@cache
def compiled(kv: str = "auto", chips: int = 1, weights: str = "int8", place: str = "auto") -> Program:
    """The trained model, two sequences."""
    options = CompileOptions(max_context=CONTEXT, batch=2, kv=kv, weights=weights, place=place)
    return compile_model(path(PYTINY), options, with_chips(load_target("dcim22"), chips)).require_program()


def both(program: Program) -> tuple[Machine, Machine]:
    """A machine of each engine."""
    fast = Machine(program, engine=EngineKind.FAST)
    assert fast.reason is None
    return Machine(program), fast


def is_alone(machine: Machine) -> bool:
    """Whether the fast engine has needed no help."""
    return all(isinstance(copy, FastCopy) and copy.reference is None for copy in machine._copies)


def feeds(
    program: Program, segments: Sequence[Segment], seed: int
) -> dict[str, NDArray[np.float32 | np.int32]]:
    """Rows of all input streams."""
    random, rows = np.random.default_rng(seed), sum(s.tokens for s in segments)
    made: dict[str, NDArray[np.float32 | np.int32]] = {}
    for stream in program.streams:
        if stream.direction is Direction.IN and not any(stream.name in p.outputs for p in program.hosts):
            shape = (rows, stream.columns)
            made[stream.name] = (
                random.integers(0, 90, shape).astype(np.int32)
                if stream.columns == 1
                else random.normal(size=shape).astype(np.float32)
            )
    return made


def steps(program: Program) -> list[Sequence[Segment]]:
    """A prompt, tokens of two sequences that share steps, and a sequence that begins anew."""
    chunk = program.limits.chunk
    first = segments_of(11, 0, chunk, sequence=0)
    second = segments_of(5, 0, chunk, last_only=False, sequence=1)
    later = [*segments_of(3, 11, chunk, sequence=0), *segments_of(1, 5, chunk, sequence=1)]
    return [first, second, later, segments_of(1, 14, chunk), segments_of(2, 0, chunk, sequence=1)]


@pytest.mark.parametrize(
    ("kv", "chips", "weights"),
    [
        ("auto", 1, "int8"),
        ("streamed", 1, "int8"),
        ("tiered", 1, "int8"),
        ("auto", 4, "int8"),
        ("auto", 1, "float32"),
        ("auto", 1, "int4"),
    ],
)
def test_the_trained_model(kv: str, chips: int, weights: str) -> None:
    program = compiled(kv, chips, weights)
    reference, fast = both(program)
    for number, segments in enumerate(steps(program)):
        inputs = feeds(program, segments, number)
        expected, found = reference.step(segments, inputs), fast.step(segments, inputs)
        assert {k: v.tobytes() for k, v in expected.items()} == {k: v.tobytes() for k, v in found.items()}
    assert_same_state(reference, fast)
    assert is_alone(fast)


def test_caches_from_outside() -> None:
    """Rows that are written from outside are there, and those that the chip appended can be read."""
    program = compiled()
    reference, fast = both(program)
    segments = segments_of(2, 7, program.limits.chunk, sequence=1)
    for machine in (reference, fast):
        keys, _ = machine.read_cache(0, 1, 0)
        size = 2, len(keys), 7, keys.shape[2]
        rows = np.random.default_rng(3).normal(size=size).astype(np.float32)
        for layer in range(len(program.caches)):
            machine.write_cache(layer, 1, rows[0], rows[1])
        machine.step(segments, feeds(program, segments, 1))
    for layer in range(len(program.caches)):
        for one, other in zip(reference.read_cache(layer, 1, 9), fast.read_cache(layer, 1, 9), strict=True):
            np.testing.assert_array_equal(one, other)
    assert is_alone(fast)


def test_a_program_with_much_to_do_goes_over() -> None:
    """A small program begins on the reference; the fast engine goes on from what that has left."""
    program = compiled("tiered")
    reference, auto = Machine(program), Machine(program, engine=EngineKind.AUTO)
    engines = []
    for turn in range(20):
        for number, segments in enumerate(steps(program)):
            inputs = feeds(program, segments, 5 * turn + number)
            expected, found = reference.step(segments, inputs), auto.step(segments, inputs)
            assert {k: v.tobytes() for k, v in expected.items()} == {k: v.tobytes() for k, v in found.items()}
        engines.append(auto.engine)
        if engines[-1] is EngineKind.FAST:
            break
    assert engines[0] is EngineKind.REFERENCE and engines[-1] is EngineKind.FAST
    assert_same_state(reference, auto)


@pytest.mark.parametrize(
    ("rows", "cols", "n"), [(64, 8, 1), (64, 4, 2), (100, 6, 3), (200, 71, 5), (63, 9, 2)]
)
def test_products_of_all_sizes(rows: int, cols: int, n: int) -> None:
    """Whole blocks of bytes and what is left, columns by four and alone, the lowest int8 too."""
    random, bench = np.random.default_rng(rows), Bench()
    weights = bench.array(random.integers(-128, 128, (rows, cols), dtype=np.int8), np.ones(cols, np.float32))
    x = bench.put(random.integers(-128, 128, (n, rows), dtype=np.int8))
    y = bench.put(random.integers(-128, 128, (n, cols), dtype=np.int8))
    count, first, half = bench.reg(n), bench.reg(3), bench.reg(0)
    sums, part, back = bench.room(4 * n * cols), bench.room(4 * n * cols), bench.room(4 * n * rows)
    code = (
        t.Mvm(weights, sums, x, count, half, rows),
        t.Mvm(weights, sums, x, count, half, rows, acc=True),
        t.Mvm(weights, part, x, count, first, rows - 3),
        t.Mvmt(weights, back, y, count, half, rows),
    )
    reference, fast = both(bench.program(*code))
    for machine in (reference, fast):
        machine.step(ONE, {})
    assert_same_state(reference, fast)
    assert is_alone(fast)


def test_messages_that_need_more_room() -> None:
    """Many messages wait: the arena grows while tiles are in the middle of their texts."""
    sent, rows, width, count = 300, 16, 64, Reg(1)
    fill = (t.Li(count, rows), t.Vfill(Addr(), count, width, 1.5))
    loop = t.Loop(Reg(2), sent, len(fill) + 2)
    send = (*fill, loop, t.Send(PortRef(0), Addr(), count, width))
    last = (*send, t.Send(PortRef(1), Addr(), count, width))
    head = (t.Li(count, rows), t.Recv(PortRef(1), Addr(offset=8192), count, width))
    wait = (*head, t.Vabs(Addr(offset=8192), Addr(offset=8192), count, width))
    take = (*wait, t.Loop(Reg(2), sent, len(wait) + 2), t.Recv(PortRef(0), Addr(), count, width))
    program = mesh(
        [
            ("a", last, [Port("p", Direction.OUT), Port("q", Direction.OUT)]),
            ("b", take, [Port("p", Direction.IN), Port("q", Direction.IN)]),
        ],
        channels=[
            Channel("p", (Endpoint(0, 0),), (Endpoint(1, 0),)),
            Channel("q", (Endpoint(0, 1),), (Endpoint(1, 1),)),
        ],
    )
    reference, fast = both(program)
    for machine in (reference, fast):
        machine.step(ONE, {})
    assert_same_state(reference, fast)
    assert is_alone(fast)


def test_what_the_reference_does() -> None:
    """An operand that overlaps the others in a way the engine does not know: the reference goes on from there."""
    bench = Bench()
    block = bench.put(np.arange(-8, 8, dtype=np.float32).reshape(2, 8))
    n = bench.reg(2)
    code = (t.Vabs(block, block, n, 8), t.Quant(block, block, block, n, 8), t.Vneg(block, block, n, 1))
    program = bench.program(*code)
    reference, fast = both(program)
    for machine in (reference, fast):
        machine.step(ONE, {})
    assert_same_state(reference, fast)
    assert not is_alone(fast)
    fast.reset()
    assert is_alone(fast)


def test_programs_that_the_reference_runs() -> None:
    """Jumps that leave a loop are traps; whoever watches instructions watches the reference."""
    bench = Bench()
    n = bench.reg(2)
    program = bench.program(t.Loop(n, 2, bench.jump_over(2)), t.Jump(bench.jump_over(3)), t.Halt())
    assert "leads to" in (plan.why_not(program) or "")
    assert Machine(program, engine=EngineKind.FAST).reason == plan.why_not(program)
    seen: list[int] = []

    def observe(tile: int, index: int, inst: t.Inst, state: TileState) -> None:
        seen.append(index)

    watched = Machine(bench.program(), engine=EngineKind.FAST, observer=observe)
    watched.step(ONE, {})
    assert watched.reason is not None and seen
