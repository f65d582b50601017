"""What compiled functions work on: the arenas, and the memory of all tiles, seen as several types."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I8 = NDArray[np.int8]
Words = NDArray[np.int64]


class Product(NamedTuple):
    """Vectors of int8 times some rows of an array: sums over these, or (`is_across`) over its columns."""

    array: int
    is_across: bool
    to: int  # word of the first sum
    x: int  # byte of the first vector
    pitch: int  # bytes from one vector to the next
    n: int  # vectors
    row: int
    rows: int


class State(NamedTuple):
    """The memory holds, one behind the other: buffers, scratch, scales of arrays, their cells."""

    m: Words  # the state arena
    k: Words  # the plan arena
    reals: F64  # the plan arena, for constants that are not integers
    f: F32  # the memory
    i: I32
    b: I8
    h: NDArray[np.uint16]
    d: F64
    l: Words
    written: NDArray[np.uint8]  # for each word of the buffers, whether it was written
    p: Words  # receives that wait
    q: I32  # the messages
    qf: F32
    a: Words  # how often codes were multiplied (runtime/activity.py)
