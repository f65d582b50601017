"""Decoders token by token: what a session generates with its cache, against ONNX Runtime on the whole prefix each time.

Of every file that takes token ids and gives logits, 16 greedy tokens are generated in ideal arithmetic. After each,
ONNX Runtime runs the original file on the whole sequence so far (with an empty past, if it takes one; with the same
rows of a source), and its last logits are compared. Another token than ONNX Runtime's counts as equal where the two
are as near to each other as the logits are allowed to differ.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np

from benchmarks.chip import compiled
from benchmarks.frontends import RTOL, RTOL_HALF, Reason, crash, in_words, is_half, reason_of, values
from benchmarks.judging import Arithmetic
from benchmarks.quantised import has_roundings, strict_session, without_roundings
from benchmarks.references import PLACES, Entry, collection
from benchmarks.registry import Report, Say, folder_of
from compiler.frontend.importer import import_file
from compiler.ir.border import Border
from compiler.ir.dims import axes_of, resolve
from compiler.ir.feeding import default_feed
from compiler.ir.graph import Attention, Graph, Input, Role
from compiler.ir.tensor import Array
from isa.diagnostics import CimError
from isa.interface import Use
from isa.program import Program
from runtime.borders import interface_of, is_cross, logits_of
from runtime.session import Session

NEW_TOKENS = 16
PROMPT = (1, 0, 1)
"""Small tables occur, so the prompt has small ids."""

SOURCE_ROWS = 5


class Outcome(Enum):
    """What came of a decoder, from best to worst."""

    EQUAL = "equal"
    UNCOMPARED = "uncompared"
    """It generates, but ONNX Runtime cannot run the file."""
    REFUSED = "refused"
    DIFFERS = "differs"
    CRASHED = "crashed"


ORDER = tuple(Outcome)
"""From best to worst."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a decoder: `error` is the largest difference of logits in units of what is allowed."""

    file: str
    group: str
    outcome: Outcome
    tokens: tuple[int, ...] = ()
    error: float = 0.0
    reasons: tuple[Reason, ...] = ()
    seconds: float = 0.0


class NotADecoderError(Exception):
    """The file takes no token ids, gives no logits, or its tokens see later ones."""


# -------------------------------------------------------------------------------------------------- ONNX Runtime


class Prefixes:
    """The original file, run on whole prefixes: the logits of the last token.

    ONNX Runtime runs it; a file that rounds activations stands for the float model that was quantised, so of that the
    canonical graph without roundings is evaluated instead. `places` are those of an empty cache: some kernels want a
    buffer with room. Raises what ONNX Runtime raises if it does not run the file.
    """

    def __init__(
        self, path: Path, graph: Graph, border: Border, logits: str, given: Mapping[str, Array]
    ) -> None:
        self._border, self._logits, self._given = border, logits, given
        self.places = 0
        self._depths = {c.past_key: c.head_dim for c in graph.caches}
        self._depths |= {c.past_value: c.v_head_dim for c in graph.caches}
        self._float = without_roundings(graph) if has_roundings(graph) else None
        self._session = None if self._float is not None else strict_session(path)

    def try_out(self) -> None:
        """Find out whether caches may be empty, or have to be buffers."""
        try:
            self.last(PROMPT)
        except Exception as problem:
            if not _is_of_onnx_runtime(problem):
                raise
            self.places = PLACES
            self.last(PROMPT)

    def last(self, ids: Sequence[int]) -> Array:
        """The logits after `ids`, which have been run from scratch."""
        feeds = {i.name: self._feed(i, ids) for i in self._border.inputs}
        if self._float is not None:
            rows = values(self._float, feeds)[self._logits]
        else:
            assert self._session is not None
            taken = {i.name for i in self._session.get_inputs()}
            (rows,) = self._session.run([self._logits], {n: f for n, f in feeds.items() if n in taken})
        by_token: Array = np.asarray(rows, np.float64).reshape(-1, rows.shape[-1])
        return np.asarray(by_token[-1])

    def _feed(self, given: Input, ids: Sequence[int]) -> Array:
        """What an input holds for a sequence of tokens without a past."""
        dtype = given.value.dtype.numpy
        if given.name in self._given:
            return self._given[given.name].astype(dtype)
        sizes = {"batch": 1, "sequence": len(ids), "tokens": len(ids), "past": 0, "source": SOURCE_ROWS}
        for name in {n for extent in given.value.shape or () for n in axes_of(extent)}:
            sizes.setdefault(name, len(ids))
        match given.role:
            case Role.IDS:
                return np.array([ids], dtype)
            case Role.SWITCH:
                return np.zeros([resolve(e, sizes) for e in given.value.shape or ()], bool)
            case Role.PAST | Role.CROSS:
                return np.zeros(self._empty(given, sizes), dtype)
        feed = default_feed(given, sizes)
        if feed is None:
            raise RuntimeError(f"nothing is known to feed to {given.name}")
        return feed

    def _empty(self, given: Input, sizes: Mapping[str, int]) -> list[int]:
        """The shape of a cache without tokens. Some files leave open how deep its heads are."""
        *lead, last = given.value.shape or ()
        depth = last if isinstance(last, int) else self._depths.get(given.name, 1)
        shape = [*(resolve(e, sizes) for e in lead), depth]
        if given.role is Role.PAST:
            shape[-2] += self.places
        return shape


