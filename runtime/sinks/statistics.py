"""Statistics of a run, made from what was counted; written and read as JSON (`runtime/sinks/schema.py`)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ValidationError

from isa.diagnostics import CimError, Diagnostic, NamedPlace, fail
from isa.events import Bound, Category, Event, Resource, Static
from isa.instruction import Unit
from isa.program import Limits, Program, Segment
from runtime.activity import SAMPLE, NodeActivity, factors_of
from runtime.analog.options import Applied
from runtime.bounds import Beside, Phase
from runtime.decoding import Decoding
from runtime.energy import Energy, energy, powered
from runtime.paging import KvUse, kept_rows
from runtime.timing.result import MACS, StepCost, merged

from .computed import ActivityRecord, AnalogRecord, NodeActivityRecord
from .constants import constant_records, energy_lines
from .files import whole_file
from .occupancy import area_record, occupancy, tile_map, uses_of, wear_records
from .places import place_records
from .schema import (
    VERSION,
    CriticalPath,
    DecodeRecord,
    DecodeStep,
    EnergyJoules,
    KvRecord,
    PhaseRecord,
    PhaseWork,
    Statistics,
    StepRecord,
)
from .work import links_between, phase_work, roofs, total_work


def _descending(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def pieces(program: Program) -> dict[Resource, int]:
    """How many pieces of each resource the program can use; links are counted in each direction.

    Of the macros, those that hold an array are counted.
    """
    target, tiles, on = program.target, program.tile_count, powered(program)
    x, y = int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)
    by_role = {
        role.name: sum(a.macros(target.macro_rows, target.macro_cols) for a in role.arrays)
        for role in program.roles
    }
    chips = on[Static.DRAM]
    return {
        **dict.fromkeys(Resource, tiles),
        Resource.MACROS: len(program.corners) * sum(by_role[tile.role] for tile in program.tiles),
        Resource.LINKS: chips * 2 * ((x - 1) * y + x * (y - 1)),
        Resource.CHIP_LINKS: 2 * links_between(program),
        Resource.HOST_LINK: 2,
        Resource.DRAM: chips * int(target.dram.channels.value),
        Resource.GBUF: chips * int(target.gbuf.channels.value),
        Resource.HOST: 1,
    }


def _utilization(program: Program, busy: Mapping[Resource, int], cycles: int) -> dict[str, float]:
    available = pieces(program)
    return {
        r.value: busy.get(r, 0) / (cycles * available[r]) if cycles and available[r] else 0.0
        for r in Resource
    }


def _energy(spent: Energy) -> EnergyJoules:
    by_category = spent.by_category
    by_node = sorted(spent.by_node.items(), key=lambda item: (-item[1], item[0]))
    return EnergyJoules(
        total=spent.total,
        dynamic=by_category[Category.DYNAMIC],
        write=by_category[Category.WRITE],
        static=by_category[Category.STATIC],
        by_component={component.value: joules for component, joules in spent.by_component.items()},
        by_node=dict(by_node),
        by_event={cause.key: joules for cause, joules in spent.by_cause.items()},
    )


def _records(steps: Sequence[StepCost]) -> list[StepRecord]:
    return [
        StepRecord(
            cycles=s.cycles,
            tokens=s.tokens,
            source_rows=s.source_rows,
            instructions=s.issued,
            bound_by=s.bound_by.value,
        )
        for s in steps
    ]


def kv_record(limits: Limits, uses: Sequence[KvUse]) -> KvRecord:
    """How full the KV arrays were, from how full they were in each step (one at least)."""
    return KvRecord(
        sequences=limits.sequences,
        pages=uses[0].pages,
        page_rows=uses[0].page_rows,
        capacity=uses[0].capacity,
        peak_pages=max(use.pages_used for use in uses),
        peak_tokens=max(use.tokens for use in uses),
        fragmentation=sum(use.fragmentation for use in uses) / len(uses),
    )


def _bounds(beside: Beside) -> list[PhaseRecord]:
    return [
        PhaseRecord(
            phase=found.phase.value,
            steps=found.steps,
            cycles=found.cycles,
            bound_cycles=found.least,
            ratio=found.ratio,
            binding=found.binding,
            terms=dict(found.terms),
            chain=dict(found.chain),
        )
        for found in beside.by_phase()
    ]


def statistics(
    program: Program,
    steps: Sequence[StepCost],
    *,
    engine: str,
    wall_s: float,
    per_step: bool = False,
    segments: Sequence[tuple[Segment, ...]] = (),
    uses: Sequence[KvUse] = (),
    analog: Sequence[Applied] = (),
    activity: Sequence[NodeActivity] = (),
) -> Statistics:
    """The statistics of steps run one after another; with their segments, beside their lower bounds.

    `uses` say how full the KV arrays were in each, where the session knows; `analog`, what analog macros computed with;
    `activity`, what arrays multiplied, by which their energy is scaled.
    """
    beside = Beside(program)
    for own, step in zip(segments, steps, strict=bool(segments)):
        beside.add(own, step.cycles)
    known = (uses if kept_rows(program) else ()) or uses_of(program, segments)
    run = _Run(
        merged(steps),
        len(steps),
        engine,
        wall_s,
        _bounds(beside),
        phase_work(steps, segments),
        per_step=_records(steps) if per_step else None,
        kv_cache=kv_record(program.step_limits, known) if known else None,
        analog=[AnalogRecord(**asdict(found)) for found in analog],
        activity=tuple(activity),
    )
    return _statistics(program, run)


def decode_statistics(run: Decoding, *, interrupted: bool, wall_s: float) -> Statistics:
    """The statistics of a run of decode steps, or of what was done of it."""
    points, program, count = run.points(), run.program, len(run.cycles)
    cycles = sum(point.cycles for point in points)
    record = DecodeRecord(
        positions=list(run.positions),
        asked=run.count,
        every=run.every,
        interrupted=interrupted,
        simulated=count,
        interpolated=len(points) - count,
        tokens=len(points) * len(run.positions),
        cycles=cycles,
        latency_s=cycles / program.target.clock.si,
        energy_j=math.fsum(point.joules for point in points),
        steps=[DecodeStep(cycles=p.cycles, energy_j=p.joules, simulated=p.is_simulated) for p in points],
    )
    uses = uses_of(program, [run.steps[number] for number in sorted(run.cycles)])
    own = _Run(
        run.total,
        count,
        "timing",
        wall_s,
        _bounds(run.beside),
        total_work(Phase.DECODE, run.total, count),
        kv_cache=kv_record(program.step_limits, uses) if uses else None,
        decode=record,
    )
    return _statistics(program, own)


@dataclass(frozen=True, slots=True)
class _Run:
    """What was measured: so many steps that cost `total`."""

    total: StepCost
    steps: int
    engine: str
    wall_s: float
    bounds: list[PhaseRecord]
    work: list[PhaseWork]
    per_step: list[StepRecord] | None = None
    kv_cache: KvRecord | None = None
    analog: list[AnalogRecord] = field(default_factory=list)
    activity: tuple[NodeActivity, ...] = ()
    decode: DecodeRecord | None = None


def _statistics(program: Program, run: _Run) -> Statistics:
    """The statistics of a run."""
    total, target = run.total, program.target
    spent = energy(target, program, [total], factors_of(run.activity))
    lines = energy_lines(spent)
    return Statistics(
        target=target.name,
        target_hash=target.hash,
        target_description=target.description,
        clock_hz=target.clock.si,
        program=program.origin.model or ", ".join(role.name for role in program.roles),
        program_hash=program.origin.model_hash,
        options=dict(program.origin.options),
        engine=run.engine,
        tiles=program.tile_count,
        steps=run.steps,
        tokens=total.tokens,
        source_rows=total.source_rows,
        cycles=total.cycles,
        latency_s=total.cycles / target.clock.si,
        wall_s=run.wall_s,
        instructions=total.issued,
        instructions_by_unit={unit.value: total.instructions.get(unit, 0) for unit in Unit},
        macs=total.macs,
        messages=total.messages,
        message_bytes=total.message_bytes,
        energy_j=_energy(spent),
        energy_lines=lines,
        places=place_records(program, spent, total.critical_nodes),
        constants=constant_records(target, lines),
        events={event.key: total.count(event) for event in Event},
        utilization=_utilization(program, total.busy, total.cycles),
        bound_by=total.bound_by.value,
        critical_path=CriticalPath(
            by_resource={bound.value: total.critical.get(bound, 0) for bound in Bound},
            by_node=_descending(total.critical_nodes),
        ),
        bounds=run.bounds,
        work=run.work,
        roofs=roofs(program),
        occupancy=occupancy(program),
        tile_map=tile_map(program),
        area_mm2=area_record(program),
        wear=wear_records(program, run.work),
        per_step=run.per_step,
        kv_cache=run.kv_cache,
        analog=run.analog,
        activity=_activity(program, run, spent),
        decode=run.decode,
    )


def _activity(program: Program, run: _Run, spent: Energy) -> ActivityRecord | None:
    """What arrays multiplied, if that was counted, and what it did to the energy of their products."""
    if not run.activity:
        return None
    target = program.target
    scaled, plain = (
        math.fsum(by.get(event, 0.0) for event in MACS)
        for by in (spent.by_cause, energy(target, program, [run.total]).by_cause)
    )
    return ActivityRecord(
        every=SAMPLE,
        is_scaled=any(macro.activity is not None for macro in (target.macro, target.written)),
        factor=scaled / plain if plain else 1.0,
        nodes=[NodeActivityRecord(**asdict(one) | {"event": one.event.key}) for one in run.activity],
    )


def write_statistics(path: Path, stats: Statistics) -> None:
    """Write the JSON text, whole or not at all. Raises `CimError` E0003."""
    with whole_file(path) as file:
        file.write(stats.to_json())


def read_statistics(path: Path) -> Statistics:
    """Read what `write_statistics` wrote. Raises `CimError` E0001 or E0605."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(str(path))) from None
    except UnicodeDecodeError:
        raise fail("E0605", "it is not UTF-8 text", NamedPlace(str(path)), _HELP) from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise fail("E0605", f"it is not JSON: {error}", NamedPlace(str(path)), _HELP) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
        raise fail("E0605", "it is JSON, but not statistics", NamedPlace(str(path)), _HELP) from None
    _check_kind(found, path)
    try:
        return Statistics.model_validate_json(text)
    except ValidationError as error:
        raise CimError([_malformed(error, path)]) from None


