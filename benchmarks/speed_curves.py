"""What simulating costs as models get deeper, prompts longer and chips larger: it should grow no faster than they do.

Processor time for time and energy of a step, without what earlier steps have shown, but with their traces
(`runtime/fast/traces.py`); shapes only, and segments of as many tokens in all models: the compiler would take fewer
tokens a segment for deep models, and that many times the instructions.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.plot import doublings, plot_of, report_of, series_of
from benchmarks.registry import Report, Say
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.diagnostics import NamedPlace, fail
from isa.hardware import load_target
from isa.program import Program, segments_of
from models.configs import LlamaConfig
from models.make import architecture, make
from models.save import save
from runtime.fast import Timing, timer_of

CONTEXT, PROMPT, CHUNK = 512, 64, 4
HEAD = 64
"""Columns of a head of the models that differ in their width."""

ENDS = {"layers": (1, 1 << 10), "tokens": (1, CONTEXT), "tiles": (4, 1 << 10)}
"""From where to where an axis may go; that of tiles is in heads."""

Points = dict[str, list[tuple[float, float, int]]]
"""By what is simulated: where on the axis, milliseconds, dynamic instructions."""


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench speed-curves`. Raises `CimError` E0601 for an end that the axis does not have."""
    least, most = ENDS[options.over]
    if not least <= (options.most or most) <= most:
        message = f"{options.most:,} is not from {least} to {most:,}"
        raise fail("E0601", message, NamedPlace("--most"), "give another, or leave it out")
    with TemporaryDirectory() as folder:
        found = CURVES[options.over](Path(folder), options.most, say)
    xs = tuple(sorted({x for points in found.values() for x, _, _ in points}))
    times = {name: [(x, ms) for x, ms, _ in points] for name, points in found.items()}
    title = f"Simulating {options.over}: time and energy of a step"
    plot = plot_of(title, options.over, "ms of processor time", series_of(times), xs)
    report = report_of(plot, options)
    return Report("\n".join([report.text, "", *_growth(found, options.over)]), report.data)


def _over_layers(folder: Path, most: int | None, say: Say) -> Points:
    found: Points = {"token": [], f"prompt of {PROMPT}": []}
    for layers in doublings(ENDS["layers"][0], most or 16):
        say(f"{layers} layers")
        path = folder / f"{layers}.onnx"
        make("gpt2", path, layers=layers, shapes_only=True)
        _measure(_compiled(path), layers, found)
    return found


def _over_tiles(folder: Path, most: int | None, say: Say) -> Points:
    found: Points = {"token": [], f"prompt of {PROMPT}": []}
    for heads in doublings(ENDS["tiles"][0], most or 32):
        say(f"{heads} heads")
        path, width = folder / f"{heads}.onnx", HEAD * heads
        config = LlamaConfig(
            vocab=256,
            hidden=width,
            layers=2,
            heads=heads,
            kv_heads=heads,
            ffn=2 * width,
            max_positions=CONTEXT,
        )
        save(architecture(config), path, None, metadata={})
        program = _compiled(path)
        _measure(program, program.tile_count, found)
    return found


def _over_tokens(folder: Path, most: int | None, say: Say) -> Points:
    path = folder / "model.onnx"
    make("gpt2", path, layers=2, shapes_only=True)
    program = _compiled(path)
    found: Points = {"prompt": []}
    for tokens in doublings(ENDS["tokens"][0], most or CONTEXT):
        say(f"{tokens} tokens")
        found["prompt"].append((float(tokens), *_step(program, tokens, 0)))
    return found


CURVES: Mapping[str, Callable[[Path, int | None, Say], Points]] = {
    "layers": _over_layers,
    "tokens": _over_tokens,
    "tiles": _over_tiles,
}


def _compiled(path: Path) -> Program:
    options = CompileOptions(max_context=CONTEXT, chunk=CHUNK, place="all", shapes_only=True)
    return compile_model(path, options, load_target("dcim22-system")).require_program()


def _measure(program: Program, x: int, found: Points) -> None:
    """A token behind the context, and a prompt."""
    for points, tokens, past in zip(found.values(), (1, PROMPT), (CONTEXT - 1, 0), strict=True):
        points.append((float(x), *_step(program, tokens, past)))


def _step(program: Program, tokens: int, past: int) -> tuple[float, int]:
    """Milliseconds, the least of three steps behind one that is not counted; instructions."""
    timer, step = (
        timer_of(program, [], Timing.FAST, reuse=False),
        segments_of(tokens, past, program.limits.chunk),
    )
    found = []
    for _ in range(4):
        began = time.process_time()
        issued = timer.step(step).issued
        found.append(1e3 * (time.process_time() - began))
    return min(found[1:]), issued


def _growth(found: Points, what: str) -> Iterator[str]:
    """How much longer the last step takes than the first."""
    for name, points in found.items():
        (x, ms, issued), last = points[0], points[-1]
        yield (
            f"{name}: {last[0] / x:,.1f} times as many {what}, {last[2] / issued:,.1f} times as many "
            f"instructions, {last[1] / ms:,.1f} times as long"
        )
