"""How full a target is, and what is lost in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from isa.instruction import INSTRUCTION_BYTES
from isa.operands import Space
from isa.program import ArrayKind, Program, Role

from .layers import kind_of
from .note import Heading, Note
from .words import several, share, size


def room_of(program: Program) -> Iterator[Note]:
    """Tiles and macros, then buffers, memories, instructions and ports."""
    yield Note(Heading.ROOM, _arrays(program))
    yield Note(Heading.ROOM, _fullest(program))
    memory = _memory(program)
    if memory:
        yield Note(Heading.ROOM, memory)


def _macros(role: Role, program: Program) -> int:
    target = program.target
    return sum(a.macros(target.macro_rows, target.macro_cols) for a in role.arrays)


def _arrays(program: Program) -> str:
    target, tiles = program.target, program.tile_count
    counts = Counter(tile.role for tile in program.tiles * len(program.corners))
    macros = sum(counts[role.name] * _macros(role, program) for role in program.roles)
    cells = sum(counts[role.name] * a.rows * a.cols for role in program.roles for a in role.arrays)
    kv = sum(
        counts[role.name] * a.macros(target.macro_rows, target.macro_cols)
        for role in program.roles
        for a in role.arrays
        if a.kind is ArrayKind.KV
    )
    bare = sum(counts[role.name] for role in program.roles if not role.arrays)
    held = tiles * target.all_macros_per_tile
    holes = macros * target.macro_rows * target.macro_cols - cells
    said = (
        f"{tiles:,} of {several(target.tiles, 'tile')} work, {target.tiles - tiles:,} are "
        f"free. Of the {held:,} macros on tiles that work {macros:,} are used ({share(macros, held)}; {kv:,} of them "
        f"for KV)"
    )
    lost = f"{bare:,} tiles have no arrays at all: they sum, norm, look up or merge" if bare else ""
    padded = f"{share(holes, cells + holes)} of the used macros' cells are padding" if holes else ""
    return f"{'; '.join(filter(None, (said, lost, padded)))}."


def _fullest(program: Program) -> str:
    target = program.target

    def most(sizes: dict[str, int], have: int, what: str, unit: str) -> str:
        name = max(sizes, key=lambda role: sizes[role])
        return f"{what} of {kind_of(name)} ({sizes[name]:,} of {have:,} {unit}, {share(sizes[name], have)})"

    roles = program.roles
    buffers = {r.name: max((region.offset + region.bytes for region in r.regions), default=0) for r in roles}
    code = {r.name: INSTRUCTION_BYTES * len(r.code) for r in roles}
    ports = {r.name: len(r.ports) for r in roles}
    parts = (
        most(buffers, target.buffer_bytes, "the buffer", "bytes"),
        most(code, int(target.tile.code.si), "the instruction memory", "bytes"),
        most(ports, int(target.tile.ports.value), "the port table", "ports"),
    )
    return f"The fullest of a kind: {'; '.join(parts)}."


def _memory(program: Program) -> str:
    """The fullest chip's DRAM."""
    target, used = program.target, Counter[int]()
    for region in program.memory:
        if region.space is Space.DRAM:
            used[region.chip] += region.bytes
    if not used:
        return ""
    chip, most = used.most_common(1)[0]
    have = int(target.dram.capacity.si)
    return (
        f"DRAM holds {size(used.total())} on {several(len(used), 'chip')}; the fullest, chip {chip}, {size(most)} of "
        f"{size(have)}."
    )
