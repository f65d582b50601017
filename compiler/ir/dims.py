"""Sizes that are known only when the program runs: integer polynomials over named axes.

A tensor's size along an axis is an `Extent`: a plain `int`, or a `Dim` such as `past + sequence` or
`16*batch*sequence`. Arithmetic that ends in a number gives an `int`. Axes are at least 0 long (`past`
can be 0), the others at least 1; comparisons that this does not decide raise `UndecidedError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

MAY_BE_ZERO = "past"
"""The one axis that may be empty: the tokens already in the cache."""

Monomial = tuple[str, ...]
"""A product of axis names, sorted; the empty tuple is the number one."""


class UndecidedError(ValueError):
    """A question about sizes whose answer depends on their values."""


@dataclass(frozen=True, slots=True, eq=False)
class Dim:
    """A sum of products of axes: `terms` maps each monomial to its (non-zero) factor, sorted."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Extent) -> Extent:
        return _sum(self.terms + _terms(other))

    def __mul__(self, other: Extent) -> Extent:
        return _sum((tuple(sorted(m + n)), a * b) for m, a in self.terms for n, b in _terms(other))

    def __neg__(self) -> Extent:
        return self * -1

    def __sub__(self, other: Extent) -> Extent:
        return self + other * -1

    def __rsub__(self, other: int) -> Extent:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Extent) -> Extent:
        return divide(self, other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    def __lt__(self, other: Extent) -> bool:
        return less(self, other)

    def __gt__(self, other: Extent) -> bool:
        return less(other, self)

    def __le__(self, other: Extent) -> bool:
        return not less(other, self)

    def __ge__(self, other: Extent) -> bool:
        return not less(self, other)

    def __str__(self) -> str:
        return " + ".join(_show(m, factor) for m, factor in self.terms).replace("+ -", "- ")

    __repr__ = __str__


Extent = int | Dim
Shape = tuple[Extent, ...]


def axis(name: str) -> Dim:
    """The size called `name`."""
    return Dim((((name,), 1),))


def axes_of(extent: Extent) -> frozenset[str]:
    """The axis names that `extent` depends on."""
    return frozenset(name for m, _ in _terms(extent) for name in m)


def bind(extent: Extent, sizes: Mapping[str, int]) -> Extent:
    """`extent` with the axes named in `sizes` replaced by numbers."""
    if isinstance(extent, int):
        return extent
    total: Extent = 0
    for monomial, factor in extent.terms:
        product: Extent = factor
        for name in monomial:
            product = product * sizes[name] if name in sizes else product * axis(name)
        total = total + product
    return total


def resolve(extent: Extent, sizes: Mapping[str, int]) -> int:
    """`extent` as a number. Raises `UndecidedError` if an axis has no size."""
    value = bind(extent, sizes)
    if isinstance(value, int):
        return value
    raise UndecidedError(f"the size {extent} is not known here")


def size_of(shape: Iterable[Extent]) -> Extent:
    """Number of elements."""
    total: Extent = 1
    for extent in shape:
        total = total * extent
    return total


def less(a: Extent, b: Extent) -> bool:
    """Whether a < b for every size of the axes. Raises `UndecidedError` if it depends."""
    difference = b - a
    if isinstance(difference, int):
        return difference > 0
    if _minimum(difference) > 0:
        return True
    if _minimum(-difference) >= 0:
        return False
    raise UndecidedError(f"whether {a} < {b} depends on the sizes")


def divide(a: Extent, b: Extent) -> Extent:
    """a / b if it is exact for every size of the axes, else `UndecidedError`."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    left, quotient = a, 0 if isinstance(a, int) else 0 * a
    while left != 0:
        # Long division by leading terms; exact divisions end with nothing left.
        (names, factor), (by, divisor) = _leading(left), _leading(b)
        step = _sum([(_without(names, by), _exact(factor, divisor))])
        quotient, left = quotient + step, left - step * b
    return quotient


def parse_extent(text: str) -> Extent:
    """Inverse of `str`; also reads the expressions that exporters write as names of axes."""
    total: Extent = 0
    for sign, term in re.findall(r"([+-]?)\s*([^+\-\s][^+\-]*)", text):
        value: Extent = -1 if sign == "-" else 1
        for factor in (f.strip() for f in term.split("*")):
            value = value * (int(factor) if factor.isdigit() else axis(factor))
        total = total + value
    return total


def _terms(extent: Extent) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(extent, Dim):
        return extent.terms
    return (((), int(extent)),) if extent else ()


def _sum(terms: Iterable[tuple[Monomial, int]]) -> Extent:
    total: dict[Monomial, int] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    kept = tuple(sorted((m, f) for m, f in total.items() if f))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Dim(kept)


def _show(monomial: Monomial, factor: int) -> str:
    if not monomial:
        return str(factor)
    text = "*".join(monomial)
    return {1: text, -1: f"-{text}"}.get(factor, f"{factor}*{text}")


def _minimum(extent: Extent) -> int:
    """A lower bound that is reached, or minus infinity (as a large negative number)."""
    if isinstance(extent, int):
        return extent
    if any(factor < 0 for m, factor in extent.terms if m):
        return -(1 << 62)
    return sum(factor * prod(0 if name == MAY_BE_ZERO else 1 for name in m) for m, factor in extent.terms)


def _leading(extent: Extent) -> tuple[Monomial, int]:
    """The highest term: by degree, then by the powers of the axes in alphabetic order."""
    names = sorted(axes_of(extent))
    return max(
        _terms(extent), key=lambda term: (len(term[0]), [term[0].count(n) for n in names]), default=((), 0)
    )


def _without(monomial: Monomial, names: Monomial) -> Monomial:
    left = list(monomial)
    for name in names:
        if name not in left:
            raise UndecidedError(f"division by {'*'.join(names)} is not exact")
        left.remove(name)
    return tuple(left)


def _exact(value: int, divisor: int) -> int:
    if divisor == 0 or value % divisor:
        raise UndecidedError(f"{value} / {divisor} is not exact")
    return value // divisor
