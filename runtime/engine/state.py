"""The state of a tile while it runs a step, and the accesses that instructions make to it.

Every access is checked: what lies outside, or was never written, is a `TrapError`. The buffer remembers which of its
words were written; at first only the constants are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.instruction import DType, Field, Inst
from isa.instructions import Recv
from isa.operands import WORD_BYTES, Addr, ArrayRef, PortRef, Reg, Space
from isa.program import ArraySpec, Direction, Segment
from isa.scalars import source_count, wrap
from runtime.activity import Meter
from runtime.analog.arithmetic import AnalogArray
from runtime.numerics import F32, I8, I32, integer_product

from .memory import MemoryState
from .network import BarrierState, End, Inbox, Outlet
from .trap import TrapError

Block = NDArray[Any]  # [rows, cols] of one of the four element types

_KEY = {dtype: np.dtype(dtype.value) for dtype in DType}


@dataclass(slots=True)
class ArrayState:
    """A logical array. `cells` [rows, cols] holds the int8 values as float32, which has room for their products.

    `row_scales` is [rows], `column_scales` [groups, cols]. `analog` computes with the cells of analog macros.
    """

    spec: ArraySpec
    cells: F32
    row_scales: F32
    column_scales: F32
    analog: AnalogArray | None = None

    def product(self, x: I8, window: slice, is_across: bool) -> I32:
        """int32 sums of int8 vectors [n, ...] times the rows of a window, or (`is_across`) times their transpose."""
        cells = self.cells[window]
        if self.analog is None:
            return integer_product(x, cells.T if is_across else cells)
        return self.analog.product(x, cells, window.start, is_across)

    def group_scales(self, group: int) -> F32:
        """The column scales of a group of rows, checked."""
        if not 0 <= group < self.spec.groups:
            raise TrapError(
                f"array {self.spec.name} has no group {group} of scales; it has {self.spec.groups}"
            )
        scales: F32 = self.column_scales[group]
        return scales

    def window(self, row: int, rows: int) -> slice:
        """The rows row..row+rows-1, checked."""
        if row < 0 or row + rows > self.spec.rows:
            raise TrapError(
                f"rows {row}..{row + rows - 1} are not all in array {self.spec.name} of {self.spec.rows} rows"
            )
        return slice(row, row + rows)


@dataclass(slots=True)
class Loop:
    """A counted loop being run: the body's first index, its end, the counting register."""

    start: int
    end: int
    register: Reg
    count: int
    done: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """The words of the buffer that an operand covers: `rows` runs of `words`, `pitch` words from start to start."""

    first: int
    rows: int
    words: int
    pitch: int

    @property
    def length(self) -> int:
        """Words from the first to the last, gaps included; 0 if nothing is covered."""
        return (self.rows - 1) * self.pitch + self.words if self.rows and self.words else 0

    def _runs(self) -> list[tuple[int, int]]:
        starts = (self.first + row * self.pitch for row in range(self.rows))
        return [(start, start + self.words) for start in starts]

    def overlaps(self, other: Span) -> bool:
        """Whether both cover some word."""
        apart = self.first + self.length <= other.first or other.first + other.length <= self.first
        if apart or not self.length or not other.length:
            return False
        return any(a < d and c < b for a, b in self._runs() for c, d in other._runs())


@dataclass(slots=True)
class PendingReceive:
    """A `recv` whose message has not come: where it goes, and the registers its operands were resolved with."""

    index: int
    inst: Recv
    port: int
    inbox: Inbox
    span: Span
    registers: list[int]


