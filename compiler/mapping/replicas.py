"""Copies of arrays on the macros that a tile has left: an array takes its vectors one after another, copies share them.

The vectors are those of a segment: a linear layer's rows, and of attention one a row and query head, so that a token's
query heads go through a KV head's rows side by side. A row of a KV array is written to all copies at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from compiler.ir.mapping import Attend, Mapping, Multiply, Template
from isa.hardware import Hardware
from isa.program import ArrayKind, ArraySpec


def with_copies(mapping: Mapping, hardware: Hardware) -> Mapping:
    """The mapping with copies of arrays wherever they save time on their tile."""
    templates = tuple(_template(t, mapping.limits.chunk, hardware) for t in mapping.templates)
    return replace(mapping, templates=templates)


def _template(template: Template, chunk: int, hardware: Hardware) -> Template:
    if template.repeats:  # rows of arrays in loops hold what passes through
        return template
    vectors, copies = _vectors(template, chunk), {array.name: array.copies for array in template.arrays}
    kinds = [tuple(template.arrays)]
    if hardware.kv_macros_per_tile:  # each kind has macros of its own
        kinds = [
            tuple(a for a in template.arrays if (a.kind is ArrayKind.WEIGHT) is w) for w in (True, False)
        ]
    for arrays in kinds:
        have = hardware.macros_per_tile if arrays is kinds[0] else hardware.kv_macros_per_tile
        _copy(arrays, vectors, copies, have, hardware)
    arrays = tuple(replace(array, copies=copies[array.name]) for array in template.arrays)
    return replace(template, arrays=arrays)


def _copy(
    arrays: tuple[ArraySpec, ...],
    vectors: Counter[str],
    copies: dict[str, int],
    have: int,
    hardware: Hardware,
) -> None:
    """Give arrays that share `have` macros the copies that save most."""
    free = have - sum(_macros(array, hardware) for array in arrays)
    while (best := _best(arrays, vectors, copies, free, hardware)) is not None:
        array, more = best
        free -= _macros(array, hardware) * (more - copies[array.name])
        copies[array.name] = more


def _macros(array: ArraySpec, hardware: Hardware) -> int:
    return array.macros(hardware.macro_rows, hardware.macro_cols)


def _vectors(template: Template, chunk: int) -> Counter[str]:
    """Vectors of a segment that go through each array, of the kinds that are worth a copy."""
    vectors: Counter[str] = Counter()
    for block in template.blocks:
        if isinstance(block.op, Multiply):
            vectors[block.op.array] += chunk
        elif isinstance(block.op, Attend):
            vectors[block.op.keys] += chunk * block.op.group
            vectors[block.op.values] += chunk * block.op.group
    for array in template.arrays:
        if array.kind is ArrayKind.STREAM:
            del vectors[array.name]
    return vectors


def _best(
    arrays: tuple[ArraySpec, ...],
    vectors: Counter[str],
    copies: dict[str, int],
    free: int,
    hardware: Hardware,
) -> tuple[ArraySpec, int] | None:
    """The array whose next copies save most for each macro, and how many it then has; None if none fits or saves."""
    found: list[tuple[float, ArraySpec, int]] = []
    for array in arrays:
        n, have = vectors[array.name], copies[array.name]
        passes = -(-n // have)
        if passes <= 1:
            continue
        more = -(-n // (passes - 1))
        cost = _macros(array, hardware) * (more - have)
        if cost <= free:
            found.append(((passes - -(-n // more)) / cost, array, more))
    return max(found, key=lambda f: f[0])[1:] if found else None
