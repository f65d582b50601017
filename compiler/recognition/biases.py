"""What is added to the scores of an attention by head and distance, read off from scores of zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.ir.evaluate import Interpreter
from compiler.ir.tensor import Array
from compiler.recognition.regions import Prober

LOOK = 320
"""How far a bias is looked at. T5 has buckets up to 128; what has not settled at half of this is none by distance."""

FAR = 900
"""Where a bias that has settled is looked at again."""

Look = Callable[[Interpreter], tuple[Array, Array]]
"""[heads, queries, keys]: what is added to scores of zero, and whether the key is seen, at a probe's sizes."""


def read_bias(prober: Prober, look: Look, causal: bool) -> Array | str | None:
    """The bias as `ir.graph.Attention` has it, None if there is none, or why it is none that can be expressed."""
    if not _is_there(look(prober.at(4))) and not _is_there(look(prober.at(3, 5))):
        return None
    found = _by_distance(look(_probe(prober, LOOK, causal)))
    if found is None:
        return "what is added to the scores is no function of the distance of the key from the query"
    bias = _settled(found) if _slopes(found) is None else _slopes(found)
    if bias is None:
        return "the bias by distance goes on changing far away"
    far = _by_distance(look(_probe(prober, FAR, causal)))
    if far is None or not _agrees(bias, far):
        return "the bias by distance is another one in long sequences"
    return bias.astype(np.float32)


def _probe(prober: Prober, tokens: int, causal: bool) -> Interpreter:
    return prober.at(2, tokens - 2) if causal and prober.has_past() else prober.at(tokens)


def _is_there(looked: tuple[Array, Array]) -> bool:
    """Whether the keys that are seen get different numbers."""
    added, seen = _own_is_zero(*looked)
    return bool(np.abs(np.where(seen, added, 0)).max(initial=0) > 1e-9)


def _own_is_zero(added: Array, seen: Array) -> tuple[Array, Array]:
    """The numbers relative to that of the query's own key: a constant in a row changes no share."""
    _, queries, keys = added.shape
    own = np.arange(keys - queries, keys)
    if queries > keys:
        return np.zeros_like(added), seen
    return added - added[:, np.arange(queries), own][:, :, None], seen


def _by_distance(looked: tuple[Array, Array]) -> dict[int, NDArray[np.float64]] | None:
    """The numbers of each head by distance of the key from the query; None if they depend on more."""
    added, seen = _own_is_zero(*looked)
    _, queries, keys = added.shape
    shared = np.asarray(seen.all(axis=0))
    found: dict[int, NDArray[np.float64]] = {}
    for d in range(1 - keys, queries):
        at = shared.diagonal(d + keys - queries)
        if not at.any():
            continue
        values = added.diagonal(d + keys - queries, 1, 2)[:, at]
        if np.ptp(values, axis=1).max() > 1e-6 * max(1.0, float(np.abs(values).max())):
            return None
        found[d] = values[:, 0].astype(np.float64)
    return found


def _slopes(found: dict[int, NDArray[np.float64]]) -> Array | None:
    """The slope of each head if the numbers grow with the distance."""
    near = found.get(-1)
    if near is None:
        return None
    slopes = -near
    fits = all(np.allclose(v, slopes * d, rtol=1e-5, atol=1e-7) for d, v in found.items())
    return np.asarray(slopes) if fits else None


def _settled(found: dict[int, NDArray[np.float64]]) -> Array | None:
    """The table over distances up to where the numbers stop changing."""
    if 0 not in found:
        return None
    heads = len(found[0])
    reach = max((abs(d) for d in found if not _same(found, d)), default=0) + 1
    if reach > LOOK // 2:
        return None
    table = np.zeros((heads, 2 * reach + 1))
    for d in range(-reach, reach + 1):
        if d in found:
            table[:, reach + d] = found[d]
    return table


def _same(found: dict[int, NDArray[np.float64]], d: int) -> bool:
    """Whether the number at a distance is that of the furthest on its side."""
    end = min(found) if d < 0 else max(found)
    return np.allclose(found[d], found[end], rtol=0, atol=1e-9)


def _agrees(bias: Array, far: dict[int, NDArray[np.float64]]) -> bool:
    if bias.ndim == 1:
        return all(np.allclose(v, bias * d, rtol=1e-4, atol=1e-5) for d, v in far.items())
    reach = bias.shape[1] // 2
    return all(
        np.allclose(v, bias[:, reach + max(-reach, min(reach, d))], rtol=1e-5, atol=1e-6)
        for d, v in far.items()
    )
