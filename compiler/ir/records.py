"""Frozen dataclasses as text: `kind(field=value, ...)`, and back.

Fields that have their default are left out. Strings are bare where they look like names, else quoted; enums are
written by value; tuples in brackets; nested dataclasses as records. What is printed reads back equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from lark import Lark, Token, Transformer, UnexpectedInput

from isa.diagnostics import FilePlace, fail

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_RESERVED = {"none", "true", "false", "inf", "nan"}

_GRAMMAR = r"""
?value: record | sequence | atom
record: NAME "(" [pair ("," pair)*] ")"
pair: NAME "=" value
sequence: "[" [value ("," value)*] "]"
atom: NAME -> name | STRING -> string | NUMBER -> number
NAME: /[A-Za-z_][A-Za-z0-9_.]*/
STRING: /"(\\.|[^"\\])*"/
NUMBER: /-?(inf|\d+(\.\d+)?([eE][-+]?\d+)?)/
%ignore /[ \t]+/
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read: its kind and its fields, values still untyped."""

    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word as read."""

    text: str


class _ToValues(Transformer[Token, Any]):
    def record(self, items: list[Any]) -> Record:
        return Record(str(items[0]), dict(pair for pair in items[1:] if pair is not None))

    def pair(self, items: list[Any]) -> tuple[str, Any]:
        return str(items[0]), items[1]

    def sequence(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if item is not None)

    def name(self, items: list[Token]) -> Name:
        return Name(str(items[0]))

    def string(self, items: list[Token]) -> str:
        return str(json.loads(items[0]))

    def number(self, items: list[Token]) -> int | float:
        text = str(items[0])
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, start="value", parser="lalr", transformer=_ToValues(), maybe_placeholders=False)


def kind_of(cls: type[Any]) -> str:
    """`MemoryRegion` as `memory_region`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()


def show(value: Any) -> str:
    """The text of a value."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Enum():
            return show(_enum_word(value))
        case str():
            return value if _NAME.match(value) and value not in _RESERVED else json.dumps(value)
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(show, value))}]"
    return f"{kind_of(type(value))}({', '.join(_pairs(value))})"


def _pairs(value: Any) -> Iterator[str]:
    for f in fields(value):
        item = getattr(value, f.name)
        if f.compare and not (f.default is not MISSING and item == f.default):
            yield f"{f.name}={show(item)}"


def read(text: str, path: str, line: int, code: str) -> Any:
    """The untyped value in a line of text. Raises `CimError` `code` with the place of the first mistake."""
    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        column = error.column if error.column > 0 else len(text)
        raise fail(
            code, "this is not a value as the printer writes it", FilePlace(path, line, column, text)
        ) from None


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def build(kind: Any, value: Any) -> Any:
    """`value` as read, as the type `kind`. Raises `ValueError` saying what does not fit."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _build_union(get_args(kind), value)
    if origin is tuple:
        return _build_tuple(get_args(kind), value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _build_enum(kind, value)
    if is_dataclass(kind):
        return _build_record(kind, value)
    return _build_scalar(kind, value)


def _build_scalar(kind: Any, value: Any) -> Any:
    if kind is str and isinstance(value, Name):
        return value.text
    if kind is bool and isinstance(value, Name) and value.text in ("true", "false"):
        return value.text == "true"
    if kind is float and isinstance(value, int | float):
        return float(value)
    if kind is float and isinstance(value, Name) and value.text == "inf":
        return float("inf")
    if kind in (str, int) and type(value) is kind:
        return value
    raise ValueError(f"{_words(value)} is not a {getattr(kind, '__name__', kind)}")


def _words(value: Any) -> str:
    return value.text if isinstance(value, Name) else value.kind if isinstance(value, Record) else repr(value)


def _enum_word(member: Enum) -> str:
    return member.value if isinstance(member.value, str) else member.name.lower()


def _build_enum(kind: type[Enum], value: Any) -> Enum:
    word = value.text if isinstance(value, Name) else value
    for member in kind:
        if word == _enum_word(member):
            return member
    raise ValueError(f"{_words(value)} is not one of {', '.join(map(_enum_word, kind))}")


def _build_union(kinds: tuple[Any, ...], value: Any) -> Any:
    if NoneType in kinds and isinstance(value, Name) and value.text == "none":
        return None
    choices = [k for k in kinds if k is not NoneType]
    if isinstance(value, Record):
        choices = [k for k in choices if is_dataclass(k) and kind_of(k) == value.kind]  # type: ignore[arg-type]
    if not choices:
        raise ValueError(f"{_words(value)} is not expected here")
    return build(choices[0], value)


def _build_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError(f"{_words(value)} is not a list")
    if len(kinds) == 2 and kinds[1] is ...:
        return tuple(build(kinds[0], item) for item in value)
    if len(value) != len(kinds):
        raise ValueError(f"expected {len(kinds)} items, found {len(value)}")
    return tuple(build(k, item) for k, item in zip(kinds, value, strict=True))


def _required(f: Field[Any]) -> bool:
    return f.compare and f.default is MISSING and f.default_factory is MISSING


def _build_record(kind: Any, value: Any) -> Any:
    if not isinstance(value, Record) or value.kind != kind_of(kind):
        raise ValueError(f"{_words(value)} is not a {kind_of(kind)}")
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(value.fields) - set(known))
    if unknown:
        raise ValueError(f"{value.kind} has no field {unknown[0]}")
    missing = [name for name, f in known.items() if _required(f) and name not in value.fields]
    if missing:
        raise ValueError(f"{value.kind} lacks its field {missing[0]}")
    hints = _hints(kind)
    return kind(**{name: build(hints[name], item) for name, item in value.fields.items()})
