"""What a model needs: its sections, its weights, its KV cache, against the cells of the target's arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from compiler.capacity import Capacity, capacity_of
from isa.hardware import Hardware
from isa.program import Program
from isa.workload import AttentionWork, SectionWork, Task, Workload

from .note import Heading, Note
from .words import listed, sentence, several, share, size


def needs_of(program: Program) -> Iterator[Note]:
    """Sections, and weights and cache against capacity."""
    work = program.workload
    if work:
        yield Note(Heading.NEEDS, _sections(work))
        yield Note(Heading.NEEDS, _sizes(program))


def _sections(work: Workload) -> str:
    """All sections by kind, in words."""
    counts = Counter(map(_section, work.sections()))
    said = [f"{count:,} x {text}" if count > 1 else text for text, count in counts.items()]
    tables = [
        f"a table of {item.entries:,} rows of {item.width:,} columns"
        for block in work.blocks()
        for item in (*block.hub, *block.aside)
        if item.task is Task.EMBED
    ]
    return sentence(listed([*tables, *said]))


def _section(section: SectionWork) -> str:
    attention, columns = section.attention, section.columns
    if attention is not None:
        return _attention(attention)
    first = section.first[0]
    if section.last is None:
        return f"a linear layer {first.rows:,} -> {columns:,}" + (", the output" if section.is_result else "")
    inner, rows = section.last.rows, first.rows
    factor = first.cols // inner
    times = f"{factor} x " if factor > 1 else ""
    return f"feed-forward section {rows:,} -> {times}{inner:,} -> {columns:,}"


def _attention(attention: AttentionWork) -> str:
    kind = "cross-attention" if attention.cross else "attention"
    heads = f"{kind} of {attention.heads} heads of {attention.head_dim} columns"
    if attention.kv_heads != attention.heads:
        heads += f" on {several(attention.kv_heads, 'KV head')}"
    return heads + (f" with a window of {attention.window:,}" if attention.window else "")


def cache_bytes(program: Program) -> int:
    """Bytes of the keys and values that all sequences have at the full context, int8, as far as anything sees them."""
    limits = program.step_limits
    tokens = source = 0
    for section in program.workload.sections():
        attention = section.attention
        if attention is not None and attention.cached:
            rows = limits.max_source if attention.cross else attention.seen(limits.max_context)
            tokens += 0 if attention.cross else attention.row_bytes * rows
            source += attention.row_bytes * rows if attention.cross else 0
    return (tokens + source) * limits.sequences


def _sizes(program: Program) -> str:
    target, work, limits = program.target, program.workload, program.step_limits
    room, weights, cache = capacity_of(target), work.weights, cache_bytes(program)
    fits = "both fit at once" if room.holds(weights, cache) else "they cannot all be there at once"
    first, second, cached = *(("that", "") if room.is_shared else ("the former", " of the latter")), ""
    if cache:
        cached = (
            f" A token adds {work.kv_row_bytes:,} bytes of keys and values; {several(limits.sequences, 'sequence')} of "
            f"{limits.max_context:,} tokens make {size(cache)}."
        )
    return (
        f"Its linear layers have {weights:,} weights on the chip ({size(weights)} in int8).{cached} The arrays of "
        f"{target.name} hold {_held(target, room)}: weights are {share(weights, room.weights)} of {first}, the cache "
        f"{share(cache, room.written)}{second}; {fits}."
    )


def _held(target: Hardware, room: Capacity) -> str:
    """What the arrays of a target hold, by kind, and where they are."""
    chips = several(target.tiles // target.tiles_per_chip, "chip")
    tiles = f"{chips} of {target.tiles_per_chip} tiles of"
    macros = f"macros of {target.macro_rows} x {target.macro_cols}"
    if room.is_shared:
        return f"{size(room.weights)} ({tiles} {target.macros_per_tile} {macros})"
    return (
        f"{size(room.weights)} of weights, and {size(room.written)} of keys, values and weights that are streamed "
        f"({tiles} {target.macros_per_tile} and {target.kv_macros_per_tile} {macros})"
    )
