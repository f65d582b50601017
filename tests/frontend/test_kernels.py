"""The reference meaning of ONNX operators, against the node tests that the ONNX package brings."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compiler.frontend.importer import import_model
from compiler.ir.graph import Onnx
from compiler.ir.tensor import Array
from compiler.ops.call import Call
from compiler.ops.registry import OFF_CHIP, OPERATORS, Trait, kernel_of, support_table
from compiler.passes.expand_native import FORMS

FEWEST = 500
"""Cases that must be found: a corpus that shrinks unnoticed proves nothing."""

WITHOUT = {
    r"cast(like)?_.*(FLOAT8|FLOAT4|INT2|E8M0|STRING)": "element types that no supported model has",
    r"training_dropout": "training mode is random",
    r"einsum_.*bfloat16": "NumPy cannot",
    r"(edge|reflect|wrap)_pad": "only padding with a constant occurs in transformers",
    r"reduce_(max|min)_empty_set": "NumPy refuses empty maxima",
    r"scatternd_(add|multiply|max|min)": "only plain scatter occurs in transformers",
    r"identity_(sequence|opt)": "sequences and optionals are no tensors",
    r"equal_string|string": "text has no place here",
}
"""Node tests that are left out, by name, and why."""


def _skipped(name: str) -> bool:
    return any(re.match(f"test_({pattern})", name, re.IGNORECASE) for pattern in WITHOUT)


@cache
def _cases() -> tuple[object, ...]:
    with warnings.catch_warnings():
        # Making the corpus divides by zero on purpose.
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return tuple(collect_testcases(None))


def _known(model: onnx.ModelProto) -> bool:
    (node, *rest) = model.graph.node
    entry = OPERATORS.get((node.domain, node.op_type))
    return not rest and entry is not None and entry.kernel is not None


def _array(value: object) -> Array:
    """Some cases give their tensors as protobuf, for types that NumPy does not have."""
    if isinstance(value, onnx.TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    return np.asarray(value)


def _agree(got: object, wanted: object) -> bool:
    a, b = np.asarray(got), _array(wanted)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
        return bool((a == b).all())
    narrow = a.dtype.itemsize < 4 and a.dtype.kind not in "iub"
    return np.allclose(
        a.astype(np.float64),
        b.astype(np.float64),
        rtol=2e-2 if narrow else 1e-5,
        atol=1e-3 if narrow else 1e-6,
        equal_nan=True,
    )


def _run(path: Path, case: object) -> list[str]:
    """The outputs of a case that differ."""
    model = case.model  # type: ignore[attr-defined]
    path.write_bytes(model.SerializeToString())
    (node,) = import_model(path, keep_dead=True).nodes
    assert isinstance(node.op, Onnx)
    kernel = kernel_of(node.op)
    assert kernel is not None
    wrong = []
    for inputs, outputs in case.data_sets:  # type: ignore[attr-defined]
        feeds = dict(zip((i.name for i in model.graph.input), inputs, strict=True))
        arrays = tuple(_array(feeds[i]) if i else None for i in node.inputs)
        with np.errstate(all="ignore"):
            result = kernel(Call(node.op, arrays, len(node.outputs)))
        results = result if isinstance(result, tuple) else (result,)
        names = [v.name for v in node.outputs]
        made = dict(zip(names, results, strict=False))
        for value, wanted in zip(model.graph.output, outputs, strict=True):
            if value.name in made and not _agree(made[value.name], wanted):
                wrong.append(value.name)
    return wrong


def test_node_tests_of_onnx(tmp_path: Path) -> None:
    cases = [c for c in _cases() if _known(c.model) and not _skipped(c.name)]  # type: ignore[attr-defined]
    assert len(cases) >= FEWEST
    failed = {c.name: _run(tmp_path / "case.onnx", c) for c in cases}  # type: ignore[attr-defined]
    assert {name: outputs for name, outputs in failed.items() if outputs} == {}


@pytest.mark.parametrize("entry", support_table(), ids=lambda e: f"{e.domain}.{e.kind}")
def test_entries_of_the_table_are_complete(entry: object) -> None:
    from compiler.ops.registry import OpEntry

    assert isinstance(entry, OpEntry)
    if entry.fate in OFF_CHIP:
        assert entry.note, "it needs its reason"
        assert entry.kernel is None
    else:
        assert entry.kernel is not None or entry.expands
        assert not entry.expands or (entry.domain, entry.kind) in FORMS
    if entry.trait in (Trait.ELEMENTWISE, Trait.MOVEMENT, Trait.REDUCTION):
        assert entry.shape is not None, "recognition needs the shapes of what it walks through"
