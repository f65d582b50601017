"""Quantised models made by ONNX Runtime's own tools from small float models."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from compiler.ir.graph import Graph
from compiler.ir.tensor import Array
from compiler.passes.expand_quantised import ExpandQuantised
from compiler.passes.fold_constants import FoldConstants
from compiler.passes.import_model import ImportModel
from compiler.passes.pair_quantisation import PairQuantisation
from compiler.pipeline import Compilation, run_pipeline
from tests.frontend.oracle import feeds_for, raw, write_small


@cache
def _folder() -> Path:
    # The tools ask, by logging, for a model that was prepared beforehand; the small models are ready.
    logging.getLogger().setLevel(logging.ERROR)
    folder = Path(mkdtemp(prefix="quantised"))
    atexit.register(rmtree, folder)
    return folder


@cache
def plain(family: str) -> Path:
    """A small float model."""
    return write_small(family, _folder() / f"{family}.onnx")


@cache
def dynamic(family: str, weights: QuantType = QuantType.QInt8, *, per_channel: bool = False) -> Path:
    """Integer weights, activations rounded to a scale found at run time."""
    path = _folder() / f"{family}.{weights.name}.{per_channel}.onnx"
    quantize_dynamic(plain(family), path, weight_type=weights, per_channel=per_channel)
    return path


@dataclass
class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    feeds: Iterator[dict[str, Array]]

    def get_next(self) -> dict[str, Array] | None:
        """The next inputs to calibrate with."""
        return next(self.feeds, None)


@cache
def static(
    family: str,
    form: QuantFormat,
    *,
    per_channel: bool = True,
    activations: QuantType = QuantType.QInt8,
    everything: bool = False,
) -> Path:
    """Products rounded, or everything, by scales found beforehand."""
    path = _folder() / f"{family}.{form.name}.{per_channel}.{activations.name}.{everything}.onnx"
    model = plain(family)
    reader = _Calibration(iter([feeds_for(raw(model), n, past=2) for n in (5, 7, 8)]))
    with np.errstate(all="ignore"):  # masked scores overflow in the tool
        quantize_static(
            model,
            path,
            reader,
            quant_format=form,
            per_channel=per_channel,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=None if everything else ["MatMul", "Gemm"],
        )
    return path


@cache
def blocks(family: str, block: int = 16, *, symmetric: bool = True, qdq: bool = False) -> Path:
    """Weights of 4 bits with scales by block, as MatMulNBits or as DequantizeLinear."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    path = _folder() / f"{family}.{block}.{symmetric}.{qdq}.onnx"
    form = QuantFormat.QDQ if qdq else QuantFormat.QOperator
    model = onnx.load(plain(family))
    if qdq:
        model = onnx.version_converter.convert_version(model, 21)
    tool = MatMulNBitsQuantizer(model, block_size=block, is_symmetric=symmetric, quant_format=form)
    tool.process()
    tool.model.save_model_to_file(str(path))
    return path


def exactly(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime computes without putting operators together: some of its fused ones round activations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runner = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in runner.get_outputs()]
    return dict(zip(names, runner.run(names, feeds), strict=True))


def normalised(path: Path) -> Graph:
    """The graph of a file with its integers turned into scaled constants and rounded activations."""
    c = Compilation(path)
    run_pipeline((ImportModel(), FoldConstants(), ExpandQuantised(), PairQuantisation()), c)
    return c.require_graph()


def spread_of(got: dict[str, Array], wanted: dict[str, Array], name: str = "logits") -> float:
    """The mean square difference of an output, relative to its own spread."""
    a, b = got[name].reshape(wanted[name].shape), wanted[name]
    return float(np.sqrt(np.mean((a - b) ** 2)) / np.std(b))
