"""Say what was placed where, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class ExplainMapping(Pass):
    """Write notes for `--explain`: tiles by kind, macros used, KV capacity, segment length."""

    def run(self, c: Compilation) -> bool:
        """Appends to `c.notes`."""
        from compiler.backend.build import macros_used
        from isa.program import ArrayKind

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
        kv = sum(
            counts[t.name] * a.rows * a.cols
            for t in mapping.templates
            for a in t.arrays
            if a.kind is ArrayKind.KV
        )
        limits = mapping.limits
        c.notes.append(
            f"KV cache resident in KV arrays: {kv:,} cells for {limits.sequences} sequence(s) of "
            f"{limits.max_context:,} tokens, appended in place"
        )
        c.notes.append(
            f"segments of up to {limits.chunk} tokens: the longest whose values fit {target.buffer_bytes:,} bytes of "
            "tile buffer"
        )
        return False
