"""What a run did by phase, and what the chips in use could do at the most: the two sides of a roofline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from isa.events import Component, Static
from isa.hardware import Hardware
from isa.macro import Macro
from isa.program import ArrayKind, Program, Segment
from isa.timing.rates import rates_of
from runtime.bounds import Phase, phase_of
from runtime.energy import powered
from runtime.timing.result import StepCost, merged

from .occupancy import macros_of
from .schema import PhaseWork, Roof

ALL = "all"
_BORDERS = (Component.DRAM, Component.GBUF, Component.HOST_LINK, Component.CHIP_LINKS)
ARRAYS, VECTOR = Component.ARRAYS.value, Component.VECTOR.value


def phase_work(steps: Sequence[StepCost], segments: Sequence[tuple[Segment, ...]]) -> list[PhaseWork]:
    """What the steps did, phase by phase; as one phase where their segments are unknown."""
    if not segments:
        return [_work(ALL, steps)]
    phases: dict[Phase, list[StepCost]] = {}
    for own, step in zip(segments, steps, strict=True):
        phases.setdefault(phase_of(own), []).append(step)
    return [_work(phase.value, phases[phase]) for phase in Phase if phase in phases]


def total_work(phase: Phase, total: StepCost, steps: int) -> list[PhaseWork]:
    """What steps of one phase did, from their sum."""
    return [_work(phase.value, [total], steps)]


def _work(phase: str, steps: Sequence[StepCost], count: int | None = None) -> PhaseWork:
    total = merged(steps)
    moved = dict.fromkeys(_BORDERS, 0)
    vector = 0
    for (event, _), number in total.events.items():
        info = event.info
        if info.component in moved and info.unit == "byte":
            moved[info.component] += number
        elif info.component is Component.VECTOR and info.unit == "operation":
            vector += number
    return PhaseWork(
        phase=phase,
        steps=len(steps) if count is None else count,
        tokens=total.tokens,
        cycles=total.cycles,
        operations={ARRAYS: 2 * total.macs, VECTOR: vector},
        moved_bytes={component.value: number for component, number in moved.items() if number},
        critical={bound.value: cycles for bound, cycles in total.critical.items() if cycles},
    )


def roofs(program: Program) -> list[Roof]:
    """The limits of the chips in use, those of operations before those of bytes."""
    chips = powered(program)[Static.DRAM]
    found = [
        *_arrays(program, chips),
        _vector(program, chips),
        *_memories(program, chips),
        *_links(program),
    ]
    return [roof for roof in found if roof.per_second]


def _arrays(program: Program, chips: int) -> list[Roof]:
    target, rates = program.target, rates_of(program.target)
    tiles = chips * target.tiles_per_chip
    weights, written = (_macro_rate(cells.macro) for cells in (rates.weights, rates.written))
    every = tiles * (target.macros_per_tile * weights + target.kv_macros_per_tile * written)
    used = macros_of(program)
    with_data = sum(n * (weights if kind == ArrayKind.WEIGHT.value else written) for kind, n in used.items())
    return [
        Roof(
            name="all arrays",
            component=ARRAYS,
            kind="operations",
            per_second=every,
            description=f"every macro of {tiles:,} tiles of the chips in use, all the time",
            constants=[
                *_macro_paths(target, set(ArrayKind) if target.kv_macros_per_tile else {ArrayKind.WEIGHT}),
                "tile.macros",
                *(["tile.kv_macros"] if target.kv_macros_per_tile else []),
                "chip.tiles_x",
                "chip.tiles_y",
            ],
        ),
        Roof(
            name="arrays with data",
            component=ARRAYS,
            kind="operations",
            per_second=with_data,
            description=f"the {sum(used.values()):,} macros that hold data, all the time",
            constants=_macro_paths(target, {ArrayKind(kind) for kind in used}),
        ),
    ]


def _macro_rate(macro: Macro) -> float:
    """Operations a second of a macro all of whose cells work all the time; 2 a multiply-accumulate."""
    rows, cols = int(macro.rows.value), int(macro.cols.value)
    return 2 * rows * cols / macro.mvm_seconds(rows, cols)


def _macro_paths(target: Hardware, kinds: Set[ArrayKind]) -> list[str]:
    """The constants that the rates of macros are made of, of those that arrays of these kinds are built of."""
    found: list[str] = []
    if ArrayKind.WEIGHT in kinds or (kinds and target.kv is None):
        found += _rate_paths("macro", target.macro)
    if kinds - {ArrayKind.WEIGHT} and target.kv is not None:
        found += _rate_paths("kv", target.kv)
    return found


def _rate_paths(name: str, macro: Macro) -> Iterator[str]:
    """The constants behind `_macro_rate`."""
    paths = ["rows", "cols", "mvm_latency"]
    paths += [path for path in ("pass_rows", "pass_cols") if getattr(macro, path) is not None]
    if macro.adc is not None:
        paths += ["input_slices", "weight_slices", "adc.lines", "adc.latency"]
    if macro.retention is not None:
        paths += ["retention", "row_read_latency", "row_write_latency"]
    yield from (f"{name}.{path}" for path in paths)


def _vector(program: Program, chips: int) -> Roof:
    target = program.target
    tiles = chips * target.tiles_per_chip
    return Roof(
        name="vector units",
        component=VECTOR,
        kind="operations",
        per_second=tiles * target.vector.lanes.value * target.clock.si,
        description=f"all lanes of {tiles:,} tiles, all the time",
        constants=["vector.lanes", "clock", "chip.tiles_x", "chip.tiles_y"],
    )


def _memories(program: Program, chips: int) -> list[Roof]:
    target = program.target
    memories = (
        ("DRAM", Component.DRAM, target.dram, "dram"),
        ("global buffers", Component.GBUF, target.gbuf, "gbuf"),
    )
    return [
        Roof(
            name=name,
            component=component.value,
            kind="bytes",
            per_second=chips * memory.channels.value * memory.bandwidth.si,
            description=f"{memory.channels.value:g} channels a chip, chips in use: {chips:,}",
            constants=[f"{path}.bandwidth", f"{path}.channels"],
        )
        for name, component, memory, path in memories
    ]


def links_between(program: Program) -> int:
    """Tile-wide links between chips that messages may cross: those within the rectangle from the host's chip, (0, 0),
    to the last chips in use. No route leaves it, but routes may cross chips in it that hold no tile."""
    target = program.target
    wide, high = int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)
    places = [(tile.x + corner.x, tile.y + corner.y) for corner in program.corners for tile in program.tiles]
    columns = max((x // wide for x, _ in places), default=0) + 1
    rows = max((y // high for _, y in places), default=0) + 1
    return (columns - 1) * rows * high + columns * (rows - 1) * wide


def _links(program: Program) -> list[Roof]:
    target, between = program.target, links_between(program)
    return [
        Roof(
            name="links between chips",
            component=Component.CHIP_LINKS.value,
            kind="bytes",
            per_second=2 * between * target.chip_link.bandwidth.si,
            description=f"{between:,} tile-wide links up to the last chips in use, both directions together",
            constants=["chip_link.bandwidth", "chip.tiles_x", "chip.tiles_y"],
        ),
        Roof(
            name="host link",
            component=Component.HOST_LINK.value,
            kind="bytes",
            per_second=2 * target.host_link.bandwidth.si,
            description="both directions together",
            constants=["host_link.bandwidth"],
        ),
    ]
