"""The simulator's speed beside ONNX Runtime's: values, and time with energy, of the same model on one thread.

The model is made with random weights and compiled by other processes (so that memory is that of running alone), and
run by the fast engines: prompts, then a token behind a context. ONNX Runtime computes the same values in float32, on
one thread, in the same run; medians of processor time. A step's numbers do not change its duration, so what the cache
holds is whatever the prompts left there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.registry import Report, Say
from isa.binary import read_program
from isa.program import Program, Segment, segments_of
from runtime.fast import Timer, Timing, timer_of
from runtime.machine import Machine
from runtime.values import EngineKind

Step = tuple[Segment, ...]
Feeds = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of processor time for one step: of our values, of our time and energy, of ONNX Runtime."""

    what: str
    values_s: float
    timing_s: float
    onnxruntime_s: float
    instructions: int

    @property
    def ratio(self) -> float:
        """Values, time and energy over what ONNX Runtime takes for values."""
        return (self.values_s + self.timing_s) / self.onnxruntime_s


def _seconds(work: Callable[[], object], repeat: int) -> float:
    """The median of so many runs, behind one that is not counted."""
    found = []
    for _ in range(repeat + 1):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return median(found[1:])


def peak_bytes() -> int:
    """The most memory that this process has had so far; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _feeds(session: object, tokens: int, past: int) -> Feeds:
    """What a decoder with a cache takes, by the names that exporters give its inputs."""
    made: dict[str, NDArray[np.generic]] = {}
    for given in session.get_inputs():  # type: ignore[attr-defined]
        kind = np.float32 if given.type == "tensor(float)" else np.int64
        if "past_key_values" in given.name:
            made[given.name] = np.zeros((1, given.shape[1], past, given.shape[3]), kind)
        elif "position" in given.name:
            made[given.name] = np.arange(past, past + tokens, dtype=kind)[None]
        elif "mask" in given.name:
            made[given.name] = np.ones((1, past + tokens), kind)
        else:
            made[given.name] = np.ones((1, tokens), kind)
    return made


class _Ours:
    """A program on the fast engines."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.machine = Machine(program, engine=EngineKind.FAST)

    @cached_property
    def _timer(self) -> Timer:
        return timer_of(self.program, [], Timing.FAST)

    def cut(self, tokens: int, past: int) -> Step:
        """The segments of so many tokens."""
        return segments_of(tokens, past, self.program.limits.chunk)

    def values(self, step: Step) -> None:
        """The values of a step."""
        rows = sum(segment.tokens for segment in step)
        ids = np.random.default_rng(rows).integers(0, 100, rows).astype(np.int32)
        self.machine.step(step, {self.program.streams[0].name: ids})

    def cost(self, step: Step) -> int:
        """The time and the energy of a step; how many instructions it has."""
        return self._timer.step(step).issued


def _theirs(model: Path) -> Callable[[int, int], Callable[[], object]]:
    """ONNX Runtime on one thread: what runs a step."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])

    def step(tokens: int, past: int) -> Callable[[], object]:
        feeds = _feeds(session, tokens, past)
        return lambda: session.run(None, feeds)

    return step


def measure(program: Program, model: Path, options: Namespace, say: Say) -> tuple[list[Speed], int]:
    """A prompt, and a token behind the context; the most memory that our values took."""
    ours, context = _Ours(program), options.context
    for start in range(0, context - 1, 64):
        ours.values(ours.cut(min(64, context - 1 - start), start))
    cases = [("token", 1, context - 1), ("prompt", options.prompt, 0)]
    found = []
    for name, tokens, past in cases:
        say(f"values: {name}")
        step = ours.cut(tokens, past)
        found.append((f"{name}: {tokens} at {past}", _seconds(partial(ours.values, step), options.repeat)))
    peak = peak_bytes()
    theirs, speeds = _theirs(model), []
    for (what, values), (name, tokens, past) in zip(found, cases, strict=True):
        say(f"time and ONNX Runtime: {name}")
        step = ours.cut(tokens, past)
        timing = _seconds(partial(ours.cost, step), options.repeat)
        reference = _seconds(theirs(tokens, past), options.repeat)
        speeds.append(Speed(what, values, timing, reference, ours.cost(step)))
    return speeds, peak


def _python(module: str, *words: object) -> None:
    """Run a module as a process of its own."""
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, capture_output=True)


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench speed`."""
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.onnx", Path(folder) / "model.cim"
        say(f"making {options.model}")
        layers = () if options.layers is None else ("--layers", options.layers)
        _python("models.make", options.model, "-o", model, *layers)
        say("compiling")
        context = max(options.context, options.prompt)
        _python(
            "runtime.cli", "compile", model, "-o", out, "--target", options.target, "--max-context", context
        )
        speeds, peak = measure(read_program(out), model, options, say)
        return _report(speeds, peak, model.stat().st_size, options)


def _report(speeds: list[Speed], peak: int, size: int, options: Namespace) -> Report:
    lines = [
        f"{options.model} on {options.target}, one thread, medians of {options.repeat}, ms of processor time"
    ]
    head = f"{'step':<22}{'values':>9}{'time':>9}{'ORT':>9}{'ratio':>8}{'instructions':>14}"
    lines.append(head)
    for s in speeds:
        numbers = f"{1e3 * s.values_s:9.1f}{1e3 * s.timing_s:9.1f}{1e3 * s.onnxruntime_s:9.1f}{s.ratio:8.2f}"
        lines.append(f"{s.what:<22}{numbers}{s.instructions:14,}")
    lines.append(f"memory: {peak / 1e9:.2f} GB for values, {peak / size:.2f} times the float32 file")
    data = {
        "model": options.model,
        "target": options.target,
        "steps": [{**asdict(s), "ratio": s.ratio} for s in speeds],
        "peak_bytes": peak,
        "file_bytes": size,
    }
    return Report("\n".join(lines), data)
