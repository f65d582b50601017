"""Statistics as a person reads them: what it took, where it went, what bounds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from isa.quantities import Confidence

from .amounts import count as _count
from .amounts import duration, share, si, table
from .analog.options import Applied
from .comparison import (
    changed_constants,
    changed_options,
    constant_text,
    deltas,
    is_sampled,
    layer_deltas,
    other_model,
    per_token,
    run_text,
)
from .groups import CATEGORIES, by_component, grouped, layer_of, part_of
from .nodes import NodeName

if TYPE_CHECKING:
    from .sinks.schema import (
        AreaRecord,
        ConstantRecord,
        DecodeRecord,
        EnergyLine,
        KvRecord,
        Statistics,
        WearRecord,
    )

_ROWS = 16  # of a table by layer or by part; the rest is one line
_ASSUMED = "*"  # marks constants that are assumptions


def _run(stats: Statistics) -> str:
    counts = f"{_count(stats.steps, 'step')}, {_count(stats.tokens, 'token')}"
    if stats.decode is not None and stats.decode.interpolated:
        counts += " (what was simulated; so are all counts, cycles and joules below)"
    return counts + (f", {_count(stats.source_rows, 'source row')}" if stats.source_rows else "")


def _summary(stats: Statistics) -> str:
    e, critical = stats.energy_j, stats.critical_path.by_resource
    rate = stats.tokens / stats.latency_s if stats.latency_s else 0.0
    lines = (
        ("program", f"{stats.program} on {stats.target}: {stats.tiles:,} tiles"),
        *_decode_lines(stats.decode),
        ("run", _run(stats)),
        ("time", f"{stats.cycles:,} cycles = {si(stats.latency_s, 's')}; {rate:,.1f} tokens/s"),
        ("energy", f"{si(e.total, 'J')}; {si(per_token(e.total, stats), 'J')} a token"),
        (
            "",
            f"dynamic {share(e.dynamic, e.total)}, write {share(e.write, e.total)}, static {share(e.static, e.total)}",
        ),
        (
            "work",
            f"{stats.instructions:,} instructions, {stats.macs:,} MACs, {stats.messages:,} messages "
            f"of {stats.message_bytes:,} bytes",
        ),
        (
            "bound by",
            f"{stats.bound_by}: {share(critical[stats.bound_by], stats.cycles)} of the critical path",
        ),
        *_bound_lines(stats),
        *_kv_lines(stats),
        *analog_lines(stats),
        *activity_lines(stats),
        *([("area", _area(stats))] if stats.area_mm2.chips else []),
        *(("wear", wear_text(item)) for item in stats.wear),
        ("simulated", f"by engine {stats.engine} in {stats.wall_s:.2f} s"),
    )
    return "\n".join(f"{name:<10}{text}" for name, text in lines)


def _area(stats: Statistics) -> str:
    """The silicon that the speed is of."""
    area = stats.area_mm2
    system = f"; {area.chip * area.chips:,.0f} mm2 in all" if area.chips > 1 else ""
    return f"{_count(area.chips, 'chip')} of {area.chip:,.4g} mm2{exposures(area)}{system}"


def exposures(area: AreaRecord) -> str:
    """A note on chips that cannot be made in one piece; empty for others."""
    return f" ({area.exposures:.2f} of the largest dies of one exposure)" if area.exposures > 1 else ""


def wear_text(item: WearRecord) -> str:
    """What wears out, and when."""
    pace = f": worn out in {duration(item.lifetime_s)} of decoding" if item.lifetime_s is not None else ""
    writes = f"{item.writes_per_token:.3g} writes a token"
    return f"{item.what} lie in {item.cell} cells, which survive {item.endurance:g} writes; {writes}{pace}"


def _decode_lines(decode: DecodeRecord | None) -> list[tuple[str, str]]:
    """A run of decode steps: which were simulated, and what they all took."""
    if decode is None or not decode.steps:
        return []
    steps = decode.steps
    low, high = min(decode.positions), max(decode.positions)
    start = f"position {low:,}" if low == high else f"positions {low:,} to {high:,}"
    places = f"{_count(len(decode.positions), 'sequence')} from {start} on"
    ended = f" of {decode.asked:,} (interrupted)" if decode.interrupted else ""
    kinds = f"{decode.simulated:,} simulated, {decode.interpolated:,} interpolated between these"
    every = f" (every {decode.every:,})" if decode.every > 1 else ""
    rate, mean = decode.tokens / decode.latency_s, decode.cycles / len(steps)
    return [
        ("decode", f"{_count(len(steps), 'step')}{ended}, {places}: {kinds}{every}"),
        ("", f"{decode.tokens:,} tokens in {si(decode.latency_s, 's')}: {rate:,.1f} tokens/s"),
        ("", f"cycles of a step: first {steps[0].cycles:,}, last {steps[-1].cycles:,}, mean {mean:,.1f}"),
        ("", f"energy: {si(decode.energy_j, 'J')}; {si(decode.energy_j / decode.tokens, 'J')} a token"),
    ]


def _bound_lines(stats: Statistics) -> list[tuple[str, str]]:
    """Measured over the least possible, by phase."""
    return [
        (
            "" if index else "at least",
            f"{b.phase}: {b.bound_cycles:,} cycles, measured {b.ratio:.2f} times that; {b.binding} binds",
        )
        for index, b in enumerate(stats.bounds)
    ]


def _kv_lines(stats: Statistics) -> list[tuple[str, str]]:
    """How full the KV arrays were."""
    return [] if stats.kv_cache is None else [("KV cache", kv_text(stats.kv_cache))]


def analog_lines(stats: Statistics) -> list[tuple[str, str]]:
    """What analog macros computed with."""
    kinds = [str(Applied(**kind.model_dump())) for kind in stats.analog]
    return [("" if index else "analog", text) for index, text in enumerate(kinds)]


def activity_lines(stats: Statistics) -> list[tuple[str, str]]:
    """What arrays multiplied, in the mean over counted inputs and over counted cells, and what that does to energy;
    empty where they multiplied nothing, or the target does not say what its constants are for."""
    found = stats.activity
    if found is None:
        reference = next((c for c in stats.constants if c.path == "macro.activity.reference"), None)
        if reference is None or not stats.macs:
            return []
        return [
            ("activity", f"that of the constants: {share(reference.value, 1)} of pairs of bits are both ones")
        ]
    vectors, held = sum(one.inputs for one in found.nodes), sum(one.cells for one in found.nodes)
    zeros = sum(one.inputs * one.zeros for one in found.nodes) / vectors
    inputs = sum(one.inputs * one.input_ones for one in found.nodes) / vectors
    cells = sum(one.cells * one.cell_ones for one in found.nodes) / held
    data = f"inputs {share(zeros, 1)} zero, {share(inputs, 1)} ones; cells {share(cells, 1)} ones"
    effect = (
        f"energy of MACs x {found.factor:.4g}"
        if found.is_scaled
        else "the target does not say what that does to energy"
    )
    return [("activity", f"every {found.every}th activation counted: {data}; {effect}")]


def kv_text(kv: KvRecord) -> str:
    """How full the KV arrays were, in a line."""
    return (
        f"room for {_count(kv.capacity, 'token')} of {_count(kv.sequences, 'sequence')} in {_count(kv.pages, 'page')} "
        f"of {kv.page_rows:,}; most at a time: {_count(kv.peak_pages, 'page')}, {_count(kv.peak_tokens, 'token')}; "
        f"{share(kv.fragmentation, 1)} of sequences' pages empty"
    )


def _energies(by: dict[str, float], whole: float) -> tuple[str, ...]:
    total = sum(by.values())
    return (si(total, "J"), share(total, whole), *(si(by[category], "J") for category in CATEGORIES))


def _components(stats: Statistics) -> str:
    """Joules by component, with what is dynamic, for writing and static."""
    rows = [(name, *_energies(by, stats.energy_j.total)) for name, by in by_component(stats).items()]
    return table(("component", "energy", "share", *CATEGORIES), rows)


def _lines(stats: Statistics) -> str:
    """Each line of energy with the constants behind it; those that are assumptions are marked."""
    known = {constant.path: constant for constant in stats.constants}
    rows = [
        (
            line.key,
            f"{line.count:,}",
            line.unit,
            si(line.joules, "J"),
            share(line.joules, stats.energy_j.total),
            formula(line, known),
        )
        for line in stats.energy_lines
    ]
    note = "* an assumption; `cim report --constants` lists values and sources"
    return f"{table(('line', 'count', 'of', 'energy', 'share', 'constants'), rows)}\n{note}"


def formula(line: EnergyLine, known: dict[str, ConstantRecord]) -> str:
    """`macro.mac_energy x macro.transpose_energy_factor*`; static lines are for all the time, and measured data give a
    factor that follows from other constants (`macro.activity`)."""
    factors = [path + _ASSUMED * is_assumed(known.get(path)) for path in line.constants]
    factors += ["time"] * (line.category == "static")
    return " x ".join([*factors, *([] if line.activity is None else [f"activity {line.activity:.4g}"])])


def behind(line: EnergyLine) -> list[str]:
    """Paths of the constants that a line rests on: those whose product it is, and those of what data do to it."""
    if line.activity is None:
        return line.constants
    macro = line.constants[0].partition(".")[0]
    return [*line.constants, f"{macro}.activity.reference", f"{macro}.activity.idle_share"]


def is_assumed(constant: ConstantRecord | None) -> bool:
    """Whether it is an engineering assumption."""
    return constant is not None and constant.confidence == Confidence.ASSUMED.value


def constants_text(stats: Statistics) -> str:
    """The constants behind the lines of energy: value, where it is from, how sure we are, and in which lines."""
    lines: dict[str, list[str]] = {}
    for line in stats.energy_lines:
        for path in behind(line):
            lines.setdefault(path, []).append(line.key)
    rows = [
        (c.path, constant_text(c), c.confidence, str(c.year or ""), ", ".join(lines[c.path]), c.source)
        for c in stats.constants
        if c.path in lines
    ]
    heads = ("constant", "value", "confidence", "year", "lines", "source")
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (heads, *rows))


def _groups(stats: Statistics, head: str, key: Callable[[NodeName], str]) -> str:
    groups = grouped(stats, key)
    shown, rest = groups[:_ROWS], groups[_ROWS:]
    if rest:
        sums = {category: sum(by[category] for _, by, _ in rest) for category in CATEGORIES}
        shown = [*shown, (f"{len(rest)} more", sums, sum(cycles for _, _, cycles in rest))]
    rows = [
        (name, *_energies(by, stats.energy_j.total), f"{cycles:,}", share(cycles, stats.cycles))
        for name, by, cycles in shown
    ]
    return table((head, "energy", "share", *CATEGORIES, "critical cycles", "share"), rows)


def _resources(stats: Statistics) -> str:
    """What the critical path was spent on, and how busy each resource was."""
    critical, busy = stats.critical_path.by_resource, stats.utilization
    names = sorted({*critical, *busy}, key=lambda n: (-critical.get(n, 0), -busy.get(n, 0.0), n))
    rows = [
        (
            name,
            f"{critical[name]:,}" if name in critical else "-",
            share(critical[name], stats.cycles) if name in critical else "-",
            f"{100 * busy[name]:.2f} %" if name in busy else "-",
        )
        for name in names
        if critical.get(name) or busy.get(name)
    ]
    return table(("resource", "critical cycles", "share", "busy"), rows)


def _comparison(stats: Statistics, baseline: Statistics) -> str:
    """What changed between two runs, and the options and constants that did."""
    heads = ("", "this", "baseline", "difference", "ratio")
    rows = [
        ("  " * d.level + d.name, d.text(d.new), d.text(d.old), d.change, d.ratio_text)
        for d in deltas(stats, baseline)
    ]
    lines = [
        f"baseline  {baseline.program} on {baseline.target}: {run_text(baseline)}",
        f"this run  {stats.program} on {stats.target}: {run_text(stats)}",
        other_model(stats, baseline),
    ]
    texts = ["\n".join(filter(None, lines)), table(heads, rows)]
    options = changed_options(stats, baseline)
    if options:
        texts.append(table(("compiler option that differs", "this", "baseline"), options))
    changed = changed_constants(stats, baseline)
    if changed:
        values = [(c.path, constant_text(c.new), constant_text(c.old)) for c in changed]
        texts.append(table(("constant that differs", "this", "baseline"), values))
    return "\n\n".join(texts)


def render_report(
    stats: Statistics, baseline: Statistics | None = None, *, with_constants: bool = False
) -> str:
    """The report as text: summary, what bounds it, energy by component, layer, part and line; a comparison."""
    sections = [
        _summary(stats),
        _resources(stats),
        _components(stats),
        _groups(stats, "layer", layer_of),
        _groups(stats, "part", part_of),
        _lines(stats),
    ]
    if baseline is not None:
        sections.insert(1, _comparison(stats, baseline))
    if with_constants:
        sections.append(constants_text(stats))
    return "\n\n".join(sections) + "\n"


def report_data(stats: Statistics, baseline: Statistics | None = None) -> dict[str, object]:
    """The report as JSON values: the statistics, groups by layer and by part, what changed from a baseline."""

    def groups(key: Callable[[NodeName], str]) -> dict[str, object]:
        return {
            name: {"energy_j": sum(by.values()), **{f"{c}_j": j for c, j in by.items()}, "critical_cycles": n}
            for name, by, n in grouped(stats, key)
        }

    data: dict[str, object] = {
        "statistics": stats.model_dump(mode="json", by_alias=True),
        "by_layer": groups(layer_of),
        "by_part": groups(part_of),
    }
    if baseline is not None:
        found = deltas(stats, baseline)
        data["ratios"] = {d.name: d.ratio for d in found if d.ratio is not None}
        data["differences"] = {d.name: d.new - d.old for d in found}
        by_layer = "differences_by_layer_j" + "_per_token" * is_sampled(stats, baseline)
        data[by_layer] = {d.name: d.new - d.old for d in layer_deltas(stats, baseline)}
        data["changed_options"] = [name for name, _, _ in changed_options(stats, baseline)]
        data["changed_constants"] = [c.path for c in changed_constants(stats, baseline)]
    return data
