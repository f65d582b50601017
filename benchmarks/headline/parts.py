"""Which part of a model a node belongs to, by the names that `models.make` gives, and which cells work for it."""

from __future__ import annotations

from enum import Enum

from benchmarks.headline.cases import Scope
from isa.program import HOST, Program, Role, Tile
from runtime.nodes import short_name

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")
_FFN = ("mlp", "fc1", "fc2", "activation_fn")


class Part(Enum):
    """Parts of a model; `ROLE` is what no node stands behind."""

    ATTENTION = "attention"
    FFN = "ffn"
    OTHER = "other"
    ROLE = "role"


_PARTS = {
    Scope.ATTENTION: {Part.ATTENTION},
    Scope.FFN: {Part.ATTENTION, Part.FFN},
    Scope.WHOLE: set(Part),
}


def part_of(nodes: str) -> Part:
    """The part that one node, or several separated by spaces, belongs to: attention if one of them does, and so on."""
    if not nodes or nodes.startswith("("):
        return Part.ROLE
    found = {_part_of_one(node) for node in nodes.split()}
    return _first(found)


def _part_of_one(node: str) -> Part:
    path = short_name(node).part.split("/")
    if path[0] == "self_attn" and not set(path) & set(_PROJECTIONS):
        return Part.ATTENTION
    return Part.FFN if path[0] in _FFN else Part.OTHER


def _first(parts: set[Part]) -> Part:
    return next((part for part in Part if part in parts), Part.ROLE)


def _held(tensor: str) -> Part:
    """The part whose weights a tensor holds, by its name (`model.layers.0.mlp.up_proj.weight`)."""
    return Part.FFN if set(tensor.split(".")) & set(_FFN) else Part.OTHER


class Parts:
    """Which part of the model a program's nodes and tiles work for."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._roles = _parts_of_roles(program)

    def of(self, nodes: str) -> Part:
        """The part of nodes; what only a role stands behind, as `(residual input)`, is of the role's part."""
        if nodes.startswith("("):
            return self._roles.get(nodes.strip("()").split(" ")[0], Part.ROLE)
        return part_of(nodes)

    def is_in(self, scope: Scope, nodes: str) -> bool:
        """Whether nodes belong to a scope. What no part stands behind belongs to each."""
        part = self.of(nodes)
        return part is Part.ROLE or part in _PARTS[scope]

    def share(self, scope: Scope) -> float:
        """The share of the program's tiles in a scope: of each tile, its arrays' macros in the scope over all of them;
        a tile without arrays is in the scope as a whole if one of its nodes is, and each tile counts as one."""
        roles = {role.name: role for role in self._program.roles}
        tiles = self._program.tiles
        return sum(self._tile_share(roles[tile.role], tile, scope) for tile in tiles) / len(tiles)

    def _tile_share(self, role: Role, tile: Tile, scope: Scope) -> float:
        if not role.arrays:
            known = {part_of(nodes) for nodes in tile.nodes} - {Part.ROLE} or {self._roles[role.name]}
            return float(bool(known & _PARTS[scope]))
        target = self._program.target
        counts = [spec.macros(target.macro_rows, target.macro_cols) for spec in role.arrays]
        held = [Part.ATTENTION if data is None else _held(data.values.tensor) for data in tile.arrays]
        inside = sum(count for count, part in zip(counts, held, strict=True) if part in _PARTS[scope])
        return inside / sum(counts)


def _parts_of_roles(program: Program) -> dict[str, Part]:
    """The part of each role: of its nodes, else of the roles that it sends to (rows on their way to a part of the
    model are that part's); `ROLE` where that leads nowhere either."""
    nodes: dict[str, set[str]] = {role.name: set() for role in program.roles}
    for tile in program.tiles:
        nodes[tile.role].update(tile.nodes)
    found = {role: _first({part_of(name) for name in names}) for role, names in nodes.items()}
    after = _receivers(program)
    for _ in program.roles:
        open_roles = [role for role, part in found.items() if part is Part.ROLE]
        found |= {role: _first({found[other] for other in after[role]}) for role in open_roles}
    return found


def _receivers(program: Program) -> dict[str, set[str]]:
    """The roles that the tiles of each role send to."""
    after: dict[str, set[str]] = {role.name: set() for role in program.roles}
    for channel in program.channels:
        dests = {program.tiles[end.tile].role for end in channel.dests if end.tile != HOST}
        for end in channel.sources:
            if end.tile != HOST:
                after[program.tiles[end.tile].role] |= dests
    return after
