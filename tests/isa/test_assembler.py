"""The assembler: files that announce their errors, places, recovery, and what a person may write besides."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.asm_operands import READERS
from isa.asm_print import program_text
from isa.assembler import assemble, assemble_file, parse_instruction
from isa.diagnostics import CODES, CimError, FilePlace
from isa.hardware import load_target
from isa.instruction import TABLE
from isa.instructions import Beq, Copy, Loop, Mvm, Vaddi
from isa.operands import ZERO, Addr, ArrayRef, FlagKind, Mem, Reg, Space
from isa.program import ArrayKind, Endpoint, Reduce
from tests.isa.expected import check, expected_errors

FILES = sorted((Path(__file__).parent.parent / "golden" / "isa").glob("*.cimasm"))
HEAD = ".target tiny\n.limits context=64 chunk=8\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_have_the_errors_they_announce(path: Path) -> None:
    try:
        program = assemble_file(path)
    except CimError as error:
        check(path, error)
    else:
        check(path, None)
        assert assemble(program_text(program)) == program


def test_the_file_of_mistakes_has_ten_kinds() -> None:
    path = next(p for p in FILES if p.stem == "ten_mistakes")
    kinds = {(code, " ".join(message.split()[:3])) for _, code, message in expected_errors(path)}
    assert len(kinds) >= 10


def test_diagnostics_as_people_read_them(golden: Callable[[str, str], None]) -> None:
    path = next(p for p in FILES if p.stem == "ten_mistakes")
    with pytest.raises(CimError) as caught:
        assemble(path.read_text(), "ten_mistakes.cimasm")
    golden("isa/ten_mistakes.txt", str(caught.value) + "\n")


def _errors(text: str, **options: object) -> list[tuple[str, str]]:
    with pytest.raises(CimError) as caught:
        assemble(text, "f.cimasm", **options)  # type: ignore[arg-type]
    return [(d.code, d.message) for d in caught.value.diagnostics]


def test_place_of_a_mistake() -> None:
    with pytest.raises(CimError) as caught:
        assemble(HEAD + ".role r\r\n\tmvm  a0, [0], [4], r1, r99, 3\r\n.end\r\n", "f.cimasm")
    (diagnostic,) = caught.value.diagnostics[1:]
    assert isinstance(diagnostic.place, FilePlace)
    assert (diagnostic.place.line, diagnostic.place.column, diagnostic.place.width) == (4, 25, 3)
    assert diagnostic.place.text == " mvm  a0, [0], [4], r1, r99, 3"
    assert diagnostic.render().splitlines()[2].index("^") == diagnostic.render().splitlines()[1].index("r99")


def test_mistakes_come_in_the_order_of_their_lines() -> None:
    text = HEAD + ".role r\n jump gone\n bad\n.end\n.tile t r at 0,0\n.foo\n"
    with pytest.raises(CimError) as caught:
        assemble(text)
    lines = [d.place.line for d in caught.value.diagnostics if isinstance(d.place, FilePlace)]
    assert lines == sorted(lines) == [4, 5, 8]


def test_a_file_needs_target_and_limits() -> None:
    assert _errors("") == [("E0101", "the file names no target"), ("E0101", "the file has no .limits")]
    assert _errors(".target tiny", target=load_target("tiny")) == [("E0101", "the file has no .limits")]


def test_the_target_at_hand_must_be_the_one_that_is_named() -> None:
    tiny = load_target("tiny")
    assert assemble(".limits context=8 chunk=8\n", target=tiny).target == tiny
    assert assemble(f".target tiny hash={tiny.hash}\n.limits context=8 chunk=8\n", target=tiny).target == tiny
    assert [code for code, _ in _errors(HEAD, target=load_target("dcim22"))] == ["E0108"]
    assert [code for code, _ in _errors(".target tiny hash=00\n.limits context=8 chunk=8\n")] == ["E0108"]


def test_a_target_file_beside_the_text(tmp_path: Path) -> None:
    tiny = Path(__file__).parents[2] / "isa" / "targets" / "tiny.toml"
    (tmp_path / "mine.toml").write_text(tiny.read_text().replace('name = "tiny"', 'name = "mine"'))
    (tmp_path / "p.cimasm").write_text(".target mine.toml\n.limits context=8 chunk=8\n")
    assert assemble_file(tmp_path / "p.cimasm").target.name == "mine"


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CimError, match="E0001"):
        assemble_file(tmp_path / "none.cimasm")
    (tmp_path / "binary.cimasm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CimError, match="E0101"):
        assemble_file(tmp_path / "binary.cimasm")


def test_what_may_be_written_besides_what_is_printed() -> None:
    assert parse_instruction("copy [0], [4], r1, 0x10") == Copy(Addr(), Addr(offset=4), Reg(1), 16)
    assert parse_instruction("copy [0], [4], r1, 3, 5") == Copy(Addr(), Addr(offset=4), Reg(1), 3, dpitch=5)
    assert parse_instruction("vaddi [r4 + 0x10]++, [r0+8], r1, 4, 1") == Vaddi(
        Addr(Reg(4), 16, step=True), Addr(ZERO, 8), Reg(1), 4, 1.0
    )
    assert parse_instruction("beq r1, -3, 9").target == 9  # type: ignore[attr-defined]
    assert parse_instruction("mvm a3+r5, [0], [4], r1, r0, 7, acc").acc is True  # type: ignore[attr-defined]
    assert parse_instruction("load [0], gbuf[r5+4], r1, 2").src == Mem(Space.GBUF, Reg(5), 4)  # type: ignore[attr-defined]


def test_labels_and_names_of_registers() -> None:
    text = HEAD + ".role r\n loop r1, 3, r9x\n beq r0, 0, a1\na1: r9x:\n halt\nlast: .end\n"
    (role,) = assemble(text).roles
    assert role.code[:2] == (Loop(Reg(1), 3, 2), Beq(ZERO, 0, 2))


def test_a_whole_program() -> None:
    program = assemble_file(next(p for p in FILES if p.stem == "two_roles"))
    embed, project = program.roles
    assert [a.kind for a in project.arrays] == [ArrayKind.WEIGHT, ArrayKind.KV]
    assert project.code[7] == Mvm(ArrayRef(0), Addr(offset=2624), Addr(offset=2048), Reg(3), ZERO, 64)
    assert project.lines[7] == project.sites.index("q_proj")
    assert embed.lines[:5] == (-1,) * 5
    tile = program.tiles[2]
    assert (tile.x, tile.y, tile.params, tile.arrays[1]) == (2, 0, (64, 1), None)
    assert tile.arrays[0] is not None and tile.arrays[0].values.start == (64, 0)
    y = program.channels[3]
    assert (y.sources, y.dests, y.reduce) == (
        (Endpoint(1, 1), Endpoint(2, 1)),
        (Endpoint(-1, 0),),
        Reduce.SUM,
    )
    assert program.tiles[0].nodes[1] == "/model/norm/Pow /model/norm/Mul_1"
    assert (program.origin.tool, program.origin.options) == (
        "cim test",
        (("weights", "int8"), ("kv", "auto")),
    )
    assert program.data is None


def test_every_kind_of_operand_has_a_reader() -> None:
    kinds = {type(field.kind) for cls in TABLE.values() for field in cls.layout}
    assert kinds - {FlagKind} <= set(READERS)


@pytest.mark.parametrize(
    "junk", ["\x00", "é", "'", "{", "]]", '"open', "@", "a0+", "1 2 3", ".", "; only a comment", ":"]
)
def test_junk_is_a_diagnostic(junk: str) -> None:
    for text in (
        HEAD + junk,
        HEAD + ".role r\n" + junk + "\n.end",
        HEAD + ".role r\n halt " + junk + "\n.end",
    ):
        try:
            assemble(text)
        except CimError as error:
            assert {d.code[:3] for d in error.diagnostics} == {"E01"}


@given(st.data())
@settings(max_examples=80)
def test_a_damaged_text_is_a_diagnostic_or_a_program(data: st.DataObject) -> None:
    text = next(p for p in FILES if p.stem == "two_roles").read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        first = data.draw(st.integers(0, len(text)))
        last = first + data.draw(st.integers(0, 9))
        text = text[:first] + data.draw(st.text('abrp019.+-x[]",:;@=% \n', max_size=5)) + text[last:]
    try:
        program = assemble(text)
    except CimError as error:
        assert all(d.place is not None and d.code in CODES for d in error.diagnostics)
    else:
        assert assemble(program_text(program)) == program


def test_huge_numbers_are_a_diagnostic() -> None:
    digits = "9" * 5000
    for line in (
        f"li r1, {digits}",
        f"vaddi [0], [0], r1, 1, {digits}",
        f"vfill [{digits}], r1, 1, 1.0",
        f"li r{digits}, 1",
    ):
        with pytest.raises(CimError):
            parse_instruction(line)
    assert _errors(HEAD + f".memory m dram chip 0 at {digits} bytes 4\n")[0][0] == "E0103"


def test_time_grows_with_the_length() -> None:
    tiles = [
        f".tile t{n} r at 0,0\n  .nodes s=/layers.{n}/q/MatMul\n.channel c{n} from t{n}.p0 to host\n"
        for n in range(800)
    ]
    text = HEAD + ".role r\n.port p0 x out\n.site s\n halt\n.end\n"
    assemble(text)
    began = time.perf_counter()
    assert len(assemble(text + "".join(tiles[:200])).tiles) == 200
    short = time.perf_counter() - began
    began = time.perf_counter()
    assert len(assemble(text + "".join(tiles)).tiles) == 800
    assert time.perf_counter() - began < 16 * short
