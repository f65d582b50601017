"""Perplexity of the trained model on analog macros, over the resolution of their converters, noise, or drift.

Teacher-forced, on held-out text. Programs are compiled once for each target; what macros compute with is changed in the
target that they carry, so that all else is the same.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from benchmarks.plot import report_of
from benchmarks.registry import Report, Say
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.diagnostics import NamedPlace, fail
from isa.hardware import Hardware, load_target
from isa.macro import Macro, Noise
from isa.program import Program
from isa.quantities import Confidence, Quantity
from models import HELD_OUT, PYTINY, path
from runtime.analog.model import AnalogModel, model_of
from runtime.analog.options import AnalogOptions, has_drift
from runtime.check.compare import Comparison, Window, compare, windows_of
from runtime.check.oracle import Oracle
from runtime.session import Session
from runtime.svg import Axis, Plot, Series
from runtime.values import EngineKind

PROMPT, TOKENS = 64, 64  # of a window: given, predicted
HALVINGS = 4
"""Ranges of a converter that are tried at each resolution: the target's, half of it, ..."""

_HOUR, _DAY, _YEAR = 3600.0, 86400.0, 31557600.0
AXES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "adc-bits": ("bits of the converter", (4, 5, 6, 7, 8, 9, 10)),
    "read-noise": ("read noise, % of the largest sum", (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
    "programming-error": ("programming error, % of a cell's range", (0.5, 1, 2, 5, 10)),
    "drift": ("seconds since programming", (20, _HOUR, _DAY, 30 * _DAY, _YEAR, 10 * _YEAR)),
}
"""What is swept: the axis and its points."""


@dataclass(frozen=True, slots=True)
class Judge:
    """The text that is predicted, and who predicts it for comparison."""

    oracle: Oracle
    windows: tuple[Window, ...]

    def __call__(self, program: Program, options: AnalogOptions) -> Comparison:
        return compare(Session(program, engine=EngineKind.FAST, analog=options), self.oracle, self.windows)


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve, and what was found there."""

    x: float
    adc_range: float
    found: Comparison


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench analog`. Raises `CimError` E0601 if a target has nothing that could be swept."""
    label, xs = AXES[options.over]
    targets = [_fitting(name, options.over) for name in options.target or TARGETS]
    ids = path(HELD_OUT).read_bytes()
    judge = Judge(Oracle(path(PYTINY)), windows_of(tuple(ids), options.prompts, PROMPT, TOKENS))
    curves: dict[str, list[Point]] = {}
    exact: dict[str, Comparison] = {}
    for target in targets:
        say(f"{target.name}, exact sums")
        program = _compiled(target)
        exact[target.name] = judge(program, AnalogOptions(is_ideal=True))
        for name, sweep in _SWEEPS.get(options.over, {"": _at_target}).items():
            curve = target.name.removesuffix("-system") + name
            found = curves[curve] = []
            for x in xs:
                say(f"{curve}, {x:g}")
                found.append(sweep(program, options.over, x, judge))
    plot = Plot(
        f"The trained model on analog macros, {options.prompts} x {TOKENS} tokens",
        Axis(label, xs),
        Axis("perplexity"),
        tuple(
            Series(name, tuple((p.x, p.found.perplexity) for p in found)) for name, found in curves.items()
        ),
    )
    text = "\n".join([report_of(plot, options).text, "", *_lines(judge, exact, curves)])
    return Report(text, _data(exact, curves))


TARGETS = ("isaac32", "hermes14-system")


def _fitting(name: str, over: str) -> Hardware:
    target = load_target(name)
    if not target.macro.is_analog or (over == "drift" and not has_drift(target)):
        what = "weights on analog macros" + (" whose cells drift" if over == "drift" else "")
        raise fail("E0601", f"{target.name} has no {what}", NamedPlace("--target"), "take hermes14-system")
    return target


def _compiled(target: Hardware) -> Program:
    return compile_model(path(PYTINY), CompileOptions(max_context=PROMPT + TOKENS), target).require_program()


def _swept(value: float) -> Quantity:
    return Quantity(value=value, unit="1", source="swept", confidence=Confidence.ASSUMED)


def _changed(program: Program, change: Callable[[Macro], Macro]) -> Program:
    """The program on other analog macros."""
    target = program.target
    kv = change(target.kv) if target.kv is not None and target.kv.is_analog else target.kv
    return replace(program, target=target.model_copy(update={"macro": change(target.macro), "kv": kv}))


def _with_noise(name: str, share: float, macro: Macro) -> Macro:
    noise = macro.noise or Noise(programming_error=_swept(0.0), read_noise=_swept(0.0))
    return macro.model_copy(update={"noise": noise.model_copy(update={name: _swept(share)})})


def _with_range(share: float, macro: Macro) -> Macro:
    assert macro.adc is not None
    return macro.model_copy(update={"adc": macro.adc.model_copy(update={"range": _swept(share)})})


def _range(program: Program) -> float:
    assert program.target.macro.adc is not None
    given = program.target.macro.adc.range
    return 1.0 if given is None else given.value


# --------------------------------------------------------------------------------------------------------- sweeps


def _at_target(program: Program, over: str, x: float, judge: Judge) -> Point:
    """A point where all else is as the target says."""
    options = AnalogOptions()
    match over:
        case "adc-bits":
            options = AnalogOptions(adc_bits=int(x))
        case "drift":
            options = AnalogOptions(drift_s=x)
        case _:
            program = _changed(program, partial(_with_noise, over.replace("-", "_"), x / 100))
    return Point(x, _range(program), judge(program, options))


def _at_best_range(program: Program, over: str, x: float, judge: Judge) -> Point:
    """A point with the best of some ranges of the converter."""
    options, first = AnalogOptions(adc_bits=int(x)), _range(program)
    found: dict[AnalogModel | None, Point] = {}
    for share in (first / 2**halving for halving in range(HALVINGS)):
        other = _changed(program, partial(_with_range, share))
        model = model_of(other.target.macro, options)
        if model not in found:  # no step is finer than a level: smaller ranges may be the same
            found[model] = Point(x, share, judge(other, options))
    return min(found.values(), key=lambda point: point.found.perplexity)


_SWEEPS = {"adc-bits": {"": _at_target, ", tuned": _at_best_range}}


# --------------------------------------------------------------------------------------------------------- results


def _lines(
    judge: Judge, exact: Mapping[str, Comparison], curves: Mapping[str, Sequence[Point]]
) -> Iterator[str]:
    count = sum(len(window.truth) for window in judge.windows)
    reference = next(iter(exact.values())).reference_perplexity
    yield f"perplexity over {count:,} tokens of held-out text; ONNX Runtime's (float32) {reference:.4f}"
    for name, found in exact.items():
        yield f"{name} with exact sums: {found.perplexity:.4f} ({100 * found.perplexity_change:+.2f} %)"
    if any(name.endswith(", tuned") for name in curves):
        yield f"tuned: of {HALVINGS} ranges of the converter, each half of the one before, the best at each resolution"
    for name, points in curves.items():
        changes = ", ".join(f"{p.x:g}: {100 * p.found.perplexity_change:+.2f} %" for p in points)
        yield f"{name}: {changes}"


def _data(exact: Mapping[str, Comparison], curves: Mapping[str, Sequence[Point]]) -> object:
    return {
        "exact": {name: asdict(found) for name, found in exact.items()},
        "curves": {
            name: [{"x": p.x, "adc_range": p.adc_range, **asdict(p.found)} for p in points]
            for name, points in curves.items()
        },
    }
