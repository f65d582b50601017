"""What is made from the table: the manual, the table as data, the highlighting, the list of directives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pygments.token import Comment, Error, Keyword, Name, Token

from isa.asm_text import DIRECTIVES
from isa.assembler import assemble_file
from isa.describe import OperandEntry, describe
from isa.disassembler import listing
from isa.instruction import BY_MNEMONIC, TABLE
from isa.lexer import CimAsmLexer
from isa.reference import COMMAND, markdown

ROOT = Path(__file__).parents[2]


def test_the_manual_is_up_to_date() -> None:
    text = (ROOT / "docs" / "isa.md").read_text(encoding="utf-8")
    assert text == markdown(), f"docs/isa.md is out of date; make it again with: {COMMAND}"


def test_the_manual_has_every_instruction_and_no_open_mark() -> None:
    text = markdown()
    assert [m for m in BY_MNEMONIC if f"\n### {m}\n" not in text] == []
    assert "<<" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def test_the_table_as_data() -> None:
    isa = describe()
    assert [entry.opcode for entry in isa.instructions] == sorted(TABLE)
    mvm = next(entry for entry in isa.instructions if entry.mnemonic == "mvm")
    meaning = "activates the array, rows row..row+rows-1"
    assert mvm.operands[0] == OperandEntry("a", "array", 8, 13, meaning, optional=False)
    assert [o.name for o in mvm.operands if o.optional] == ["acc"]
    assert mvm.used_bits == 97


def test_directives_are_those_of_the_grammar() -> None:
    grammar = (ROOT / "isa" / "grammar.lark").read_text()
    rules = set(re.findall(r'^(\w+): "\.(\w+)"', grammar, flags=re.MULTILINE))
    assert {keyword for _, keyword in rules} == {d.name for d in DIRECTIVES}
    assert all(rule == keyword for rule, keyword in rules)
    assert all(d.syntax.startswith(f".{d.name}") for d in DIRECTIVES)


def test_the_example_is_a_program() -> None:
    program = assemble_file(ROOT / "isa" / "example.cimasm")
    assert program.data is not None and program.data["w"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def _tokens(text: str) -> dict[str, object]:
    return {value: kind for kind, value in CimAsmLexer().get_tokens(text)}


@pytest.mark.parametrize("complete", [True, False])
def test_highlighting_knows_every_word(complete: bool) -> None:
    for path in (ROOT / "isa" / "example.cimasm", ROOT / "tests" / "golden" / "isa" / "two_roles.cimasm"):
        text = listing(assemble_file(path), complete=complete)
        assert [value for kind, value in CimAsmLexer().get_tokens(text) if kind is Error] == []


def test_highlighting_follows_the_table() -> None:
    for mnemonic in BY_MNEMONIC:
        assert _tokens(f"  {mnemonic} r1")[mnemonic] is Keyword
    found = _tokens(
        "end1: mvm a0, [r4+256], [0], r31, r0, 64, acc @q_proj ; note\n  sys r3, tokens\n.tile t r at 0,0"
    )
    assert found["end1:"] is Name.Label
    assert found["a0"] is Name.Variable.Instance
    assert found["r31"] is Name.Variable
    assert found["acc"] is Name.Constant and found["tokens"] is Name.Constant
    assert found["@q_proj"] is Name.Decorator
    assert found["; note"] is Comment.Single
    assert found[".tile"] is Keyword.Namespace
    assert found["at"] is Keyword.Pseudo
    assert Token.Error not in found.values()
