"""How long cells last that are written while a program runs, on targets whose cells wear out.

A row of keys or values that stays in an array is written once while a sequence runs through its whole context, and
again by the next sequence; a row of an encoder once for each sequence. Rows in memory pass through an array that all
blocks of them are written into, each time that a token looks at them. Weights that are streamed are written anew in
each step. Wear is taken to be even over the cells of an array, and what wears out first counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .interface import KvCache, KvPolicy
from .program import ArrayKind, Program


@dataclass(frozen=True, slots=True)
class Wear:
    """What is written, into which cells, how many writes these survive, and how often a token writes each of them."""

    what: str
    cell: str
    endurance: float
    writes_per_token: float

    def lifetime_s(self, token_s: float) -> float:
        """Seconds of decoding until the cells are worn out, if a token of each sequence takes `token_s`."""
        return self.endurance * token_s / self.writes_per_token


def wear(program: Program) -> tuple[Wear, ...]:
    """What wears out while a program decodes at the full context; nothing if its target's cells do not."""
    macro = program.target.written
    if macro.endurance is None:
        return ()
    kinds = {
        "keys and values": max(_rows_that_stay(program), default=0.0),
        "keys and values that pass through": max(_rows_that_pass(program), default=0.0),
        "streamed weights": _streamed_weights(program),
    }
    return tuple(
        Wear(what, macro.cell.value, macro.endurance.si, writes) for what, writes in kinds.items() if writes
    )


def _rows_that_stay(program: Program) -> Iterator[float]:
    """Writes of a row for a token of each sequence, by cache. Those that share rows in pages write what is there by
    turns."""
    limits = program.limits
    for cache in program.caches:
        if cache.policy is KvPolicy.STREAMED:
            continue
        if limits.is_paged(cache):
            head = cache.heads[0]
            rows = cache.ways * _array_rows(program, head.tile, head.keys)
            yield limits.sequences / rows
        else:
            yield 1 / min(cache.ring or limits.max_context, limits.max_context)
    if not program.caches and any(a.kind is ArrayKind.KV for role in program.roles for a in role.arrays):
        yield 1 / limits.max_context


def _rows_that_pass(program: Program) -> Iterator[float]:
    """Writes of a row for a token of each sequence, by tile whose arrays blocks of rows in memory pass through."""
    blocks = Counter[int]()
    arrays = _passed(program)
    for cache in program.caches:
        for head in cache.heads if cache.rows else ():
            if arrays[head.tile]:
                rows = _array_rows(program, head.tile, arrays[head.tile][0])
                blocks[head.tile] += program.limits.sequences * _blocks(program, cache, rows)
    for tile, count in blocks.items():
        pairs = max(len(arrays[tile]) // 2, 1)  # of keys and values
        yield count / pairs


def _passed(program: Program) -> dict[int, list[int]]:
    """The arrays that rows pass through, by tile with rows in memory: those in which no cache has rows that stay."""
    roles = {role.name: role for role in program.roles}
    stay = {
        (head.tile, array)
        for cache in program.caches
        if cache.policy is not KvPolicy.STREAMED
        for head in cache.heads
        for array in (head.keys, head.values)
    }
    return {
        tile: [
            number
            for number, array in enumerate(roles[program.tiles[tile].role].arrays)
            if array.kind is ArrayKind.KV and (tile, number) not in stay
        ]
        for tile in {head.tile for cache in program.caches if cache.rows for head in cache.heads}
    }


def _blocks(program: Program, cache: KvCache, rows: int) -> int:
    """Blocks of so many rows that a token at the full context has brought from memory."""
    limits = program.limits
    longest = limits.max_source if cache.cross else limits.max_context
    attended = (section.attention for section in program.workload.sections())
    seen = [a.seen(longest) for a in attended if a is not None and a.cross is cache.cross]
    in_reach = max(seen, default=longest) - cache.hot
    whole = -(-max(longest - cache.hot, 0) // rows)
    return min(whole, -(-in_reach // rows) + 1) if in_reach > 0 else 0


def _array_rows(program: Program, tile: int, number: int) -> int:
    return program.role(program.tiles[tile].role).arrays[number].rows


def _streamed_weights(program: Program) -> float:
    """Writes of a cell in a step with a token of each sequence. Where some weights stay, only those of the output pass
    through arrays, once for each row whose outputs are wanted."""
    tiles = Counter(tile.role for tile in program.tiles)
    sizes = Counter[ArrayKind]()
    for role in program.roles:
        for array in role.arrays:
            sizes[array.kind] += tiles[role.name] * array.rows * array.cols
    if not sizes[ArrayKind.STREAM]:
        return 0.0
    passing = program.workload.weights - sizes[ArrayKind.WEIGHT]
    times = program.limits.sequences if sizes[ArrayKind.WEIGHT] else 1
    return times * max(passing / sizes[ArrayKind.STREAM], 1.0)
