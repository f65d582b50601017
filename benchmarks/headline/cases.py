"""What is compared: models, contexts, batches, how much of a token (scope), and on which kind of system (way)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

MODELS = ("opt-6.7b", "opt-13b", "opt-30b", "llama-2-7b", "llama-3-8b")
CONTEXTS = (512, 2048, 8192, 32768)
BATCHES = (1, 8, 32)


class Scope(Enum):
    """How much of the work on a token is compared."""

    ATTENTION = "attention"
    FFN = "attention+ffn"
    WHOLE = "end-to-end"


class Way(Enum):
    """What is on the CIM chips; the rest is a GPU's beside them."""

    HYBRID = "hybrid"  # attention
    FFN = "hybrid+ffn"  # attention and feed-forward layers
    CIM = "all-cim"  # everything


SCOPES = {
    Way.HYBRID: (Scope.ATTENTION, Scope.WHOLE),
    Way.FFN: (Scope.ATTENTION, Scope.FFN),
    Way.CIM: tuple(Scope),
}
"""The scopes that each way is compared in."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A step of the matrix: `batch` sequences, each with a token that sees `context` tokens.

    The system has room for so many, or for `capacity` tokens a sequence if that is more.
    """

    model: str
    context: int
    batch: int
    capacity: int = 0

    @property
    def room(self) -> int:
        """Tokens of each sequence that the system has room for."""
        return max(self.context, self.capacity)

    @property
    def name(self) -> str:
        """`llama-2-7b 2048x8`; `llama-2-7b 2048x8 of 8192`, on a system that is made for more."""
        more = f" of {self.capacity}" if self.room > self.context else ""
        return f"{self.model} {self.context}x{self.batch}{more}"


def every() -> Iterator[Cell]:
    """The whole matrix."""
    for model in MODELS:
        for context in CONTEXTS:
            for batch in BATCHES:
                yield Cell(model, context, batch)


def some() -> Iterator[Cell]:
    """What is compared without options, in ten minutes on two cores: three models at one context, other contexts and a
    batch of one of them."""
    for model in ("opt-6.7b", "llama-2-7b", "llama-3-8b"):
        yield Cell(model, 2048, 1)
    for context in (512, 8192):
        yield Cell("llama-2-7b", context, 1)
    yield Cell("llama-2-7b", 2048, 8)
