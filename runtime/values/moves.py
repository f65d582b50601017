"""Memory instructions: moves inside the tile buffer, and between it and DRAM or the global buffer."""

from __future__ import annotations

from . import layout as at
from .jit import compiled, copy_bytes
from .operands import apart, is_size, is_written, mark, number, overlap, place_of, source, target
from .plan import OPCODE
from .state import State

LOAD, STORE = OPCODE["load"], OPCODE["store"]


@compiled
def span_of(n: int, cols: int, pitch: int) -> int:
    """Words from the first to the last of n rows of a block."""
    return (n - 1) * (pitch if pitch else cols) + cols if n and cols else 0


@compiled
def rows_written(s: State, place: int, n: int, cols: int, pitch: int) -> bool:
    """Whether the words of n rows were written."""
    if pitch in (0, cols):
        return is_written(s, place, n * cols)
    found = True
    for row in range(n):
        found = found and is_written(s, place + row * pitch, cols)
    return found


@compiled
def mark_rows(s: State, place: int, n: int, cols: int, pitch: int) -> None:
    """Note that n rows were written."""
    if pitch in (0, cols):
        mark(s, place, n * cols)
        return
    for row in range(n):
        mark(s, place + row * pitch, cols)


@compiled
def run_copy(s: State, tile: int, code: int) -> int:
    """`copy`: addresses dst, src; numbers n, cols, dpitch, spitch."""
    n, cols = number(s, tile, code, 0), number(s, tile, code, 1)
    to_pitch, pitch = number(s, tile, code, 2), number(s, tile, code, 3)
    if not is_size(n, cols):
        return at.TROUBLE
    if not n or not cols:
        return at.DONE
    size, others = span_of(n, cols, pitch), span_of(n, cols, to_pitch)
    x, d = place_of(s, tile, code, 1, size), place_of(s, tile, code, 0, others)
    if x < 0 or d < 0 or not rows_written(s, x, n, cols, pitch):
        return at.TROUBLE
    if overlap(x, size, d, others) and size > s.m[at.H_SCRATCH_WORDS]:
        return at.TROUBLE
    origin = apart(s, x, size, d, others, 0)
    base, step, to_step = s.i.ctypes.data, pitch if pitch else cols, to_pitch if to_pitch else cols
    for row in range(n):
        copy_bytes(base + 4 * (d + row * to_step), base + 4 * (origin + row * step), 4 * cols)
    mark_rows(s, d, n, cols, to_pitch)
    return at.DONE


@compiled
def region_of(s: State, tile: int, code: int, address: int, size: int) -> int:
    """The region of the memory that an instruction means in which so many bytes lie; 0 if there is none."""
    which = tile + (at.V_GBUF_REGIONS if s.k[code + at.U_SPACE] else at.V_REGIONS)
    low, high = 0, s.m[which + 1]
    while low < high:  # the last that does not begin behind the address
        middle = (low + high) // 2
        if s.m[s.m[which] + at.R_SIZE * middle + at.R_START] <= address:
            low = middle + 1
        else:
            high = middle
    if not low:
        return 0
    region = s.m[which] + at.R_SIZE * (low - 1)
    return region if address + size <= s.m[region + at.R_STOP] else 0


@compiled
def memory_address(s: State, tile: int, code: int) -> int:
    """The address outside the tile that an instruction names."""
    base = s.m[tile + at.T_REGISTERS + s.k[code + at.U_MEMORY_BASE]]
    return int(base + s.k[code + at.U_MEMORY_OFFSET])


@compiled
def run_load(s: State, tile: int, code: int) -> int:
    """`load`: address dst; numbers n, cols, pitch."""
    n, cols, pitch = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    if not is_size(n, cols):
        return at.TROUBLE
    if not n or not cols:
        return at.DONE
    d, size = target(s, tile, code, 0, n * cols), 4 * cols
    if d < 0:
        return at.TROUBLE
    first, step, base = memory_address(s, tile, code), pitch if pitch else size, s.i.ctypes.data
    for row in range(n):
        if not region_of(s, tile, code, first + row * step, size):
            return at.TROUBLE
    for row in range(n):
        address = first + row * step
        region = region_of(s, tile, code, address, size)
        origin = s.m[region + at.R_ADDRESS] + address - s.m[region + at.R_START]
        copy_bytes(base + 4 * (d + row * cols), origin, size)
    mark(s, d, n * cols)
    return at.DONE


@compiled
def run_store(s: State, tile: int, code: int) -> int:
    """`store`: address src; numbers n, cols, pitch."""
    n, cols, pitch = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    if not is_size(n, cols):
        return at.TROUBLE
    if not n or not cols:
        return at.DONE
    x, size = source(s, tile, code, 0, n * cols), 4 * cols
    if x < 0:
        return at.TROUBLE
    first, step, base = memory_address(s, tile, code), pitch if pitch else size, s.i.ctypes.data
    for row in range(n):
        region = region_of(s, tile, code, first + row * step, size)
        if not region:
            return at.TROUBLE
        if not s.m[region + at.R_IS_OWN]:
            s.m[at.H_REGION] = region
            return at.OWN
    for row in range(n):
        address = first + row * step
        region = region_of(s, tile, code, address, size)
        to = s.m[region + at.R_ADDRESS] + address - s.m[region + at.R_START]
        copy_bytes(to, base + 4 * (x + row * cols), size)
    return at.DONE


@compiled
def run_gather(s: State, tile: int, code: int) -> int:
    """`gather`: addresses dst, ids; numbers n, cols, limit."""
    n, cols, limit = number(s, tile, code, 0), number(s, tile, code, 1), number(s, tile, code, 2)
    if not is_size(n, cols):
        return at.TROUBLE
    if not n or not cols:
        return at.DONE
    d, ids, size = target(s, tile, code, 0, n * cols), source(s, tile, code, 1, n), 4 * cols
    if d < 0 or ids < 0:
        return at.TROUBLE
    first, base = memory_address(s, tile, code), s.i.ctypes.data
    for row in range(n):
        which = s.i[ids + row]
        if not 0 <= which < limit or not region_of(s, tile, code, first + which * size, size):
            return at.TROUBLE
    ids = apart(s, ids, n, d, n * cols, 0)
    for row in range(n):
        address = first + s.i[ids + row] * size
        region = region_of(s, tile, code, address, size)
        origin = s.m[region + at.R_ADDRESS] + address - s.m[region + at.R_START]
        copy_bytes(base + 4 * (d + row * cols), origin, size)
    mark(s, d, n * cols)
    return at.DONE
