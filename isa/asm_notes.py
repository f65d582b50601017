"""What a reader wants beside the assembly: which buffers an instruction touches, which ONNX nodes it works for,
where a role's tiles are, and whom its ports talk to.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from .instruction import Field, Inst, Mode
from .instructions import Ldp
from .operands import ZERO, Addr, ArrayRef, FlagKind, FloatKind, Mem, PortRef
from .program import HOST, Constant, Direction, Endpoint, Program, Reduce, Region, Role, Tile

_DIGITS = re.compile(r"\d+")
_MOST = 3  # names, ranges or patterns shown before "and n more"


def starred(names: Iterable[str]) -> list[str]:
    """The names with the digits that vary among them as `*`: `/layers.0/q` and `/layers.1/q` give `/layers.*/q`."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(tuple(_DIGITS.split(name)), []).append(_DIGITS.findall(name))
    patterns = []
    for fixed, numbers in groups.items():
        shown = [column[0] if len(set(column)) == 1 else "*" for column in zip(*numbers, strict=True)]
        patterns.append("".join(a + b for a, b in zip(fixed, [*shown, ""], strict=True)))
    return patterns


def grouped(paths: Sequence[str]) -> str:
    """Names by their folder: `/layers.*/attn/{Mul, Add}, /norm/Pow`; a few of each, and how many more there are."""
    leaves: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, leaf = path.rpartition("/")
        leaves.setdefault(folder + slash, []).append(leaf)
    return few([f + (names[0] if len(names) == 1 else f"{{{few(names)}}}") for f, names in leaves.items()], 2)


def few(items: Sequence[str], most: int = _MOST, separator: str = ", ") -> str:
    """The items, or the first of them and how many more there are."""
    if len(items) <= most + 1:
        return separator.join(items)
    return separator.join(items[:most]) + f" and {len(items) - most} more"


def number_range(values: Iterable[int]) -> str:
    """`3`, `0..7`, or `0, 64, 256` for a few that do not follow each other."""
    distinct = sorted(set(values))
    if not distinct:
        return ""
    if len(distinct) == 1:
        return str(distinct[0])
    if distinct[-1] - distinct[0] == len(distinct) - 1:
        return f"{distinct[0]}..{distinct[-1]}"
    return few([str(v) for v in distinct]) if len(distinct) <= _MOST + 1 else f"{distinct[0]}..{distinct[-1]}"


def places(tiles: Iterable[Tile]) -> str:
    """Where tiles are, as rectangles of the mesh: `(0..7,0..3) (0..2,4)`."""
    rows: dict[int, list[int]] = defaultdict(list)
    for tile in tiles:
        rows[tile.y].append(tile.x)
    bands: list[tuple[tuple[str, ...], int, int]] = []  # runs along x, first and last row that have them
    for y in sorted(rows):
        runs = tuple(_runs(rows[y]))
        if bands and bands[-1][0] == runs and bands[-1][2] == y - 1:
            bands[-1] = runs, bands[-1][1], y
        else:
            bands.append((runs, y, y))
    shown = [f"({run},{number_range((low, high))})" for runs, low, high in bands for run in runs]
    return few(shown, 4, " ")


def _runs(xs: Iterable[int]) -> list[str]:
    runs: list[tuple[int, int]] = []
    for x in sorted(set(xs)):
        if runs and runs[-1][1] == x - 1:
            runs[-1] = runs[-1][0], x
        else:
            runs.append((x, x))
    return [str(low) if low == high else f"{low}..{high}" for low, high in runs]


