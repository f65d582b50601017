"""Which part of a model a node belongs to, by the names that `models.make` gives, and which cells work for it."""

from __future__ import annotations

from enum import Enum

from benchmarks.headline.cases import Scope
from isa.program import Program, Role, Tile
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
    return next(part for part in Part if part in found)


def _part_of_one(node: str) -> Part:
    path = short_name(node).part.split("/")
    if path[0] == "self_attn" and not set(path) & set(_PROJECTIONS):
        return Part.ATTENTION
    return Part.FFN if path[0] in _FFN else Part.OTHER


def is_in(scope: Scope, nodes: str) -> bool:
    """Whether nodes belong to a scope. What no node stands behind belongs to each."""
    part = part_of(nodes)
    return part is Part.ROLE or part in _PARTS[scope]


def share_of(program: Program, scope: Scope) -> float:
    """The share of a program's tiles in a scope: of each tile, its arrays' macros in the scope over all of them; a tile
    without arrays is in the scope as a whole if one of its nodes is, and each tile counts as one."""
    roles = {role.name: role for role in program.roles}
    return sum(_tile_share(program, roles[tile.role], tile, scope) for tile in program.tiles) / len(
        program.tiles
    )


def _tile_share(program: Program, role: Role, tile: Tile, scope: Scope) -> float:
    if not role.arrays:
        return float(any(part_of(nodes) in _PARTS[scope] for nodes in tile.nodes))
    rows, cols = program.target.macro_rows, program.target.macro_cols
    counts = [spec.macros(rows, cols) for spec in role.arrays]
    held = [Part.ATTENTION if data is None else _held(data.values.tensor) for data in tile.arrays]
    inside = sum(count for count, part in zip(counts, held, strict=True) if part in _PARTS[scope])
    return inside / sum(counts)


def _held(tensor: str) -> Part:
    """The part whose weights a tensor holds, by its name (`model.layers.0.mlp.up_proj.weight`)."""
    return Part.FFN if set(tensor.split(".")) & set(_FFN) else Part.OTHER
