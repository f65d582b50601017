"""The explanation of a program."""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.ir.mapping import Mapping
from isa.program import Program

from .binds import binds_of
from .choices import choices_of
from .expected import Expectation
from .helps import helps_of
from .needs import needs_of
from .note import Note
from .places import places_of
from .room import room_of


def explanation(graph: Graph, mapping: Mapping, program: Program) -> list[Note]:
    """What can be read off the chip's part of the graph, its mapping and its program."""
    expected = Expectation(program)
    return [
        *needs_of(program),
        *places_of(graph, mapping, program),
        *choices_of(program),
        *binds_of(program, expected),
        *room_of(program),
        *helps_of(program, expected),
    ]
