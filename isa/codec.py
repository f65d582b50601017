"""Dataclasses to JSON values and back, by their type annotations.

A dataclass becomes the list of its fields, an enum its value, a string its number in a table: tiles name the same
tensors and nodes over and over. Reading checks every leaf, so a damaged header is an error with a message
and never an object with wrong types in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Json = None | bool | int | float | str | list["Json"]
T = TypeVar("T")
_Pack = Callable[[Any], Json]
_Unpack = Callable[[Json], Any]


class CodecError(ValueError):
    """A JSON value does not have the shape that its type asks for."""


class Strings:
    """The strings of a file, each with its number."""

    def __init__(self, texts: list[str] | None = None) -> None:
        self.texts: list[str] = texts if texts is not None else []
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of `text`, which joins the table if it is new."""
        number = self.numbers.get(text)
        if number is None:
            number = self.numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def text(self, number: Json) -> str:
        """The string of this number. Raises `CodecError`."""
        if type(number) is not int or not 0 <= number < len(self.texts):
            raise CodecError(f"{number!r} is not the number of a string")
        return self.texts[number]


class Codec(Generic[T]):
    """Packs and unpacks values of one type, sharing a table of strings. Of the `absent` types there are none."""

    def __init__(self, hint: type[T], strings: Strings, absent: tuple[type, ...] = ()) -> None:
        self._pack, self._unpack = _pair(hint, strings, {kind: (_never, _never) for kind in absent})

    def pack(self, value: T) -> Json:
        """`value` as a JSON value."""
        return self._pack(value)

    def unpack(self, value: Json) -> T:
        """The value that `pack` packed. Raises `CodecError`."""
        return cast(T, self._unpack(value))


def _pair(hint: Any, strings: Strings, known: dict[Any, tuple[_Pack, _Unpack]]) -> tuple[_Pack, _Unpack]:
    """How values of a type are packed and unpacked."""
    if hint not in known:
        known[hint] = _make(hint, strings, known)
    return known[hint]


def _make(hint: Any, strings: Strings, known: dict[Any, tuple[_Pack, _Unpack]]) -> tuple[_Pack, _Unpack]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is str:
        return strings.number, strings.text
    if hint is int:
        return int, _integer
    if hint is bool:
        return bool, _boolean
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint)
    if origin in (Union, UnionType):
        inner = next(a for a in arguments if a is not NoneType)
        return _optional(*_pair(inner, strings, known))
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return _sequence(*_pair(arguments[0], strings, known))
    if origin is tuple:
        return _record([_pair(a, strings, known) for a in arguments], tuple, lambda value: value)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        names = [f.name for f in fields(hint)]
        parts = [_pair(hints[name], strings, known) for name in names]
        return _record(
            parts, lambda values: cast(Any, hint)(*values), lambda v: [getattr(v, n) for n in names]
        )
    raise TypeError(f"no codec for {hint}")


def _never(value: Any) -> Any:
    raise CodecError(f"{value!r} is kept elsewhere")


def _integer(value: Json) -> int:
    if type(value) is not int:
        raise CodecError(f"{value!r} is not a whole number")
    return value


def _boolean(value: Json) -> bool:
    if type(value) is not bool:
        raise CodecError(f"{value!r} is not true or false")
    return value


def _enum(kind: type[Enum]) -> tuple[_Pack, _Unpack]:
    members = {member.value: member for member in kind}

    def unpack(value: Json) -> Enum:
        if isinstance(value, list) or value not in members:
            raise CodecError(f"{value!r} is not a {kind.__name__}")
        return members[value]

    return lambda member: cast(Json, member.value), unpack


def _optional(pack: _Pack, unpack: _Unpack) -> tuple[_Pack, _Unpack]:
    return (lambda v: None if v is None else pack(v)), (lambda v: None if v is None else unpack(v))


def _sequence(pack: _Pack, unpack: _Unpack) -> tuple[_Pack, _Unpack]:
    def unpack_all(value: Json) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise CodecError(f"{value!r} is not a list")
        return tuple([unpack(item) for item in value])

    return (lambda items: [pack(item) for item in items]), unpack_all


def _record(
    parts: list[tuple[_Pack, _Unpack]], build: Callable[[list[Any]], Any], split: Callable[[Any], Any]
) -> tuple[_Pack, _Unpack]:
    packs, unpacks = [p for p, _ in parts], [u for _, u in parts]

    def pack(value: Any) -> Json:
        return [p(item) for p, item in zip(packs, split(value), strict=True)]

    def unpack(value: Json) -> Any:
        if not isinstance(value, list) or len(value) != len(unpacks):
            raise CodecError(f"{str(value)[:60]!r} is not a list of {len(unpacks)}")
        return build([u(item) for u, item in zip(unpacks, value, strict=True)])

    return pack, unpack
