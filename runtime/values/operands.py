"""Operands of instructions: numbers, places in the buffer, what an access spans (runtime/engine/state.py).

Functions that find something which the machine does not allow say so (-1, False): the reference then says what it is.
"""

from __future__ import annotations

from . import layout as at
from .jit import compiled, copy_bytes
from .state import State

MOST_ROWS = 1 << 31  # of a block; more are none that fit a buffer


@compiled
def number(s: State, tile: int, code: int, which: int) -> int:
    """A scalar operand: a register, or a constant."""
    place = code + at.U_NUMBER + 2 * which
    return int(s.m[tile + at.T_REGISTERS + s.k[place]] + s.k[place + 1])


@compiled
def is_size(n: int, cols: int) -> bool:
    """Whether two numbers are the rows and columns of a block."""
    return 0 <= n < MOST_ROWS and 0 <= cols < MOST_ROWS


@compiled
def place_of(s: State, tile: int, code: int, which: int, words: int) -> int:
    """The word of the memory at which so many words of an address operand begin; -1 if they are not in the buffer."""
    operand = code + at.U_ADDRESS + at.D_SIZE * which
    address = s.m[tile + at.T_REGISTERS + s.k[operand + at.D_BASE]] + s.k[operand + at.D_OFFSET]
    if address & 3 or address < 0 or (address >> 2) + words > s.m[tile + at.V_WORDS]:
        return -1
    return int(s.m[tile + at.V_BUFFER] + (address >> 2))


@compiled
def is_written(s: State, place: int, words: int) -> bool:
    """Whether so many words of a buffer were written."""
    flags = s.written[place : place + words]
    found = 1
    for j in range(words):
        found &= flags[j]
    return found == 1


@compiled
def source(s: State, tile: int, code: int, which: int, words: int) -> int:
    """Where so many words that are read begin; -1 if they are not in the buffer, or were never written."""
    if not words:
        return 0
    place = place_of(s, tile, code, which, words)
    return place if place >= 0 and is_written(s, place, words) else -1


@compiled
def target(s: State, tile: int, code: int, which: int, words: int) -> int:
    """Where so many words that are written begin; -1 if they are not in the buffer."""
    return place_of(s, tile, code, which, words) if words else 0


@compiled
def mark(s: State, place: int, words: int) -> None:
    """Note that words of a buffer were written."""
    flags = s.written[place : place + words]
    for j in range(words):
        flags[j] = 1


@compiled
def overlap(first: int, words: int, second: int, others: int) -> bool:
    """Whether two stretches of words have one in common."""
    return words > 0 and others > 0 and first < second + others and second < first + words


@compiled
def move(s: State, to: int, origin: int, words: int) -> None:
    """Copy words of the memory; the places do not overlap."""
    base = s.i.ctypes.data
    copy_bytes(base + 4 * to, base + 4 * origin, 4 * words)


@compiled
def apart(s: State, place: int, words: int, to: int, others: int, which: int) -> int:
    """Where an operand lies that may be read while `others` words at `to` are written: a copy, if it must be."""
    if not overlap(place, words, to, others):
        return place
    copy = int(s.m[at.H_SCRATCH] + at.LANES + which * s.m[at.H_SCRATCH_WORDS])
    move(s, copy, place, words)
    return copy


# ------------------------------------------------------------------------------------------------------- arrays


@compiled
def array_of(s: State, tile: int, code: int) -> int:
    """The array that an instruction means; -1 if there is none."""
    which = s.k[code + at.U_PLACE] + s.m[tile + at.T_REGISTERS + s.k[code + at.U_PLACE_BASE]]
    if not 0 <= which < s.m[tile + at.V_ARRAY_COUNT]:
        return -1
    return int(s.m[tile + at.V_ARRAYS] + at.A_SIZE * which)


@compiled
def typed_array(s: State, tile: int, code: int, is_float: int) -> int:
    """The array that an instruction means, if its elements are such; else -1."""
    array = array_of(s, tile, code)
    return array if array >= 0 and s.k[array + at.A_IS_FLOAT] == is_float else -1


@compiled
def is_window(s: State, array: int, row: int, rows: int) -> bool:
    """Whether an array has these rows."""
    return row >= 0 and row + rows <= s.k[array + at.A_ROWS]


# -------------------------------------------------------------------------------------------------------- spans


@compiled
def extent(s: State, tile: int, code: int, dim: int) -> int:
    """How long a dimension of an access is; -1 if it is no length."""
    if dim >= at.DIM_CONSTANT:
        return dim - at.DIM_CONSTANT
    if dim >= 0:
        return max(number(s, tile, code, dim), -1)
    if dim == at.DIM_ONE:
        return 1
    array = array_of(s, tile, code)
    if array < 0:
        return -1
    return int(s.k[array + at.A_COLS] if dim == at.DIM_COLS else s.k[array + at.A_ROWS])


@compiled
def span_first(s: State, tile: int, code: int, which: int) -> int:
    """The first word of the tile's buffer that an access covers."""
    operand = code + at.U_ADDRESS + at.D_SIZE * which
    address = s.m[tile + at.T_REGISTERS + s.k[operand + at.D_BASE]] + s.k[operand + at.D_OFFSET]
    return int(address >> 2)


@compiled
def span_runs(s: State, tile: int, code: int, which: int) -> tuple[int, int, int]:
    """The runs of an access: how many, words of each, from start to start; (-1, 0, 0) if a length is none."""
    operand = code + at.U_ADDRESS + at.D_SIZE * which
    rows = extent(s, tile, code, s.k[operand + at.D_DIM])
    others = extent(s, tile, code, s.k[operand + at.D_OTHER_DIM])
    if not is_size(rows, others):
        return -1, 0, 0
    pitch = s.k[operand + at.D_PITCH]
    if pitch >= 0 and rows:
        pitch = number(s, tile, code, pitch)
        if pitch > 0:
            return rows, others, pitch
    words = (rows * others * s.k[operand + at.D_BYTES] + 3) >> 2
    return 1, words, words


@compiled
def runs_length(rows: int, words: int, pitch: int) -> int:
    """Words from the first to the last of some runs, gaps included."""
    return (rows - 1) * pitch + words if rows > 0 and words > 0 else 0


@compiled
def runs_overlap(
    first: int, rows: int, words: int, pitch: int, second: int, lines: int, others: int, step: int
) -> bool:
    """Whether runs at `first` and runs at `second` have a word in common."""
    length, other = runs_length(rows, words, pitch), runs_length(lines, others, step)
    if not overlap(first, length, second, other):
        return False
    if rows == 1 and lines == 1:
        return True
    for row in range(rows):
        for line in range(lines):
            if overlap(first + row * pitch, words, second + line * step, others):
                return True
    return False


@compiled
def step_addresses(s: State, tile: int, code: int) -> None:
    """Advance the base registers of stepped addresses by what their accesses span, as it was before any advanced."""
    grown = s.m[at.H_GROWN : at.H_GROWN + at.MOST_ADDRESSES]
    count = s.k[code + at.U_ADDRESS_COUNT]
    for which in range(count):
        rows, words, pitch = span_runs(s, tile, code, which)
        grown[which] = 4 * runs_length(rows, words, pitch)
    for which in range(count):
        operand = code + at.U_ADDRESS + at.D_SIZE * which
        if s.k[operand + at.D_IS_STEPPED]:
            s.m[tile + at.T_REGISTERS + s.k[operand + at.D_BASE]] += grown[which]
