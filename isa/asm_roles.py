"""Roles from text: declarations, code, labels and sites between `.role` and `.end`."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from lark import Token

from .asm_lines import LineError, Source, Statement, misfit
from .asm_operands import find_instruction, read_operands
from .asm_text import integer, nearest, numbered, split_type, unword
from .instruction import DType, Inst
from .operands import OperandError
from .program import ArrayKind, ArraySpec, Constant, Direction, Port, Region, Role

E = TypeVar("E", bound=Enum)


def natural(token: Token, what: str) -> int:
    """A whole number of at least 0."""
    value = integer(token)
    if value < 0:
        raise LineError("E0103", f"{what} {value} is negative", token, "expected a number of at least 0")
    return value


def name_of(token: Token) -> str:
    """The name in a bare or quoted word."""
    try:
        return unword(token)
    except OperandError as error:
        raise misfit(error, token, "E0101") from None


def member_of(kind: type[E], token: Token, what: str) -> E:
    """The member of an enumeration whose value is written."""
    for member in kind:
        if member.value == str(token):
            return member
    names = ", ".join(str(member.value) for member in kind)
    raise LineError("E0104", f"{str(token)!r} is not {what}", token, f"expected one of {names}")


def typed(token: Token) -> tuple[DType, tuple[int, ...]]:
    """Element type and shape of `f32[256,64]`."""
    try:
        return split_type(token)
    except OperandError as error:
        raise misfit(error, token, "E0104") from None


def unique(name: str, known: Container[str], token: Token, what: str) -> str:
    """`name`, which must not be among the known ones yet."""
    if name in known:
        raise LineError(
            "E0106", f"{what} {name!r} is declared twice", token, "use another name, or remove one"
        )
    return name


@dataclass(frozen=True, slots=True)
class _Pending:
    """An instruction whose label is not known yet; `cls` is None if its line was wrong."""

    line: int
    cls: type[Inst] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    label: Token | None = None


class RoleBuilder:
    """Collects the lines of one role; `name` is None if its first line was wrong.

    `complete` is False once a declaration was wrong: then what other lines refer to may be missing, and no mistake
    is made of that. `sound` is False once any line was wrong.
    """

    def __init__(self, source: Source, name: str | None, line: int) -> None:
        self.source, self.name, self.line = source, name, line
        self.complete = self.sound = name is not None
        self.params: list[str] = []
        self.arrays: list[ArraySpec] = []
        self.ports: list[Port] = []
        self.constants: list[Constant] = []
        self.regions: list[Region] = []
        self.sites: dict[str, int] = {}
        self.code: list[_Pending] = []
        self.lines: list[int] = []
        self.labels: dict[str, tuple[int, int]] = {}  # name -> instruction index, line

    def take(self, statement: Statement) -> None:
        """Add a line. Raises `LineError` for the first thing wrong with it, reports the others."""
        for label in statement.labels:
            self._label(label, statement.line)
        handler = _HANDLERS.get(statement.rule)
        if handler is not None:
            handler(self, statement)

    def _label(self, token: Token, line: int) -> None:
        name = str(token.removesuffix(":"))
        if name in self.labels:
            first = self.labels[name][1]
            mistake = LineError("E0106", f"label {name!r} is declared twice", token, "use another name")
            self.source.report(mistake, line, (f"first declared in line {first}",))
            return
        self.labels[name] = len(self.code), line

    def _param(self, s: Statement) -> None:
        for token in s.all():
            self.params.append(unique(name_of(token), self.params, token, "parameter"))

    def _site(self, s: Statement) -> None:
        for token in s.all():
            self.sites[unique(name_of(token), self.sites, token, "site")] = len(self.sites)

    def _number(self, token: Token, count: int, what: str) -> None:
        number = token.partition("+")[0]
        if number != token or int(number[1:]) != count:
            expected = f"{number[0]}{count}"
            message = f"{what}s are numbered in order; this one is {expected}, not {token}"
            raise LineError("E0104", message, token, f"write {expected}")

    def _array(self, s: Statement) -> None:
        self._number(s.token(0), len(self.arrays), "array")
        name = name_of(s.token(1))
        kind = member_of(ArrayKind, s.token(2), "a kind of array")
        dtype, shape = typed(s.token(3))
        if len(shape) != 2:
            raise LineError(
                "E0104", "an array has rows and columns", s.token(3), "write, for example, i8[256,64]"
            )
        bits = 8 if s.option(4) is None else natural(s.token(4), "bits")
        block = 0 if s.option(5) is None else natural(s.token(5), "block")
        copies = 1 if s.option(6) is None else natural(s.token(6), "copies")
        self.arrays.append(ArraySpec(name, kind, shape[0], shape[1], dtype, block, copies, bits))

    def _port(self, s: Statement) -> None:
        self._number(s.token(0), len(self.ports), "port")
        name = name_of(s.token(1))
        self.ports.append(Port(name, member_of(Direction, s.token(2), "a direction")))

    def _const(self, s: Statement) -> None:
        self._number(s.token(0), len(self.constants), "constant")
        name = name_of(s.token(1))
        dtype, shape = typed(s.token(2))
        self.constants.append(Constant(name, natural(s.token(3), "offset"), dtype, shape))

    def _region(self, s: Statement) -> None:
        offset, size = natural(s.token(1), "offset"), natural(s.token(2), "size")
        self.regions.append(Region(name_of(s.token(0)), offset, size))

    def _instruction(self, s: Statement) -> None:
        mnemonic, operands, site = s.token(0), s.list(1), s.option(2)
        self.lines.append(-1)
        self.code.append(_Pending(s.line))  # a wrong line keeps its place, so that labels behind it do too
        cls = find_instruction(mnemonic)
        values, mistakes = read_operands(cls, mnemonic, operands)
        targets = {values.get(f.name) for f in cls.layout if f.is_label}  # a label may be called a1
        named = [token for token in operands if token not in targets]
        mistakes += [m for token in named if (m := self._undeclared(token)) is not None]
        if site is not None:
            mistakes += self._set_site(site)
        for mistake in _first_of_each(mistakes):
            self.sound = False
            self.source.report(mistake, s.line)
        if not mistakes:
            label = next((token for f, token in zip(cls.layout, operands, strict=False) if f.is_label), None)
            self.code[-1] = _Pending(s.line, cls, values, label)

    def _undeclared(self, token: Token) -> LineError | None:
        """Whether an array or port number is beyond those the role declares."""
        if token.type not in ("ARRAY", "PORT") or not self.complete:
            return None
        count = len(self.arrays) if token.type == "ARRAY" else len(self.ports)
        number, letter = int(token[1:].partition("+")[0]), token[0]
        if number < count:
            return None
        what = "array" if letter == "a" else "port"
        help_text = f"role {self.name} has {numbered(count, letter, what)}"
        return LineError("E0103", f"{what} {letter}{number} is not declared", token, help_text)

    def _set_site(self, token: Token) -> list[LineError]:
        name = name_of(Token(token.type, token[1:], column=token.column))
        if name in self.sites:
            self.lines[-1] = self.sites[name]
        elif self.complete:
            return [
                LineError("E0105", f"there is no site {name!r}", token, nearest(name, self.sites, "site"))
            ]
        return []

    def finish(self) -> Role:
        """The role. Labels are resolved here; what is wrong with them is reported."""
        resolved = [self._resolve(index, pending) for index, pending in enumerate(self.code)]
        code = tuple(inst for inst in resolved if inst is not None)
        return Role(
            self.name or "",
            code,
            params=tuple(self.params),
            arrays=tuple(self.arrays),
            ports=tuple(self.ports),
            constants=tuple(self.constants),
            regions=tuple(self.regions),
            sites=tuple(self.sites),
            lines=tuple(self.lines),
        )

    def _resolve(self, index: int, pending: _Pending) -> Inst | None:
        if pending.cls is None:
            return None
        try:
            for operand in pending.cls.layout:
                if operand.is_label:
                    pending.values[operand.name] = self._target(pending, index, pending.values[operand.name])
            return pending.cls(**pending.values)
        except OperandError as error:
            self.source.report(misfit(error, pending.label), pending.line)
        except LineError as mistake:
            self.source.report(mistake, pending.line)
        self.sound = False
        return None

    def _target(self, pending: _Pending, index: int, label: int | str) -> int:
        """The instruction index that a label, or a bare number, stands for; it lies ahead of `index`."""
        if isinstance(label, str) and label not in self.labels:
            help_text = nearest(label, self.labels, "label")
            raise LineError("E0105", f"there is no label {label!r}", pending.label, help_text)
        target = self.labels[label][0] if isinstance(label, str) else label
        if target <= index:
            message = "a branch goes forward, and this label lies behind"
            raise LineError("E0107", message, pending.label, "to repeat instructions, use `loop`")
        return target


def _first_of_each(mistakes: list[LineError]) -> list[LineError]:
    """One mistake for each place in a line, so that no operand is complained about twice."""
    seen: dict[int, LineError] = {}
    for mistake in mistakes:
        seen.setdefault(mistake.at.column or 0 if mistake.at is not None else 0, mistake)
    return [seen[column] for column in sorted(seen)]


_HANDLERS: dict[str, Callable[[RoleBuilder, Statement], None]] = {
    "param": RoleBuilder._param,
    "array": RoleBuilder._array,
    "port": RoleBuilder._port,
    "const": RoleBuilder._const,
    "region": RoleBuilder._region,
    "site": RoleBuilder._site,
    "instruction": RoleBuilder._instruction,
}
ROLE_RULES = frozenset(_HANDLERS)