def _check_kind(found: object, path: Path) -> None:
    """Raise `CimError` E0605 for JSON of another kind, and for statistics of another version."""
    if not isinstance(found, dict) or found.get("schema") != Statistics.model_fields["schema_name"].default:
        raise fail("E0605", "it is JSON, but not statistics", NamedPlace(str(path)), _HELP)
    version = found.get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version != VERSION:
        message = f"these are statistics of version {version}, and this version of cim reads {VERSION}"
        raise fail("E0605", message, NamedPlace(str(path)), "run again with --stats")


def _malformed(error: ValidationError, path: Path) -> Diagnostic:
    """What is wrong with the first of the fields; a few others by name."""
    problems = error.errors(include_url=False, include_context=False)
    said = [
        (
            ".".join(map(str, p["loc"])),
            p["msg"].removeprefix("Value error, ").replace("Input should", "must", 1),
        )
        for p in problems[:_SHOWN]
    ]
    more = len(problems) - _SHOWN
    notes = [f"{place or 'all'}: {words}" for place, words in said[1:]]
    return Diagnostic(
        "E0605",
        said[0][1],
        NamedPlace(str(path), said[0][0]),
        _HELP,
        (*notes, *([f"{more:,} more"] if more > 0 else [])),
    )


_SHOWN = 5  # fields of a malformed file
_HELP = "give a file that `--stats` of this version wrote (runtime/sinks/stats.schema.json)"