def _is_of_onnx_runtime(problem: Exception) -> bool:
    """Exceptions of ONNX Runtime have no common class of their own."""
    return type(problem).__module__.startswith("onnxruntime")


def of_source(border: Border, program: Program) -> dict[str, Array]:
    """Rows of a source, or keys and values of it, where the program reads them: random ones, by name."""
    generator = np.random.default_rng(3)
    sizes = {"batch": 1, "source": SOURCE_ROWS}
    read = {v.name for v in interface_of(program).inputs if v.use is Use.SOURCE and v.stream}
    if not read:
        read = {v.name for v in interface_of(program).inputs if is_cross(program, v)}
    shapes = {i.name: i.value.shape or () for i in border.inputs if i.name in read}
    return {
        name: (generator.standard_normal([resolve(e, sizes) for e in shape]) * 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }


# ------------------------------------------------------------------------------------------------------ verdicts


def examine(entry: Entry, tokens: int = NEW_TOKENS) -> Verdict | None:
    """Generate and compare; None if the file is no decoder. Never raises."""
    began = time.perf_counter()
    try:
        verdict = _examined(entry, tokens)
    except NotADecoderError:
        return None
    except CimError as refusal:
        if not _looks_like_one(entry):
            return None
        reasons = tuple(map(reason_of, refusal.diagnostics))
        verdict = Verdict(entry.file, entry.group, Outcome.REFUSED, reasons=reasons)
    except Exception:  # noqa: BLE001  (what nobody expected is a verdict too)
        verdict = Verdict(entry.file, entry.group, Outcome.CRASHED, reasons=(crash(),))
    return replace(verdict, seconds=time.perf_counter() - began)


def _looks_like_one(entry: Entry) -> bool:
    """Whether a file that is refused would be a decoder: it takes ids, and a cache."""
    try:
        roles = [i.role for i in import_file(entry.model)[1].inputs]
    except CimError:
        return False
    return Role.IDS in roles and Role.PAST in roles


def _examined(entry: Entry, tokens: int) -> Verdict:
    border = import_file(entry.model)[1]
    if not any(i.role is Role.IDS for i in border.inputs):
        raise NotADecoderError
    made = compiled(entry.model, Arithmetic.IDEAL, room=len(PROMPT) + tokens)
    _check_decoder(made.graph, made.program)
    given = of_source(border, made.program)
    session = Session(made.program)
    # The last token is not fed back. Small tables of learned positions have room for fewer.
    tokens = min(tokens, made.program.limits.max_context - len(PROMPT) + 1)
    if given:
        session.set_source_inputs(given)
    logits = logits_of(made.program)
    assert logits is not None
    try:
        prefixes = Prefixes(entry.model, made.graph, border, logits.name, given)
        prefixes.try_out()
    except Exception as problem:
        if not _is_of_onnx_runtime(problem):
            raise
        made_tokens = session.generate(PROMPT, tokens).tokens
        reason = Reason("", "", "", f"ONNX Runtime does not run the file: {str(problem)[:200]}")
        return Verdict(entry.file, entry.group, Outcome.UNCOMPARED, made_tokens, reasons=(reason,))
    rtol = RTOL_HALF if is_half(made.graph) else RTOL
    found, error = generated(session, prefixes, tokens, rtol)
    outcome = Outcome.EQUAL if error <= 1 else Outcome.DIFFERS
    return Verdict(entry.file, entry.group, outcome, found, error)


def _check_decoder(graph: Graph, program: Program) -> None:
    """Raise `NotADecoderError` unless tokens see no later ones, and logits are for the ids that embeddings have."""
    attentions = [n.op for n in graph.nodes if isinstance(n.op, Attention) and not n.op.cross]
    hosted = {name for part in graph.hosts for name in part.inputs}
    ids = [v for v in interface_of(program).inputs if v.use is Use.IDS and (v.stream or v.name in hosted)]
    if not attentions or not all(a.causal for a in attentions) or not ids:
        raise NotADecoderError
    read = [n for n in graph.nodes if n.inputs[0] == ids[0].name and ids[0].stream]
    tables = {graph.constants[n.inputs[1]].shape[0] for n in read}
    logits = logits_of(program)
    columns = {s.name: s.columns for s in program.streams}
    if logits is None or (tables and columns.get(logits.stream) not in tables):
        raise NotADecoderError


def generated(
    session: Session, prefixes: Prefixes, tokens: int, rtol: float
) -> tuple[tuple[int, ...], float]:
    """Greedy tokens of the session, and the largest difference of logits in units of what is allowed.

    A token that is not ONNX Runtime's, and not as near to it as the logits may differ, is an infinite difference.
    """
    ids, worst = list(PROMPT), 0.0
    ours = session.prefill(PROMPT)[-1]
    for _ in range(tokens):
        wanted = prefixes.last(ids)
        allowed = rtol * max(1e-6, float(np.abs(wanted).max()))
        worst = max(worst, float(np.abs(ours - wanted).max()) / allowed)
        token = int(np.argmax(ours))
        if wanted.max() - wanted[token] > 2 * allowed:
            worst = float("inf")
        ids.append(token)
        if len(ids) < len(PROMPT) + tokens:
            ours = session.step([token])[-1]
    return tuple(ids[len(PROMPT) :]), worst


# ----------------------------------------------------------------------------------------------------- the table


def examine_all(folder: Path, only: str = "", say: Say = lambda note: None) -> Iterator[Verdict]:
    """The verdict on each decoder of a collection."""
    for entry in collection(folder):
        if only in entry.file:
            say(entry.file)
            verdict = examine(entry)
            if verdict is not None:
                yield verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """Counts by outcome, then every decoder with its verdict and tokens, or the first reason."""
    counts = Counter(v.outcome for v in verdicts)
    lines = [", ".join(f"{counts[o]} {o.value}" for o in Outcome), ""]
    for v in verdicts:
        what = str(v.reasons[0]) if v.reasons else " ".join(map(str, v.tokens))
        lines.append(f"{v.outcome.value:10} {v.error:8.2g} {v.seconds:6.2f} s  {v.file}  {what}")
    return "\n".join(lines)


def summary(verdict: Verdict) -> str:
    """What came of a decoder, in words that change only with the verdict; of a refusal the operator and the reason."""
    return in_words(verdict.outcome.value, verdict.reasons)


def bench(options: Namespace, say: Say) -> Report:
    """`cim bench decoders`: every decoder of a collection."""
    verdicts = list(examine_all(folder_of(options), options.only, say))
    good = all(v.outcome not in (Outcome.DIFFERS, Outcome.CRASHED) for v in verdicts)
    return Report(table(verdicts), [asdict(v) | {"outcome": v.outcome.value} for v in verdicts], good)
