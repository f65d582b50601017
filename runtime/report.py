"""Statistics as a person reads them: what it took, where it went, what bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from isa.events import Event, Static

from .nodes import NodeName, short_name

if TYPE_CHECKING:
    from .sinks.statistics import DecodeRecord, KvRecord, Statistics

_ROWS = 16  # of a table by layer or by part; the rest is one line
_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "u"),
    (1e-9, "n"),
)


def si(value: float, unit: str) -> str:
    """A quantity with a prefix and four digits: `2.124 uJ`."""
    if value == 0:
        return f"0 {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1e-12, "p"))
    return f"{value / scale:.4g} {prefix}{unit}"


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table: the first column flush left, the others flush right."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]

    def text(line: Sequence[str]) -> str:
        first = line[0].ljust(widths[0])
        return "  ".join((first, *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)))).rstrip()

    return "\n".join([text(lines[0]), "  ".join("-" * w for w in widths), *map(text, lines[1:])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _per_token(value: float, stats: Statistics) -> float:
    return value / stats.tokens if stats.tokens else 0.0


def _tokens_per_second(stats: Statistics) -> float:
    return stats.tokens / stats.latency_s if stats.latency_s else 0.0


def _run(stats: Statistics) -> str:
    counts = f"{_count(stats.steps, 'step')}, {_count(stats.tokens, 'token')}"
    if stats.decode is not None and stats.decode.interpolated:
        counts += " (what was simulated; so are all counts, cycles and joules below)"
    return counts + (f", {_count(stats.source_rows, 'source row')}" if stats.source_rows else "")


def _summary(stats: Statistics) -> str:
    e, critical = stats.energy_j, stats.critical_path.by_resource
    lines = (
        ("program", f"{stats.program} on {stats.target}: {stats.tiles:,} tiles"),
        *_decode_lines(stats.decode),
        ("run", _run(stats)),
        (
            "time",
            f"{stats.cycles:,} cycles = {si(stats.latency_s, 's')}; {_tokens_per_second(stats):,.1f} tokens/s",
        ),
        ("energy", f"{si(e.total, 'J')}; {si(_per_token(e.total, stats), 'J')} a token"),
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
        ("simulated", f"by engine {stats.engine} in {stats.wall_s:.2f} s"),
    )
    return "\n".join(f"{name:<10}{text}" for name, text in lines)


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


def kv_text(kv: KvRecord) -> str:
    """How full the KV arrays were, in a line."""
    return (
        f"room for {_count(kv.capacity, 'token')} of {_count(kv.sequences, 'sequence')} in {_count(kv.pages, 'page')} "
        f"of {kv.page_rows:,}; most at a time: {_count(kv.peak_pages, 'page')}, {_count(kv.peak_tokens, 'token')}; "
        f"{share(kv.fragmentation, 1)} of sequences' pages empty"
    )


def _components(stats: Statistics) -> str:
    """Joules by component, with the static part apart."""
    e = stats.energy_j
    static = dict.fromkeys(e.by_component, 0.0)
    for cause in Static:
        static[cause.info.component.value] += e.by_event.get(cause.key, 0.0)
    rows = [
        (name, si(joules, "J"), share(joules, e.total), si(joules - static[name], "J"), si(static[name], "J"))
        for name, joules in sorted(e.by_component.items(), key=lambda item: -item[1])
        if joules
    ]
    return table(("component", "energy", "share", "by use", "static"), rows)


def _events(stats: Statistics) -> str:
    rows = [
        (
            event.key,
            f"{stats.events[event.key]:,}",
            event.info.unit,
            si(stats.energy_j.by_event[event.key], "J"),
        )
        for event in Event
        if stats.energy_j.by_event.get(event.key)
    ]
    return table(("event", "count", "of", "energy"), rows)


def _grouped(stats: Statistics, key: Callable[[NodeName], str]) -> list[tuple[str, float, int]]:
    """(group, joules, critical cycles), by energy; the node names grouped by `key`."""
    energy: dict[str, float] = {}
    cycles: dict[str, int] = {}
    for node, joules in stats.energy_j.by_node.items():
        group = key(short_name(node))
        energy[group] = energy.get(group, 0.0) + joules
    for node, count in stats.critical_path.by_node.items():
        group = key(short_name(node))
        cycles[group] = cycles.get(group, 0) + count
    names = sorted(energy | cycles, key=lambda name: (-energy.get(name, 0.0), name))
    return [(name, energy.get(name, 0.0), cycles.get(name, 0)) for name in names]


def layer_of(name: NodeName) -> str:
    """The group of a table by layer."""
    return name.part if name.layer is None else f"layer {name.layer}"


def part_of(name: NodeName) -> str:
    """The group of a table by part: the same part of all layers is one."""
    return name.part if name.layer is None else f"layers: {name.part}"


def _groups(stats: Statistics, head: str, key: Callable[[NodeName], str]) -> str:
    groups = _grouped(stats, key)
    shown, rest = groups[:_ROWS], groups[_ROWS:]
    if rest:
        shown = [*shown, (f"{len(rest)} more", sum(g[1] for g in rest), sum(g[2] for g in rest))]
    total = stats.energy_j.total
    rows = [
        (name, si(joules, "J"), share(joules, total), f"{cycles:,}", share(cycles, stats.cycles))
        for name, joules, cycles in shown
    ]
    return table((head, "energy", "share", "critical cycles", "share"), rows)


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


def _metrics(stats: Statistics) -> dict[str, tuple[float, str]]:
    e = stats.energy_j
    return {
        "cycles": (stats.cycles, f"{stats.cycles:,}"),
        "cycles a token": (_per_token(stats.cycles, stats), f"{_per_token(stats.cycles, stats):,.1f}"),
        "tokens/s": (_tokens_per_second(stats), f"{_tokens_per_second(stats):,.1f}"),
        "energy": (e.total, si(e.total, "J")),
        "energy a token": (_per_token(e.total, stats), si(_per_token(e.total, stats), "J")),
        "  dynamic": (e.dynamic, si(e.dynamic, "J")),
        "  write": (e.write, si(e.write, "J")),
        "  static": (e.static, si(e.static, "J")),
        "instructions": (stats.instructions, f"{stats.instructions:,}"),
        "MACs": (stats.macs, f"{stats.macs:,}"),
        "message bytes": (stats.message_bytes, f"{stats.message_bytes:,}"),
    } | {f"  {name}": (joules, si(joules, "J")) for name, joules in e.by_component.items()}


def _comparison(stats: Statistics, baseline: Statistics) -> str:
    new, old = _metrics(stats), _metrics(baseline)
    rows = [
        (name, text, old[name][1], f"{value / old[name][0]:.4g}x" if old[name][0] else "-")
        for name, (value, text) in new.items()
        if name in old and (value or old[name][0])
    ]
    heads = ("", "this", "baseline", "ratio")
    return f"baseline  {baseline.program} on {baseline.target}\n\n{table(heads, rows)}"


def render_report(stats: Statistics, baseline: Statistics | None = None) -> str:
    """The report as text: summary, what bounds it, energy by component, layer, part and event; a comparison."""
    sections = [
        _summary(stats),
        _resources(stats),
        _components(stats),
        _groups(stats, "layer", layer_of),
        _groups(stats, "part", part_of),
        _events(stats),
    ]
    if baseline is not None:
        sections.insert(1, _comparison(stats, baseline))
    return "\n\n".join(sections) + "\n"


def report_data(stats: Statistics, baseline: Statistics | None = None) -> dict[str, object]:
    """The report as JSON values: the statistics, groups by layer and by part, ratios to a baseline."""

    def groups(key: Callable[[NodeName], str]) -> dict[str, object]:
        return {name: {"energy_j": joules, "critical_cycles": c} for name, joules, c in _grouped(stats, key)}

    data: dict[str, object] = {
        "statistics": stats.model_dump(mode="json", by_alias=True),
        "by_layer": groups(layer_of),
        "by_part": groups(part_of),
    }
    if baseline is not None:
        new, old = _metrics(stats), _metrics(baseline)
        data["ratios"] = {
            name.strip(): new[name][0] / old[name][0] for name in new if name in old and old[name][0]
        }
    return data
