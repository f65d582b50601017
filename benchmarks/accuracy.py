"""Perplexity of the trained model on its held-out text, as the chip computes it with numbers of several formats.

Every window of the text is predicted from itself alone, teacher-forced, by ONNX Runtime in float32 and by compiled
programs on the simulated chip; the change of perplexity comes with its standard error over the windows.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.outliers import with_outliers
from benchmarks.plot import report_of, series_of
from benchmarks.registry import Report, Say
from compiler.driver import compile_model
from compiler.optimisations import Optimisation
from compiler.pipeline import CompileOptions, Smoothing
from isa.diagnostics import fail
from isa.hardware import load_target
from models import HELD_OUT, PYTINY, path
from runtime.amounts import table
from runtime.check.compare import Window, change_error, surprise, windows_of
from runtime.check.oracle import Oracle
from runtime.session import Session
from runtime.svg import Axis, Plot
from runtime.values import EngineKind

SIZE = 512  # tokens of a window: the model's context
OUTLIER = 64.0  # how many times as large the outlier channels of the second model are
LIMIT_INT8, LIMIT_INT4 = 0.005, 0.03
KV_BITS = range(2, 9)
PLAIN = "W8 A8 KV8"
PLAIN_GAINS = frozenset({Optimisation.FOLD_GAINS})


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to compute: how the model is compiled, whether it is the one with outliers, and what its change of
    perplexity has to be less than (None: it is only reported)."""

    name: str
    options: CompileOptions
    has_outliers: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """What ONNX Runtime says: of each window its surprise in nats and the likeliest tokens."""

    surprises: tuple[float, ...]
    likeliest: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a variant is like. `change` and `error`, its standard error, are relative: 0.01 is one percent."""

    name: str
    tokens: int
    perplexity: float
    change: float
    error: float
    agreement: float
    limit: float | None

    @property
    def is_good(self) -> bool:
        """Whether it is within its limit."""
        return self.limit is None or self.change < self.limit


def variants() -> tuple[Variant, ...]:
    """All variants, in the order of the table."""
    chip = CompileOptions(max_context=SIZE)
    none = replace(chip, smooth=Smoothing.NONE)
    four = {group: replace(chip, weights="int4", group=group) for group in (32, 128, 0)}
    narrow = [bits for bits in reversed(KV_BITS) if bits != 8]
    return (
        Variant(PLAIN, chip, limit=LIMIT_INT8),
        Variant("W4 g32", four[32], limit=LIMIT_INT4),
        Variant("W4 g128", four[128], limit=LIMIT_INT4),
        Variant("W4, a scale a column", four[0]),
        Variant("W4 g32 KV4", replace(four[32], kv_bits=4)),
        *(Variant(kv_name(bits), replace(chip, kv_bits=bits)) for bits in narrow),
        *(Variant(kv_name(bits, smooth=False), replace(none, kv_bits=bits)) for bits in narrow),
        Variant("outliers", chip, True),
        Variant("outliers, not smoothed", none, True),
        Variant("outliers, nor gains folded", replace(none, without=PLAIN_GAINS), True),
        Variant("outliers KV4", replace(chip, kv_bits=4), True),
        Variant("outliers KV4, not smoothed", replace(none, kv_bits=4), True),
        Variant("outliers W4 g32", four[32], True),
        Variant("outliers W4 g32, not smoothed", replace(four[32], smooth=Smoothing.NONE), True),
    )


def kv_name(bits: int, *, smooth: bool = True) -> str:
    """What a variant with so many bits of keys and values is called."""
    return f"KV{bits}" if smooth else f"KV{bits}, not smoothed"


def windows(count: int | None = None) -> tuple[Window, ...]:
    """Windows of the held-out text, of which all tokens but the first are predicted: all that do not overlap, or so
    many, evenly spread."""
    text = path(HELD_OUT).read_bytes()
    return windows_of(tuple(text), count or len(text) // SIZE, 1, SIZE - 1)


def referenced(model: Path, given: Sequence[Window]) -> Reference:
    """ONNX Runtime on all windows."""
    oracle, surprises, likeliest = Oracle(model), list[float](), list[NDArray[np.int64]]()
    for window in given:
        logits = window.predictions(oracle.logits(window.inputs))
        surprises.append(surprise(logits, window.truth))
        likeliest.append(logits.argmax(axis=1))
    return Reference(tuple(surprises), tuple(likeliest))


def measured(
    model: Path, target: str, given: Sequence[Window], reference: Reference, variant: Variant
) -> Measured:
    """A variant on all windows: one compilation, the fast engine of values."""
    program = compile_model(model, variant.options, load_target(target)).require_program()
    session, ours, same = Session(program, engine=EngineKind.FAST), list[float](), 0
    for window, likeliest in zip(given, reference.likeliest, strict=True):
        logits = window.predictions(session.score(window.inputs))
        ours.append(surprise(logits, window.truth))
        same += int((logits.argmax(axis=1) == likeliest).sum())
    tokens = sum(len(window.truth) for window in given)
    perplexity = math.exp(sum(ours) / tokens)
    return Measured(
        variant.name,
        tokens,
        perplexity,
        perplexity / math.exp(sum(reference.surprises) / tokens) - 1,
        change_error(ours, reference.surprises, tokens),
        same / tokens,
        variant.limit,
    )


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench accuracy [--only PATTERN] [--windows N] [--target T] [--jobs N] [--output FILE.svg]`."""
    todo = [v for v in variants() if fnmatch(v.name, options.only or "*") or options.only in v.name]
    if not todo:
        known = ", ".join(v.name for v in variants())
        raise fail("E0601", f"no variant has {options.only!r} in its name", help=f"the variants: {known}")
    given = windows(options.windows)
    with TemporaryDirectory() as folder:
        say("ONNX Runtime")
        reference = referenced(path(PYTINY), given)
        found = list(_all(todo, Path(folder), given, reference, options, say))
    tokens = sum(len(window.truth) for window in given)
    perplexity = math.exp(sum(reference.surprises) / tokens)
    text = [
        f"{HELD_OUT}: {len(given)} windows of {SIZE}, {tokens:,} tokens predicted",
        f"float32 (ONNX Runtime): perplexity {perplexity:.4f}",
        "",
        table_of(found),
        "",
        f"outliers: channels {OUTLIER:g} times as large, of which float values know nothing (docs/accuracy.md)",
        *_plotted(found, options),
    ]
    data = {
        "tokens": tokens,
        "float_perplexity": perplexity,
        "variants": [asdict(one) | {"good": one.is_good} for one in found],
    }
    return Report("\n".join(text), data, all(one.is_good for one in found))


