"""Integers of few bits, as quantisation uses them."""

from __future__ import annotations


def levels_of(bits: int) -> int:
    """The largest magnitude of a signed integer of `bits` bits in a symmetric range: 127 of 8 bits, 7 of 4."""
    return (1 << bits - 1) - 1
