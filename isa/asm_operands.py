"""Operands from text: one reader for each operand kind, and an instruction from its mnemonic and operands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from lark import Token

from .asm_lines import TERMINALS, LineError, misfit
from .asm_text import integer, nearest
from .describe import instruction_form, is_optional
from .instruction import BY_MNEMONIC, Field, Inst
from .operands import (
    ZERO,
    Addr,
    AddrKind,
    ArrayRef,
    EitherKind,
    EnumKind,
    FlagKind,
    FloatKind,
    IndexedKind,
    IntKind,
    Kind,
    LabelKind,
    Mem,
    MemKind,
    OperandError,
    PortRef,
    Reg,
    RegKind,
    Space,
)

_INNER = re.compile(
    r"\s*(?:r(?P<base>\d+)\s*(?:\+\s*(?P<plus>0x[0-9a-fA-F]+|\d+))?|(?P<offset>0x[0-9a-fA-F]+|\d+))\s*"
)
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*")


class WrongKindError(Exception):
    """The operand is not of the kind that the instruction takes; the message says what it takes."""


def _register(kind: Kind, token: Token) -> Reg:
    if token.type != "REGISTER":
        raise WrongKindError("a register r0..r31")
    return Reg(int(token[1:]))


def _constant(kind: Kind, token: Token) -> int:
    if token.type != "INTEGER":
        raise WrongKindError("a whole number")
    return integer(token)


def _label(kind: Kind, token: Token) -> int | str:
    """The name of a label, or the instruction index that a number gives directly."""
    if token.type == "INTEGER":
        return integer(token)
    if not _LABEL.fullmatch(token):
        raise WrongKindError("a label")
    return str(token)


def _either(kind: Kind, token: Token) -> Reg | int:
    if token.type == "REGISTER":
        return Reg(int(token[1:]))
    if token.type != "INTEGER":
        raise WrongKindError("a register or a whole number")
    return integer(token)


def _inner(text: str, example: str) -> tuple[Reg, int]:
    match = _INNER.fullmatch(text)
    if match is None:
        raise WrongKindError(f"an address such as {example}, a register and an offset of at least 0")
    base = Reg(int(match["base"])) if match["base"] else ZERO
    return base, integer(match["plus"] or match["offset"] or "0")


def _address(kind: Kind, token: Token) -> Addr:
    if token.type != "ADDRESS":
        raise WrongKindError(f"a buffer address such as {kind.example}")
    text = token.removesuffix("++")
    base, offset = _inner(text[1:-1], kind.example)
    return Addr(base, offset, step=text != token)


def _memory(kind: Kind, token: Token) -> Mem:
    space, bracket, inner = token.removesuffix("]").partition("[")
    names = {member.name.lower(): member for member in Space}
    if token.type != "MEMORY" or not bracket or space not in names:
        raise WrongKindError(f"a memory address such as {kind.example} (memories: {', '.join(names)})")
    return Mem(names[space], *_inner(inner, kind.example))


def _indexed(kind: Kind, token: Token) -> ArrayRef | PortRef:
    assert isinstance(kind, IndexedKind)
    wanted = "ARRAY" if kind.type is ArrayRef else "PORT"
    if token.type != wanted:
        raise WrongKindError(f"{TERMINALS[wanted]} such as {kind.example}")
    number, plus, register = token[1:].partition("+r")
    return kind.type(int(number), Reg(int(register)) if plus else ZERO)


def _number(kind: Kind, token: Token) -> float:
    if token.type not in ("FLOAT", "INTEGER"):
        raise WrongKindError("a number such as 0.125, or -inf")
    return float(integer(token)) if token.type == "INTEGER" else float(token)


def _name(kind: Kind, token: Token) -> Any:
    assert isinstance(kind, EnumKind)
    members = {member.name.lower(): member for member in kind.type}
    if token not in members:
        raise WrongKindError(f"one of {kind.names()}")
    return members[str(token)]


READERS: dict[type[Kind], Callable[[Kind, Token], Any]] = {
    RegKind: _register,
    IntKind: _constant,
    LabelKind: _label,
    EitherKind: _either,
    AddrKind: _address,
    MemKind: _memory,
    IndexedKind: _indexed,
    FloatKind: _number,
    EnumKind: _name,
}


def read_operand(field: Field, token: Token) -> Any:
    """The value of an operand; a label comes as its name. Raises `LineError` E0103 or E0104."""
    try:
        value = READERS[type(field.kind)](field.kind, token)
    except WrongKindError as wrong:
        raise LineError("E0104", f"`{field.name}` takes {wrong}, not {str(token)!r}", token) from None
    except (ValueError, OverflowError):  # int() refuses thousands of digits, float() hundreds
        raise LineError("E0103", "the number is too long", token) from None
    if field.is_label and isinstance(value, str):
        return value
    try:
        return field.kind.check(value)
    except OperandError as error:
        raise misfit(error, token) from None


def find_instruction(mnemonic: Token) -> type[Inst]:
    """The table's entry. Raises `LineError` E0102 with the nearest mnemonic."""
    cls = BY_MNEMONIC.get(mnemonic)
    if cls is None:
        help_text = nearest(mnemonic.lower(), BY_MNEMONIC, "instruction")
        raise LineError("E0102", f"there is no instruction {str(mnemonic)!r}", mnemonic, help_text)
    return cls


def read_operands(
    cls: type[Inst], mnemonic: Token, tokens: Sequence[Token]
) -> tuple[dict[str, Any], list[LineError]]:
    """Values by operand name, and all mistakes in them. Raises `LineError` if their number is wrong."""
    flags = {f.name: f for f in cls.layout if isinstance(f.kind, FlagKind)}
    values: dict[str, Any] = {}
    mistakes: list[LineError] = []
    placed: list[Token] = []
    for token in tokens:
        if token not in flags:
            placed.append(token)
        elif str(token) in values:
            mistakes.append(LineError("E0104", f"`{token}` is given twice", token, "remove one"))
        else:
            values[str(token)] = True
    fields = [f for f in cls.layout if f.name not in flags]
    _check_count(cls, mnemonic, fields, placed)
    for field, token in zip(fields, placed, strict=False):
        try:
            values[field.name] = read_operand(field, token)
        except LineError as mistake:
            mistake.help = mistake.help or f"written {instruction_form(cls)}"
            mistakes.append(mistake)
    return values, mistakes


def _check_count(cls: type[Inst], mnemonic: Token, fields: Sequence[Field], tokens: Sequence[Token]) -> None:
    most = len(fields)
    least = sum(not is_optional(cls, f) for f in fields)
    if least <= len(tokens) <= most:
        return
    takes = f"{least}" if least == most else f"{least} to {most}"
    noun = "operand" if takes == "1" else "operands"
    at = tokens[most] if len(tokens) > most else mnemonic
    message = f"{cls.mnemonic} takes {takes} {noun}, not {len(tokens)}"
    raise LineError("E0104", message, at, f"written {instruction_form(cls)}")
