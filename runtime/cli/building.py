"""Compiling on behalf of a command: options in, a `Compilation` out, with progress and the pass callback."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from isa.diagnostics import fail

from .console import Activity, Console
from .files import write_text

if TYPE_CHECKING:
    from compiler.pipeline import Compilation, CompileOptions, Moment, Pass


def compile_options(options: argparse.Namespace) -> CompileOptions:
    """What the parsed arguments ask the compiler for."""
    from compiler.optimisations import optimisation
    from compiler.pipeline import CompileOptions, Smoothing

    return CompileOptions(
        max_context=options.max_context,
        batch=options.batch,
        kv_tokens=options.kv_tokens,
        kv=options.kv,
        chunk=options.chunk,
        prefill=options.prefill,
        place=options.place,
        weights=options.weights,
        group=options.group,
        kv_bits=options.kv_bits,
        smooth=Smoothing(options.smooth),
        dims=tuple(options.dim),
        shapes_only=getattr(options, "shapes_only", False),
        explain=getattr(options, "explain", False),
        bind=getattr(options, "bind", None),
        max_source=options.max_source,
        without=frozenset(map(optimisation, options.without)),
    )


@dataclass(slots=True)
class Watcher:
    """The callback around each pass: progress, times, printing, dumping, stopping."""

    console: Console
    activity: Activity
    print_after: Collection[str] = ()
    stop_after: str | None = None
    dump_dir: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def __call__(self, moment: Moment, step: Pass, compilation: Compilation) -> None:
        """Called by the pipeline before and after each pass."""
        from compiler.pipeline import Moment, StopPipelineError

        if moment is Moment.BEFORE:
            self.activity.note = step.name
            self._began = time.perf_counter()
            return
        self.seconds[step.name] = self.seconds.get(step.name, 0.0) + time.perf_counter() - self._began
        wanted = step.name in self.print_after or "all" in self.print_after
        if wanted or self.dump_dir is not None:
            text = text_of(compilation)
            if wanted:
                self.console.say(f"; after {step.name}\n{text}")
            if self.dump_dir is not None:
                write_text(str(self.dump_dir / f"{len(self.seconds):02}-{step.name}.txt"), text + "\n")
        if step.name == self.stop_after:
            raise StopPipelineError


def text_of(compilation: Compilation, level: str | None = None) -> str:
    """The text of a level (`graph`, `mapping`, `asm`), by default of the last one that has been reached."""
    if level is None:
        level = "asm" if compilation.program else "mapping" if compilation.mapping else "graph"
    if level == "asm":
        from isa.disassembler import listing

        return listing(compilation.require_program(), complete=True).rstrip("\n")
    if level == "mapping":
        from compiler.ir.mapping_text import print_mapping

        return print_mapping(compilation.require_mapping()).rstrip("\n")
    from compiler.ir.graph_text import print_graph

    return print_graph(compilation.require_graph()).rstrip("\n")


def check_pass_names(names: Collection[str]) -> None:
    """Raise `CimError` E0004 for a name that no pass has, `all` among them."""
    from compiler.driver import pipeline

    known = [step.name for step in pipeline()]
    for name in names:
        if name not in known:
            raise fail("E0004", f"there is no pass {name!r}", help=f"the passes: {', '.join(known)}")


def build(model: Path, options: argparse.Namespace, console: Console) -> Compilation:
    """Compile `model` as the arguments say, with progress on stderr."""
    with console.activity(f"compiling {model.name}") as activity:
        return build_watched(model, options, Watcher(console, activity))


def build_watched(model: Path, options: argparse.Namespace, watcher: Watcher) -> Compilation:
    """Compile `model` as the arguments say, under the eyes of `watcher`."""
    from compiler.driver import compile_model
    from isa.hardware import load_target

    return compile_model(model, compile_options(options), load_target(options.target), watcher)
