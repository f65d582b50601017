"""The two interpreters of a program, of values and of time, execute the same instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.instruction import DType, Inst
from isa.operands import Special
from isa.program import HOST, Direction, Limits, Program, Segment, Stream
from runtime.machine import Machine
from runtime.timing import simulate

from .programs import Listener, R, program, role
from .test_messages import hosted
from .test_properties import attention

Executed = Counter[tuple[int, int]]


def executed_by_time(p: Program, segments: Sequence[Segment]) -> Executed:
    """How often each instruction of each tile was executed."""
    listener = Listener()
    simulate(p, segments, sink=listener)
    return Counter((tile, index) for tile, _, _, _, index in listener.ops if tile != HOST)


def executed_by_values(p: Program, segments: Sequence[Segment], inputs: dict[str, np.ndarray]) -> Executed:
    found: Executed = Counter()

    def observe(tile: int, index: int, inst: Inst, state: object) -> None:
        found[tile, index] += 1

    Machine(replace(p, data={}), observer=observe).step(segments, inputs)
    return found


def test_attention() -> None:
    for segments in ((Segment(1, 130, 1),), (Segment(8, 0, 8), Segment(3, 8, 3))):
        rows = sum(segment.tokens for segment in segments)
        values = executed_by_values(attention(), segments, {"x": np.zeros((rows, 16), np.float32)})
        assert executed_by_time(attention(), segments) == values


def test_segments_without_outputs() -> None:
    segments = (Segment(4, 0, 0), Segment(1, 4, 1))
    inputs = {"input_ids": np.zeros(5, np.int32)}
    assert executed_by_time(hosted(), segments) == executed_by_values(hosted(), segments, inputs)


_REGISTERS = st.integers(1, 6).map(R)
_OPERANDS = st.one_of(_REGISTERS, st.integers(-9, 9))
_ARITHMETIC = st.builds(
    lambda kind, rd, a, b: kind(rd, a, b),
    st.sampled_from([t.Add, t.Sub, t.Mul, t.Min, t.Max, t.And, t.Or, t.Xor]),
    _REGISTERS,
    _REGISTERS,
    _OPERANDS,
)
_SHIFTS = st.builds(
    lambda kind, rd, a, b: kind(rd, a, b),
    st.sampled_from([t.Shl, t.Shr, t.Div, t.Mod]),
    _REGISTERS,
    _REGISTERS,
    st.integers(1, 31),
)
_FACTS = st.one_of(
    st.builds(t.Sys, _REGISTERS, st.sampled_from(Special)), st.sampled_from([t.Seg(R(0)), t.Sseg(R(0))])
)
_LOADS = st.one_of(
    st.builds(t.Li, _REGISTERS, st.integers(-(2**40), 2**40)), st.builds(t.Ldp, _REGISTERS, st.just(0))
)
_PLAIN = st.lists(st.one_of(_ARITHMETIC, _SHIFTS, _FACTS, _LOADS), min_size=1, max_size=5)


@st.composite
def scalar_code(draw: st.DrawFn, depth: int = 0, start: int = 0) -> list[Inst]:
    """Straight code, branches over code, loops around code; indices are those from `start` on."""
    code: list[Inst] = []
    for _ in range(draw(st.integers(1, 3))):
        code += draw(_PLAIN)
        if depth == 2:
            continue
        shape = draw(st.sampled_from(["loop", "branch", "jump"]))
        body = draw(scalar_code(depth=depth + 1, start=start + len(code) + 1))
        end = start + len(code) + 1 + len(body)
        if shape == "loop":
            code.append(t.Loop(draw(_REGISTERS), draw(st.integers(0, 4)), end))
        elif shape == "branch":
            kind = draw(st.sampled_from([t.Beq, t.Bne, t.Blt, t.Bge]))
            code.append(kind(draw(_REGISTERS), draw(_OPERANDS), end))
        else:
            code.append(t.Jump(end))
        code += body
    return code


@settings(max_examples=80)
@given(scalar_code(), st.integers(-(2**63), 2**63 - 1))
def test_scalar_programs(code: list[Inst], parameter: int) -> None:
    plain = program([role("s", code, params=1)], params=[(parameter,)])
    rows = Stream("rows", Direction.IN, DType.F32, 1, (), source=True)
    p = replace(plain, limits=Limits(1024, 16, max_source=64), streams=(rows,))
    segments = (Segment(5, 32, 0, is_source=True), Segment(3, 16, 3, source=37))
    inputs = {"rows": np.zeros(5, np.float32)}
    assert executed_by_time(p, segments) == executed_by_values(p, segments, inputs)
