"""Inputs with which a model is traced, and the model as a module that takes and gives plain tensors."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from tests.exports.families import FAMILIES, Kind

BATCH, TOKENS, PAST, SOURCE = 2, 5, 3, 7
"""Sizes of the example inputs. None is 1: the dynamo exporter takes a size of 1 for a constant."""

_ROWS = {0: "batch", 1: "sequence"}


@dataclass(frozen=True, slots=True)
class Example:
    """Names and values of the inputs, names of the outputs, and the dynamic axes of each input."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]


def example(family: str, model: Any, cached: bool) -> Example:
    """Inputs for a model of this family; with `cached`, what earlier tokens left is among them."""
    makers = {Kind.IMAGE: _images, Kind.SEQ2SEQ: _two_sequences, Kind.SPEECH: _speech}
    return _cached_tokens(model) if cached else makers.get(FAMILIES[family].kind, _tokens)(model)


def _ids(model: Any, *shape: int) -> Any:
    import torch

    return torch.randint(3, model.config.get_text_config().vocab_size, shape)


def _images(model: Any) -> Example:
    import torch

    size = model.config.image_size
    values = (torch.randn(BATCH, model.config.num_channels, size, size),)
    return Example(("pixel_values",), values, ("rows",), {"pixel_values": {0: "batch"}})


def _tokens(model: Any) -> Example:
    import torch

    values = (_ids(model, BATCH, TOKENS), torch.ones(BATCH, TOKENS, dtype=torch.long))
    axes = {"input_ids": dict(_ROWS), "attention_mask": dict(_ROWS)}
    return Example(("input_ids", "attention_mask"), values, ("output",), axes)


def _two_sequences(model: Any) -> Example:
    import torch

    names = ("input_ids", "attention_mask", "decoder_input_ids")
    mask = torch.ones(BATCH, SOURCE, dtype=torch.long)
    source = {0: "batch", 1: "source"}
    axes = {"input_ids": source, "attention_mask": source, "decoder_input_ids": dict(_ROWS)}
    return Example(names, (_ids(model, BATCH, SOURCE), mask, _ids(model, BATCH, TOKENS)), ("logits",), axes)


def _speech(model: Any) -> Example:
    import torch

    c = model.config
    values = (torch.randn(BATCH, c.num_mel_bins, 2 * c.max_source_positions), _ids(model, BATCH, TOKENS))
    axes = {"input_features": {0: "batch"}, "decoder_input_ids": dict(_ROWS)}
    return Example(("input_features", "decoder_input_ids"), values, ("logits",), axes)


def _cached_tokens(model: Any) -> Example:
    import torch

    names = ["input_ids", "attention_mask", "position_ids"]
    total = torch.ones(BATCH, PAST + TOKENS, dtype=torch.long)
    positions = torch.arange(PAST, PAST + TOKENS).expand(BATCH, -1).contiguous()
    values = [_ids(model, BATCH, TOKENS), total, positions]
    axes = {n: dict(_ROWS) for n in names} | {"attention_mask": {0: "batch", 1: "total"}}
    outputs = ["logits"]
    for number, layer in enumerate(_caches(model)):
        for kind, cache in zip(("key", "value"), layer, strict=True):
            names.append(f"past_key_values.{number}.{kind}")
            outputs.append(f"present.{number}.{kind}")
            values.append(cache)
            axes[names[-1]] = {0: "batch", 2: "past"}
    return Example(tuple(names), tuple(values), tuple(outputs), axes)


def _caches(model: Any) -> list[tuple[Any, Any]]:
    """Random keys and values of PAST tokens for each layer, shaped as a run of the model shapes them."""
    import torch

    made = model(_ids(model, BATCH, PAST), use_cache=True).past_key_values.to_legacy_cache()
    return [(torch.randn_like(key), torch.randn_like(value)) for key, value in made]


def without_cache(family: str, model: Any, names: tuple[str, ...]) -> Any:
    """A module that takes the inputs of these names by position and gives the first output."""
    import torch

    has_cache = FAMILIES[family].kind in (Kind.DECODER, Kind.SEQ2SEQ, Kind.SPEECH)
    extra = {"use_cache": False} if has_cache else {}

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *values: Any) -> Any:
            return self.inner(**dict(zip(names, values, strict=True)), **extra)[0]

    return Plain()


def with_cache(model: Any) -> Any:
    """A module with keys and values of each layer as further inputs and outputs."""
    import torch
    from transformers import DynamicCache

    takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    class Cached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *values: Any) -> Any:
            ids, mask, positions, *past = values
            cache = DynamicCache.from_legacy_cache(tuple(zip(past[::2], past[1::2], strict=True)))
            where = {"position_ids": positions} if takes_positions else {}
            made = self.inner(
                input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **where
            )
            return (
                made.logits,
                *(part for layer in made.past_key_values.to_legacy_cache() for part in layer),
            )

    return Cached()
