"""The suite's results as text and JSON: a line a case, geometric means by group, beside an earlier run's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from benchmarks.mapping.measure import Result
from runtime.amounts import si
from runtime.amounts import table as text_table

GROUPS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("system and phase", lambda r: f"{r.system} {r.phase}"),
    ("model", lambda r: r.model),
    ("batch", lambda r: f"batch {r.batch}"),
    ("all", lambda r: "all"),
)


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive numbers; 0 of none."""
    logs = [math.log(value) for value in values if value > 0]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


RESIDENT = "resident cases: all weights, keys and values stay in arrays"


def phases(results: Sequence[Result]) -> dict[str, tuple[int, float, float]]:
    """Of resident cases, by phase: how many, and geometric means of measured over bound, of steps and of layers."""
    found = {}
    for phase in dict.fromkeys(result.phase for result in results):
        some = [result for result in results if result.is_resident and result.phase == phase]
        if some:
            whole, layers = (
                geometric_mean(r.ratio for r in some),
                geometric_mean(r.layers_ratio for r in some),
            )
            found[phase] = len(some), whole, layers
    return found


def means(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Measured over bound: geometric means by group."""
    ran = [result for result in results if not result.refused]
    return {
        name: {
            group: geometric_mean(r.ratio for r in ran if key(r) == group)
            for group in dict.fromkeys(key(r) for r in ran)
        }
        for name, key in GROUPS
    }


def record(result: Result) -> dict[str, object]:
    """A result as JSON values."""
    return asdict(result) | {
        "ratio": result.ratio,
        "layers_ratio": result.layers_ratio,
        "energy_per_token_j": result.energy_per_token_j,
        "accuracy": result.accuracy,
    }


def data(results: Sequence[Result]) -> dict[str, object]:
    """All results as JSON values, for printing and for `--baseline`."""
    return {
        "suite": "mapping",
        "cases": [record(result) for result in results],
        "geometric_means": means(results),
        "resident": {
            phase: {"cases": cases, "ratio": whole, "layers_ratio": layers}
            for phase, (cases, whole, layers) in phases(results).items()
        },
    }


def _line(result: Result, before: Result | None) -> tuple[str, ...]:
    if result.refused:
        return (result.case, "-", "-", "-", "-", "-", "", "", "", "", result.refused)
    change = f"{result.measured / before.measured:.3f}" if before and before.measured else ""
    return (
        result.case,
        f"{result.measured:,}",
        f"{result.bound:,}",
        f"{result.ratio:.2f}",
        f"{result.layers:,} {result.layers_ratio:.2f}" if result.layers_bound else "-",
        f"{result.accuracy:.2f}" if result.predicted else "-",
        result.binding,
        result.policy,
        si(result.energy_per_token_j, "J"),
        f"{result.chips}",
        change,
    )


def text(results: Sequence[Result], baseline: dict[str, Result] | None = None) -> str:
    """The table, the refusals with their reasons, the means by phase, why cases are far off, and means by group.

    `layers` are cycles of the critical path that are not the host link's, over the bound of a step without that link.
    """
    before = baseline or {}
    heads = (
        "case",
        "cycles",
        "bound",
        "ratio",
        "layers",
        "predicted",
        "binds",
        "KV",
        "energy/token",
        "chips",
    )
    lines = [_line(result, before.get(result.case)) for result in results]
    parts = [text_table((*heads, "to baseline" if before else ""), lines)]
    refused = {(r.refused, r.reason) for r in results if r.refused}
    parts += ["\n".join(f"{code}  {reason}" for code, reason in sorted(refused))] if refused else []
    groups = [
        (group, f"{mean:.3f}", _before(results, before, name, group))
        for name, some in means(results).items()
        for group, mean in some.items()
    ]
    rows = [(p, f"{n}", f"{whole:.3f}", f"{layers:.3f}") for p, (n, whole, layers) in phases(results).items()]
    parts.append(text_table((RESIDENT, "cases", "measured / bound", "layers / bound"), rows))
    far = [f"{r.case}, {r.ratio:.2f} x its bound: {r.far}." for r in results if r.far]
    parts += ["\n".join(far)] if far else []
    parts.append(text_table(("measured / bound", "geometric mean", "baseline" if before else ""), groups))
    parts += _accuracy(results)
    return "\n\n".join(parts)


def _accuracy(results: Sequence[Result]) -> list[str]:
    """How far the cost model is off, and how much faster than the simulation it is."""
    told = [result for result in results if result.predicted]
    if not told:
        return []
    worst = max(told, key=lambda r: abs(math.log(r.accuracy)))
    times = sum(r.simulate_s for r in told) / (sum(r.predict_s for r in told) or 1.0)
    return [
        f"predicted / measured: geometric mean {geometric_mean(r.accuracy for r in told):.3f}, "
        f"farthest off {worst.accuracy:.3f} ({worst.case}); {times:.0f} x as fast as the simulation"
    ]


def _before(results: Sequence[Result], before: dict[str, Result], name: str, group: str) -> str:
    """The mean of a group in the earlier run, over the cases that this run has too."""
    if not before:
        return ""
    same = [before[r.case] for r in results if not r.refused and r.case in before]
    mean = means(same).get(name, {}).get(group)
    return f"{mean:.3f}" if mean else "-"