class Peers:
    """Whom each port of each role talks to, over all tiles."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.roles = {role.name: role for role in program.roles}
        self.texts: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.reduces: dict[tuple[str, int], set[str]] = defaultdict(set)
        for channel in program.channels:
            self._join(channel.dests, channel.sources)
            self._join(channel.sources, channel.dests)
            if channel.reduce is not Reduce.NONE:
                for end in set(map(self._key, (*channel.dests, *channel.sources))):
                    self.reduces[end].add(f"{channel.reduce.value} of {len(channel.sources)}")
        for barrier in program.barriers:
            self._join(barrier.members, barrier.members)

    def _key(self, end: Endpoint) -> tuple[str, int]:
        return ("", 0) if end.tile == HOST else (self.program.tiles[end.tile].role, end.port)

    def _join(self, ends: Iterable[Endpoint], others: Iterable[Endpoint]) -> None:
        peers = {self._name(key) for key in {self._key(other) for other in others}}
        for key in {self._key(end) for end in ends}:
            self.texts[key] |= peers

    def _name(self, key: tuple[str, int]) -> str:
        role = self.roles.get(key[0])
        if role is None:
            return "host"
        return (
            f"{role.name}.{role.ports[key[1]].name}" if key[1] < len(role.ports) else f"{role.name}.p{key[1]}"
        )

    def text(self, role: Role, port: int) -> str:
        """`from embed.out, mlp.down (sum of 4)`"""
        key = role.name, port
        words = {Direction.IN: "from", Direction.OUT: "to", Direction.BARRIER: "with"}
        if key not in self.texts:
            return "not connected"
        reduce = f" ({few(sorted(self.reduces[key]))})" if key in self.reduces else ""
        return f"{words[role.ports[port].direction]} {few(sorted(self.texts[key]))}{reduce}"


class Notes:
    """Comments for one role. `tiles` are those that fill it in."""

    def __init__(self, program: Program, role: Role, tiles: Sequence[Tile]) -> None:
        self.program, self.role, self.tiles = program, role, tiles
        self.starts: dict[int, list[str]] = defaultdict(list)
        self.ranges: list[tuple[int, int, str]] = []
        named: list[Constant | Region] = [*role.constants, *role.regions]
        for item in named:
            self.starts[item.offset].append(item.name)
            self.ranges.append((item.offset, item.offset + item.bytes, item.name))

    def nodes(self, site: int) -> list[str]:
        """The ONNX nodes behind a site over all tiles, digits that vary as `*`."""
        texts = dict.fromkeys(t.nodes[site] for t in self.tiles if site < len(t.nodes))
        return starred(node for text in texts for node in text.split())

    def flow(self, inst: Inst) -> str:
        """What the instruction writes and reads, by name: `q <- x, wq`. Empty if it touches nothing with a name."""
        if isinstance(inst, Ldp):
            return self.role.params[inst.index] if inst.index < len(self.role.params) else ""
        outs: list[str] = []
        ins: list[str] = []
        update = any(
            getattr(inst, f.name) for f in inst.layout if isinstance(f.kind, FlagKind) and f.name == "acc"
        )
        for field in inst.layout:
            name = self._name(field, getattr(inst, field.name))
            if not name:
                continue
            update |= field.access is not None and field.access.mode is Mode.UPDATE
            (outs if self._is_written(field, getattr(inst, field.name)) else ins).append(name)
        if all(name.startswith("[") for name in (*outs, *ins)):
            return ""
        if not ins:
            ins = [f.kind.text(getattr(inst, f.name)) for f in inst.layout if isinstance(f.kind, FloatKind)]
        arrow = " += " if update else " <- "
        return ", ".join(outs) + (arrow if outs and ins else "") + ", ".join(ins)

    def _is_written(self, field: Field, value: Any) -> bool:
        if isinstance(value, PortRef):
            known = value.index < len(self.role.ports)
            return known and self.role.ports[value.index].direction is Direction.OUT
        for part in (field.access, field.memory):
            if part is not None:
                return part.mode is not Mode.READ
        return field.array is not None and "WRITE" in field.array.mode.name

    def _name(self, field: Field, value: Any) -> str:
        match value:
            case Addr():
                return self._place(value)
            case ArrayRef():
                return _named(self.role.arrays, value)
            case PortRef():
                return "port " + _named(self.role.ports, value)
            case Mem():
                return self._memory(value)
        return ""

    def _place(self, address: Addr) -> str:
        """The region or constant at an address, with its base register and what it lies behind the start."""
        base = "" if address.base == ZERO else f"[{address.base}]"
        if base and not address.offset:
            return base
        exact = self.starts.get(address.offset)
        if exact:
            return few(exact, 1, "/") + base
        around = [r for r in self.ranges if r[0] < address.offset < r[1]]
        if not around:
            return str(address)
        low, _, name = max(around)
        return f"{name}+{address.offset - low}{base}"

    def _memory(self, address: Mem) -> str:
        base = "" if address.base == ZERO else f"[{address.base}]"
        for region in self.program.memory:
            if (
                region.space is address.space
                and region.offset <= address.offset < region.offset + region.bytes
            ):
                if base and not address.offset:
                    break
                return region.name + base
        return str(address)

    def heads(self, peers: Peers) -> dict[str, str]:
        """What stands behind declarations, by their first two words."""
        heads = {".role": self._filled_by()}
        values = [number_range(column) for column in zip(*(t.params for t in self.tiles), strict=False)]
        heads[".param"] = few([f"{n} {v}" for n, v in zip(self.role.params, values, strict=False)], 6, "; ")
        for index, spec in enumerate(self.role.arrays):
            target = self.program.target
            macros = spec.macros(target.macro_rows, target.macro_cols)
            bound = (t.arrays[index] for t in self.tiles if index < len(t.arrays))
            tensors = few(starred(data.values.tensor for data in bound if data is not None), 2)
            heads[f".array a{index}"] = f"{count(macros, 'macro')}" + (f": {tensors}" if tensors else "")
        for index in range(len(self.role.constants)):
            parts = (t.constants[index].tensor for t in self.tiles if index < len(t.constants))
            heads[f".const c{index}"] = few(starred(parts), 2)
        for index in range(len(self.role.ports)):
            heads[f".port p{index}"] = peers.text(self.role, index)
        return heads

    def _filled_by(self) -> str:
        size = count(len(self.role.code), "instruction")
        return f"{size}, {count(len(self.tiles), 'tile')}" + (
            f" at {places(self.tiles)}" if self.tiles else ""
        )


def count(number: int, noun: str) -> str:
    """`1 tile`, `1,200 tiles`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _named(declared: Sequence[Any], ref: ArrayRef | PortRef) -> str:
    name = declared[ref.index].name if ref.index < len(declared) else str(ref)
    return name if ref.offset == ZERO else f"{name}[{ref.offset}]"
