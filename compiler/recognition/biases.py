"""What is added to the scores of an attention by head and distance, read off from scores of zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.ir.evaluate import Interpreter
from compiler.ir.tensor import Array
from compiler.ops.call import KernelError
from compiler.recognition.regions import Lengths

LOOK = 320
"""How far a bias is looked at. T5 has buckets up to 128; what has not settled at half of this is none by distance."""

FAR = 900
"""Where a bias that has settled is looked at again."""

UNSETTLED = "the bias by distance goes on changing far away"

Look = Callable[[Interpreter], tuple[Array, Array]]
"""[heads, queries, keys]: what is added to scores of zero, and whether the key is seen, at a probe's sizes."""


HIDDEN = -1e4
"""The bias of keys out of sight: its exponential is nothing beside any score."""


def read_bias(lengths: Lengths, look: Look, causal: bool, hides: bool = False) -> Array | str | None:
    """The bias as `ir.graph.Attention` has it, None if there is none, or why it is none that can be expressed.

    With `hides`, keys that are not seen have the bias `HIDDEN` (a window to both sides).
    """
    if hides:
        look = _hiding(look)
    elif not _is_there(look(lengths.at(4))) and not _is_there(look(lengths.at(3, 5))):
        return None

    def at(tokens: int) -> tuple[Array, Array] | None:
        """What is seen at a length; None where a table ends before it."""
        try:
            return look(_probe(lengths, tokens, causal))
        except (KernelError, ValueError, IndexError):
            return None

    if (seen := at(LOOK)) is not None:
        bias = _read(seen, LOOK // 2)
        far = at(FAR)
        if far is not None and not isinstance(bias, str) and not _agrees(bias, _by_distance(far)):
            return "the bias by distance is another one in long sequences"
        return bias
    # A table that ends says all there is to say; just behind its end it may still be taken for one of one column.
    last = _last(lambda tokens: at(tokens) is not None)
    found = [_read(seen, LOOK) for tokens in (last, last - 1) if (seen := at(tokens)) is not None]
    near = _by_distance(look(_probe(lengths, 4, causal)))
    good = (bias for bias in found if not isinstance(bias, str) and _agrees(bias, near))
    return next(good, "what is added to the scores is no function of the distance of the key from the query")


def _read(looked: tuple[Array, Array], furthest: int) -> Array | str:
    """The slopes, or the table, that explain what is seen; or why there are none."""
    found = _by_distance(looked)
    if found is None:
        return "what is added to the scores is no function of the distance of the key from the query"
    slopes = _slopes(found)
    bias = _settled(found, furthest) if slopes is None else slopes
    return UNSETTLED if bias is None else bias.astype(np.float32)


def _last(holds: Callable[[int], bool]) -> int:
    """The largest number below `LOOK` for which something holds that holds for all smaller ones (from 4 on)."""
    low, high = 4, LOOK
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _hiding(look: Look) -> Look:
    def looked(probe: Interpreter) -> tuple[Array, Array]:
        added, seen = look(probe)
        return np.where(seen, added, HIDDEN), np.ones_like(seen)

    return looked


def _probe(lengths: Lengths, tokens: int, causal: bool) -> Interpreter:
    return lengths.at(2, tokens - 2) if causal and lengths.has_past() else lengths.at(tokens)


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


def _settled(found: dict[int, NDArray[np.float64]], furthest: int) -> Array | None:
    """The table over distances up to where the numbers stop changing; None if that is beyond `furthest`."""
    if 0 not in found:
        return None
    heads = len(found[0])
    reach = max((abs(d) for d in found if not _same(found, d)), default=0) + 1
    if reach > furthest:
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


def _agrees(bias: Array, far: dict[int, NDArray[np.float64]] | None) -> bool:
    if far is None:
        return False
    if bias.ndim == 1:
        return all(np.allclose(v, bias * d, rtol=1e-4, atol=1e-5) for d, v in far.items())
    reach = bias.shape[1] // 2
    return all(
        np.allclose(v, bias[:, reach + max(-reach, min(reach, d))], rtol=1e-5, atol=1e-6)
        for d, v in far.items()
    )
