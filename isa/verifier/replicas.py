"""Further copies of a program's tiles: each works as the first does, if it has a place of its own and shares nothing
that is written."""

from __future__ import annotations

from isa.instructions import Store
from isa.program import Moment, Program, Replica

from .report import Report


def check_replicas(program: Program, report: Report) -> None:
    """Report copies that do not fit on the mesh, or whose work would depend on another's (E0410).

    Of a program whose copies pass, the proof for the first holds for each: texts, parameters and channels are the
    same, a channel joins tiles of one copy, and a copy's tiles run only in steps with segments for it.
    """
    if not program.replicas:
        return
    for problem in _shared(program):
        report.thing("replicas", "E0410", problem)
    taken = {(tile.x, tile.y): "the program itself" for tile in program.tiles}
    chips = {chip: chip for chip in _chips(program, Replica(0, 0)).values()}
    for number, corner in enumerate(program.replicas, 1):
        if report.full("E0410"):
            return
        _check_place(program, number, corner, taken, report)
        if program.memory:
            _check_chips(program, number, corner, chips, report)


def _shared(program: Program) -> list[str]:
    limits, found = program.limits, list[str]()
    if limits.pages:
        found.append("copies of a program have no pages: each sequence has its own rows")
    if limits.max_source:
        found.append("copies of a program look at no source rows")
    if any(part.moment is Moment.WITHIN for part in program.hosts):
        found.append("the host runs a part within the step; it does not know of copies")
    if any(region.tensor is None for region in program.memory):
        found.append("a region of memory is reserved; copies on one chip would write to the same bytes")
    stores = [role.name for role in program.roles if any(isinstance(inst, Store) for inst in role.code)]
    if stores:
        found.append(f"role {stores[0]} stores to memory; copies on one chip would write to the same bytes")
    return found


def _check_place(
    program: Program, number: int, corner: Replica, taken: dict[tuple[int, int], str], report: Report
) -> None:
    target = program.target
    for tile in program.tiles:
        x, y = tile.x + corner.x, tile.y + corner.y
        where = f"tile {tile.name} of replica {number} at ({x}, {y})"
        if not (0 <= x < target.mesh_x and 0 <= y < target.mesh_y):
            message = f"{where} is not on the mesh of {target.mesh_x} x {target.mesh_y} tiles"
            report.thing(f"replica {number}", "E0410", message)
            return
        if (x, y) in taken:
            report.thing(f"replica {number}", "E0410", f"{where} takes a place of {taken[x, y]}")
            return
        taken[x, y] = f"replica {number}"


def _chips(program: Program, corner: Replica) -> dict[tuple[int, int], int]:
    """Of the places of a copy's tiles in the first one: the chip that each is on."""
    return {
        (tile.x, tile.y): program.target.chip_of(tile.x + corner.x, tile.y + corner.y)
        for tile in program.tiles
    }


def _check_chips(
    program: Program, number: int, corner: Replica, chips: dict[int, int], report: Report
) -> None:
    """Tiles of one chip lie on one chip, whose memory holds what that chip's does, in every copy."""
    here = _chips(program, corner)
    pairs = {(here[place], first) for place, first in _chips(program, Replica(0, 0)).items()}
    is_torn = len({first for _, first in pairs}) < len(pairs)
    if is_torn or any(chips.setdefault(chip, first) != first for chip, first in pairs):
        message = (
            "its tiles do not lie on chips as the program's own do, and regions of memory belong to chips"
        )
        report.thing(f"replica {number}", "E0410", message)
