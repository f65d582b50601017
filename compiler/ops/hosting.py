"""What the host may run of a model, and what it may not, with the reason.

The host runs ONNX Runtime, or ONNX's reference evaluator, so it can do what they can. Refused is what
cannot be told in advance how long it takes, or what does not give the same result twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft")
"""The operator sets that the host knows; of others nobody knows what they mean."""


@dataclass(frozen=True, slots=True)
class HostRefusal:
    """Why the host does not run an operator, and what would help."""

    reason: str
    help: str


_LOOP = HostRefusal(
    "how often a loop runs depends on data, so its time cannot be told in advance",
    "export one step of the loop",
)
_SEARCH = HostRefusal("a search loop in a node cannot be scheduled ahead", "compile the decoder inside it")
_RANDOM = HostRefusal(
    "it draws random numbers, so two runs would differ", "draw them outside and feed them as an input"
)
_FILES = HostRefusal(
    "it decodes image files, for which a library is missing", "decode the image outside and feed its pixels"
)

REFUSED: Mapping[str, HostRefusal] = {
    "Loop": _LOOP,
    "BeamSearch": _SEARCH,
    "WhisperBeamSearch": _SEARCH,
    "GreedySearch": _SEARCH,
    "Sampling": _SEARCH,
    "Bernoulli": _RANDOM,
    "Multinomial": _RANDOM,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "ImageDecoder": _FILES,
}
"""By operator type; no two domains use one of these names for different things."""


def host_refusal(domain: str, kind: str) -> HostRefusal | None:
    """Why the host does not run this operator; None if it does."""
    if domain not in DOMAINS:
        reason = f"operators of the domain {domain} are custom: nobody here knows what they mean"
        return HostRefusal(reason, "export the model without custom operators")
    return REFUSED.get(kind)
