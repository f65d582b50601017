"""Lines of assembly: the grammar applied line by line, and mistakes collected with their places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from .asm_text import DIRECTIVES, nearest
from .describe import instruction_form
from .diagnostics import Diagnostic, FilePlace
from .instruction import BY_MNEMONIC
from .operands import OperandError

Argument = Token | Tree[Token] | None

TERMINALS = {
    "LABEL": "a label",
    "MNEMONIC": "an instruction",
    "REGISTER": "a register",
    "ADDRESS": "a buffer address",
    "MEMORY": "a memory address",
    "ARRAY": "an array",
    "PORT": "a port",
    "CONSTANT": "a constant number (c0)",
    "INTEGER": "a whole number",
    "FLOAT": "a number",
    "NAME": "a name",
    "SITE": "a site (@name)",
    "TYPE": "a type such as f32[4,64]",
    "SLICE": "a block of a tensor such as wq[0,64]",
    "SPAN": "columns of a channel such as c0[0:64]",
    "PAIR": "name=value",
    "ENDPOINT": "an endpoint such as tile.p0, or host",
    "HEAD": "arrays of a KV head such as tile.a0:a1",
    "COMMA": "a comma",
    "EQUAL": "=",
    "$END": "the end of the line",
}


class LineError(Exception):
    """One thing wrong with a line; `at` is what to underline (None: the whole line)."""

    def __init__(self, code: str, message: str, at: Token | None = None, help: str | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.code, self.message, self.at, self.help = code, message, at, help


def misfit(error: OperandError, at: Token | None, code: str = "E0103") -> LineError:
    """The mistake that an operand's check found."""
    return LineError(code, str(error), at, f"expected {error.expected}")


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed line: its labels, the grammar rule it follows ("" for labels alone) and the rule's children."""

    line: int
    labels: tuple[Token, ...]
    rule: str
    arguments: tuple[Argument, ...]

    def token(self, index: int) -> Token:
        """The child at `index`, which the grammar makes a terminal."""
        child = self.arguments[index]
        assert isinstance(child, Token)
        return child

    def option(self, index: int) -> Token | None:
        """The child at `index`, a terminal that may have been left out."""
        return None if self.arguments[index] is None else self.token(index)

    def list(self, index: int) -> tuple[Token, ...]:
        """The terminals of the list at `index`; none if it was left out."""
        child = self.arguments[index]
        return tuple(t for t in child.children if isinstance(t, Token)) if isinstance(child, Tree) else ()

    def all(self) -> tuple[Token, ...]:
        """The children of a rule that is one list of terminals."""
        return tuple(t for t in self.arguments if isinstance(t, Token))


class Source:
    """An assembly text and the mistakes found in it."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.lines = text.split("\n")
        self.diagnostics: list[Diagnostic] = []

    def report(self, mistake: LineError, line: int, notes: tuple[str, ...] = ()) -> None:
        """Keep a mistake in line number `line` (from 1)."""
        text = self.lines[line - 1].rstrip("\r").replace("\t", " ") if line <= len(self.lines) else ""
        column, width = len(text) - len(text.lstrip()) + 1, max(1, len(text.partition(";")[0].strip()))
        if mistake.at is not None and mistake.at.column is not None:
            column, width = mistake.at.column, max(1, len(mistake.at))
        place = FilePlace(self.path, line, column, text, width)
        self.diagnostics.append(Diagnostic(mistake.code, mistake.message, place, mistake.help, notes))

    def is_empty(self, line: int) -> bool:
        """Whether line number `line` holds nothing but space and comment."""
        text = self.lines[line - 1].lstrip()
        return not text or text[0] == ";"

    def first_word(self, line: int) -> str:
        """The first word of the line."""
        words = self.lines[line - 1].split(maxsplit=1)
        return words[0] if words else ""

    def parse(self, line: int) -> Statement:
        """The statement in line number `line`. Raises `LineError`."""
        text = self.lines[line - 1]
        _check_directive(self.first_word(line), text)
        try:
            tree = _parser().parse(text)
        except UnexpectedCharacters as error:
            token = Token("", text[error.column - 1], column=error.column)
            raise _syntax(text, token, error.allowed or ()) from None
        except UnexpectedToken as error:
            raise _syntax(text, error.token, error.expected) from None
        labels = tuple(t for t in tree.children if isinstance(t, Token))
        body = next((t for t in tree.children if isinstance(t, Tree)), None)
        if body is None:
            return Statement(line, labels, "", ())
        return Statement(line, labels, str(body.data), tuple(body.children))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = (Path(__file__).parent / "grammar.lark").read_text()
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=True)


def _check_directive(word: str, text: str) -> None:
    if not word.startswith("."):
        return
    names = ["." + directive.name for directive in DIRECTIVES]
    if word not in names:
        at = Token("", word, column=text.index(word) + 1)
        raise LineError("E0101", f"there is no directive {word}", at, nearest(word, names, "directive"))


def _syntax(text: str, token: Token, expected: Iterable[str]) -> LineError:
    at_end = token.type == "$END"
    if at_end:
        end = len(text.partition(";")[0].rstrip())
        token = Token("$END", " ", column=end + 1)
    wanted = " or ".join(sorted({_described(name) for name in expected}))
    message = "the line ends too early" if at_end else f"unexpected {str(token)!r}"
    return LineError("E0101", message, token, _form(text) or f"expected {wanted}")


def _described(terminal: str) -> str:
    """What a terminal is for people; keywords have their own text as name, directives none."""
    if terminal.startswith("__ANON"):
        return "a directive"
    return TERMINALS.get(terminal, f"`{terminal.lower()}`")


def _form(text: str) -> str | None:
    """How the line that begins like `text` is written, if its first word says what it is."""
    words = [word for word in text.split() if not word.endswith(":")]
    if not words:
        return None
    for directive in DIRECTIVES:
        if words[0] == "." + directive.name:
            return f"written {directive.syntax}"
    cls = BY_MNEMONIC.get(words[0])
    return f"written {instruction_form(cls)}" if cls is not None else None
