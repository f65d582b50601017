"""Find rotary position embeddings, however they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compiler.ir import meaning
from compiler.ir.evaluate import Interpreter, UnavailableError
from compiler.ir.graph import Node, Rotary, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Array, Tensor, tensor
from compiler.ops.call import KernelError
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.layouts import (
    Tags,
    as_three_axes,
    from_rows,
    leading_axes,
    sequence_axis,
    take_columns,
    without_repeats,
)
from compiler.recognition.regions import (
    Prober,
    Region,
    Survey,
    is_elementwise,
    is_movement,
    is_onnx,
    lead_of,
    random_rows,
    trace,
)

REASON = "rows meet functions of the position here, in a way that is no rotary embedding"
HELP = "pairs of channels of each head must turn by position x frequency, the same for all heads and lengths"

LATE, LATE_STEP = 3000, 100
"""Past lengths, and lengths of a step in models without cache inputs, at which rotations are checked again."""

STEPS = 9
"""Positions 0..8 are probed (fewer if the file fixes the length): powers of two up to 8 refine the frequencies, the
others check them."""


@dataclass(frozen=True)
class RecogniseRotary(Pass):
    """Find rotary embeddings: where rows meet functions of the position and come out turned, pair by pair.

    x * cos(p f) + rotate(x) * sin(p f) == rotary(x; f)
    The frequencies are read off from what the region does to one vector at positions 0, 1, 2, 4 and 8.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        survey = Survey(editor)
        prober = Prober(survey)
        for region in _candidates(survey):
            node = editor.producer(region.output)
            if node is not None and not _visit(survey, prober, region):
                c.findings.append(Finding(node.sources[0], REASON, HELP))
        c.findings += [_left(editor, n) for n in editor.nodes() if is_onnx(n, "RotaryEmbedding")]
        c.graph = editor.finish()
        return editor.changed


def _left(editor: Editor, node: Node) -> Finding:
    """Why a rotation that calls itself one was not read."""
    tables = [constant for i in node.inputs[1:3] if (constant := editor.constant(i)) is not None]
    if any(not t.has_data for t in tables):
        way_out = "give their values with --bind FILE.npz, or make them constants of the file"
        return Finding(node.sources[0], "its tables of cosines and sines have no values", way_out)
    return Finding(node.sources[0], REASON, HELP)


def _turns(survey: Survey, node: Node) -> bool:
    """Whether a node can be part of a rotation: movement, sums, and products with control values."""
    if is_movement(node) or is_onnx(node, "Cast", "Identity", "Neg", "Add", "Sub"):
        return True
    return is_onnx(node, "Mul", "Div", "RotaryEmbedding") and len(survey.data_inputs(node)) == 1


def _candidates(survey: Survey) -> list[Region]:
    """Regions with one root, that end where strands join and that mix in functions of the position."""
    editor = survey.editor
    root: dict[str, str] = {}
    mixes: set[str] = set()
    ends: dict[str, str] = {}
    for node in editor.nodes():
        data = survey.data_inputs(node)
        roots = {root.get(i, i) for i in data}
        if not data or len(roots) != 1 or not _turns(survey, node):
            continue
        mixed = any(i in mixes for i in data) or _mixes(survey, node)
        for value in node.outputs:
            root[value.name] = next(iter(roots))
            if mixed:
                mixes.add(value.name)
        if mixed and (len(data) > 1 or is_onnx(node, "RotaryEmbedding")):
            for name in data:
                ends.pop(_strand(survey, name, ends), None)
            ends[node.output.name] = root[node.output.name]
    return [_between(survey, _reshaped(survey, end), start, root) for end, start in ends.items()]


def _reshaped(survey: Survey, end: str) -> str:
    """Pairs are stacked along a fifth axis and then reshaped: on to where the axes are four again."""
    while len(survey.editor.shape(end) or ()) > 4:
        users = survey.editor.users(end)
        if len(users) != 1 or not is_movement(users[0]):
            break
        end = users[0].output.name
    return end


def _between(survey: Survey, end: str, start: str, root: dict[str, str]) -> Region:
    return trace(survey, end, lambda node: node.output.name in root and root[node.output.name] == start)


def _strand(survey: Survey, name: str, ends: Mapping[str, str]) -> str:
    """Back along single-operand nodes to the join, or the end of another region, that feeds them."""
    node = survey.editor.producer(name)
    while name not in ends and node is not None and _turns(survey, node):
        if len(data := survey.data_inputs(node)) != 1:
            break
        name = data[0]
        node = survey.editor.producer(name)
    return name


