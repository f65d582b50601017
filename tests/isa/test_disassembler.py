"""Listings: what people look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isa.asm_notes import few, number_range, places, starred
from isa.asm_print import depths_of, labels_of
from isa.assembler import assemble, assemble_file
from isa.diagnostics import CimError
from isa.disassembler import listing
from isa.instructions import Beq, Halt, Jump, Loop
from isa.operands import ZERO, Reg
from isa.program import Program, Role, Tile

GOLDEN = Path(__file__).parent.parent / "golden" / "isa"


@pytest.fixture(scope="module")
def program() -> Program:
    return assemble_file(GOLDEN / "two_roles.cimasm")


def test_golden_listing(program: Program, golden: Callable[[str, str], None]) -> None:
    golden("isa/two_roles.listing", listing(program))


def test_golden_complete_text(program: Program, golden: Callable[[str, str], None]) -> None:
    text = listing(program, complete=True)
    golden("isa/two_roles.complete", text)
    assert assemble(text) == program


def test_one_role_with_its_tiles(program: Program) -> None:
    text = listing(program, role="project", tiles=True)
    assert ".role embed" not in text
    assert [line for line in text.splitlines() if line.startswith(".tile")] == [
        ".tile t1 project at 1,0",
        ".tile t2 project at 2,0",
    ]
    assert ".channel left from t0.p1 to t1.p0" in text
    assert ".channel ids" not in text


def test_an_unknown_role_is_refused_with_the_nearest(program: Program) -> None:
    with pytest.raises(CimError, match="did you mean project"):
        listing(program, role="projct")


def test_nodes_are_optional(program: Program) -> None:
    assert "/model/layers.*/self_attn/q_proj/MatMul" in listing(program)
    assert "/model/layers" not in listing(program, source=False)


def test_the_listing_does_not_grow_with_tiles(program: Program) -> None:
    more = [replace(program.tiles[1], name=f"u{n}", x=n % 6, y=1 + n // 6) for n in range(30)]
    grown = replace(program, tiles=(*program.tiles, *more))
    assert len(listing(grown).splitlines()) == len(listing(program).splitlines())


def test_a_program_without_anything_has_a_listing() -> None:
    empty = assemble(".target tiny\n.limits context=8 chunk=8\n")
    assert "0 roles" in listing(empty)
    assert assemble(listing(empty, complete=True)) == empty


def test_a_malformed_program_has_a_listing(program: Program) -> None:
    role = Role("odd", (Jump(60000), Beq(Reg(1), 0, 0)), params=("a",), sites=("s",), lines=(7, -9))
    odd = replace(
        program,
        roles=(role,),
        tiles=(Tile("t", "odd", 0, 0), Tile("u", "gone", 0, 0)),
        channels=(),
        streams=(),
    )
    text = listing(odd, tiles=True)
    assert "jump   60000" in text
    assert "beq    r1, 0, skip1" in text


def test_varying_digits_become_stars() -> None:
    names = [f"/layers.{n}/head.{h}/MatMul_1" for n in range(3) for h in range(2)]
    assert starred(names) == ["/layers.*/head.*/MatMul_1"]
    assert starred(["/a/1", "/a/1"]) == ["/a/1"]
    assert starred(["/a/1", "/b"]) == ["/a/1", "/b"]
    assert starred([]) == []


def test_few_and_ranges() -> None:
    assert few(["a", "b", "c", "d"]) == "a, b, c, d"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert number_range([3]) == "3"
    assert number_range([2, 0, 1, 1]) == "0..2"
    assert number_range([0, 64, 256]) == "0, 64, 256"
    assert number_range(range(0, 900, 9)) == "0..891"


def test_places_are_rectangles() -> None:
    block = [Tile("", "r", x, y) for x in (0, 1, 2) for y in (0, 1)] + [Tile("", "r", 5, 2)]
    assert places(block) == "(0..2,0..1) (5,2)"


def test_labels_and_depths() -> None:
    loop = Loop(Reg(1), 2, 4)
    role = Role("r", (loop, Loop(Reg(2), 2, 4), Beq(ZERO, 1, 3), Halt(), Jump(5)))
    assert labels_of(role) == {3: "skip1", 4: "end1", 5: "skip2"}
    assert depths_of(role) == [0, 1, 2, 2, 0, 0]
