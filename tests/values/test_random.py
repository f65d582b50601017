"""Random programs of one tile, of all instructions that compute or move: whatever they do, the engines agree.

Each step runs on both (conftest.py). Operands are near enough that most instructions do something: small lengths, and
addresses in a buffer that is full of numbers but for its end. What one instruction leaves behind the next ones read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.instruction import TABLE, DType, Inst, Unit
from isa.operands import (
    ZERO,
    Addr,
    AddrKind,
    ArrayRef,
    EitherKind,
    IndexedKind,
    IntKind,
    Kind,
    Mem,
    MemKind,
    Reg,
    RegKind,
    Space,
)
from isa.program import Segment
from tests.strategies import STRATEGIES
from tests.values.bench import Bench

_rng = np.random.default_rng(71)
_WORDS = 6000
_NUMBERS = (_rng.standard_normal(_WORDS) * 3).astype(np.float32)
_BYTES = _rng.integers(-127, 128, 4 * _WORDS).astype(np.int8)
_WEIGHTS = _rng.integers(-127, 128, (192, 40)).astype(np.int8)
_SCALES = _rng.random(40).astype(np.float32)
_IDEAL = _rng.standard_normal((64, 16)).astype(np.float32)

_LENGTHS = (0, 1, 2, 3, 4, 7, 16, 40, 64, 192)
_REGISTER = st.integers(0, len(_LENGTHS)).map(Reg)
_STEPPED = (20, 21)
_UNITS = {Unit.CIM, Unit.VECTOR, Unit.DMA}
_OPCODES = [opcode for opcode in sorted(TABLE) if TABLE[opcode].unit in _UNITS]


def _address() -> st.SearchStrategy[Addr]:
    place = st.integers(0, 460).map(lambda line: 64 + 64 * line)
    fixed = st.builds(Addr, st.just(ZERO), place)
    moving = st.builds(Addr, st.sampled_from(_STEPPED).map(Reg), place, st.booleans())
    return st.one_of(fixed, moving)


def _whole(kind: IntKind) -> st.SearchStrategy[int]:
    return st.sampled_from([n for n in _LENGTHS if n < 1 << kind.bits - kind.signed])


_NEAR: dict[type[Kind], Callable[[Any], st.SearchStrategy[Any]]] = STRATEGIES | {
    RegKind: lambda kind: _REGISTER,
    IntKind: _whole,
    EitherKind: lambda kind: st.one_of(_REGISTER, _whole(IntKind(kind.bits - 1, kind.signed))),
    AddrKind: lambda kind: _address(),
    IndexedKind: lambda kind: st.builds(kind.type, st.integers(0, 3)),
    MemKind: lambda kind: st.builds(
        Mem, st.just(Space.DRAM), st.just(ZERO), st.integers(0, 60).map(lambda line: 64 * line)
    ),
}


def _instruction(opcode: int) -> st.SearchStrategy[Inst]:
    cls = TABLE[opcode]
    return st.builds(cls, **{field.name: _NEAR[type(field.kind)](field.kind) for field in cls.layout})


CODE = st.lists(st.sampled_from(_OPCODES).flatmap(_instruction), min_size=1, max_size=12)


def filled(target: Hardware | None = None) -> Bench:
    """A tile with a buffer of floats, then of bytes, two arrays of weights, two for rows, and some DRAM."""
    bench = Bench(target)
    for length in _LENGTHS:
        bench.reg(length)
    bench.setup += [t.Li(Reg(register), 64) for register in _STEPPED]
    bench.put(_NUMBERS[: _WORDS // 2])
    bench.put(_BYTES[: 2 * _WORDS])
    assert bench.array(_WEIGHTS, _SCALES) == ArrayRef(0)
    bench.array(_IDEAL)
    bench.kv(64, 64)
    bench.kv(64, 16, DType.F32)
    bench.dram(_NUMBERS[:1000], 0)
    return bench


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(CODE, st.integers(1, 3))
def test_random_work(code: list[Inst], segments: int) -> None:
    with suppress(CimError):  # then both say the same
        filled().run(*code, segments=[Segment(1, at, 0) for at in range(segments)])


def _runs(inst: Inst) -> bool:
    """Whether an instruction does what it says, rather than trap."""
    with suppress(CimError):
        filled().run(inst)
        return True
    return False


@pytest.mark.parametrize("opcode", _OPCODES, ids=lambda opcode: TABLE[opcode].mnemonic)
def test_the_operands_are_near_enough_for_each_instruction(opcode: int) -> None:
    limits = settings(max_examples=500, phases=[Phase.generate], database=None, derandomize=True)
    assert _runs(find(_instruction(opcode), _runs, settings=limits))
