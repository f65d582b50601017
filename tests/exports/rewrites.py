"""What people do to an export afterwards: ONNX Runtime's optimizer and its quantisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.exports.families import FAMILIES
from tests.exports.feeds import Feeds, random_feeds, session

_MODEL_TYPES = {
    "gpt2": "gpt2",
    "t5": "t5",
    "flant5": "t5",
    "bart": "bart",
    "vit": "vit",
    "deit": "vit",
    "cliptext": "clip",
    "clipvision": "clip",
    "whisper": "bart",
}
"""Which fusions the optimizer tries; those of BERT for every other family."""


def optimize(family: str, model: Path, made: Path) -> None:
    """`onnxruntime.transformers.optimizer`, for the CPU."""
    from onnxruntime.transformers.optimizer import optimize_model

    sizes = FAMILIES[family].sizes
    heads = sizes.get("num_attention_heads") or sizes.get("n_head") or sizes.get("n_heads") or 4
    kind = _MODEL_TYPES.get(family, "bert")
    fused = optimize_model(str(model), kind, num_heads=heads, hidden_size=64, opt_level=0)
    fused.save_model_to_file(str(made))


def quantize_dynamic(family: str, model: Path, made: Path) -> None:
    """Weights of 8 bits, activations scaled as they come: DynamicQuantizeLinear and MatMulInteger."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    quantize(str(model), str(made), weight_type=QuantType.QInt8)


def quantize_qdq(family: str, model: Path, made: Path) -> None:
    """Weights and activations of 8 bits with fixed scales: QuantizeLinear and DequantizeLinear around operators."""
    _quantize_static(model, made, "QDQ")


def quantize_qdq_products(family: str, model: Path, made: Path) -> None:
    """The same around matrix products alone: the range of masked scores, which have infinities, is infinite."""
    _quantize_static(model, made, "QDQ", ("MatMul", "Gemm"))


def quantize_qoperator(family: str, model: Path, made: Path) -> None:
    """The same as operators on integers: QLinearMatMul and its like."""
    _quantize_static(model, made, "QOperator")


def _quantize_static(model: Path, made: Path, form: str, only: Sequence[str] | None = None) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            runner = session(model)
            self.left: Iterator[Feeds] = (random_feeds(model, runner, seed) for seed in range(2))

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    quantize_static(
        str(model),
        str(made),
        Samples(),
        quant_format=QuantFormat[form],
        per_channel=form == "QDQ",
        op_types_to_quantize=only,
    )


def quantize_int4(family: str, model: Path, made: Path) -> None:
    """Weights in blocks of 4 bits with a scale each: MatMulNBits."""
    _quantize_blocks(model, made, "QOperator")


def quantize_int4_qdq(family: str, model: Path, made: Path) -> None:
    """The same in the standard's own form: DequantizeLinear with a block size."""
    _quantize_blocks(model, made, "QDQ")


def _quantize_blocks(model: Path, made: Path, form: str) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        onnx.load(model), block_size=32, is_symmetric=True, quant_format=QuantFormat[form]
    )
    quantizer.process()
    onnx.save(quantizer.model.model, str(made))


REWRITES: dict[str, Callable[[str, Path, Path], None]] = {
    "ort": optimize,
    "dynamic": quantize_dynamic,
    "qdq": quantize_qdq,
    "qdq-products": quantize_qdq_products,
    "qoperator": quantize_qoperator,
    "int4": quantize_int4,
    "int4-qdq": quantize_int4_qdq,
}
"""By the name that follows the exporter's: family, file, file to be written."""