def _mixes(survey: Survey, node: Node) -> bool:
    """Whether a node multiplies data by a control value, or by a constant with numbers of its own for each token."""
    if not is_elementwise(node) and not is_onnx(node, "RotaryEmbedding"):
        return False
    others = [i for i in node.inputs if i and not survey.is_data(i)]
    if any(survey.editor.constant(i) is None for i in others):
        return True
    tables = is_onnx(node, "Mul", "RotaryEmbedding")
    return tables and any(_is_by_token(survey, survey.editor.constants[i]) for i in others)


def _is_by_token(survey: Survey, constant: Tensor) -> bool:
    """Whether a constant has an axis of tokens, which a file of fixed lengths may have."""
    lead = lead_of(survey.editor.inputs)
    count = lead[1] if lead else None
    return constant.count > 1 and isinstance(count, int) and count > 1 and count in constant.shape[:-1]


def _visit(survey: Survey, prober: Prober, region: Region) -> bool:
    """Rewrite a region if it is a rotation."""
    editor = survey.editor
    base = _rows(survey, region)
    shape = editor.shape(base.roots[0]) if len(base.roots) == 1 else None
    output = editor.value(region.output)
    if shape is None or not isinstance(width := shape[-1], int) or output is None or not output.shape:
        return False
    depth = output.shape[-1]
    if not isinstance(depth, int) or (turned := _turned(prober, base, width)) is None:
        return False
    wanted = np.rint(turned.columns).astype(np.int64)
    found = None if len(wanted) % depth else _read(turned, depth)
    if found is None or not _holds_later(prober, base, width, wanted, found):
        return False
    once = without_repeats(wanted.reshape(-1, depth))
    if once is None or len(output.shape) != 4:
        once = wanted.reshape(-1, depth)
    rows = take_columns(survey, base.roots[0], once.reshape(-1), f"{region.output}.input")
    if rows is not None:
        repeat = found.op.heads // len(once)
        _rewrite(survey, base, rows, replace(found, op=replace(found.op, heads=len(once))), output, repeat)
    return rows is not None


def _rows(survey: Survey, region: Region) -> Region:
    """The region down to the rows: movement before it included."""
    return trace(survey, region.output, lambda n: _turns(survey, n))


@dataclass(frozen=True, slots=True)
class _Turned:
    """What a region does to one vector x at positions 0..STEPS-1: results [position, channel].

    `columns` says which column of the rows each channel is at position 0. `exact`: how close the results are to those
    of a rotation, relative to x.
    """

    x: Array
    results: Array
    columns: Array
    scaling: float
    exact: float = 1e-6


def _turned(prober: Prober, region: Region, width: int) -> _Turned | None:
    """Probe the region. None if it does not keep rows apart, or changes more than directions."""
    probe = prober.at(STEPS)
    x = random_rows(width)
    ones = _on_rows(prober, probe, region, np.ones(width))
    numbers = _on_rows(prober, probe, region, np.arange(1, width + 1, dtype=np.float64))
    results = _on_rows(prober, probe, region, x)
    if ones is None or numbers is None or results is None or len(results) < 2:
        return None
    scaling = float(ones[0, 0])
    if scaling == 0 or not np.allclose(ones[0], scaling, rtol=1e-6):
        return None
    columns = numbers[0] / scaling - 1
    if np.abs(columns - np.rint(columns)).max() > 1e-3 or columns.min() < -0.5 or columns.max() > width - 0.5:
        return None
    chosen = x[np.rint(columns).astype(np.int64)]
    return _Turned(chosen, results, columns, scaling, _exactness(prober, region))


def _exactness(prober: Prober, region: Region) -> float:
    """How close to a rotation a region can be: cosines and sines may be rounded to half precision."""
    editor = prober.survey.editor
    constants = [c for n in region.nodes for i in n.inputs if (c := editor.constant(i)) is not None]
    return 2e-3 if any(map(_is_rounded, constants)) else 1e-6


def _is_rounded(table: Tensor) -> bool:
    """Whether all numbers of a table, not only signs, are numbers of half precision."""
    if table.count < 2 or not table.dtype.is_float or not table.has_data:
        return False
    data = table.data()
    if np.isin(data, (-1, 0, 1)).all():
        return False
    return np.array_equal(data.astype(np.float16).astype(data.dtype), data)


