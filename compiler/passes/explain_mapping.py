"""Say what was placed where, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.pipeline import Compilation, Pass

if TYPE_CHECKING:
    from compiler.ir.mapping import Mapping


@dataclass(frozen=True)
class ExplainMapping(Pass):
    """Write notes for `--explain`: tiles by kind, macros used, KV capacity, segment length."""

    def run(self, c: Compilation) -> bool:
        """Appends to `c.notes`."""
        from compiler.backend.build import macros_used

        mapping, target = c.require_mapping(), c.require_target()
        counts = Counter(tile.template for tile in mapping.tiles)
        used, have = len(mapping.tiles), target.tiles
        macros = macros_used(mapping, target)
        held = used * target.macros_per_tile
        c.notes.append(
            f"{used:,} of {have:,} tiles of {target.name} work; {macros:,} of their {held:,} macros are used"
        )
        for template in mapping.templates:
            per_tile = sum(a.macros(target.macro_rows, target.macro_cols) for a in template.arrays)
            arrays = ", ".join(f"{a.name} {a.rows}x{a.cols}" for a in template.arrays) or "no arrays"
            c.notes.append(
                f"{counts[template.name]:,} x {template.name}: {per_tile} of {target.macros_per_tile} macros ({arrays})"
            )
        limits = mapping.limits
        tokens, source = _kv_cells(mapping)
        c.notes.append(
            f"KV arrays: {tokens:,} cells for {limits.sequences} sequence(s) of {limits.max_context:,} tokens, "
            "appended in place"
        )
        memory = sum(mapping.memory[head.memory].bytes for c in mapping.caches if c.rows for head in c.heads)
        if memory:
            c.notes.append(f"KV rows in memory: {memory:,} bytes of the chips' DRAM")
        if source:
            c.notes.append(
                f"keys and values of the source resident in KV arrays: {source:,} cells for {limits.sequences} "
                f"sequence(s) of {limits.max_source:,} rows, written once"
            )
        c.notes.append(
            f"segments of up to {limits.chunk} tokens: the longest whose values fit {target.buffer_bytes:,} bytes of "
            "tile buffer"
        )
        return False


def _kv_cells(mapping: Mapping) -> tuple[int, int]:
    """Cells of all tiles' KV arrays: those for tokens, and those for rows of a source."""
    from compiler.ir.operations import Attend
    from isa.program import ArrayKind

    counts = Counter(tile.template for tile in mapping.tiles)
    tokens = source = 0
    for template in mapping.templates:
        of_source = {
            name
            for block in template.blocks
            if isinstance(block.op, Attend) and (block.op.cross or block.phase < template.source_phases)
            for name in (block.op.keys, block.op.values)
        }
        for array in template.arrays:
            cells = counts[template.name] * array.rows * array.cols if array.kind is ArrayKind.KV else 0
            if array.name in of_source:
                source += cells
            else:
                tokens += cells
    return tokens, source
