"""Positions that a model counts itself, from the token ids: what is no padding is counted (RoBERTa and its kin)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Node, Onnx, Role
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.recognition.regions import Lengths, Prober, Region, Survey, is_onnx, scalar, trace

_IDS = (Role.IDS, Role.SOURCE_IDS)

LEAST_IDS = 1000
"""So many token ids are tried where the vocabulary is not known."""

LONGEST = 1 << 12
"""Token ids are tried in sequences up to this length."""


@dataclass(frozen=True, slots=True)
class Counted:
    """`region` gives position + `offset` of each token, as long as none of the ids `padding` is in the sequence."""

    region: Region
    offset: int
    padding: tuple[int, ...]
    of_source: bool


def read_count(survey: Survey, prober: Prober, name: str) -> Counted | None:
    """What `name` counts; None if it is no position of the tokens."""
    region = trace(survey, name, lambda n: isinstance(n.op, Onnx))
    ids = [i for i in survey.editor.inputs if i.role in _IDS and (i.name,) == region.roots]
    if not ids or not region.nodes:
        return None
    special = _numbers(survey, region.nodes)
    plain = np.setdiff1d(np.arange(max(LEAST_IDS, _vocabulary(survey, ids[0].name))), special)
    of_source = ids[0].role is Role.SOURCE_IDS
    lengths = Lengths(prober, of_source)
    offsets = {_offset(lengths, probe, region, some) for probe, some in _trials(lengths, plain)}
    offset = offsets.pop() if len(offsets) == 1 else None
    if offset is None:
        return None
    probe = lengths.at(5)
    padding = [k for k in special if _offset(lengths, probe, region, np.array([k, *plain[:4]])) != offset]
    return Counted(region, offset, tuple(padding), of_source)


def _numbers(survey: Survey, nodes: Iterable[Node]) -> list[int]:
    """The whole numbers that a region compares or computes with: ids that it may treat in their own way."""
    found = {scalar(survey.editor, name) for node in nodes for name in node.inputs if name}
    return sorted({int(n) for n in found if n is not None and n == int(n) and n >= 0})


def _vocabulary(survey: Survey, ids: str) -> int:
    """How many rows the tables have that the ids are looked up in."""
    tables = [survey.editor.constant(n.inputs[0]) for n in survey.editor.users(ids) if is_onnx(n, "Gather")]
    return max((t.shape[0] for t in tables if t is not None and t.shape), default=0)


def _trials(lengths: Lengths, plain: Array) -> Iterable[tuple[Interpreter, Array]]:
    """Probes with token ids: a few short ones, and every id once."""
    shuffled = np.random.default_rng(7).permutation(plain)
    for sequence, past in ((5, 0), (3, 4), (6, 7)):
        yield lengths.at(sequence, past), shuffled
    for start in range(0, len(plain), LONGEST):
        some = plain[start : start + LONGEST]
        yield lengths.at(len(some)), some


def _offset(lengths: Lengths, probe: Interpreter, region: Region, ids: Array) -> int | None:
    """How far what is counted is from the positions, the same for all tokens; None if it is no count."""
    count, past = lengths.of(probe)
    fed = np.resize(ids, (1, count))
    try:
        counted = lengths.prober.evaluate(probe, region.nodes, {region.roots[0]: fed})[region.output]
    except (UnavailableError, KernelError, ValueError, IndexError, TypeError):
        return None
    if counted.size != count:
        return None
    difference = np.asarray(counted.reshape(-1) - np.arange(past, past + count))
    return None if np.ptp(difference) else int(difference[0])
