"""Which family goes through which exporter, and what is done to the file afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.exports.exporters import Exporter
from tests.exports.families import FAMILIES, Kind


@dataclass(frozen=True, slots=True)
class Export:
    """`opsets` is for the exporters of torch; `rewrites` are names in `tests.exports.rewrites`."""

    family: str
    exporter: Exporter
    opsets: tuple[int, ...] = ()
    rewrites: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tests and the golden file call it."""
        return f"{self.family}/{self.exporter.value}"


def _of(*kinds: Kind) -> list[str]:
    return [name for name, family in FAMILIES.items() if family.kind in kinds]


DECODERS = _of(Kind.DECODER)
ENCODERS = _of(Kind.ENCODER, Kind.IMAGE)
PAIRS = _of(Kind.SEQ2SEQ, Kind.SPEECH)

NOT_OPTIMUM = ("falcon", "starcoder2", "cliptext", "dinov2")
"""Unknown to the exporter, or it stops: with falcon's groups of heads, and with images of 32 by 32."""

GENAI = (
    *("llama", "llama3", "qwen2", "qwen3", "mistral", "phi3", "phi2"),
    *("gemma", "gemma2", "gemma3", "granite", "olmo", "smollm", "whisper"),
)
GENAI_INT4 = ("llama", "qwen3", "phi3", "gemma2")

REWRITES = {
    "gpt2/optimum-past": ("ort", "dynamic", "qdq", "qdq-products", "qoperator"),
    "llama/optimum-past": ("ort", "dynamic", "int4", "int4-qdq"),
    "opt/optimum-past": ("dynamic", "int4"),
    "qwen2/optimum-past": ("dynamic",),
    "bloom/optimum-past": ("dynamic",),
    "gptneox/optimum-past": ("ort",),
    "phi2/optimum-past": ("ort",),
    "t5/optimum-past": ("ort", "dynamic"),
    "bart/optimum-past": ("ort", "dynamic"),
    "whisper/optimum-past": ("ort",),
    "llama/dynamo-past": ("int4",),
    "bert/script": ("ort", "dynamic", "qdq", "qoperator"),
    "vit/script": ("ort", "dynamic", "qdq", "qoperator"),
    "distilbert/optimum": ("ort", "dynamic", "qdq"),
    "roberta/optimum": ("ort", "dynamic"),
}


def _exports() -> Iterator[Export]:
    for number, family in enumerate(ENCODERS):
        yield Export(family, Exporter.SCRIPT, (14, 17) if family in ("bert", "vit", "distilbert") else (17,))
        yield Export(family, Exporter.DYNAMO, _opsets(family, number))
    for number, family in enumerate(DECODERS):
        yield Export(family, Exporter.DYNAMO_PAST, _opsets(family, number))
    for family in ("gpt2", "llama", "t5", "bart", "whisper"):
        yield Export(family, Exporter.DYNAMO, (18, 23))
    for family in (f for f in (*DECODERS, *PAIRS) if f not in NOT_OPTIMUM):
        yield Export(family, Exporter.OPTIMUM_PAST)
    for family in (f for f in (*ENCODERS, "gpt2", "llama", "t5", "bart") if f not in NOT_OPTIMUM):
        yield Export(family, Exporter.OPTIMUM)
    yield from (Export(family, Exporter.GENAI_FP32) for family in GENAI)
    yield from (Export(family, Exporter.GENAI_INT4) for family in GENAI_INT4)


def _opsets(family: str, number: int) -> tuple[int, ...]:
    """All for a family of each kind, otherwise in turn the plain operators of 18 and the native ones of 23.

    At 23 and later the exporter does not take one key head for all queries.
    """
    if family in ("gpt2", "llama", "gemma2", "bert", "vit"):
        return (18, 20, 23, 24)
    return (18,) if family == "falcon7b" or number % 2 else (23,)


EXPORTS: dict[str, Export] = {
    e.name: Export(e.family, e.exporter, e.opsets, REWRITES.get(e.name, ())) for e in _exports()
}
