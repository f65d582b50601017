"""What a tile has room for beside arrays and buffer: ports and instructions."""

from __future__ import annotations

from compiler.ir.mapping import Mapping
from isa.diagnostics import NamedPlace, fail
from isa.hardware import Hardware
from isa.instruction import INSTRUCTION_BYTES
from isa.program import Program


def check_ports(mapping: Mapping, hardware: Hardware) -> None:
    """Refuse (E0311) work that takes part in more channels than a tile has ports."""
    worst = max(mapping.templates, key=lambda template: len(template.ports))
    need, have = len(worst.ports), int(hardware.tile.ports.value)
    if need > have:
        raise fail(
            "E0311",
            f"tiles of kind {worst.name} take part in {need} channels, a tile of {hardware.name} has {have} ports",
            NamedPlace(mapping.name, worst.name),
            help=f"a target with tile.ports = {need}",
        )


def check_code(program: Program, name: str) -> None:
    """Refuse (E0310) texts that are longer than a tile's instruction memory."""
    if not program.roles:  # the host does it all
        return
    worst = max(program.roles, key=lambda role: len(role.code))
    need, have = INSTRUCTION_BYTES * len(worst.code), int(program.target.tile.code.si)
    if need > have:
        raise fail(
            "E0310",
            f"the text of role {worst.name} takes {need:,} bytes, the instruction memory of a tile of "
            f"{program.target.name} has {have:,}",
            NamedPlace(name, worst.name),
            help=f"a target with tile.code = {need} byte",
        )
