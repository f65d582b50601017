"""Instructions: what the table declares, and that encoding and text are two faces of the same thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.assembler import parse_instruction
from isa.describe import describe, sample
from isa.diagnostics import CimError
from isa.instruction import BY_MNEMONIC, INSTRUCTION_BYTES, TABLE, Energy, Field, Inst, Timing, decode
from isa.instructions import Add, Mvm, Vaddi
from isa.operands import Addr, ArrayRef, EitherKind, FlagKind, IntKind, OperandError, Reg
from tests.strategies import instructions, limits_of, of_class, operands

ALL = [TABLE[opcode] for opcode in sorted(TABLE)]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.mnemonic)
def test_every_instruction_is_declared_whole(cls: type[Inst]) -> None:
    assert cls.__doc__ and cls.__doc__[0].isprintable() and cls.__doc__.rstrip().endswith(".")
    assert isinstance(cls.timing, Timing)
    assert isinstance(cls.energy, Energy)


def _extreme(field: Field, value: Any, highest: bool) -> Any:
    match field.kind:
        case FlagKind():
            return highest
        case EitherKind(bits=bits, signed=signed):
            return limits_of(IntKind(bits - 1, signed))[highest]
        case IntKind() as kind:
            return limits_of(kind)[highest]
    return value


def _extremes(cls: type[Inst]) -> list[Inst]:
    """The instruction with every constant at its lowest, and with every constant at its highest value."""
    values = {field: getattr(sample(cls), field.name) for field in cls.layout}
    return [
        cls(**{f.name: _extreme(f, value, highest) for f, value in values.items()})
        for highest in (False, True)
    ]


def test_golden_encodings(golden: Callable[[str, str], None]) -> None:
    lines = []
    for cls in ALL:
        for inst in dict.fromkeys([sample(cls), *_extremes(cls)]):
            lines.append(f"{inst.encode().hex()}  {inst}")
    golden("isa/encodings.txt", "\n".join(lines) + "\n")


def test_every_instruction_has_a_golden_line() -> None:
    text = (Path(__file__).parents[1] / "golden" / "isa" / "encodings.txt").read_text()
    assert {line.split()[1] for line in text.splitlines()} == set(BY_MNEMONIC)


def test_extremes_are_what_they_say() -> None:
    low, high = _extremes(Add)
    assert (low.b, high.b) == (-(1 << 31), (1 << 31) - 1)  # type: ignore[attr-defined]


@given(instructions())
@settings(max_examples=250)
def test_encoding_round_trip(inst: Inst) -> None:
    data = inst.encode()
    assert len(data) == INSTRUCTION_BYTES
    assert decode(data) == inst


@given(instructions(labels=st.integers(1, 65535)))
@settings(max_examples=250)
def test_text_round_trip(inst: Inst) -> None:
    assert parse_instruction(inst.text()) == inst


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.mnemonic)
def test_fields_do_not_overlap(cls: type[Inst]) -> None:
    low = 8
    for field in cls.layout:
        assert field.low_bit == low
        low += field.kind.bits
    assert low <= 8 * INSTRUCTION_BYTES


@given(st.binary(min_size=16, max_size=16))
def test_words_decode_or_are_refused(data: bytes) -> None:
    try:
        inst = decode(data)
    except OperandError as error:
        assert error.expected
    else:
        assert inst.encode() == data


@given(of_class(Mvm), st.integers(97, 127))
def test_set_bits_above_the_operands_are_refused(inst: Inst, bit: int) -> None:
    word = int.from_bytes(inst.encode(), "little") | 1 << bit
    with pytest.raises(OperandError, match="unused bits"):
        decode(word.to_bytes(16, "little"))


def test_operands_out_of_range_are_refused() -> None:
    with pytest.raises(OperandError, match="register number 32"):
        Add(Reg(32), Reg(0), 1)
    with pytest.raises(OperandError, match="not a multiple of 4"):
        Vaddi(Addr(offset=2), Addr(), Reg(1), 4, 1.0)
    with pytest.raises(OperandError, match="not a register"):
        Mvm(ArrayRef(0), Addr(), Addr(), 3, Reg(0), 4)  # type: ignore[arg-type]
    with pytest.raises(OperandError, match="r0 cannot be stepped"):
        Vaddi(Addr(step=True), Addr(), Reg(1), 4, 1.0)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.mnemonic)
@given(data=st.data())
@settings(max_examples=5)
def test_every_operand_kind_survives(cls: type[Inst], data: st.DataObject) -> None:
    for field in cls.layout:
        value = data.draw(operands(field.kind))
        assert field.kind.decode(field.kind.encode(field.kind.check(value))) == field.kind.check(value)


def test_examples_of_the_reference_are_what_they_encode() -> None:
    for entry in describe().instructions:
        text = entry.example.replace("done", "7")
        assert parse_instruction(text).encode().hex(" ") == entry.example_hex


@pytest.mark.parametrize(
    "text", ["", "; nothing", "end:", ".tile t r at 0,0", "halt halt", "halt 3", "mvmm a0"]
)
def test_what_is_not_one_instruction_is_refused(text: str) -> None:
    with pytest.raises(CimError):
        parse_instruction(text)
