"""What a graph is fed: sizes from shapes, defaults for what is left out, a batch as single sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.ir.dims import Dim, Shape, axis, resolve
from compiler.ir.graph import Cache, Graph, Input, Role
from compiler.ir.tensor import Array

Sizes = Mapping[str, int]


def sizes_of(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The lengths of the free axes, from the shapes of what is fed."""
    sizes: dict[str, int] = {"past": 0}
    for given in graph.inputs:
        feed = feeds.get(given.name)
        if feed is not None and given.value.shape is not None and len(given.value.shape) == feed.ndim:
            _unify(given.value.shape, feed.shape, sizes)
    for cache in graph.caches:
        if cache.past_key in feeds and not cache.cross:
            sizes["batch"], _, sizes["past"] = feeds[cache.past_key].shape[-4:-1]
    ids = next((feeds[i.name] for i in graph.inputs if i.role is Role.IDS and i.name in feeds), None)
    if ids is not None:
        sizes.setdefault("sequence", ids.shape[-1])
        sizes.setdefault("batch", ids.shape[0] if ids.ndim > 1 else 1)
        sizes.setdefault("tokens", int(ids.size))
    return sizes


def default_feed(given: Input, sizes: Sizes) -> Array | None:
    """What an input holds unless told otherwise: no padding, positions in order, token type 0."""
    if given.value.shape is None:
        return None
    shape = tuple(resolve(e, {"source": 0, **sizes}) for e in given.value.shape)
    dtype = given.value.dtype.numpy
    match given.role:
        case Role.MASK if len(shape) == 1:
            # How many tokens each sequence has.
            return np.full(shape, sizes.get("past", 0) + sizes.get("sequence", 0), dtype)
        case Role.MASK:
            return np.ones(shape, dtype)
        case Role.TOKEN_TYPES:
            return np.zeros(shape, dtype)
        case Role.POSITIONS:
            past = sizes.get("past", 0)
            return np.broadcast_to(np.arange(past, past + shape[-1]), shape).astype(dtype)
        case Role.SOURCE:
            # Without rows of a source the cache has to hold what is needed of them.
            return np.zeros((*shape[:-2], 0, shape[-1]), dtype)
        case _:
            return None


def sequences(graph: Graph, feeds: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The feeds of each sequence of a batch, for a graph whose values are rows of tokens.

    What has one axis more than the graph's input is a batch, as the ONNX file has it. A graph that still has
    the file's axes takes the feeds as they are.
    """
    flat = {i.name: len(i.value.shape or ()) for i in graph.inputs if _is_rows(i)}
    if not flat:
        return [dict(feeds)]
    counts = [feeds[n].shape[0] for n, rank in flat.items() if n in feeds and feeds[n].ndim > rank]
    if not counts:
        return [dict(feeds)]
    caches = _cache_inputs(graph.caches)
    return [_part(feeds, flat, caches, at) for at in range(max(counts))]


def as_rows(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds with heads [batch, heads, tokens, depth] laid side by side as rows."""
    heads = {i.name for i in graph.inputs if i.heads}
    return {n: f.swapaxes(1, 2).reshape(f.shape[0], f.shape[2], -1) if n in heads and f.ndim == 4 else f for n, f in feeds.items()}


def as_heads(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Rows [tokens, heads*depth] as [heads, tokens, depth] where the file has outputs so."""
    heads = dict(graph.by_head)
    return {n: v.reshape(len(v), heads[n], -1).swapaxes(0, 1) if n in heads else v for n, v in values.items()}


def join(parts: Sequence[dict[str, Array]], graph: Graph) -> dict[str, Array]:
    """The outputs of a batch from those of its sequences: rows get a batch axis, caches have theirs."""
    kept = {n for c in graph.caches for n in (c.present_key, c.present_value)}
    return {
        name: np.concatenate([p[name] for p in parts], -4)
        if name in kept
        else np.stack([p[name] for p in parts])
        for name in parts[0]
    }


def _is_rows(given: Input) -> bool:
    return (given.value.shape or ())[:1] in ((axis("tokens"),), (axis("source"),))


def _cache_inputs(caches: Sequence[Cache]) -> set[str]:
    return {name for c in caches for name in (c.past_key, c.past_value) if name}


def _part(feeds: Mapping[str, Array], flat: Mapping[str, int], caches: set[str], at: int) -> dict[str, Array]:
    part: dict[str, Array] = {}
    for name, feed in feeds.items():
        if name in flat and feed.ndim > flat[name]:
            part[name] = feed[at % feed.shape[0]]
        elif name in caches:
            part[name] = feed[..., at : at + 1, :, :, :]
        else:
            part[name] = feed
    return part


def _unify(shape: Shape, actual: tuple[int, ...], sizes: dict[str, int]) -> None:
    for extent, size in zip(shape, actual, strict=True):
        if isinstance(extent, Dim) and len(extent.terms) == 1:
            (names, factor) = extent.terms[0]
            if len(names) == 1 and factor == 1:
                sizes[names[0]] = size
