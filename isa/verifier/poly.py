"""Polynomials with integer coefficients over numbered symbols: what the verifier knows of a register's value.

Addresses and lengths of real programs are sums and products of a few unknowns (tokens of a segment, its position,
a loop's counter), so that equality of two values is equality of their polynomials.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Mono = tuple[int, ...]  # the numbers of the symbols multiplied, ascending; () never occurs


@dataclass(frozen=True, slots=True)
class Poly:
    """`const` + the sum of coefficient * product of symbols; terms are sorted and have no zero coefficient."""

    const: int = 0
    terms: tuple[tuple[Mono, int], ...] = ()

    def __add__(self, other: Poly) -> Poly:
        if not other.terms:
            return Poly(self.const + other.const, self.terms)
        if not self.terms:
            return Poly(self.const + other.const, other.terms)
        sums = dict(self.terms)
        for mono, coefficient in other.terms:
            sums[mono] = sums.get(mono, 0) + coefficient
        return _normal(self.const + other.const, sums.items())

    def __sub__(self, other: Poly) -> Poly:
        return self + other.times(-1)

    def __mul__(self, other: Poly) -> Poly:
        if not other.terms:
            return self.times(other.const)
        if not self.terms:
            return other.times(self.const)
        sums: dict[Mono, int] = {}
        for left, a in ((), self.const), *self.terms:
            for right, b in ((), other.const), *other.terms:
                mono = tuple(sorted(left + right))
                sums[mono] = sums.get(mono, 0) + a * b
        return _normal(sums.pop((), 0), sums.items())

    def times(self, factor: int) -> Poly:
        """The polynomial multiplied by a constant."""
        if factor == 1:
            return self
        if factor == 0:
            return NOTHING
        return Poly(self.const * factor, tuple((mono, c * factor) for mono, c in self.terms))

    def over(self, divisor: int) -> Poly:
        """The polynomial divided by a number that divides every coefficient."""
        if divisor == 1:
            return self
        return Poly(self.const // divisor, tuple((mono, c // divisor) for mono, c in self.terms))

    def plus(self, constant: int) -> Poly:
        """The polynomial with a constant added."""
        return Poly(self.const + constant, self.terms) if constant else self

    def divisible_by(self, factor: int) -> bool:
        """Whether the value is a multiple of `factor` whatever the symbols are."""
        return self.const % factor == 0 and all(c % factor == 0 for _, c in self.terms)

    def symbols(self) -> set[int]:
        """The numbers of the symbols it mentions."""
        return {number for mono, _ in self.terms for number in mono}

    def split(self, number: int) -> tuple[Poly, Poly] | None:
        """(q, r) with self = symbol * q + r, both free of the symbol; None if it occurs squared."""
        inside: list[tuple[Mono, int]] = []
        outside: list[tuple[Mono, int]] = []
        const = 0
        for mono, coefficient in self.terms:
            if number not in mono:
                outside.append((mono, coefficient))
                continue
            rest = tuple(n for n in mono if n != number)
            if len(rest) != len(mono) - 1:
                return None
            if rest:
                inside.append((rest, coefficient))
            else:
                const = coefficient
        return _normal(const, inside), Poly(self.const, tuple(outside))


NOTHING = Poly()


def _normal(const: int, terms: Iterable[tuple[Mono, int]]) -> Poly:
    return Poly(const, tuple(sorted((mono, c) for mono, c in terms if c)))


def symbol_poly(number: int) -> Poly:
    """The polynomial that is just this symbol."""
    return Poly(0, (((number,), 1),))
