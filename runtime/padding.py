"""Which places of a batch hold tokens: masks and positions, read as ONNX Runtime's inputs have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail

Array = NDArray[Any]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Places:
    """Which places of a sequence hold tokens: `old` of those that the cache had filled, `new` of those that are fed."""

    old: Flags
    new: Flags

    @property
    def past(self) -> int:
        """Tokens that are in the cache already."""
        return int(self.old.sum())

    @property
    def tokens(self) -> int:
        """New tokens."""
        return int(self.new.sum())

    @property
    def leads(self) -> bool:
        """Whether padding comes before the first token."""
        every = np.concatenate([self.old, self.new])
        return bool(every.any()) and not bool(every[0])


def places_of(mask: Array | None, name: str, places: int, filled: int, new: int) -> Places:
    """What the mask of one sequence says of a cache with `places` places, `filled` of them, and of `new` tokens.

    `mask` has an entry for every filled place and new token (1: a token, 0: padding), for the new tokens alone, for
    every place of the cache, or is one number: how many of them are tokens, from the first on. Raises `CimError` E0601
    for anything else, and for padding between tokens.
    """
    total = filled + new
    if mask is None:
        return Places(np.ones(filled, bool), np.ones(new, bool))
    if mask.ndim == 0:
        flags = np.arange(total) < int(mask)
    else:
        flags = _flags(mask, name, places, filled, new)
    found = np.flatnonzero(flags)
    if found.size and int(found[-1]) - int(found[0]) + 1 != found.size:
        message = f"{name} has padding between tokens; it may stand at the ends of a sequence only"
        raise fail("E0601", message, help="move it to the end of the sequence")
    return Places(flags[:filled], flags[filled:])


def _flags(mask: Array, name: str, places: int, filled: int, new: int) -> Flags:
    values = np.asarray(mask)
    if not np.isin(values, (0, 1)).all() or (values.ndim > 1 and not (values == 1).all()):
        message = f"{name} is no mask of ones and zeros, one for each place"
        raise fail("E0601", message, help="1 for a token, 0 for padding, [batch, places]")
    flags = values.reshape(-1) == 1
    if values.ndim > 1:
        return np.ones(filled + new, bool)
    if flags.size == filled + new:
        return np.asarray(flags)
    if flags.size == new:
        return np.concatenate([np.ones(filled, bool), flags])
    if flags.size == places:
        return np.asarray(flags[: filled + new])
    wanted = f"{filled} places of the cache and {new} tokens"
    raise fail("E0601", f"{name} has {flags.size} entries for a sequence; there are {wanted}")


def check_ids(ids: Array, padding: tuple[int, ...]) -> None:
    """Refuse (E0601) padding among the tokens of a model that counts positions without it."""
    found = np.flatnonzero(np.isin(ids, padding)) if padding else np.zeros(0, int)
    if found.size:
        at = int(found[0])
        message = f"token {at} is {int(np.asarray(ids).reshape(-1)[at])}, which the model takes for padding"
        raise fail("E0601", message, help="leave padding out, or mask it at the end of the sequence")


def check_positions(positions: Array, name: str, places: Places) -> None:
    """Positions of tokens must go on from those in the cache. Raises `CimError` E0601 if they do not."""
    found = np.asarray(positions).reshape(-1)
    if found.size != places.new.size:
        raise fail("E0601", f"{name} has {found.size} positions for {places.new.size} tokens")
    wanted = places.past + np.arange(places.tokens)
    if not np.array_equal(found[places.new], wanted):
        listed = ", ".join(map(str, found[places.new][:4].tolist()))
        message = (
            f"{name} has other positions ({listed}, ...) than the program, which counts on from {places.past}"
        )
        raise fail("E0601", message, help="tokens have the positions 0, 1, 2, ... of their sequence")