def _on_rows(prober: Prober, probe: Interpreter, region: Region, x: Array) -> Array | None:
    """The region on rows that all are `x`: [token of the step, channel]. None if it cannot be told."""
    shape = prober.shape(probe, region.roots[0])
    value = prober.survey.editor.value(region.output)
    at = None if value is None else sequence_axis(prober.survey, value, region.roots[0])
    if shape is None or at is None:
        return None
    try:
        rows = {region.roots[0]: np.broadcast_to(x, shape).copy()}
        out = prober.evaluate(probe, region.nodes, rows)[region.output]
    except (UnavailableError, KernelError, ValueError, IndexError, TypeError):
        return None
    count = probe.sizes["sequence"]
    if out.shape[0] != probe.sizes["batch"] or out.shape[at] != count:
        return None
    return out[:1].swapaxes(1, at).reshape(count, -1)


def _holds_later(prober: Prober, region: Region, width: int, columns: Tags, found: _Found) -> bool:
    """Whether the rotation is also that of late positions (some depend on the length of the sequence).

    Tables may end before the probe; then it says nothing.
    """
    probe = prober.at(2, LATE) if prober.has_past() else prober.at(LATE_STEP)
    x = random_rows(width)
    results = _on_rows(prober, probe, region, x)
    if results is None:
        return True
    past, count = probe.sizes["past"], probe.sizes["sequence"]
    rows = np.broadcast_to(x[columns], (count, len(columns)))
    wanted = meaning.rotary(found.op, rows, found.inv_freq.astype(np.float64), np.arange(past, past + count))
    return np.allclose(results, wanted, rtol=0, atol=1e-3 * np.abs(x).max())


@dataclass(frozen=True, slots=True)
class _Found:
    op: Rotary
    inv_freq: Array


def _read(turned: _Turned, depth: int) -> _Found | None:
    """The rotation that explains the probes."""
    heads = len(turned.x) // depth
    x = turned.x.reshape(heads, depth)
    y = turned.results.reshape(-1, heads, depth) / turned.scaling
    moved = np.flatnonzero(np.abs(y - x[None]).max(axis=(0, 1)) > 1e-12)
    if not len(moved):
        return None
    turning = int(moved[-1]) + 1
    turning += turning % 2
    for interleaved in (False, True):
        op = Rotary(heads, depth, turning, interleaved, round(turned.scaling, 9))
        inv_freq = _frequencies(x, y, op)
        check = meaning.rotary(
            op, np.broadcast_to(x.reshape(-1), (len(y), x.size)), inv_freq, np.arange(len(y))
        )
        if np.allclose(check, turned.results, rtol=1e-5, atol=turned.exact * np.abs(x).max()):
            return _Found(op, inv_freq.astype(np.float32))
    return None


def _frequencies(x: Array, y: Array, op: Rotary) -> Array:
    """Angle per position of each pair, from the turn at 1 and then, more exactly, at 2, 4, 8 and so on."""
    half = op.rotary_dim // 2
    first = np.arange(half) * (2 if op.interleaved else 1)
    second = first + (1 if op.interleaved else half)
    before = x[0, first] + 1j * x[0, second]
    after = y[:, 0, first] + 1j * y[:, 0, second]
    angle = np.angle(after / before)
    frequency: Array = angle[1]
    for step in (2**n for n in range(1, (len(y) - 1).bit_length())):
        turns = np.rint((frequency * step - angle[step]) / (2 * np.pi))
        frequency = (angle[step] + 2 * np.pi * turns) / step
    return frequency


def _rewrite(survey: Survey, region: Region, rows: str, found: _Found, output: Value, repeat: int) -> None:
    editor = survey.editor
    node = editor.producer(output.name)
    assert node is not None
    rows = as_three_axes(survey, rows, region.sources)
    inv_freq = _shared(editor, found.inv_freq)
    width = found.op.heads * found.op.head_dim
    made = Value(editor.fresh(f"{output.name}.rows"), output.dtype, (*leading_axes(survey, rows), width))
    editor.remove(node)
    editor.insert(found.op, (rows, inv_freq), made, region.sources)
    survey.note(made.name)
    from_rows(survey, made.name, found.op.heads, output, region.sources, repeat)


def _shared(editor: Editor, inv_freq: Array) -> str:
    """The frequencies as a constant; layers that turn alike share one."""
    return editor.shared_constant("inv_freq", tensor(inv_freq))
