"""What a graph is fed: sizes from shapes, defaults for what is left out, a batch as single sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

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
            shape = feeds[cache.past_key].shape
            sizes["batch"], sizes["past"] = shape[0 if cache.flat else -4], shape[-2]
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
        case Role.POSITIONS if is_of_source(given):
            return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
        case Role.SOURCE_IDS:
            # Without a source the cache has to hold what is needed of it.
            return np.zeros((*shape[:-1], 0), dtype)
        case Role.START:
            return np.full(shape, sizes.get("past", 0), dtype)
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


def canonical_feeds(
    graph: Graph, ids: NDArray[np.int64], positions: NDArray[np.int64], rows: Mapping[str, Array]
) -> dict[str, Array | None]:
    """What each input of a canonical graph is fed in a step of one sequence; None for one that is not given.

    `rows` are the inputs that are rows of the tokens, or rows or ids of the source.
    """
    source = next((len(rows[i.name]) for i in graph.inputs if is_of_source(i) and i.name in rows), 0)
    found: dict[str, Array | None] = {}
    for given in graph.inputs:
        match given.role:
            case Role.IDS:
                found[given.name] = ids
            case Role.POSITIONS:
                found[given.name] = np.arange(source) if is_of_source(given) else positions
            case Role.TOKEN_TYPES:
                found[given.name] = np.zeros(len(ids), np.int64)
            case Role.SOURCE | Role.SOURCE_IDS | Role.OTHER:
                fed = rows.get(given.name)
                found[given.name] = default_feed(given, {}) if fed is None else fed
            case _:
                found[given.name] = None
    return found


def sequences(graph: Graph, feeds: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The feeds of each sequence of a batch, for a graph whose values are rows of tokens.

    What has one axis more than the graph's input is a batch, as the ONNX file has it. A graph that still has
    the file's axes takes the feeds as they are.
    """
    flat = {i.name: len(i.value.shape or ()) for i in graph.inputs if _is_rows(i)}
    counts = [feeds[n].shape[0] for n, rank in flat.items() if n in feeds and feeds[n].ndim > rank]
    if not counts:
        return [dict(feeds)]
    kept = set(cache_names(graph))
    return [_part(feeds, flat, kept, at) for at in range(max(counts))]


def cache_names(graph: Graph) -> list[str]:
    """What keys and values of each cache are fed and given as, [batch, heads, tokens, d] in any file."""
    return [f"cache {at} {what}" for at in range(len(graph.caches)) for what in ("keys", "values")]


def with_caches(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """`feeds` with the caches also under their `cache_names`."""
    given = dict(feeds)
    for at, cache in enumerate(graph.caches):
        for half, (what, name) in enumerate((("keys", cache.past_key), ("values", cache.past_value))):
            if name in feeds:
                given[f"cache {at} {what}"] = _kept(feeds[name], cache, half)
    return given


def _kept(feed: Array, cache: Cache, half: int) -> Array:
    """[batch, heads, tokens, d] from what the file has."""
    if feed.ndim == 5:
        feed = feed[half]
    depth = (cache.head_dim, cache.v_head_dim)[half]
    return feed.reshape(*feed.shape[:2], cache.kv_heads, depth).swapaxes(1, 2) if cache.flat else feed


def without_caches(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """`values` with the caches under the file's names and in its layout."""
    names = set(cache_names(graph))
    found = {name: value for name, value in values.items() if name not in names}
    for at, cache in enumerate(graph.caches):
        halves = [values[f"cache {at} {what}"] for what in ("keys", "values")]
        if cache.flat:
            halves = [
                h.swapaxes(1, 2).reshape(h.shape[0], h.shape[2], h.shape[1] * h.shape[3]) for h in halves
            ]
        found |= dict(zip((cache.present_key, cache.present_value), halves, strict=True))
        if cache.is_stacked:
            found[cache.present_key] = np.stack(halves)
    found.pop("", None)
    return found


def as_rows(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds with heads [batch, heads, tokens, depth] laid side by side as rows."""
    heads = {i.name for i in graph.inputs if i.heads}
    return {
        n: f.swapaxes(1, 2).reshape(f.shape[0], f.shape[2], -1) if n in heads and f.ndim == 4 else f
        for n, f in feeds.items()
    }


def as_heads(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Rows [tokens, heads*depth] as [heads, tokens, depth] where the file has outputs so."""
    heads = dict(graph.by_head)
    return {n: v.reshape(len(v), heads[n], -1).swapaxes(0, 1) if n in heads else v for n, v in values.items()}


def join(parts: Sequence[dict[str, Array]], graph: Graph) -> dict[str, Array]:
    """The outputs of a batch from those of its sequences: rows get a batch axis, caches have theirs."""
    kept = set(cache_names(graph))
    return {
        name: (np.concatenate if name in kept else np.stack)([p[name] for p in parts]) for name in parts[0]
    }


def is_of_source(given: Input) -> bool:
    """Whether an input has a row, an id or a position for each row of the source."""
    return given.role in (Role.SOURCE, Role.SOURCE_IDS) or axis("source") in (given.value.shape or ())


def _is_rows(given: Input) -> bool:
    return given.role is Role.SOURCE or (given.value.shape or ())[:1] in (
        (axis("tokens"),),
        (axis("source"),),
    )


def _part(feeds: Mapping[str, Array], flat: Mapping[str, int], kept: set[str], at: int) -> dict[str, Array]:
    part: dict[str, Array] = {}
    for name, feed in feeds.items():
        if name in flat and feed.ndim > flat[name]:
            part[name] = feed[at % feed.shape[0]]
        elif name in kept:
            part[name] = feed[at : at + 1]
        else:
            part[name] = feed
    return part


def _unify(shape: Shape, actual: tuple[int, ...], sizes: dict[str, int]) -> None:
    for extent, size in zip(shape, actual, strict=True):
        if isinstance(extent, Dim) and len(extent.terms) == 1:
            (names, factor) = extent.terms[0]
            if len(names) == 1 and factor == 1:
                sizes[names[0]] = size