class TileState:
    """A tile: registers, buffer, arrays, ports, and where it is in its text."""

    def __init__(
        self,
        number: int,
        params: tuple[int, ...],
        arrays: Sequence[ArrayState],
        ends: Sequence[tuple[Direction, End | None]],
        memories: dict[Space, MemoryState],
        buffer_bytes: int,
        loop_depth: int,
    ) -> None:
        self.number = number
        self.params = params
        self.arrays = arrays
        self.loop_depth = loop_depth
        self.meter: Meter | None = None
        self._ends = ends
        self._memories = memories
        self._bytes = np.zeros(buffer_bytes, np.uint8)
        self._views = {key: self._bytes.view(key) for key in _KEY.values()}
        self._words: I32 = self._bytes.view(np.int32)
        self._written = bytearray(buffer_bytes // WORD_BYTES)  # 1 for each word that was written
        self.begin(())

    def begin(self, segments: Sequence[Segment]) -> None:
        """Start a step: registers are zero, the first token segment is current; buffer and arrays stay."""
        self.registers = [0] * 32
        self.segments = segments
        self.segment = source_count(segments)  # where in `segments` the current one lies
        self.index = 0  # of the instruction being executed
        self.next = 0  # of the one after it
        self.loops: list[Loop] = []
        self.halted = False
        self.pending: list[PendingReceive] = []
        self.barrier: tuple[BarrierState, int] | None = None  # waits until it has opened so often

    # ------------------------------------------------------------------------------------- scalars and control

    def value(self, source: Reg | int) -> int:
        """A scalar operand."""
        return self.registers[source.index] if isinstance(source, Reg) else source

    def count(self, source: Reg | int) -> int:
        """A length, which must not be negative."""
        value = self.value(source)
        if value < 0:
            raise TrapError(f"a length is negative: {source} = {value}")
        return value

    def set(self, register: Reg, value: int) -> None:
        """Write a register; r0 stays zero."""
        if register.index:
            self.registers[register.index] = wrap(value)

    def go_to(self, target: int) -> None:
        """Go on at `target`, ahead, and not beyond the end of the loop being run."""
        if target <= self.index:
            raise TrapError(f"jumps back to instruction {target}")
        if self.loops and target > self.loops[-1].end:
            raise TrapError(f"jumps out of a loop, to instruction {target}")
        self.next = target

    def enter_loop(self, register: Reg, count: int, end: int) -> None:
        """Repeat from the next instruction up to `end`, `count` times (not at all if that is negative)."""
        if end <= self.index or (self.loops and end > self.loops[-1].end):
            raise TrapError(f"the loop's end, instruction {end}, is not inside what it is in")
        if len(self.loops) >= self.loop_depth:
            raise TrapError(f"more than {self.loop_depth} loops are nested")
        if count <= 0:
            self.next = end
            return
        self.loops.append(Loop(self.next, end, register, count))
        self.set(register, 0)

    def close_loops(self) -> None:
        """Where bodies of loops end here, go back to their beginnings as often as they say."""
        while self.loops and self.next == self.loops[-1].end:
            loop = self.loops[-1]
            loop.done += 1
            if loop.done < loop.count:
                self.set(loop.register, loop.done)
                self.next = loop.start
                return
            self.loops.pop()

    # ------------------------------------------------------------------------------------------------- buffer

    def buffer(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The bytes of the buffer, and for each word whether it was written."""
        return self._bytes, np.frombuffer(self._written, np.uint8)

    def set_buffer(self, contents: NDArray[np.uint8], written: NDArray[np.uint8]) -> None:
        """Fill the buffer: its bytes, and for each word whether it was written."""
        self._bytes[:] = contents
        self._written[:] = written.tobytes()

    def _first(self, at: Addr, words: int) -> int:
        """The word index of an address from which `words` words lie in the buffer."""
        address = self.registers[at.base.index] + at.offset
        first, odd = divmod(address, WORD_BYTES)
        if odd or first < 0 or first + words > len(self._written):
            last = address + WORD_BYTES * words - 1
            why = "do not begin at a word" if odd else f"are not all in the buffer of {self._bytes.size}"
            raise TrapError(f"bytes {address}..{last} {why}")
        return first

    def _check_written(self, first: int, words: int) -> None:
        hole = self._written.find(0, first, first + words)
        if hole >= 0:
            low, high = WORD_BYTES * first, WORD_BYTES * (first + words) - 1
            raise TrapError(f"reads bytes {low}..{high}, of which byte {WORD_BYTES * hole} was never written")

    def read(self, at: Addr, dtype: DType, rows: int, cols: int) -> Block:
        """A dense block as a view: use it before anything is written."""
        count, key = rows * cols, _KEY[dtype]
        if not count:
            return np.zeros((rows, cols), key)
        size = key.itemsize
        words = -(-count * size // WORD_BYTES)
        first = self._first(at, words)
        self._check_written(first, words)
        start = first * WORD_BYTES // size
        return self._views[key][start : start + count].reshape(rows, cols)

    def f32(self, at: Addr, rows: int, cols: int) -> F32:
        """A dense float32 block [rows, cols]."""
        return self.read(at, DType.F32, rows, cols)

    def column(self, at: Addr, rows: int) -> F32:
        """`rows` float32 values, one a row: [rows]."""
        values: F32 = self.f32(at, 1, rows)[0]
        return values

    def i32(self, at: Addr, rows: int, cols: int) -> I32:
        """A dense int32 block [rows, cols]."""
        return self.read(at, DType.I32, rows, cols)

    def i8(self, at: Addr, rows: int, cols: int) -> I8:
        """A dense int8 block [rows, cols]."""
        return self.read(at, DType.I8, rows, cols)

    def i8_rows(self, at: Addr, rows: int, cols: int, pitch: int) -> I8:
        """An int8 block [rows, cols] whose rows are `pitch` words apart (0: dense)."""
        if not pitch:
            return self.i8(at, rows, cols)
        words = -(-cols // WORD_BYTES)
        return self.read_words(at, rows, words, pitch).view(np.int8)[:, :cols]

    def write(self, at: Addr, values: Block) -> None:
        """Write an array of a buffer element type, densely; a last word it fills in part counts as written."""
        if not values.size:
            return
        words = -(-values.nbytes // WORD_BYTES)
        first = self._first(at, words)
        view = self._views[values.dtype]
        start = first * WORD_BYTES // values.itemsize
        view[start : start + values.size] = values.reshape(-1)
        self._written[first : first + words] = b"\1" * words

    def read_words(self, at: Addr, rows: int, cols: int, pitch: int) -> I32:
        """rows x cols words, rows `pitch` words apart (0: dense), as a copy."""
        if not rows or not cols or pitch in (0, cols):
            return self.i32(at, rows, cols).copy()
        first = self._first(at, (rows - 1) * pitch + cols)
        block = np.empty((rows, cols), np.int32)
        for row in range(rows):
            start = first + row * pitch
            self._check_written(start, cols)
            block[row] = self._words[start : start + cols]
        return block

    def write_words(self, at: Addr, block: I32, pitch: int) -> None:
        """Write a block of words, rows `pitch` words apart (0: dense), one row after the other."""
        rows, cols = block.shape
        if not rows or not cols or pitch in (0, cols):
            self.write(at, block)
            return
        first = self._first(at, (rows - 1) * pitch + cols)
        for row in range(rows):
            start = first + row * pitch
            self._words[start : start + cols] = block[row]
            self._written[start : start + cols] = b"\1" * cols

    def receive(self, inst: Recv, message: I32) -> None:
        """Put the words of a message where a `recv` wants them."""
        self.write_words(inst.dst, message.reshape(self.count(inst.n), self.count(inst.cols)), inst.pitch)

    # ------------------------------------------------------------------------------ arrays, memories and ports

    def array(self, ref: ArrayRef, dtype: DType | None = None) -> ArrayState:
        """The array meant, whose elements must be of `dtype` if that is given."""
        number = ref.index + self.registers[ref.offset.index]
        if not 0 <= number < len(self.arrays):
            raise TrapError(f"there is no array a{number}; the role has {len(self.arrays)}")
        array = self.arrays[number]
        if dtype is not None and array.spec.dtype is not dtype:
            raise TrapError(f"array {array.spec.name} holds {array.spec.dtype.value}, not {dtype.value}")
        return array

    def memory(self, space: Space) -> MemoryState:
        """The tile's chip's memory of this space."""
        if space not in self._memories:
            raise TrapError(f"the program declares no region of {space.name.lower()} on this chip")
        return self._memories[space]

    def port(self, ref: PortRef) -> int:
        """The number of the port meant."""
        return ref.index + self.registers[ref.offset.index]

    def _end(self, ref: PortRef, direction: Direction) -> End:
        return self._end_at(self.port(ref), direction)

    def _end_at(self, number: int, direction: Direction) -> End:
        if not 0 <= number < len(self._ends):
            raise TrapError(f"there is no port p{number}; the role has {len(self._ends)}")
        found, end = self._ends[number]
        if found is not direction:
            raise TrapError(f"port p{number} goes {found.value}, not {direction.value}")
        if end is None:
            raise TrapError(f"port p{number} is not connected")
        return end

    def outlet(self, ref: PortRef) -> Outlet:
        """The channel to send to."""
        end = self._end(ref, Direction.OUT)
        assert isinstance(end, Outlet)
        return end

    def inbox(self, ref: PortRef) -> Inbox:
        """The channel to receive from."""
        return self.inbox_at(self.port(ref))

    def inbox_at(self, number: int) -> Inbox:
        """The channel to receive from, at port `number`."""
        end = self._end_at(number, Direction.IN)
        assert isinstance(end, Inbox)
        return end

    def arrive(self, ref: PortRef) -> None:
        """Come to a barrier; the engine goes on when it has opened."""
        end = self._end(ref, Direction.BARRIER)
        assert isinstance(end, BarrierState)
        self.barrier = end, end.arrive(self.number)

    # ----------------------------------------------------------------- what an instruction touches, from the table

    def _extent(self, inst: Inst, dim: str | int) -> int:
        if isinstance(dim, int):
            return dim
        if "." in dim:
            name, _, side = dim.partition(".")
            return int(getattr(self.array(getattr(inst, name)).spec, side))
        return self.count(getattr(inst, dim))

    def span(self, inst: Inst, field: Field) -> Span:
        """The words that the address operand `field` covers, with the registers as they are."""
        access = field.access
        assert access is not None
        at: Addr = getattr(inst, field.name)
        first = (self.registers[at.base.index] + at.offset) // WORD_BYTES
        extents = [self._extent(inst, dim) for dim in access.dims]
        pitch = getattr(inst, access.pitch) if access.pitch else 0
        if pitch and extents[0]:
            return Span(first, extents[0], extents[1], pitch)
        words = -(-int(np.prod(extents, dtype=np.int64)) * access.dtype.bytes // WORD_BYTES)
        return Span(first, 1, words, words)

    def step_addresses(self, inst: Inst, fields: Iterable[Field]) -> None:
        """Advance the base registers of stepped addresses by the bytes that their accesses span."""
        grown = [(getattr(inst, field.name).base, self.span(inst, field).length) for field in fields]
        for base, words in grown:
            self.set(base, self.registers[base.index] + words * WORD_BYTES)
