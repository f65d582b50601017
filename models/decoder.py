"""Inputs, outputs and masks of a decoder with Optimum's cache convention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import numpy_helper

from models.graph import Dim, Recorder
from models.layers import BOOL, FLOAT, INT64

BATCH, SEQUENCE, PAST = "batch_size", "sequence_length", "past_sequence_length"
TOTAL = f"{PAST} + {SEQUENCE}"


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache inputs and outputs `past_key_values.N.*` and `present.N.*`, or none of them."""

    layers: int
    heads: int
    head_dim: int
    present: bool

    @property
    def total(self) -> str:
        """Name of the axis over all tokens, old and new."""
        return TOTAL if self.present else SEQUENCE

    def declare_inputs(self, g: Recorder) -> None:
        """`past_key_values.N.{key,value}`: [B, heads, past, head_dim]."""
        for name in self._names("past_key_values"):
            g.input(name, FLOAT, (BATCH, self.heads, PAST, self.head_dim))

    def declare_outputs(self, g: Recorder, vocab: int) -> None:
        """`logits` [B, S, vocab], then `present.N.{key,value}`: [B, heads, past + S, head_dim]."""
        g.output("logits", FLOAT, (BATCH, SEQUENCE, vocab))
        for name in self._names("present"):
            g.output(name, FLOAT, (BATCH, self.heads, TOTAL, self.head_dim))

    def append(self, g: Recorder, layer: int, k: str, v: str) -> tuple[str, str]:
        """Old rows, then the new ones."""
        if not self.present:
            return k, v
        pairs = zip(("key", "value"), (k, v), strict=True)
        keys, values = (
            g.op("Concat", f"past_key_values.{layer}.{kind}", x, axis=-2, out=f"present.{layer}.{kind}")
            for kind, x in pairs
        )
        return keys, values

    def past_length(self, g: Recorder) -> str | None:
        """Tokens in the cache: an int64 scalar, or None without one."""
        return g.size("past_key_values.0.key", 2) if self.present else None

    def _names(self, prefix: str) -> list[str]:
        if not self.present:
            return []
        return [f"{prefix}.{n}.{kind}" for n in range(self.layers) for kind in ("key", "value")]


def declare_ids(g: Recorder) -> None:
    """`input_ids`: [B, S]."""
    g.input("input_ids", INT64, (BATCH, SEQUENCE))


def declare_mask(g: Recorder, cache: Cache) -> None:
    """`attention_mask`: [B, past + S]."""
    g.input("attention_mask", INT64, (BATCH, cache.total))


def declare_positions(g: Recorder) -> None:
    """`position_ids`: [B, S]."""
    g.input("position_ids", INT64, (BATCH, SEQUENCE))


@dataclass(frozen=True, slots=True)
class Lengths:
    """Values about the step: token positions (vector), tokens in the cache and new ones (scalars)."""

    positions: str
    past: str | None
    new: str


def step_lengths(g: Recorder, embeds: str, cache: Cache) -> Lengths:
    """`cache_position` of the new tokens, from embeddings [B, S, hidden]."""
    past = cache.past_length(g)
    new = g.size(embeds, 1)
    if past is None:
        return Lengths(g.arange(new), None, new)
    return Lengths(g.arange(g.op("Add", past, new), past), past, new)


def causal_mask(g: Recorder, embeds: str, padding: str, lengths: Lengths) -> str:
    """Boolean mask [B, 1, S, T]: not after the token's own position, and not padding.

    `padding` is a boolean [B, T]; it is gathered by flat index, as vectorised mask functions are.
    """
    rows = g.size(lengths.positions, 0)
    total = lengths.new if lengths.past is None else g.op("Add", lengths.past, rows)
    batch = g.size(embeds, 0)
    own = g.unsqueeze(g.unsqueeze(g.unsqueeze(lengths.positions, 0), 1), 3)
    sequences = g.unsqueeze(g.unsqueeze(g.unsqueeze(g.arange(batch), 1), 2), 3)
    other = g.arange(total)
    for axis in (0, 1, 2):
        other = g.unsqueeze(other, axis)
    yes = numpy_helper.from_array(np.array([True]))
    always = g.op("ConstantOfShape", g.constant(np.zeros(0, np.int64)), value=yes)
    causal = g.op("And", always, g.cast(g.op("LessOrEqual", other, own), BOOL))
    width = g.op("Gather", g.op("Shape", padding), g.axes(1), axis=0)
    flat = g.op("Flatten", padding, axis=2)
    at = g.op("Add", other, g.op("Mul", sequences, width))
    kept = g.op("Reshape", g.op("Gather", flat, at, axis=0), g.axes(-1), allowzero=0)
    kept = g.op("Reshape", kept, g.op("Concat", g.op("Shape", at), axis=0), allowzero=0)
    mask = g.op("And", causal, g.cast(kept, BOOL))
    dims: tuple[Dim, ...] = (batch, -1, rows, total)
    return g.expand(mask, dims)
