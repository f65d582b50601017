"""Arenas while they are built: pieces, one behind the other, each with its place."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .layout import LINE

Words = NDArray[np.int64]
WORD = 8  # bytes
_NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux, which `mmap` names from Python 3.12 on


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

    def add_lines(self, words: Words) -> int:
        """Put rows behind the others, from the beginning of a cache line on."""
        self.add(np.zeros(-self.size % LINE, np.int64))
        return self.add(words)

    def all(self) -> Words:
        """The arena."""
        return np.concatenate(self._pieces)


def memory_words() -> int:
    """How many words the machine's memory has; 0 where addresses cannot be set aside for them."""
    if sys.platform != "linux":
        return 0
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // WORD


def reserved(words: Words, size: int) -> Words:
    """An arena of at least `size` words that begins with these. Where the system allows it has addresses for all of the
    machine's memory, and takes memory as it is written: growing, it is not moved."""
    most = memory_words()
    if sys.platform != "linux" or most <= size:
        return enlarged(words, size)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    try:
        room = mmap.mmap(-1, WORD * most, flags=flags)
    except OSError:  # there is a limit on addresses
        return enlarged(words, size)
    room.madvise(mmap.MADV_HUGEPAGE)
    arena = np.frombuffer(room, np.int64)
    arena[: words.size] = words
    return arena


def enlarged(words: Words, size: int) -> Words:
    """An arena of `size` words that begins with these, at a cache line; the rest is anything."""
    room = np.empty(size + LINE, np.int64)
    first = -room.ctypes.data // WORD % LINE
    larger = room[first : first + size]
    larger[: words.size] = words
    return larger
