"""What scalar instructions do to symbolic values.

Additions and products are exact on polynomials. Minimum, maximum, quotient and the rest become symbols whose
limits say what is known of them. Registers wrap at 64 bits; a result that may leave the range is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from isa.program import Limits

from .bounds import Bounds
from .poly import Poly, symbol_poly
from .segments import Segments
from .symbols import INT_HIGH, INT_LOW, Limit, Op, Shape, SymbolTable

MAX_SHIFT = 31
MAX_TERMS = 24
MAX_DEGREE = 4


class Arithmetic:
    """Operations on values, in the light of `bounds`. Intervals of new symbols hold without its assumptions."""

    def __init__(self, table: SymbolTable, limits: Limits) -> None:
        self.table = table
        self.limits = limits
        self.steps = Segments(table, limits)
        self.plain = Bounds(table)

    # ------------------------------------------------------------------------------------------- operations

    def apply(
        self, op: Callable[[Arithmetic, Bounds, Poly, Poly], Poly], bounds: Bounds, a: Poly, b: Poly
    ) -> Poly:
        """The value of a op b in a 64-bit register."""
        return self.fit(bounds, op(self, bounds, a, b))

    def fit(self, bounds: Bounds, value: Poly) -> Poly:
        """The value as a register holds it: itself where it is sure to fit, else unknown."""
        if not value.terms:
            return Poly((value.const - INT_LOW) % (1 << 64) + INT_LOW)
        if not bounds.fits(value, INT_LOW, INT_HIGH):
            return self.table.unknown(self.table.level(value), doubtful=self.table.doubtful(value))
        degree = max(len(mono) for mono, _ in value.terms)
        if len(value.terms) <= MAX_TERMS and degree <= MAX_DEGREE:
            return value
        return self.opaque(Op.UNKNOWN, (value,), self.plain.lower(value), self.plain.upper(value))

    def opaque(self, op: Op, args: tuple[Poly, ...], low: int = INT_LOW, high: int = INT_HIGH) -> Poly:
        """The symbol for op(args), known by an interval alone."""
        return self.symbol(op, args, Shape(max(low, INT_LOW), min(high, INT_HIGH)))

    def symbol(self, op: Op, args: tuple[Poly, ...], shape: Shape) -> Poly:
        """The symbol for op(args); the same one whenever it is asked for."""
        if shape.low == shape.high:
            return Poly(shape.low)
        found = self.table.find((op, args))
        if found is None:
            name = f"{op.value}({', '.join(self.table.text(arg) for arg in args)})"
            shared = all(self.table.shared(arg) for arg in args)
            found = self.table.make(op, shape, name=name, key=(op, args), args=args, shared=shared)
        return found

    def choice(self, a: Poly, b: Poly, level: int, a_bounds: Bounds, b_bounds: Bounds) -> Poly:
        """One of two values, decided by which path was taken; each path has its own bounds."""
        if a == b:
            return a
        factor = _factor(a, b)
        a, b = a.over(factor), b.over(factor)
        low = min(a_bounds.lower(a), b_bounds.lower(b))
        high = max(a_bounds.upper(a), b_bounds.upper(b))
        shape = Shape(low, high, upper_choices=(a, b), lower_choices=(a, b))
        name = f"x{len(self.table.symbols)}"
        return self.table.make(Op.CHOICE, shape, name=name, args=(a, b), level=level).times(factor)

    def substitute(self, value: Poly, params: dict[int, int]) -> Poly:
        """The value with parameters (by symbol number) replaced; what is computed from them is computed again."""
        result = Poly(value.const)
        for mono, coefficient in value.terms:
            term = Poly(coefficient)
            for number in mono:
                term = term * self._substituted(number, params)
            result = result + term
        return self.fit(self.plain, result)

    def _substituted(self, number: int, params: dict[int, int]) -> Poly:
        if number in params:
            return Poly(params[number])
        symbol = self.table.symbols[number]
        function = OPERATIONS.get(symbol.op)
        if function is None:
            return symbol_poly(number)
        args = [self.substitute(arg, params) for arg in symbol.args]
        if tuple(args) == symbol.args:
            return symbol_poly(number)
        return self.apply(function, self.plain, args[0], args[1])

    def at_segment(self, value: Poly, counter: int, index: Poly) -> Poly | None:
        """What a value computed from facts of segment `counter` (a symbol) is for segment `index`.

        None if it depends on anything else that changes from segment to segment.
        """
        result = Poly(value.const)
        for mono, coefficient in value.terms:
            term = Poly(coefficient)
            for number in mono:
                part = self._symbol_at_segment(number, counter, index)
                if part is None:
                    return None
                term = term * part
            result = result + term
        return result

    def _symbol_at_segment(self, number: int, counter: int, index: Poly) -> Poly | None:
        symbol = self.table.symbols[number]
        if number == counter:
            return index
        if symbol.level == 0:
            return symbol_poly(number)
        args = [self.at_segment(arg, counter, index) for arg in symbol.args]
        known = [arg for arg in args if arg is not None]
        if not args or len(known) < len(args):
            return None
        if self.steps.is_fact(symbol.op):
            return self.steps.fact(symbol.op, known[0])
        function = OPERATIONS.get(symbol.op)
        return None if function is None else self.apply(function, self.plain, known[0], known[1])

    def by_params_alone(self, value: Poly) -> bool:
        """Whether the tile's parameters determine the value."""
        symbols = (self.table.symbols[n] for n in value.symbols())
        return all(
            s.op is Op.PARAM or (s.op in OPERATIONS and all(map(self.by_params_alone, s.args)))
            for s in symbols
        )


