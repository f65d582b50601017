"""What is in use: tiles and where they lie, macros and how full they are, memories, silicon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isa.area import chip_area
from isa.endurance import wear
from isa.events import Component, Static
from isa.hardware import Hardware
from isa.operands import Space
from isa.program import ArraySpec, Program, Role, Segment
from runtime.bounds import Phase
from runtime.energy import powered
from runtime.nodes import NodeName
from runtime.paging import KvUse, PagePool, kept_rows

from .places import held
from .schema import AreaRecord, Occupancy, PhaseWork, RoleRecord, TileMap, WearRecord


def macros_of(program: Program) -> dict[str, int]:
    """Macros that hold data, by kind of array, in all copies."""
    found: Counter[str] = Counter()
    for role, tiles in _roles(program):
        for array in role.arrays:
            found[array.kind.value] += tiles * _macros(program.target, array)
    return dict(found)


def occupancy(program: Program) -> Occupancy:
    """How much of the system the program takes."""
    target, chips = program.target, powered(program)[Static.DRAM]
    per_tile = target.macros_per_tile + target.kv_macros_per_tile
    cells: dict[str, tuple[int, int]] = {}
    for role, tiles in _roles(program):
        for array in role.arrays:
            filled, room = cells.get(array.kind.value, (0, 0))
            macros = tiles * _macros(target, array)
            own = tiles * array.rows * array.cols * array.copies
            cells[array.kind.value] = filled + own, room + macros * target.macro_rows * target.macro_cols
    return Occupancy(
        tiles=(program.tile_count, target.tiles),
        chips=(chips, target.tiles // target.tiles_per_chip),
        macros=macros_of(program),
        macros_on=program.tile_count * per_tile,
        macros_total=target.tiles * per_tile,
        cells=cells,
        memory_bytes=_memories(program, chips),
    )


def _memories(program: Program, chips: int) -> dict[str, tuple[int, int]]:
    """Bytes laid out, and room for them, of the chips in use."""
    target, held = program.target, _holders(program)
    kinds = ((Component.DRAM, Space.DRAM, target.dram), (Component.GBUF, Space.GBUF, target.gbuf))
    return {
        component.value: (
            sum(region.bytes * held[region.chip] for region in program.memory if region.space is space),
            chips * int(memory.capacity.si),
        )
        for component, space, memory in kinds
    }


def _holders(program: Program) -> dict[int, int]:
    """Of each chip with regions of memory: how many chips of the system hold what it does. Copies of the program that
    lie on the same chip share its regions; each further chip that they lie on has these too."""
    chip_of = program.target.chip_of
    found = {region.chip: {region.chip} for region in program.memory}
    for tile in program.tiles:
        own = found.get(chip_of(tile.x, tile.y))
        if own is not None:
            own.update(chip_of(tile.x + corner.x, tile.y + corner.y) for corner in program.corners)
    return {chip: len(chips) for chip, chips in found.items()}


def _roles(program: Program) -> list[tuple[Role, int]]:
    """Each role, and how many tiles have it in all copies."""
    counts = Counter(tile.role for tile in program.tiles)
    return [(role, counts[role.name] * len(program.corners)) for role in program.roles]


def _macros(target: Hardware, array: ArraySpec) -> int:
    return array.macros(target.macro_rows, target.macro_cols)


def tile_map(program: Program) -> TileMap:
    """Where each tile lies and what it does."""
    target = program.target
    roles = {role.name: number for number, role in enumerate(program.roles)}
    labels: dict[str, int] = {}
    columns = [labels.setdefault(label_of(held(tile)), len(labels)) for tile in program.tiles]
    names = [tile.name for tile in program.tiles]
    return TileMap(
        chips=(int(target.system.chips_x.value), int(target.system.chips_y.value)),
        tiles=(int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)),
        macros_per_tile=target.macros_per_tile + target.kv_macros_per_tile,
        corners=[(corner.x, corner.y) for corner in program.corners],
        roles=[_role(target, role) for role in program.roles],
        labels=list(labels),
        names=[] if names == [f"t{n}" for n in range(len(names))] else names,
        x=[tile.x for tile in program.tiles],
        y=[tile.y for tile in program.tiles],
        role=[roles[tile.role] for tile in program.tiles],
        label=columns,
    )


def _role(target: Hardware, role: Role) -> RoleRecord:
    macros: Counter[str] = Counter()
    for array in role.arrays:
        macros[array.kind.value] += _macros(target, array)
    return RoleRecord(name=role.name, instructions=len(role.code), macros=dict(macros))


def label_of(places: tuple[NodeName, ...]) -> str:
    """Layers in words: `layer 3`, `layers 0 to 7`, `lm_head`, `layers 30, 31`."""
    layers = [place.layer for place in places if place.layer is not None]
    parts = [place.part for place in places if place.layer is None]
    if not layers:
        return ", ".join(parts) or "(unknown)"
    first, last = layers[0], layers[-1]
    if first == last:
        return ", ".join([f"layer {first}", *parts])
    run = (
        f"{first} to {last}"
        if len(layers) > 2 and len(layers) == last - first + 1
        else ", ".join(map(str, layers))
    )
    return ", ".join([f"layers {run}", *parts])


def area_record(program: Program) -> AreaRecord:
    """The silicon of one chip of the target."""
    area = chip_area(program.target)
    return AreaRecord(
        chip=area.total,
        chips=powered(program)[Static.DRAM],
        by_component={component.value: mm2 for component, mm2 in area.by_component.items()},
        other=area.other,
        exposures=area.exposures,
    )


def wear_records(program: Program, work: Sequence[PhaseWork]) -> list[WearRecord]:
    """What wears out, and how soon at the pace of the decode steps among what was done."""
    decode = next((w for w in work if w.phase == Phase.DECODE.value and w.steps), None)
    token_s = None if decode is None else decode.cycles / decode.steps / program.target.clock.si
    return [
        WearRecord(
            what=item.what,
            cell=item.cell,
            endurance=item.endurance,
            writes_per_token=item.writes_per_token,
            lifetime_s=None if token_s is None else item.lifetime_s(token_s),
        )
        for item in wear(program)
    ]


def uses_of(program: Program, steps: Sequence[tuple[Segment, ...]]) -> list[KvUse]:
    """How full the KV arrays are after each of these steps; empty if the program keeps no tokens in any."""
    kept = kept_rows(program)
    if not kept:
        return []
    pool, found = PagePool(program.step_limits, kept), []
    for segments in steps:
        pool.placed(segment for segment in segments if not segment.is_source)
        found.append(pool.use)
    return found
