"""The simulator's speed beside ONNX Runtime's: values, and time with energy, of the same model on one thread.

The model is made with random weights and compiled for the prompts that are measured, by other processes (so that memory
is that of running alone), and run by the fast engines: prompts, then tokens behind a context. ONNX Runtime computes the
same values in float32, on one thread, in the same run; medians of processor time. A step's numbers do not change its
duration, so what the cache holds is whatever the prompts left there.

The engine of time remembers how steps have passed (`runtime/fast/simulator.py`), so no step is measured twice with
that: tokens are at positions that it has not seen, one after the other, and prompts are gone through each time. What
it makes of the program's text for the first step of a kind is counted apart (`first`).
"""

from __future__ import annotations

import json
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
from isa.diagnostics import NamedPlace, fail
from isa.program import Program, Segment, segments_of
from runtime.fast import Timer, Timing, timer_of
from runtime.machine import Machine
from runtime.values import EngineKind

TOKENS = 32
"""Successive tokens of a run, of which some pass as others do."""

Step = tuple[Segment, ...]
Feeds = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of processor time for one step: of our values, of our time and energy, of ONNX Runtime; of our time and
    energy the first time, and without what earlier steps have shown."""

    what: str
    values_s: float
    timing_s: float
    onnxruntime_s: float
    instructions: int
    first_s: float
    alone_s: float

    @property
    def ratio(self) -> float:
        """Values, time and energy over what ONNX Runtime takes for values."""
        return (self.values_s + self.timing_s) / self.onnxruntime_s


def _seconds_of(work: Callable[[], object]) -> float:
    """The processor time that something takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _seconds(work: Callable[[], object], repeat: int) -> float:
    """The median of so many runs, behind one that is not counted."""
    return median([_seconds_of(work) for _ in range(repeat + 1)][1:])


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
    def _timers(self) -> dict[bool, Timer]:
        return {reuse: timer_of(self.program, [], Timing.FAST, reuse=reuse) for reuse in (False, True)}

    def cut(self, tokens: int, past: int) -> Step:
        """The segments of so many tokens."""
        return segments_of(tokens, past, self.program.limits.chunk)

    def values(self, step: Step) -> None:
        """The values of a step."""
        rows = sum(segment.tokens for segment in step)
        ids = np.random.default_rng(rows).integers(0, 100, rows).astype(np.int32)
        self.machine.step(step, {self.program.streams[0].name: ids})

    def cost(self, step: Step, reuse: bool = False) -> int:
        """The time and the energy of a step; how many instructions it has."""
        return self._timers[reuse].step(step).issued

    def tokens(self, last: int, count: int) -> float:
        """Seconds for the time and the energy of a token, the mean of so many up to a position."""
        return _seconds_of(lambda: [self.cost(self.cut(1, last - at), True) for at in range(count)]) / count


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
        first = _seconds_of(partial(ours.cost, step))
        timing = alone = _seconds(partial(ours.cost, step), options.repeat)
        if tokens == 1:
            timing = median(_runs_of_tokens(ours, past, options.repeat))
        reference = _seconds(theirs(tokens, past), options.repeat)
        speeds.append(Speed(what, values, timing, reference, ours.cost(step), first, alone))
    return speeds, peak


def _runs_of_tokens(ours: _Ours, last: int, repeat: int) -> list[float]:
    """Seconds a token, of runs of successive tokens up to a position, behind a run that is not counted."""
    each = max(min(last // (repeat + 1), TOKENS), 1)
    return [ours.tokens(last - each * run, each) for run in range(repeat + 1)][1:]


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
        sizes = ("--max-context", context, "--prefill", options.prompt)
        _python("runtime.cli", "compile", model, "-o", out, "--target", options.target, *sizes)
        speeds, peak = measure(read_program(out), model, options, say)
        return _report(speeds, peak, model.stat().st_size, options)


def beside(speeds: list[Speed], file: str) -> list[str]:
    """What an earlier result (`--json`) says of the same steps. Raises `CimError` E0001 if the file is none."""
    place = NamedPlace(file)
    try:
        kept = json.loads(Path(file).read_text())
        was = {step["what"]: step for step in kept["steps"]}
        title = f"against {file}: {kept['model']} on {kept['target']}"
        return [title] + [
            f"{s.what:<20}ratio {s.ratio:.2f}, was {was[s.what]['ratio']:.2f}; of ORT's time: "
            f"values {_share(asdict(s), 'values_s')}, was {_share(was[s.what], 'values_s')}; "
            f"time {_share(asdict(s), 'timing_s')}, was {_share(was[s.what], 'timing_s')}"
            for s in speeds
            if s.what in was
        ]
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", place, "check the path") from None
    except (ValueError, KeyError, TypeError):
        hint = "cim bench speed --json > FILE keeps one"
        raise fail("E0001", "it is no result of this benchmark", place, hint) from None


def _share(step: Mapping[str, float], seconds: str) -> str:
    return f"{step[seconds] / step['onnxruntime_s']:.2f}"


def _report(speeds: list[Speed], peak: int, size: int, options: Namespace) -> Report:
    lines = [
        f"{options.model} on {options.target}, one thread, medians of {options.repeat}, ms of processor time"
    ]
    columns = ("values", "time", "ORT", "ratio", "instructions", "M/s", "M/s alone", "first")
    lines.append(f"{'step':<20}" + "".join(f"{column:>13}" for column in columns))
    for s in speeds:
        ms = (f"{1e3 * seconds:13.1f}" for seconds in (s.values_s, s.timing_s, s.onnxruntime_s))
        rates = (f"{s.instructions / seconds / 1e6:13.1f}" for seconds in (s.timing_s, s.alone_s))
        numbers = (*ms, f"{s.ratio:13.2f}{s.instructions:13,}", *rates, f"{1e3 * s.first_s:13.1f}")
        lines.append(f"{s.what:<20}" + "".join(numbers))
    lines.append(
        "M/s: dynamic instructions a second of time and energy; alone: as if no step had passed before"
    )
    lines.append(f"memory: {peak / 1e9:.2f} GB for values, {peak / size:.2f} times the float32 file")
    if options.against:
        lines += beside(speeds, options.against)
    data = {
        "model": options.model,
        "target": options.target,
        "steps": [{**asdict(s), "ratio": s.ratio} for s in speeds],
        "peak_bytes": peak,
        "file_bytes": size,
    }
    return Report("\n".join(lines), data)
