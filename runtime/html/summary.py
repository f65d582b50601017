"""The head of the page: what ran where, and the figures that people look for first."""

from __future__ import annotations

from runtime.amounts import count, share
from runtime.report import activity_lines, analog_lines, exposures, kv_text, wear_text
from runtime.sinks.schema import Statistics

from .tags import Row, amount, details, section, table, tag, text


def head(stats: Statistics) -> str:
    """The title, and a line on what it is of."""
    ran = f"{count(stats.steps, 'step')}, {count(stats.tokens, 'token')}; engine {stats.engine}"
    return tag(
        "header",
        tag("p", text("cim report"), class_="kicker"),
        tag(
            "h1",
            tag("bdi", text(stats.program)),
            tag("span", " on ", class_="quiet"),
            tag("bdi", text(stats.target)),
        ),
        tag("p", text(stats.target_description), class_="intro"),
        tag("p", text(ran), class_="quiet"),
    )


def summary(stats: Statistics) -> str:
    """Cards with the figures, and a table of the rest."""
    e, area = stats.energy_j, stats.area_mm2
    per_chip = f"{count(area.chips, 'chip')} of {area.chip:,.4g} mm²{exposures(area)}"
    ratios = [f"{b.phase} {b.ratio:.2f}x the least" for b in stats.bounds]
    bound = stats.critical_path.by_resource.get(stats.bound_by, 0)
    split = ", ".join(
        f"{name} {share(part, e.total)}"
        for name, part in (("dynamic", e.dynamic), ("write", e.write), ("static", e.static))
        if part
    )
    run = stats.decode if stats.decode is not None and stats.decode.steps else None
    cycles, seconds, tokens = (run or stats).cycles, (run or stats).latency_s, (run or stats).tokens
    joules = e.total if run is None else run.energy_j
    cards = (
        ("Latency", amount(seconds, "s"), f"{cycles:,} cycles at {amount(stats.clock_hz, 'Hz')}"),
        ("Speed", f"{_rate(_over(tokens, seconds))} tokens/s", count(tokens, "token")),
        ("Energy a token", amount(_over(joules, tokens), "J"), f"{amount(joules, 'J')} in all: {split}"),
        ("Power", amount(_over(joules, seconds), "W"), "mean over the run, static power included"),
        (
            "Bound by",
            stats.bound_by,
            "; ".join([f"{share(bound, stats.cycles)} of the critical path", *ratios]),
        ),
        *([("Silicon", f"{_rate(area.chip * area.chips)} mm²", per_chip)] if area.chips else []),
    )
    return section(
        "summary",
        "Summary",
        tag("div", *(_card(*card) for card in cards), class_="cards"),
        *_warnings(stats),
        _facts(stats),
    )


def _warnings(stats: Statistics) -> list[str]:
    """What a reader should not miss."""
    return [tag("p", tag("strong", "Wear: "), text(wear_text(item)), class_="warning") for item in stats.wear]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.4g}"


def _card(name: str, value: str, note: str) -> str:
    return tag(
        "div",
        tag("p", text(name), class_="name"),
        tag("p", text(value), class_="value"),
        tag("p", text(note), class_="note"),
        class_="card",
    )


def _facts(stats: Statistics) -> str:
    """Where it all comes from."""
    facts = [
        ("program", f"{stats.program} ({stats.program_hash or 'no hash'})"),
        ("target", f"{stats.target} ({stats.target_hash})"),
        ("tiles in use", f"{stats.tiles:,}"),
        ("instructions", f"{stats.instructions:,}"),
        ("multiply-accumulates in arrays", f"{stats.macs:,}"),
        ("messages", f"{stats.messages:,} of {stats.message_bytes:,} bytes"),
        *_decode(stats),
        *([] if stats.kv_cache is None else [("KV cache", kv_text(stats.kv_cache))]),
        *(("analog macros", line) for _, line in analog_lines(stats)),
        *activity_lines(stats),
        ("engine", f"{stats.engine}, {stats.wall_s:.2f} s of wall time"),
        *((f"compiler option {name}", value) for name, value in stats.options.items()),
    ]
    rows: list[Row] = [(None, fact) for fact in facts]
    return details("What ran, in numbers", table(("", ""), rows, caption="What ran", class_="facts"))


def _decode(stats: Statistics) -> list[tuple[str, str]]:
    """Runs of decode steps: what all of them took, the interpolated ones too."""
    decode = stats.decode
    if decode is None or not decode.steps:
        return []
    rate = _over(decode.tokens, decode.latency_s)
    kinds = f"{decode.simulated:,} simulated, {decode.interpolated:,} interpolated between these"
    whole = f"{decode.tokens:,} tokens in {amount(decode.latency_s, 's')}, {rate:,.1f} tokens/s, "
    return [
        ("decode steps", f"{len(decode.steps):,}: {kinds}; all else on this page is of those simulated"),
        ("all decode steps", whole + amount(decode.energy_j, "J")),
    ]
