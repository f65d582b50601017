"""The exporters: a family goes in, ONNX files come out. Each runs in a process of its own (see `process`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from tests.exports.examples import example, with_cache, without_cache
from tests.exports.families import FAMILIES, Kind, build


class Exporter(Enum):
    """What writes the file. With PAST, keys and values of earlier tokens are inputs and outputs."""

    SCRIPT = "script"
    """`torch.onnx.export` with the TorchScript tracer."""
    DYNAMO = "dynamo"
    """`torch.onnx.export` of an exported program: one file for each opset."""
    DYNAMO_PAST = "dynamo-past"
    OPTIMUM = "optimum"
    OPTIMUM_PAST = "optimum-past"
    """Of an encoder with a decoder: both, the decoder with a past, and the two decoders merged."""
    GENAI_FP32 = "genai-fp32"
    """The model builder of onnxruntime-genai."""
    GENAI_INT4 = "genai-int4"


_TASKS = {
    Kind.DECODER: "text-generation",
    Kind.ENCODER: "feature-extraction",
    Kind.IMAGE: "feature-extraction",
    Kind.SEQ2SEQ: "text2text-generation",
    Kind.SPEECH: "automatic-speech-recognition",
}


def export_script(family: str, folder: Path, opsets: Sequence[int]) -> list[Path]:
    """The TorchScript exporter. The current one cannot trace the masks of decoders."""
    import torch

    model = build(family)
    given = example(family, model, cached=False)
    paths = [folder / f"opset{opset}.onnx" for opset in opsets]
    for path, opset in zip(paths, opsets, strict=True):
        torch.onnx.export(
            without_cache(family, model, given.names),
            given.values,
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=list(given.names),
            output_names=list(given.outputs),
            dynamic_axes=given.axes,
        )
    return paths


def export_dynamo(family: str, folder: Path, opsets: Sequence[int], cached: bool) -> list[Path]:
    """The dynamo exporter: the model is captured once and written for each opset."""
    import torch

    model = build(family)
    given = example(family, model, cached)
    module = with_cache(model) if cached else without_cache(family, model, given.names)
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(given.axes[name], dynamic) for name in given.names)
    captured = torch.export.export(module, given.values, dynamic_shapes=(shapes,), strict=False)
    paths = [folder / f"opset{opset}.onnx" for opset in opsets]
    for path, opset in zip(paths, opsets, strict=True):
        torch.onnx.export(
            captured,
            f=str(path),
            dynamo=True,
            opset_version=opset,
            input_names=list(given.names),
            output_names=list(given.outputs),
            external_data=False,
            verbose=False,
        )
    return paths


def export_optimum(family: str, folder: Path, cached: bool) -> list[Path]:
    """Optimum's exporter."""
    from optimum.exporters.onnx import onnx_export_from_model

    task = _TASKS[FAMILIES[family].kind] + ("-with-past" if cached else "")
    onnx_export_from_model(build(family), folder, task=task, do_validation=False)
    return sorted(folder.glob("*.onnx"))


def export_genai(family: str, folder: Path, precision: str) -> list[Path]:
    """The model builder of onnxruntime-genai, for the CPU."""
    import transformers
    from onnxruntime_genai.models.builder import create_model

    source, cache = folder / "checkpoint", folder / "cache"
    build(family).save_pretrained(source)
    config = transformers.AutoConfig.from_pretrained(source)
    _save_tokenizer(source, config.vocab_size)
    (cache / folder.name).mkdir(parents=True)  # left empty, it is deleted too early
    details = {"extra_kwargs": {}, "hf_name": str(source), "hf_config": config}
    create_model(family, str(source), str(folder), precision, "cpu", str(cache), hf_details=details)
    return sorted(folder.glob("*.onnx"))


def _save_tokenizer(folder: Path, words: int) -> None:
    """A tokenizer of `words` whole words: the builder copies one, and stops where there is none."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({f"w{n}": n for n in range(words)}, unk_token="w0"))
    special = {"bos_token": "w1", "eos_token": "w2", "pad_token": "w0", "unk_token": "w0"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)


EXPORTERS: dict[Exporter, Callable[[str, Path, Sequence[int]], list[Path]]] = {
    Exporter.SCRIPT: export_script,
    Exporter.DYNAMO: lambda family, folder, opsets: export_dynamo(family, folder, opsets, cached=False),
    Exporter.DYNAMO_PAST: lambda family, folder, opsets: export_dynamo(family, folder, opsets, cached=True),
    Exporter.OPTIMUM: lambda family, folder, _: export_optimum(family, folder, cached=False),
    Exporter.OPTIMUM_PAST: lambda family, folder, _: export_optimum(family, folder, cached=True),
    Exporter.GENAI_FP32: lambda family, folder, _: export_genai(family, folder, "fp32"),
    Exporter.GENAI_INT4: lambda family, folder, _: export_genai(family, folder, "int4"),
}
"""By exporter: family, folder, opsets (of those that know any) to the files."""


def load_all() -> None:
    """Import what the exporters need, so that the processes that are forked for each export have it."""
    import onnxruntime_genai.models.builder
    import onnxscript
    import optimum.exporters.onnx.convert
    import torch
    import transformers.modeling_utils

    torch.set_num_threads(1)
    loaded: tuple[Any, ...] = (onnxruntime_genai, onnxscript, optimum, transformers)
    assert all(loaded)