def add(_: Arithmetic, __: Bounds, a: Poly, b: Poly) -> Poly:
    """a + b."""
    return a + b


def sub(_: Arithmetic, __: Bounds, a: Poly, b: Poly) -> Poly:
    """a - b."""
    return a - b


def mul(_: Arithmetic, __: Bounds, a: Poly, b: Poly) -> Poly:
    """a * b."""
    return a * b


def _ordered(values: Arithmetic, a: Poly, b: Poly) -> tuple[Poly, Poly]:
    return (a, b) if (values.table.text(a), a.terms) <= (values.table.text(b), b.terms) else (b, a)


def _factor(a: Poly, b: Poly) -> int:
    """The largest number that divides both values whatever the symbols are; 1 if both are zero."""
    return math.gcd(a.const, b.const, *(c for _, c in a.terms), *(c for _, c in b.terms)) or 1


def minimum(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """The smaller of a and b."""
    if bounds.at_most(a - b, 0):
        return a
    if bounds.at_least(a - b, 0):
        return b
    factor = _factor(a, b)
    plain, (a, b) = values.plain, _ordered(values, a.over(factor), b.over(factor))
    low = min(plain.lower(a), plain.lower(b))
    high = min(plain.upper(a), plain.upper(b))
    shape = Shape(low, high, uppers=((a, 1), (b, 1)), lower_choices=(a, b))
    return values.symbol(Op.MIN, (a, b), shape).times(factor)


def maximum(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """The larger of a and b."""
    if bounds.at_least(a - b, 0):
        return a
    if bounds.at_most(a - b, 0):
        return b
    factor = _factor(a, b)
    plain, (a, b) = values.plain, _ordered(values, a.over(factor), b.over(factor))
    low = max(plain.lower(a), plain.lower(b))
    high = max(plain.upper(a), plain.upper(b))
    shape = Shape(low, high, lowers=((a, 1), (b, 1)), upper_choices=(a, b))
    return values.symbol(Op.MAX, (a, b), shape).times(factor)


def divide(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """a / b rounded down. The caller has made sure that b is not zero."""
    if b.terms or b.const <= 0:
        return _divide_opaque(values, a, b)
    k = b.const
    whole = Poly(a.const // k, tuple((mono, c // k) for mono, c in a.terms if c % k == 0))
    rest = Poly(a.const % k, tuple((mono, c) for mono, c in a.terms if c % k))
    if not rest.terms:
        return whole
    rest, extra = _within_segment(values, rest, k)
    low, high = bounds.lower(rest) // k, bounds.upper(rest) // k
    if low == high:
        return whole.plus(low + extra)
    return whole + _quotient(values, rest, k).plus(extra)


def _divide_opaque(values: Arithmetic, a: Poly, b: Poly) -> Poly:
    if not a.terms and not b.terms and b.const:
        return Poly(a.const // b.const)
    plain = values.plain
    if plain.at_least(b, 1):
        low, high = plain.lower(a), plain.upper(a)
        return values.opaque(Op.DIV, (a, b), min(low, 0), max(high, 0))
    return values.opaque(Op.DIV, (a, b))


def _quotient(values: Arithmetic, a: Poly, k: int) -> Poly:
    """The symbol a / k: k * it lies within a-(k-1)..a."""
    plain = values.plain
    lowers: tuple[Limit, ...] = ((a.plus(1 - k), k),)
    tokens = values.steps.tokens_at(a)
    if tokens is not None and k % values.limits.chunk == 0:
        lowers += (((a + tokens).plus(-k), k),)  # the segment ends within its block of k positions
    shape = Shape(plain.lower(a) // k, plain.upper(a) // k, ((a, k),), lowers)
    return values.symbol(Op.DIV, (a, Poly(k)), shape)


def _within_segment(values: Arithmetic, rest: Poly, k: int) -> tuple[Poly, int]:
    """(position, 1) for position+tokens+(k-1), (position, 0) for position+tokens-1, where blocks of k hold segments.

    A segment does not cross a multiple of the chunk, so its last token lies in the block of its first:
    (position + tokens - 1) / k = position / k.
    """
    if k % values.limits.chunk or rest.const != k - 1:
        return rest, 0
    for mono, coefficient in rest.terms:
        tokens = values.steps.tokens_at(Poly(0, ((mono, coefficient),)))
        if tokens is not None and Poly(0, rest.terms) == symbol_poly(mono[0]) + tokens:
            return symbol_poly(mono[0]), 1
    return rest, 0


def modulo(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """a - b * (a / b rounded down)."""
    if not b.terms and b.const > 0:
        return a - divide(values, bounds, a, b).times(b.const)
    if not a.terms and not b.terms and b.const:
        return Poly(a.const % b.const)
    if values.plain.at_least(b, 1):
        return values.opaque(Op.MOD, (a, b), 0, max(values.plain.upper(b) - 1, 0))
    return values.opaque(Op.MOD, (a, b))


def shift_left(values: Arithmetic, _: Bounds, a: Poly, b: Poly) -> Poly:
    """a * 2**b. The caller has made sure that b is in 0..31."""
    if not b.terms and 0 <= b.const <= MAX_SHIFT:
        return a.times(1 << b.const)
    plain = values.plain
    low, high = plain.lower(a), plain.upper(a)
    if low < 0 or high > INT_HIGH >> MAX_SHIFT:
        return values.opaque(Op.SHL, (a, b))
    return values.opaque(Op.SHL, (a, b), low, high << MAX_SHIFT)


def shift_right(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """a / 2**b rounded down. The caller has made sure that b is in 0..31."""
    if not b.terms and 0 <= b.const <= MAX_SHIFT:
        return divide(values, bounds, a, Poly(1 << b.const))
    low, high = values.plain.lower(a), values.plain.upper(a)
    return values.opaque(Op.SHR, (a, b), min(low, -1 if low < 0 else 0), max(high, 0))


def bit_and(values: Arithmetic, bounds: Bounds, a: Poly, b: Poly) -> Poly:
    """Bitwise and; with a mask 2**k - 1 it is the remainder by 2**k."""
    if not a.terms and not b.terms:
        return Poly(a.const & b.const)
    if not a.terms:
        a, b = b, a
    if not b.terms and b.const > 0 and b.const & (b.const + 1) == 0:
        return modulo(values, bounds, a, Poly(b.const + 1))
    tops = [values.plain.upper(v) for v in (a, b) if values.plain.at_least(v, 0)]
    if not tops:
        return values.opaque(Op.AND, (a, b))
    return values.opaque(Op.AND, (a, b), 0, min(tops))


def _widest(values: Arithmetic, a: Poly, b: Poly) -> int:
    """The largest result of a bitwise or of two values that are not negative; -1 if they may be."""
    plain = values.plain
    if not (plain.at_least(a, 0) and plain.at_least(b, 0)):
        return -1
    return int((1 << max(plain.upper(a), plain.upper(b)).bit_length()) - 1)


def bit_or(values: Arithmetic, _: Bounds, a: Poly, b: Poly) -> Poly:
    """Bitwise or."""
    if not a.terms and not b.terms:
        return Poly(a.const | b.const)
    widest = _widest(values, a, b)
    return values.opaque(Op.OR, (a, b), 0, widest) if widest >= 0 else values.opaque(Op.OR, (a, b))


def bit_xor(values: Arithmetic, _: Bounds, a: Poly, b: Poly) -> Poly:
    """Bitwise exclusive or."""
    if not a.terms and not b.terms:
        return Poly(a.const ^ b.const)
    widest = _widest(values, a, b)
    return values.opaque(Op.XOR, (a, b), 0, widest) if widest >= 0 else values.opaque(Op.XOR, (a, b))


Function = Callable[[Arithmetic, Bounds, Poly, Poly], Poly]
OPERATIONS: dict[Op, Function] = {
    Op.MIN: minimum,
    Op.MAX: maximum,
    Op.DIV: divide,
    Op.MOD: modulo,
    Op.SHL: shift_left,
    Op.SHR: shift_right,
    Op.AND: bit_and,
    Op.OR: bit_or,
    Op.XOR: bit_xor,
}
"""How a symbol of this kind is computed again when its arguments have become known."""
