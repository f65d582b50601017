"""The explanation of a program."""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.ir.mapping import Mapping
from isa.program import Program

from .binds import binds_of
from .helps import helps_of
from .needs import needs_of
from .note import Note
from .places import places_of
from .room import room_of


def explanation(graph: Graph, mapping: Mapping, program: Program) -> list[Note]:
    """What can be read off the chip's part of the graph, its mapping and its program."""
    return [
        *needs_of(program),
        *places_of(graph, mapping, program),
        *binds_of(program),
        *room_of(program),
        *helps_of(program),
    ]
