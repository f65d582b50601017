"""What scalar instructions compute: the one place both interpreters (values, time) take it from.

Registers hold 64-bit signed integers. `SCALAR` gives the result of rd = a op b, `BRANCH` says whether a branch is
taken. `special` is what `sys` reads. All are pure functions of integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from isa import instructions as table
from isa.instruction import Inst
from isa.operands import Special
from isa.program import Segment

_BITS = 64
_SIGN = 1 << (_BITS - 1)
_MASK = (1 << _BITS) - 1
MAX_SHIFT = 31


class ScalarTrap(ArithmeticError):  # noqa: N818  (a trap, as the machine calls it)
    """A scalar instruction was given operands that its definition excludes; the text says which.

    The interpreters turn it into diagnostic E0604 with the place of the instruction.
    """


def wrap(value: int) -> int:
    """`value` modulo 2**64, as a signed 64-bit integer."""
    return ((value + _SIGN) & _MASK) - _SIGN


def _add(a: int, b: int) -> int:
    return wrap(a + b)


def _sub(a: int, b: int) -> int:
    return wrap(a - b)


def _mul(a: int, b: int) -> int:
    return wrap(a * b)


def _div(a: int, b: int) -> int:
    if b == 0:
        raise ScalarTrap("division by zero")
    return wrap(a // b)


def _mod(a: int, b: int) -> int:
    if b == 0:
        raise ScalarTrap("remainder of a division by zero")
    return a % b


def _check_shift(b: int) -> None:
    if not 0 <= b <= MAX_SHIFT:
        raise ScalarTrap(f"shift by {b}; a shift takes 0..{MAX_SHIFT}")


def _shl(a: int, b: int) -> int:
    _check_shift(b)
    return wrap(a << b)


def _shr(a: int, b: int) -> int:
    _check_shift(b)
    return a >> b


SCALAR: Mapping[type[Inst], Callable[[int, int], int]] = MappingProxyType(
    {
        table.Add: _add,
        table.Sub: _sub,
        table.Mul: _mul,
        table.Div: _div,
        table.Mod: _mod,
        table.Min: min,
        table.Max: max,
        table.Shl: _shl,
        table.Shr: _shr,
        table.And: lambda a, b: a & b,
        table.Or: lambda a, b: a | b,
        table.Xor: lambda a, b: a ^ b,
    }
)
"""rd = SCALAR[type](a, b), for every three-operand scalar instruction."""

BRANCH: Mapping[type[Inst], Callable[[int, int], bool]] = MappingProxyType(
    {
        table.Beq: lambda a, b: a == b,
        table.Bne: lambda a, b: a != b,
        table.Blt: lambda a, b: a < b,
        table.Bge: lambda a, b: a >= b,
    }
)
"""Whether the conditional branch of this type is taken, given a and b."""


def source_count(segments: Sequence[Segment]) -> int:
    """How many of a step's segments are source segments; they come first."""
    if not segments or not segments[0].is_source:
        return 0
    return next((number for number, segment in enumerate(segments) if not segment.is_source), len(segments))


def token_segment(segments: Sequence[Segment], number: int) -> int:
    """Where in `segments` the token segment lies that `seg` calls `number`. Raises `ScalarTrap` without it."""
    sources = source_count(segments)
    if not 0 <= number < len(segments) - sources:
        raise ScalarTrap(f"there is no segment {number}; the step has {len(segments) - sources}")
    return sources + number


def source_segment(segments: Sequence[Segment], number: int) -> int:
    """Where in `segments` the source segment lies that `sseg` calls `number`. Raises `ScalarTrap` without it."""
    sources = source_count(segments)
    if not 0 <= number < sources:
        raise ScalarTrap(f"there is no source segment {number}; the step has {sources}")
    return number


def _end(segments: Sequence[Segment], segment: Segment) -> int:
    """Rows that the segment's sequence has after the step: of tokens, or of its source for a source segment."""
    return max(
        s.position + s.tokens
        for s in segments
        if s.sequence == segment.sequence and s.is_source == segment.is_source
    )


def physical_page(segments: Sequence[Segment], current: int, index: int) -> int:
    """What `page` reads of `segments[current]`. Raises `ScalarTrap` if that is no segment of tokens."""
    if not 0 <= current < len(segments) or segments[current].is_source:
        raise ScalarTrap("pages are of tokens, and no segment of tokens is current")
    pages = segments[current].pages
    return pages[index] if 0 <= index < len(pages) else 0


def special(what: Special, segments: Sequence[Segment], current: int) -> int:
    """What `sys` reads: a fact of the step, or of `segments[current]`. Raises `ScalarTrap` without that one."""
    if what is Special.SOURCES:
        return source_count(segments)
    if what is Special.SEGMENTS:
        return len(segments) - source_count(segments)
    if not 0 <= current < len(segments):
        raise ScalarTrap("no segment is current; the step has none of tokens")
    segment = segments[current]
    if what is Special.END or (what is Special.SOURCE and segment.is_source):
        return _end(segments, segment)
    return {
        Special.TOKENS: segment.tokens,
        Special.POSITION: segment.position,
        Special.OUTPUTS: segment.outputs,
        Special.SEQUENCE: segment.sequence,
        Special.SOURCE: segment.source,
    }[what]
