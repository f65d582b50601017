"""Equations of Einsum."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters


def spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """`equation` with letters in the place of "...", as many as the operands of these ranks have axes left for it.

    Unchanged where the operands disagree.
    """
    equation = equation.replace(" ", "")
    if "..." not in equation:
        return equation
    terms = equation.partition("->")[0].split(",")
    counts = {rank - len(t) + 3 for rank, t in zip(ranks, terms, strict=False) if "..." in t}
    count = counts.pop() if len(counts) == 1 else -1
    free = [c for c in ascii_letters if c not in equation]
    return equation.replace("...", "".join(free[:count])) if 0 <= count <= len(free) else equation
