"""Whole programs: text to `Program` to text, and the container, for anything well formed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings

from isa.asm_print import program_text
from isa.assembler import assemble
from isa.binary import read_program, write_program
from isa.disassembler import listing
from isa.program import Program
from tests.strategies import programs


@given(programs())
@settings(max_examples=60)
def test_text_and_listings_round_trip(program: Program) -> None:
    assert assemble(program_text(program)) == program
    assert assemble(listing(program, complete=True)) == program
    name = program.roles[0].name
    assert listing(program, role=name, tiles=True).count("\n.role ") == 1


@given(programs())
@settings(max_examples=30)
def test_container_round_trip(program: Program) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "p.cim"
        write_program(program, file)
        again = read_program(file)
    assert again == program
    assert again.data is None
    assert program_text(again) == program_text(program)


def test_tensor_values_round_trip() -> None:
    program = assemble(
        ".target tiny\n.limits context=64 chunk=8\n"
        ".tensor a i8[2,2] = -128 127 0 -1\n"
        ".tensor b f32[3] = 1.5 -inf nan\n"
        ".tensor c f16[2] = 0.1\n"
        ".tensor d i32[1]\n  .values -2147483648\n"
        ".tensor e f32[0,4]\n"
        ".tensor f f32[] = 3\n"
    )
    assert program.data is not None
    again = assemble(program_text(program, values=True))
    assert again.data is not None
    for name, array in program.data.items():
        assert again.data[name].dtype == array.dtype
        np.testing.assert_array_equal(again.data[name], array)
    assert again.data["c"].tolist() == [np.float16(0.1)] * 2
    assert again.data["e"].shape == (0, 4)
