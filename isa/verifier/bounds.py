"""Bounds of polynomials: the largest and smallest value over everything the symbols can be.

The last symbol of a polynomial is eliminated by one of its limits (which mention earlier symbols only), until a
constant is left; of all ways that are tried the tightest result counts. Every result is a true bound; that it is
tight for compiler output is what the tests show.
"""

from __future__ import annotations

from .poly import Mono, Poly
from .symbols import Limit, Symbol, SymbolTable

FUEL = 400  # eliminations a question may take; what is not found by then is answered by intervals


class Bounds:
    """Answers about polynomials, given the table's symbols and `assumed` polynomials that are not negative."""

    def __init__(self, table: SymbolTable, assumed: tuple[Poly, ...] = ()) -> None:
        self.table = table
        self.assumed = assumed
        self._uppers: dict[int, list[Limit]] = {}
        self._lowers: dict[int, list[Limit]] = {}
        self._memo: dict[Poly, int] = {}
        self._related: dict[int, set[int]] = {}
        self._fuel = FUEL
        for poly in assumed:
            self._assume(poly)

    def upper(self, poly: Poly) -> int:
        """A value that `poly` never exceeds; of a sum of independent parts, at most the sum of theirs."""
        parts = self._parts(poly)
        if len(parts) == 1:
            self._fuel = FUEL
            return self._upper(poly)
        total = poly.const
        for part in parts:
            self._fuel = FUEL
            total += self._upper(part)
        self._fuel = FUEL
        return min(total, self._upper(poly))

    def lower(self, poly: Poly) -> int:
        """A value that `poly` is never below."""
        return -self.upper(poly.times(-1))

    def at_most(self, poly: Poly, limit: int) -> bool:
        """Whether poly <= limit is proven."""
        return self.interval_upper(poly) <= limit or self.upper(poly) <= limit

    def at_least(self, poly: Poly, limit: int) -> bool:
        """Whether poly >= limit is proven."""
        return self.at_most(poly.times(-1), -limit)

    def fits(self, poly: Poly, low: int, high: int) -> bool:
        """Whether low <= poly <= high is proven."""
        return self.at_most(poly, high) and self.at_least(poly, low)

    def interval_upper(self, poly: Poly) -> int:
        """An upper bound by the symbols' intervals alone."""
        total = poly.const
        symbols = self.table.symbols
        for mono, coefficient in poly.terms:
            low = high = coefficient
            for number in mono:
                symbol = symbols[number]
                ends = (low * symbol.low, low * symbol.high, high * symbol.low, high * symbol.high)
                low, high = min(ends), max(ends)
            total += high
        return total

    def _parts(self, poly: Poly) -> list[Poly]:
        """Sums that add up to `poly`, but for the constant, and neither share symbols nor limit each other's."""
        groups: list[tuple[set[int], list[tuple[Mono, int]]]] = []
        for mono, coefficient in poly.terms:
            symbols, terms = (
                set(mono).union(*(self._limited_by(number) for number in mono)),
                [(mono, coefficient)],
            )
            for group in [group for group in groups if group[0] & symbols]:
                groups.remove(group)
                symbols |= group[0]
                terms += group[1]
            groups.append((symbols, terms))
        return [Poly(0, tuple(sorted(terms))) for _, terms in groups]

    def _limited_by(self, number: int) -> set[int]:
        """The symbols in a symbol's own limits."""
        found = self._related.get(number)
        if found is None:
            symbol = self.table.symbols[number]
            polys = [*(limit for limit, _ in (*symbol.uppers, *symbol.lowers)), *symbol.upper_choices]
            found = self._related[number] = set().union(*(poly.symbols() for poly in polys))
        return found

    def _upper(self, poly: Poly) -> int:
        if not poly.terms:
            return poly.const
        known = self._memo.get(poly)
        if known is not None:
            return known
        best = self.interval_upper(poly)
        self._fuel -= 1
        if self._fuel > 0:
            best = self._by_elimination(poly, best)
            self._memo[poly] = best
        return best

    def _by_elimination(self, poly: Poly, best: int) -> int:
        number = max(mono[-1] for mono, _ in poly.terms)
        parts = poly.split(number)
        if parts is None:
            return best
        factor, rest = parts
        symbol = self.table.symbols[number]
        sign = self._sign(factor)
        if sign == 0:
            return best
        extreme = symbol.high if sign > 0 else symbol.low
        best = min(best, self._upper(rest + factor.times(extreme)))
        for limit, divisor in self._limits(symbol, sign):
            best = min(best, self._upper(rest.times(divisor) + factor * limit) // divisor)
        choices = symbol.upper_choices if sign > 0 else symbol.lower_choices
        if choices:
            best = min(best, max(self._upper(rest + factor * choice) for choice in choices))
        return best

    def _limits(self, symbol: Symbol, sign: int) -> list[Limit]:
        if sign > 0:
            return [*symbol.uppers, *self._uppers.get(symbol.number, ())]
        return [*symbol.lowers, *self._lowers.get(symbol.number, ())]

    def _sign(self, factor: Poly) -> int:
        if not factor.terms:
            return (factor.const > 0) - (factor.const < 0)
        if -self.interval_upper(factor.times(-1)) >= 0:
            return 1
        return -1 if self.interval_upper(factor) <= 0 else 0

    def _assume(self, poly: Poly) -> None:
        """Turn poly >= 0 into a limit of its last symbol."""
        if not poly.terms:
            return
        number = max(mono[-1] for mono, _ in poly.terms)
        parts = poly.split(number)
        if parts is None or parts[0].terms:
            return
        factor, rest = parts[0].const, parts[1]
        if factor > 0:
            self._lowers.setdefault(number, []).append((rest.times(-1), factor))
        elif factor < 0:
            self._uppers.setdefault(number, []).append((rest, -factor))
