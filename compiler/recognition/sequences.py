"""Which inputs an encoder reads, in a file that holds an encoder and a decoder: told by where their values meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PRODUCTS = frozenset(
    [
        *("MatMul", "Einsum", "Gemm", "Attention", "MultiHeadAttention", "DecoderMaskedMultiHeadAttention"),
        *(
            "MatMulInteger",
            "MatMulIntegerToFloat",
            "QLinearMatMul",
            "DynamicQuantizeMatMul",
            "QAttention",
            "Mul",
        ),
    ]
)
"""Where queries meet the keys and values of another sequence (and the scales of integers meet each other)."""

_SIZES = ("Shape", "Size")


@dataclass(frozen=True, slots=True)
class Step:
    """A node of any level: the operator, and what it reads and makes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def source_inputs(steps: Sequence[Step], candidates: frozenset[str]) -> frozenset[str]:
    """The inputs among `candidates` whose rows the others meet in products only: the other sequence's.

    None is a source if all are: then nothing is left to be the sequence that attends.
    """
    sources = apart(steps, candidates)
    return frozenset() if sources == candidates else sources


def apart(steps: Sequence[Step], candidates: frozenset[str]) -> frozenset[str]:
    """The inputs among several whose rows meet those of others in products only.

    Rows of one sequence are added to each other (words and their types), rows of two sequences only attend.
    """
    if len(candidates) < 2:
        return frozenset()
    origins = {name: frozenset([name]) for name in candidates}
    meetings: dict[str, set[bool]] = {}
    for step in _ordered(steps):
        found = [] if step.kind in _SIZES else [origins[i] for i in step.inputs if i in origins]
        together: frozenset[str] = frozenset().union(*found)
        for origin in {o for o in found if len(o) == 1 and o != together}:
            meetings.setdefault(next(iter(origin)), set()).add(step.kind in _PRODUCTS)
        if together:
            origins.update((name, together) for name in step.outputs if name)
    return frozenset(name for name, kinds in meetings.items() if kinds == {True})


def _ordered(steps: Sequence[Step]) -> Iterator[Step]:
    """Producers first: files need not be sorted."""
    makers = {name: at for at, step in enumerate(steps) for name in step.outputs if name}
    waits = [{makers[i] for i in step.inputs if i in makers} for step in steps]
    feeds: dict[int, list[int]] = {}
    for at, before in enumerate(waits):
        for maker in before:
            feeds.setdefault(maker, []).append(at)
    ready = [at for at, before in enumerate(waits) if not before]
    while ready:
        at = ready.pop()
        yield steps[at]
        for user in feeds.get(at, ()):
            waits[user].discard(at)
            if not waits[user]:
                ready.append(user)
