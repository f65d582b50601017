"""Listings: a program as a person reads it, each role once, with the ONNX nodes behind its instructions.

The default listing is for reading. With `complete`, the text holds everything but tensor data and assembles back
to an equal program (`isa/asm_print.py`), comments included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import prod

from .asm_hosts import host_lines
from .asm_notes import Notes, Peers, count, grouped, places
from .asm_print import (
    barrier_lines,
    cache_lines,
    channel_lines,
    code_lines,
    columns,
    declaration_lines,
    head_lines,
    interface_lines,
    memory_lines,
    replica_lines,
    stream_lines,
    tensor_lines,
    tile_lines,
)
from .asm_text import nearest, one_line
from .asm_work import work_lines
from .diagnostics import fail
from .program import Program, Role, Tile


def listing(
    program: Program,
    *,
    source: bool = True,
    role: str | None = None,
    tiles: bool = False,
    complete: bool = False,
) -> str:
    """The program as text: what it is, each role once, and with `tiles` the tiles and channels too.

    `source` adds the ONNX nodes behind the code; `role` shows that role alone. `complete` gives what assembles
    back to the program (all roles, whatever `role` says). Raises `CimError` E0105 if there is no such role.
    """
    names = [r.name for r in program.roles]
    if role is not None and role not in names:
        raise fail("E0105", f"the program has no role {role!r}", help=nearest(role, names, "role"))
    return _Listing(program, source=source).text(None if complete else role, tiles=tiles, complete=complete)


class _Listing:
    """What the parts of one listing share."""

    def __init__(self, program: Program, *, source: bool) -> None:
        self.program, self.source = program, source
        self.tiles: dict[str, list[Tile]] = defaultdict(list)
        for tile in program.tiles:
            self.tiles[tile.role].append(tile)
        self.peers = Peers(program)

    def text(self, only: str | None, *, tiles: bool, complete: bool) -> str:
        lines = [f"; {one_line(line)}".rstrip() for line in (*self._summary(), "", *self._table())]
        if complete:
            lines += ["", *head_lines(self.program), *tensor_lines(self.program)]
        for role in self.program.roles:
            if only in (None, role.name):
                lines += ["", *self._role(role, numbered=not complete)]
        if tiles or complete:
            lines += ["", *self._tiles(only)]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _summary(self) -> Iterator[str]:
        program, limits, origin = self.program, self.program.limits, self.program.origin
        made = [part for part in (origin.model, f"by {origin.tool}" if origin.tool else "") if part]
        yield (
            f"program for {program.target.name} ({program.target.hash})"
            + (": " if made else "")
            + " ".join(made)
        )
        segments = count(limits.segments, "segment") + " a step"
        context = f"context {limits.max_context}, chunk {limits.chunk}"
        context += f", source {limits.max_source}" if limits.max_source else ""
        pages = f", {count(limits.pages, 'page')} of {limits.page_rows} rows" if limits.pages else ""
        yield f"{context}, {segments}, {count(program.step_limits.sequences, 'sequence')}{pages}"
        if origin.options:
            yield "options: " + " ".join(f"{name}={value}" for name, value in origin.options)
        size = sum(prod(t.shape) * t.dtype.bytes for t in program.tensors)
        data = "" if program.data is not None else " (declared only)"
        copies = f"{len(program.corners)} times " if program.replicas else ""
        parts = (
            count(len(program.roles), "role"),
            count(sum(len(r.code) for r in program.roles), "instruction"),
            f"{copies}{count(len(program.tiles), 'tile')} of {program.target.tiles:,}",
            count(len(program.channels), "channel"),
            f"{size:,} bytes of tensors{data}",
        )
        yield ", ".join(parts)

    def _table(self) -> Iterator[str]:
        target = self.program.target
        heads = [f"{head:>6}" for head in ("tiles", "code", "macros", "buffer")]
        rows: list[tuple[str, ...]] = [("role", *heads, "at")]
        for role in self.program.roles:
            macros = sum(a.macros(target.macro_rows, target.macro_cols) for a in role.arrays)
            ends = [c.offset + c.bytes for c in role.constants] + [r.offset + r.bytes for r in role.regions]
            numbers = (len(self.tiles[role.name]), len(role.code), macros, max(ends, default=0))
            cells = [f"{number:>6,}" for number in numbers]
            rows.append((role.name, *cells, places(self.tiles[role.name])))
        yield from columns([tuple(cell + " " for cell in row) for row in rows])

    def _role(self, role: Role, *, numbered: bool) -> Iterator[str]:
        notes = Notes(self.program, role, self.tiles[role.name])
        yield from declaration_lines(role, notes.heads(self.peers))
        yield ""
        known: set[int] = set()  # sites whose nodes have been shown
        blank = " " * 6 if numbered else ""
        for text, index in code_lines(role, lambda i: notes.flow(role.code[i])):
            site = role.lines[index] if 0 <= index < len(role.lines) else -1
            if self.source and site >= 0 and site not in known:
                known.add(site)
                yield from self._heading(blank, text, notes, role, site)
            yield f"{index:>5} {text}" if numbered and index >= 0 else blank + text
        yield ".end"

    def _heading(self, blank: str, text: str, notes: Notes, role: Role, site: int) -> Iterator[str]:
        """A line that says which ONNX nodes are behind a site, above its first instruction."""
        nodes = notes.nodes(site)
        if nodes and site < len(role.sites):
            indent = " " * (len(text) - len(text.lstrip()))
            yield blank + indent + one_line(f"; @{role.sites[site]} is {grouped(nodes)}")

    def _tiles(self, only: str | None) -> Iterator[str]:
        program = self.program
        if only is None:
            yield from tile_lines(program, program.tiles)
            yield ""
            yield from channel_lines(program, program.channels)
            yield from barrier_lines(program)
            yield from memory_lines(program)
            yield from stream_lines(program)
            yield from host_lines(program)
            yield from cache_lines(program)
            yield from interface_lines(program)
            yield from work_lines(program.workload)
            yield from replica_lines(program)
            return
        yield from tile_lines(program, self.tiles[only])
        yield ""
        inside = {index for index, tile in enumerate(program.tiles) if tile.role == only}
        touching = [c for c in program.channels if any(e.tile in inside for e in (*c.sources, *c.dests))]
        yield from channel_lines(program, touching)
