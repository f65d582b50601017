"""The verifier: proves, before anything runs, that a program cannot trap, read what was never written, or deadlock.

The proof holds for all positions, token counts, segments and sequences within the program's limits. What is proven and
why it is a proof: docs/verifier.md.
"""

from __future__ import annotations

from isa.diagnostics import CimError, Diagnostic
from isa.program import Program

from .appends import cached_arrays
from .binding import bind
from .channels import bind_scripts, check_channels
from .context import Job, MemoryMap
from .deadlock import find_deadlock
from .hosting import check_hosting
from .interface import check_interface
from .replicas import check_replicas
from .report import Report
from .stored import stored_planes
from .structure import check_structure
from .walk import Variant, analyse

__all__ = ["findings", "verify"]

_SILENCING = ("E0401", "E0405", "E0407", "E0410", "E0411")  # with these, what tiles say is not fully known


def verify(program: Program, *, name: str = "program") -> None:
    """Raise `CimError` with all findings (E0401..E0411) unless the program is proven safe."""
    found = findings(program, name=name)
    if found:
        raise CimError(found)


def findings(program: Program, *, name: str = "program") -> tuple[Diagnostic, ...]:
    """All that stands against the program; empty if it is proven safe. `name` is how places call it."""
    report = Report(name)
    check_structure(program, report)
    check_replicas(program, report)
    if report.has("E0410"):
        return report.diagnostics()
    check_interface(program, report)
    check_hosting(program, report)
    binding = bind(program, report)
    if report.has("E0410"):
        return report.diagnostics()
    variants = _analyse_roles(program, report)
    if report.has(*_SILENCING):
        return report.diagnostics()
    scripts = bind_scripts(program, variants, report)
    if not report.has("E0405"):
        check_channels(program, binding, scripts, report)
    if report.has("E0405"):
        return report.diagnostics()
    deadlock = find_deadlock(program, binding, scripts, name)
    return report.diagnostics() + ((deadlock,) if deadlock else ())


def _analyse_roles(program: Program, report: Report) -> list[Variant]:
    """Every role's text, checked for all tiles that fill it."""
    memory, caches, planes = MemoryMap(program), cached_arrays(program), stored_planes(program)
    tiles: dict[str, list[int]] = {}
    for number, tile in enumerate(program.tiles):
        tiles.setdefault(tile.role, []).append(number)
    variants: list[Variant] = []
    for role in program.roles:
        if role.name in tiles and not report.has_role(role.name):
            variants += analyse(Job(program, role, tuple(tiles[role.name]), report, memory, caches, planes))
    return variants