def _all(
    todo: Sequence[Variant],
    folder: Path,
    given: Sequence[Window],
    reference: Reference,
    options: Namespace,
    say: Say,
) -> Iterator[Measured]:
    """The variants measured, in their order, several at the same time."""
    other = folder / "outliers.onnx"
    if any(variant.has_outliers for variant in todo):
        onnx.save(with_outliers(onnx.load(path(PYTINY)), OUTLIER), other)
    run = partial(measured, target=options.target, given=given, reference=reference)
    models = [other if variant.has_outliers else path(PYTINY) for variant in todo]
    if options.jobs == 1:
        for number, (model, variant) in enumerate(zip(models, todo, strict=True), 1):
            say(f"{number} of {len(todo)}: {variant.name}")
            yield run(model, variant=variant)
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [
            pool.submit(run, model, variant=variant) for model, variant in zip(models, todo, strict=True)
        ]
        for number, done in enumerate(as_completed(waiting), 1):
            say(f"{number} of {len(todo)}: {done.result().name}")
        yield from (done.result() for done in waiting)


def table_of(found: Sequence[Measured]) -> str:
    """The variants as a table."""
    rows = [
        (
            one.name,
            f"{one.perplexity:.4f}",
            f"{100 * one.change:+.3f} %",
            f"{100 * one.error:.3f}",
            f"{100 * one.agreement:.2f} %",
            "" if one.limit is None else f"< {100 * one.limit:g} %: {'passed' if one.is_good else 'failed'}",
        )
        for one in found
    ]
    return table(("", "perplexity", "change", "+-", "same token", "limit"), rows)


def _plotted(found: Sequence[Measured], options: Namespace) -> list[str]:
    """The sweep over bits of keys and values, drawn; as text where it is. A logarithm shows no change below 0."""
    if options.output is None:
        return []
    of = {one.name: 100 * one.change for one in found if one.change > 0}
    if PLAIN in of:  # at 8 bits, without outliers, nothing is smoothed
        of |= dict.fromkeys((kv_name(8), kv_name(8, smooth=False)), of[PLAIN])
    curves = {}
    for curve, smooth in (("smoothed", True), ("not smoothed", False)):
        names = {bits: kv_name(bits, smooth=smooth) for bits in KV_BITS}
        curves[curve] = [(float(bits), of[name]) for bits, name in names.items() if name in of]
    axis = Axis("bits of keys and values", tuple(map(float, KV_BITS)), is_log=False)
    plot = Plot("Perplexity beside float32", axis, Axis("change, %"), series_of(curves))
    report_of(plot, options)
    return [f"written: {options.output}"]
