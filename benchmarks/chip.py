"""What the chip makes of other people's files: each compiled, simulated on its own inputs, compared with its reference.

`benchmarks/frontends.py` asks whether a file is understood; this asks whether the program that it becomes computes
what the file says. In ideal arithmetic (`weights="float32"`) nothing is rounded but float32 itself, so outputs agree
to 1e-4 of their largest value; files that amplify rounding, and files of half precision, get what
`benchmarks/frontends.py` gives them. In int8 (W8A8) they agree as far as 8 bits go. See `benchmarks/judging.py`.
"""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.frontends import Reason, crash, in_words, reason_of
from benchmarks.judging import Arithmetic, FileClass, class_of, judged
from benchmarks.references import (
    Entry,
    collection,
    feature_axes,
    own_reference,
    read_reference,
    sensible_reference,
)
from benchmarks.registry import Report, Say, folder_of
from compiler.driver import compile_model
from compiler.ir.graph import Graph, Role
from compiler.ir.tensor import Array
from compiler.mapping.options import learned_positions
from compiler.passes.restore_quantisation import RestoreQuantisation
from compiler.pipeline import Compilation, CompileOptions, Moment, Pass
from isa.diagnostics import CimError
from isa.hardware import Hardware, load_target
from isa.program import Moment as Stage
from isa.program import Program
from runtime.host import run_part
from runtime.inference import Inference

TARGET = "dcim22"

CHIPS = (1, 2, 4)
"""How many chips a model may take."""

TOO_FEW_TILES = "E0303"

WRONG_INPUTS = "E0601"
"""The code with which inputs are refused."""


