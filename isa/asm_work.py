"""A model's work in assembly: `.work WHAT name=value ...`, parents before their parts (isa/workload.py).

WHAT is the field of the part in its parent: `repeats`, `blocks`, `hub`, `sections`, `first`, ... A value that is the
default is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

from .asm_lines import LineError, Statement
from .asm_text import integer, nearest, pair, split_pair
from .operands import OperandError
from .workload import AttentionWork, Block, Product, Repeat, RowWork, SectionWork, Workload

_KINDS: tuple[type[Any], ...] = (Workload, Repeat, Block, RowWork, SectionWork, Product, AttentionWork)
_WHOLE = "whole"  # the line of the workload itself


_HINTS: Mapping[type[Any], dict[str, Any]] = MappingProxyType({kind: get_type_hints(kind) for kind in _KINDS})


def _part(kind: type[Any], name: str) -> type[Any] | None:
    """What a field holds, if it holds parts."""
    inside = [a for a in get_args(_HINTS[kind][name]) if a not in (NoneType, Ellipsis)]
    return next((a for a in inside if a in _KINDS), None)


def work_lines(workload: Workload) -> Iterator[str]:
    """The lines of a program's work; none if it is not known."""
    if workload != Workload():
        yield from _lines(_WHOLE, workload)


def _lines(name: str, value: Any) -> Iterator[str]:
    kind = type(value)
    pairs = [
        pair(f.name, _text(getattr(value, f.name)))
        for f in fields(kind)
        if _part(kind, f.name) is None and (f.default is MISSING or getattr(value, f.name) != f.default)
    ]
    yield " ".join((".work", name, *pairs))
    for f in fields(kind):
        if _part(kind, f.name) is not None:
            inside = getattr(value, f.name)
            for item in inside if isinstance(inside, tuple) else (inside,) if inside is not None else ():
                yield from _lines(f.name, item)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value.value if isinstance(value, Enum) else value)


@dataclass(slots=True)
class _Open:
    """A part whose own parts may still come."""

    kind: type[Any]
    values: dict[str, Any]
    parts: dict[str, list[_Open]] = field(default_factory=dict)

    def build(self) -> Any:
        """The part with all parts in it."""
        values = dict(self.values)
        for f in fields(self.kind):
            if _part(self.kind, f.name) is not None:
                made = tuple(part.build() for part in self.parts.get(f.name, ()))
                is_one = NoneType in get_args(_HINTS[self.kind][f.name])
                values[f.name] = (made[-1] if made else None) if is_one else made
        return self.kind(**values)


class Work:
    """The `.work` lines read so far."""

    def __init__(self) -> None:
        self._open: list[_Open] = []

    @property
    def workload(self) -> Workload:
        """The work; empty if there were no lines."""
        return Workload() if not self._open else self._open[0].build()

    def take(self, s: Statement) -> None:
        """One line."""
        name, token = str(s.token(0)), s.token(0)
        if not self._open:
            if name != _WHOLE:
                raise LineError("E0101", f"the first line of work is not {name!r}", token, f".work {_WHOLE}")
            self._open.append(_Open(Workload, self._values(Workload, s)))
            return
        known = [f.name for part in self._open for f in fields(part.kind) if _part(part.kind, f.name)]
        if name not in known:
            raise LineError("E0105", f"there is no work {name!r} here", token, nearest(name, known, "work"))
        while _inside(self._open[-1].kind, name) is None:
            self._open.pop()
        kind = _inside(self._open[-1].kind, name)
        assert kind is not None
        part = _Open(kind, self._values(kind, s))
        self._open[-1].parts.setdefault(name, []).append(part)
        self._open.append(part)

    @staticmethod
    def _values(kind: type[Any], s: Statement) -> dict[str, Any]:
        plain: dict[str, Field[Any]] = {f.name: f for f in fields(kind) if _part(kind, f.name) is None}
        values: dict[str, Any] = {}
        for token in s.all()[1:]:
            key, text = split_pair(token)
            if key not in plain:
                raise LineError("E0105", f"there is no {key!r} here", token, nearest(key, plain, "value"))
            try:
                values[key] = _value(_HINTS[kind][key], text)
            except OperandError as error:
                raise LineError("E0103", str(error), token, f"expected {error.expected}") from None
        missing = [name for name, f in plain.items() if f.default is MISSING and name not in values]
        if missing:
            raise LineError("E0101", f"{missing[0]} is not given", s.token(0), f"add {missing[0]}=...")
        return values


def _inside(kind: type[Any], name: str) -> type[Any] | None:
    """What field `name` of a part holds; None if the part has no such field, or a plain one."""
    return _part(kind, name) if name in _HINTS[kind] else None


def _value(hint: Any, text: str) -> Any:
    if hint is bool:
        if text not in ("yes", "no"):
            raise OperandError(f"{text} is neither yes nor no", "yes or no")
        return text == "yes"
    if hint is int:
        value = integer(text)
        if value < 0:
            raise OperandError(f"{text} is negative", "a number of at least 0")
        return value
    known = {member.value: member for member in hint}
    if text not in known:
        raise OperandError(f"{text!r} is not known", f"one of {', '.join(known)}")
    return known[text]
