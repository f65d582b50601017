"""Arenas while they are built: pieces, one behind the other, each with its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .layout import LINE

Words = NDArray[np.int64]


class Pieces:
    """An arena in the making. The first word is at 0, which is no place that anything points to."""

    def __init__(self, head: int) -> None:
        self._pieces: list[Words] = [np.zeros(head, np.int64)]
        self.size = head

    def add(self, words: Words | Sequence[int]) -> int:
        """Put words behind the others; where they are."""
        piece = np.asarray(words, np.int64).reshape(-1)
        self._pieces.append(piece)
        place = self.size
        self.size += piece.size
        return place

    def all(self) -> Words:
        """The arena."""
        return np.concatenate(self._pieces)


def enlarged(words: Words, size: int) -> Words:
    """An arena of `size` words that begins with these, at a cache line; the rest is anything."""
    room = np.empty(size + LINE, np.int64)
    first = -room.ctypes.data // room.itemsize % LINE
    larger = room[first : first + size]
    larger[: words.size] = words
    return larger