class Outcome(Enum):
    """What came of a file, from best to worst."""

    CHIP = "chip"
    """Matches, all of it on the chip."""
    HOST = "host"
    """Matches, with parts on the host."""
    COMPILED = "compiled"
    """Compiles, but ONNX Runtime cannot run the file, so there is nothing to compare with."""
    REFUSED = "refused"
    DIFFERS = "differs"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a file in one arithmetic.

    `error` is the difference in units of what is allowed, `relative` the root mean square of the difference over that
    of the output (the worst output's). `hosted` counts ONNX nodes on the host. `own`: the reference values were
    computed now, from inputs of ours.
    """

    file: str
    group: str
    arithmetic: Arithmetic
    outcome: Outcome
    kind: FileClass = FileClass.FLOAT
    error: float = 0.0
    relative: float = 0.0
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0
    hosted: int = 0
    chips: int = 1
    own: bool = False


MOST_TOKENS = 512
"""Tokens of a large batch that are simulated."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A file as a program. `graph` is its canonical graph, with the roundings that the file asks for."""

    program: Program
    graph: Graph


def compiled(
    path: Path,
    arithmetic: Arithmetic,
    reference: Path | None = None,
    *,
    target: str = TARGET,
    room: int | None = None,
) -> Compiled:
    """Compile a file for sequences as long as those of its reference, or of up to `room` tokens.

    A model that does not fit one chip of the target gets a row of them. Raises `CimError` if it is refused.
    """
    for chips in CHIPS[:-1]:
        try:
            return _compiled(path, arithmetic, reference, _row_of(load_target(target), chips), room)
        except CimError as refusal:
            if any(d.code != TOO_FEW_TILES for d in refusal.diagnostics):
                raise
    return _compiled(path, arithmetic, reference, _row_of(load_target(target), CHIPS[-1]), room)


def _row_of(target: Hardware, chips: int) -> Hardware:
    """A system of several of the target's chips."""
    count = target.system.chips_x
    system = target.system.model_copy(update={"chips_x": count.model_copy(update={"value": float(chips)})})
    return target if chips == 1 else target.model_copy(update={"system": system})


def _compiled(
    path: Path, arithmetic: Arithmetic, reference: Path | None, target: Hardware, room: int | None
) -> Compiled:
    found: list[Graph] = []
    feeds = {} if reference is None else read_reference(reference)[0]

    def keep(moment: Moment, step: Pass, c: Compilation) -> None:
        if moment is Moment.AFTER and isinstance(step, RestoreQuantisation):
            found.append(c.require_graph())
            c.options = _with_sizes(c.options, found[-1], feeds, room)

    # Without values to compare with, weights that are inputs have no values either.
    options = CompileOptions(weights=arithmetic.value, shapes_only=reference is None and room is None)
    if reference is not None:
        options = replace(options, bind=str(reference), dims=tuple(feature_axes(path, reference).items()))
    program = compile_model(path, options, target, keep).require_program()
    return Compiled(program, found[-1])


def _with_sizes(
    options: CompileOptions, graph: Graph, feeds: Mapping[str, Array], room: int | None
) -> CompileOptions:
    """Room for what is fed, and no more: simulated arrays are as large as the longest sequence."""
    known = with_stems(graph, feeds)
    if room is None:
        context = longest(graph, known)
    else:
        context = min(room, learned_positions(graph) or room)
    given = [i for i in graph.inputs if i.name in known]
    rows = [known[i.name].shape[-2] for i in given if i.role is Role.SOURCE]
    rows += [known[i.name].shape[-1] for i in given if i.role is Role.SOURCE_IDS]
    rows += [known[c.past_key].shape[-2] for c in graph.caches if c.cross and c.past_key in known]
    return replace(options, max_context=context, max_source=max(rows, default=0) or None)


def with_stems(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What is fed, and what the host makes of it before the chip."""
    known = dict(feeds)
    for part in graph.hosts:
        if part.moment is Stage.BEFORE and feeds:
            known |= run_part(part.model.data(), known)
    return known


def examine(entry: Entry, arithmetic: Arithmetic, target: str = TARGET) -> Verdict:
    """Compile, run and compare one file. Never raises: a defect of ours is the outcome `CRASHED`."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder:
        try:
            verdict = _examined(entry, arithmetic, target, Path(folder))
        except CimError as refusal:
            reasons = tuple(map(reason_of, refusal.diagnostics))
            verdict = Verdict(entry.file, entry.group, arithmetic, Outcome.REFUSED, reasons=reasons)
        except Exception:  # noqa: BLE001  (what nobody expected is a verdict too)
            verdict = Verdict(entry.file, entry.group, arithmetic, Outcome.CRASHED, reasons=(crash(),))
    return replace(verdict, seconds=time.perf_counter() - began)


def _examined(entry: Entry, arithmetic: Arithmetic, target: str, folder: Path) -> Verdict:
    """The verdict on the file's own inputs; where those ask for what no sequence has, on inputs of ours."""
    reference = sensible_reference(entry)
    if reference is not None:
        try:
            return _compared(entry, arithmetic, target, reference)
        except CimError as refusal:
            if all(d.code != WRONG_INPUTS for d in refusal.diagnostics):
                raise
    own = own_reference(entry.model, folder / "own.npz")
    return replace(_compared(entry, arithmetic, target, own), own=True)


def _compared(entry: Entry, arithmetic: Arithmetic, target: str, reference: Path | None) -> Verdict:
    feeds, wanted = ({}, {}) if reference is None else read_reference(reference)
    made = compiled(entry.model, arithmetic, reference, target=target)
    kind = class_of(made.graph)
    hosted = sum(len(part.nodes) for part in made.program.hosts)
    chips = int(made.program.target.system.chips_x.value)
    verdict = Verdict(entry.file, entry.group, arithmetic, Outcome.COMPILED, kind, hosted=hosted, chips=chips)
    if reference is None:
        return verdict
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        feeds, wanted = few(made.graph, feeds, wanted)
        got = Inference(made.program).run(feeds)
        error, relative = judged(made.graph, kind, arithmetic, feeds, got, wanted)
    good = Outcome.HOST if hosted else Outcome.CHIP
    outcome = good if error <= 1 else Outcome.DIFFERS
    return replace(verdict, outcome=outcome, error=error, relative=relative)


def few(
    graph: Graph, feeds: Mapping[str, Array], wanted: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Of a large batch without caches the first sequences: each is computed by itself, in the same way."""
    rows = [feeds[i.name].shape for i in graph.inputs if i.name in feeds and feeds[i.name].ndim == 3]
    if not rows or graph.caches:
        return dict(feeds), dict(wanted)
    batch, tokens = rows[0][:2]
    kept = max(1, MOST_TOKENS // tokens)

    def cut(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {n: a[:kept] if a.ndim > 1 and a.shape[0] == batch else a for n, a in arrays.items()}

    return cut(feeds), cut(wanted)


def longest(graph: Graph, known: Mapping[str, Array]) -> int | None:
    """Tokens that a sequence has after the step, cached ones included; None if nothing is known."""
    names = [i for i in graph.inputs if i.role in (Role.IDS, Role.OTHER) and i.name in known]
    new = [known[i.name].shape[-1 if i.role is Role.IDS else -2] for i in names]
    past = [known[c.past_key].shape[-2] for c in graph.caches if not c.cross and c.past_key in known]
    return max(new, default=0) + max(past, default=0) or None


# ----------------------------------------------------------------------------------------------------- the table


ORDER = tuple(Outcome)
"""From best to worst."""


def table(verdicts: Iterable[Verdict]) -> str:
    """Counts by source and outcome for each arithmetic, then every file's line."""
    verdicts = list(verdicts)
    lines: list[str] = []
    for arithmetic in Arithmetic:
        some = [v for v in verdicts if v.arithmetic is arithmetic]
        if some:
            lines += [*_counts(some, f"weights {arithmetic.value}"), ""]
    return "\n".join([*lines, *map(_line, verdicts)])


def _counts(verdicts: Sequence[Verdict], title: str) -> list[str]:
    groups = [*sorted({_source(v) for v in verdicts}), "all"]
    counts = Counter((group, v.outcome) for v in verdicts for group in (_source(v), "all"))
    width = max(len(name) for name in (*groups, title))
    lines = [f"{title:{width}} " + " ".join(f"{o.value:>9}" for o in Outcome)]
    return lines + [f"{g:{width}} " + " ".join(f"{counts[g, o]:>9}" for o in Outcome) for g in groups]


def _source(verdict: Verdict) -> str:
    """Where a file comes from: what stands before two underscores in its name, else its group."""
    source, underscores, _ = verdict.file.partition("__")
    return source if underscores else verdict.group


def _line(verdict: Verdict) -> str:
    v = verdict
    notes = [f"host: {v.hosted} nodes"] if v.hosted else []
    notes += [f"{v.chips} chips"] if v.chips > 1 else []
    notes += ["inputs of ours"] if v.own else []
    notes += [str(v.reasons[0])] if v.reasons else []
    head = f"{v.arithmetic.value:7} {v.outcome.value:8} {v.error:8.2g} {v.relative:8.2g} {v.seconds:6.2f} s"
    return f"{head}  {v.file}{'  ' if notes else ''}{'; '.join(notes)}"


def summary(verdict: Verdict) -> str:
    """What came of a file, in words that change only with the verdict; of a refusal the operator and the reason."""
    return in_words(verdict.outcome.value, verdict.reasons)


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench frontends`: every file of a collection, in each arithmetic that is asked for."""
    wanted = [a for a in Arithmetic if options.weights in (a.value, "both")]
    verdicts = []
    for entry in collection(folder_of(options)):
        if options.only in entry.file:
            say(entry.file)
            verdicts += [examine(entry, arithmetic, options.target) for arithmetic in wanted]
    good = all(v.outcome not in (Outcome.DIFFERS, Outcome.CRASHED) for v in verdicts)
    return Report(table(verdicts), [_record(v) for v in verdicts], good)


def _record(verdict: Verdict) -> dict[str, object]:
    v = verdict
    return {
        "file": v.file,
        "group": v.group,
        "weights": v.arithmetic.value,
        "outcome": v.outcome.value,
        "class": v.kind.value,
        "error": v.error,
        "relative_error": v.relative,
        "host_nodes": v.hosted,
        "chips": v.chips,
        "own_inputs": v.own,
        "seconds": v.seconds,
        "reasons": [asdict(reason) for reason in v.reasons],
    }
