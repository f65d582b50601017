"""Symbols: the unknowns of a role's text, each with an interval and with limits in terms of earlier symbols.

A symbol stands for one value in one execution of the loop bodies around it: its *level* is the number of loops
(that are not unrolled) whose iteration it depends on. A symbol is *shared* if its name means the same value in
every tile: facts of the step and of the current segment, and what is computed from them alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

from .poly import Mono, Poly, symbol_poly

INT_LOW, INT_HIGH = -(1 << 63), (1 << 63) - 1

Limit = tuple[Poly, int]  # a bound poly / divisor on a symbol's value; mentions earlier symbols only


class Op(Enum):
    """What a symbol stands for."""

    UNKNOWN = "unknown"
    PARAM = "param"
    SEGMENTS = "segments"
    SOURCES = "sources"
    COUNTER = "counter"
    TOKENS = "tokens"
    POSITION = "position"
    OUTPUTS = "outputs"
    SEQUENCE = "sequence"
    END = "end"
    SOURCE = "source"
    SOURCE_TOKENS = "source.tokens"
    SOURCE_POSITION = "source.position"
    SOURCE_SEQUENCE = "source.sequence"
    SOURCE_END = "source.end"
    PAGE = "page"
    CHOICE = "one of"
    MIN = "min"
    MAX = "max"
    DIV = "div"
    MOD = "mod"
    SHL = "shl"
    SHR = "shr"
    AND = "and"
    OR = "or"
    XOR = "xor"


@dataclass(frozen=True, slots=True)
class Symbol:
    """An unknown and what is known of it.

    It lies in low..high. It is at most each of `uppers`, and at most the largest of `upper_choices` if there are
    any; the same downwards.
    """

    number: int
    op: Op
    name: str
    low: int
    high: int
    level: int = 0
    shared: bool = False
    args: tuple[Poly, ...] = ()
    uppers: tuple[Limit, ...] = ()
    lowers: tuple[Limit, ...] = ()
    upper_choices: tuple[Poly, ...] = ()
    lower_choices: tuple[Poly, ...] = ()
    doubtful: bool = False  # follows from something already reported; do not report again


@dataclass(frozen=True, slots=True)
class Shape:
    """The bounds with which a symbol is made (see `Symbol`)."""

    low: int = INT_LOW
    high: int = INT_HIGH
    uppers: tuple[Limit, ...] = ()
    lowers: tuple[Limit, ...] = ()
    upper_choices: tuple[Poly, ...] = ()
    lower_choices: tuple[Poly, ...] = ()


class SymbolTable:
    """All symbols of one analysis of a role; the same operation on the same values is the same symbol."""

    def __init__(self) -> None:
        self.symbols: list[Symbol] = []
        self._interned: dict[Hashable, Poly] = {}

    def find(self, key: Hashable) -> Poly | None:
        """The symbol made with this key."""
        return self._interned.get(key)

    def keep(self, key: Hashable, poly: Poly) -> Poly:
        """Let `find` answer with a value that needs no symbol."""
        self._interned[key] = poly
        return poly

    def make(
        self,
        op: Op,
        shape: Shape,
        *,
        name: str,
        key: Hashable = None,
        args: tuple[Poly, ...] = (),
        level: int = 0,
        shared: bool = False,
        doubtful: bool = False,
    ) -> Poly:
        """A new symbol, as a polynomial; with a key it can be found again. Its level is at least its args'."""
        number = len(self.symbols)
        symbol = Symbol(
            number,
            op,
            name,
            shape.low,
            shape.high,
            max(level, *(self.level(arg) for arg in args)) if args else level,
            shared,
            args,
            shape.uppers,
            shape.lowers,
            shape.upper_choices,
            shape.lower_choices,
            doubtful or any(self.doubtful(arg) for arg in args),
        )
        self.symbols.append(symbol)
        poly = symbol_poly(number)
        if key is not None:
            self._interned[key] = poly
        return poly

    def unknown(
        self, level: int, low: int = INT_LOW, high: int = INT_HIGH, *, doubtful: bool = False
    ) -> Poly:
        """A value of which only an interval is known."""
        if low == high:
            return Poly(low)
        return self.make(
            Op.UNKNOWN, Shape(low, high), name=f"x{len(self.symbols)}", level=level, doubtful=doubtful
        )

    def level(self, poly: Poly) -> int:
        """The number of enclosing loops whose iteration the value may depend on."""
        return max((self.symbols[n].level for mono, _ in poly.terms for n in mono), default=0)

    def shared(self, poly: Poly) -> bool:
        """Whether `text(poly)` means the same value in every tile."""
        return all(self.symbols[n].shared for mono, _ in poly.terms for n in mono)

    def doubtful(self, poly: Poly) -> bool:
        """Whether the value follows from something that was reported."""
        return any(self.symbols[n].doubtful for mono, _ in poly.terms for n in mono)

    def text(self, poly: Poly) -> str:
        """The value in words; shared values are equal if and only if their texts are."""
        if not poly.terms:
            return str(poly.const)
        words = sorted((self._mono_text(mono), c) for mono, c in poly.terms)
        text = " ".join(_signed(name, c) for name, c in words).removeprefix("+ ")
        if not poly.const:
            return text
        return f"{text} {'+' if poly.const > 0 else '-'} {abs(poly.const)}"

    def _mono_text(self, mono: Mono) -> str:
        return "*".join(sorted(self.symbols[n].name for n in mono))


def _signed(name: str, coefficient: int) -> str:
    factor = "" if abs(coefficient) == 1 else f"{abs(coefficient)}*"
    return f"{'+' if coefficient > 0 else '-'} {factor}{name}"
