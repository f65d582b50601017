"""What one execution of an instruction takes and causes, from its lengths alone (docs/timing.md, docs/energy.md).

An instruction is looked at through the metadata of the table: its accesses, its array use, its work, its classes.
The only exceptions are the instructions in ideal arithmetic, which are charged as those they stand in for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from isa import instructions as table
from isa.diagnostics import InstructionPlace, fail
from isa.events import Event
from isa.instruction import Access, ArrayMode, Dim, Field, Inst, Mode, Timing
from isa.operands import Addr, ArrayRef, Mem, Reg, Space
from isa.program import ArraySpec, Role

from .rates import CellRates, Rates, ceil_div, tree_levels

SCALE_BYTES = 4  # a float32 scale of an array's row or column

CHARGED_AS: Mapping[type[Inst], type[Inst]] = MappingProxyType(
    {table.Mvmf: table.Mvm, table.Mvmtf: table.Mvmt, table.Wrowf: table.Wrow}
)
"""Ideal arithmetic costs what the instruction costs that it stands in for."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Macro rows low..high-1 of an array; `macros` of them work."""

    array: int
    low: int
    high: int
    macros: int


@dataclass(frozen=True, slots=True)
class ScaleRange:
    """Scales low..high-1 of the rows of an array, or (with `columns`) all scales of its columns."""

    array: int
    columns: bool
    low: int
    high: int
    writes: bool


@dataclass(slots=True, eq=False)
class Cost:
    """One instruction at given lengths. Compared by identity, so that executions can be counted; `cost_of` completes
    what its formulas make.

    `spans` are the bytes between first and last of each access, `strides` the bytes from row to row and those of a row
    (0, 0 where rows are dense), `busy` is how long the unit (for CIM: the macros)
    is occupied, `done` when the results are there, `port` how long the port of the arrays, or the vector
    unit, is taken.
    `size` bytes move outside the tile, as `rows` rows of `size / rows` bytes, `pitch` apart.
    """

    index: int
    noop: bool = False
    spans: tuple[int, ...] = ()
    strides: tuple[tuple[int, int], ...] = ()
    busy: int = 0
    done: int = 0
    port: int = 0
    cells: Cells | None = None
    scales: tuple[ScaleRange, ...] = ()
    size: int = 0
    rows: int = 0
    pitch: int = 0
    events: tuple[tuple[Event, int], ...] = ()


class Operands:
    """An instruction with its lengths known: `values` holds each register or constant field by name."""

    def __init__(self, role: Role, index: int, values: Mapping[str, int], array: int) -> None:
        self.role, self.index, self.values = role, index, values
        self.inst = role.code[index]
        self.layout = self.inst.layout
        self.array_index = array
        self._extents: dict[tuple[Dim, ...], tuple[int, ...]] = {}

    def trap(self, message: str) -> Exception:
        """The diagnostic for an instruction that does what the machine does not allow."""
        place = InstructionPlace("program", self.role.name, self.index, str(self.inst))
        return fail("E0604", message, place, "verify the program with `cim verify`")

    @property
    def array(self) -> ArraySpec:
        """The array that the instruction uses."""
        if not 0 <= self.array_index < len(self.role.arrays):
            raise self.trap(f"array {self.array_index} does not exist; the role has {len(self.role.arrays)}")
        return self.role.arrays[self.array_index]

    def dim(self, dim: Dim) -> int:
        """The extent that `dim` stands for."""
        if isinstance(dim, int):
            return dim
        value = self.values.get(dim)
        if value is None:
            return self.array.cols if dim.endswith(".cols") else self.array.rows
        if value < 0:
            raise self.trap(f"length {dim} is {value}")
        return value

    def mode(self, access: Access) -> Mode:
        """How the operand is accessed; `acc` makes a write an update."""
        if access.mode is Mode.WRITE and getattr(self.inst, "acc", False):
            return Mode.UPDATE
        return access.mode

    def extents(self, access: Access) -> tuple[int, ...]:
        """The dimensions of the block accessed."""
        found = self._extents.get(access.dims)
        if found is None:
            found = self._extents[access.dims] = tuple([self.dim(d) for d in access.dims])
        return found

    def span(self, access: Access) -> int:
        """Bytes between the first and the last one accessed."""
        return access.span(self.extents(access), self.values[access.pitch] if access.pitch else 0)

    def stride(self, access: Access) -> tuple[int, int]:
        """Bytes from row to row, and bytes of a row; (0, 0) if rows are dense, or there is but one."""
        if access.pitch is None:
            return 0, 0
        pitch = 4 * self.values[access.pitch]
        rows, *columns = self.extents(access)
        row = math.prod(columns) * access.dtype.bytes
        return (pitch, row) if rows > 1 and 0 < row < pitch else (0, 0)

    @cached_property
    def _moved(self) -> tuple[int, int]:
        read = written = 0
        for access in CHARGED_AS.get(type(self.inst), type(self.inst)).accesses:
            size, mode = math.prod(self.extents(access)) * access.dtype.bytes, self.mode(access)
            read += 0 if mode is Mode.WRITE else size
            written += 0 if mode is Mode.READ else size
        return read, written

    @property
    def read_bytes(self) -> int:
        """Bytes read from the buffer."""
        return self._moved[0]

    @property
    def written_bytes(self) -> int:
        """Bytes written to the buffer."""
        return self._moved[1]

    def array_rows(self, field: Field) -> tuple[int, int]:
        """First row and number of rows of the array that are used."""
        use = field.array
        assert use is not None
        row = self.values[use.row] if use.row else 0
        rows = self.dim(use.rows) if use.rows else self.array.rows
        if row < 0 or row + rows > self.array.rows:
            raise self.trap(
                f"rows {row}..{row + rows - 1} of array {self.array.name}, which has {self.array.rows}"
            )
        return row, rows


def _buffer_events(o: Operands) -> list[tuple[Event, int]]:
    return [(Event.BUFFER_READ_BYTE, o.read_bytes), (Event.BUFFER_WRITE_BYTE, o.written_bytes)]


def _array_field(o: Operands) -> Field:
    return next(f for f in o.layout if f.array is not None)


def _cells(o: Operands, kind: CellRates, row: int, rows: int, copies: int = 1) -> Cells:
    """The macro rows of some rows of an array; `copies` of them work."""
    low, high = row // kind.rows, -(-(row + rows) // kind.rows)
    return Cells(o.array_index, low, high, (high - low) * -(-o.array.cols // kind.cols) * copies)


def _is_transposed(o: Operands) -> bool:
    """Sums go over columns: the vectors that are read are as long as the array is wide."""
    return any(
        f.access is not None
        and f.access.mode is Mode.READ
        and f.access.dims[-1] == f"{_array_field(o).name}.cols"
        for f in o.layout
    )


def _activate(o: Operands, r: Rates) -> Cost:
    """T for each vector that a copy takes, or the port's time if longer; then the adder tree over stacked macros."""
    n, (row, rows) = o.dim("n"), o.array_rows(_array_field(o))
    if n == 0 or rows == 0:
        return Cost(o.index, noop=True)
    copies, transposed = min(o.array.copies, n), _is_transposed(o)
    kind, cols = r.cells(o.array.kind), o.array.cols
    cells = _cells(o, kind, row, rows, copies)
    stacked = -(-cols // kind.cols) if transposed else cells.high - cells.low
    outputs = rows if transposed else cols
    port = ceil_div(max(o.read_bytes, o.written_bytes), r.cim_width)
    busy = max(-(-n // copies) * kind.vector_cycles(row, rows, cols, transposed), port)
    additions = stacked - 1 + (1 if getattr(o.inst, "acc", False) else 0)
    mac = kind.events.mac_transposed if transposed else kind.events.mac
    return Cost(
        o.index,
        busy=busy,
        done=busy + tree_levels(stacked) * r.adder_cycles,
        port=port,
        cells=cells,
        events=(
            *_buffer_events(o),
            (mac, n * rows * cols),
            (kind.events.drive, n * kind.drives(row, rows, cols, transposed)),
            (kind.events.conversion, n * kind.conversions(row, rows, cols, transposed)),
            (Event.ADDER_ADD, n * outputs * additions),
        ),
    )


def _write_rows(o: Operands, r: Rates) -> Cost:
    """One write time a row, or the port's time if longer. Column scales count as one row."""
    field = _array_field(o)
    assert field.array is not None
    port = ceil_div(o.read_bytes, r.cim_width)
    kind = r.cells(o.array.kind)
    events = (*_buffer_events(o), (kind.events.write, o.read_bytes * o.array.copies))
    if field.array.mode is ArrayMode.WRITE_SCALES:
        busy = max(kind.row_write_cycles, port)
        scales = ScaleRange(o.array_index, True, 0, 1, writes=True)
        return Cost(o.index, busy=busy, done=busy, port=port, scales=(scales,), events=events)
    row, rows = o.array_rows(field)
    if rows == 0:
        return Cost(o.index, noop=True)
    busy = max(rows * kind.row_write_cycles, port)
    scales = ScaleRange(o.array_index, False, row, row + rows, writes=True)
    cells = _cells(o, kind, row, rows, o.array.copies)
    return Cost(o.index, busy=busy, done=busy, port=port, cells=cells, scales=(scales,), events=events)


def _read_rows(o: Operands, r: Rates) -> Cost:
    """One read time a row, or the port's time if longer."""
    row, rows = o.array_rows(_array_field(o))
    if rows == 0:
        return Cost(o.index, noop=True)
    kind = r.cells(o.array.kind)
    port = ceil_div(o.written_bytes, r.cim_width)
    busy = max(rows * kind.row_read_cycles, port)
    return Cost(
        o.index,
        busy=busy,
        done=busy,
        port=port,
        cells=_cells(o, kind, row, rows),
        scales=(ScaleRange(o.array_index, False, row, row + rows, writes=False),),
        events=(*_buffer_events(o), (kind.events.read, o.written_bytes)),
    )


def _scales_read(o: Operands, r: Rates) -> tuple[tuple[ScaleRange, ...], tuple[tuple[Event, int], ...]]:
    """The scales that a vector instruction reads from an array, and what is counted for it."""
    for field in o.layout:
        if field.array is None:
            continue
        read = r.cells(o.array.kind).events.read
        if field.array.row is None:
            return (ScaleRange(o.array_index, True, 0, 1, writes=False),), (
                (read, o.array.cols * SCALE_BYTES),
            )
        row, rows = o.array_rows(field)
        scales = ScaleRange(o.array_index, False, row, row + rows, writes=False)
        return (scales,), ((read, rows * SCALE_BYTES),)
    return (), ()


def _vector(o: Operands, r: Rates) -> Cost:
    """The unit is taken for the longest of ALU, special functions and buffer port, which work side by side; the results
    are there one pipeline's depth (`startup`) later."""
    work = o.inst.work
    rows = o.dim(work.rows)
    cols = o.dim(work.cols)
    alu, sfu = work.operations(rows, cols)
    port = ceil_div(o.read_bytes + o.written_bytes, r.buffer_width)
    busy = max(1, work.alu_cycles(rows, cols, r.lanes), -(-sfu // r.sfu_lanes), port)
    scales, reads = _scales_read(o, r)
    events = (
        *_buffer_events(o),
        (Event.VECTOR_ALU, alu),
        (Event.VECTOR_SFU, sfu),
        *reads,
    )
    return Cost(
        o.index,
        noop=o.written_bytes == 0,
        busy=busy,
        done=r.startup_cycles + busy,
        port=busy,
        scales=scales,
        events=events,
    )


def _copy(o: Operands, r: Rates) -> Cost:
    """Bytes read and bytes written over the buffer port."""
    busy = ceil_div(o.read_bytes + o.written_bytes, r.buffer_width)
    return Cost(o.index, noop=busy == 0, busy=busy, done=busy, events=tuple(_buffer_events(o)))


_MEMORY_EVENTS = {
    (Space.DRAM, Mode.READ): Event.DRAM_READ_BYTE,
    (Space.DRAM, Mode.WRITE): Event.DRAM_WRITE_BYTE,
    (Space.GBUF, Mode.READ): Event.GBUF_READ_BYTE,
    (Space.GBUF, Mode.WRITE): Event.GBUF_WRITE_BYTE,
}


def _memory(o: Operands, r: Rates) -> Cost:
    """At least the buffer port's time; latency and channel time are added by isa/timing/memory.py."""
    field = next(f for f in o.layout if f.memory is not None)
    place, rows = getattr(o.inst, field.name), o.dim("n")
    assert isinstance(place, Mem) and field.memory is not None
    size = rows * o.dim("cols") * 4
    event = _MEMORY_EVENTS[place.space, field.memory.mode]
    return Cost(
        o.index,
        noop=size == 0,
        busy=ceil_div(o.read_bytes + o.written_bytes, r.buffer_width),
        size=size,
        rows=rows,
        pitch=o.values.get("pitch", 0),
        events=(*_buffer_events(o), (event, size)),
    )


def _message(o: Operands, r: Rates) -> Cost:
    """The network adds its time and events; here are the bytes at this end."""
    return Cost(o.index, size=o.read_bytes + o.written_bytes, events=tuple(_buffer_events(o)))


def _barrier(o: Operands, r: Rates) -> Cost:
    return Cost(o.index)


_FORMULAS: dict[Timing, Callable[[Operands, Rates], Cost]] = {
    Timing.ACTIVATE: _activate,
    Timing.ROW_WRITE: _write_rows,
    Timing.ROW_READ: _read_rows,
    Timing.VECTOR: _vector,
    Timing.COPY: _copy,
    Timing.MEMORY: _memory,
    Timing.MESSAGE: _message,
    Timing.BARRIER: _barrier,
}


def cost_of(operands: Operands, rates: Rates) -> Cost:
    """The cost of an instruction of any unit but the sequencer."""
    cost = _FORMULAS[operands.inst.timing](operands, rates)
    accesses = operands.inst.accesses
    cost.spans = tuple(map(operands.span, accesses))
    cost.strides = tuple(map(operands.stride, accesses))
    cost.events = () if cost.noop else tuple([(event, count) for event, count in cost.events if count])
    return cost


def length_registers(inst: Inst) -> tuple[int, ...]:
    """The registers that decide an instruction's cost: every plain register operand, and array number offsets."""
    found: list[int] = []
    for field in inst.layout:
        value = getattr(inst, field.name)
        if isinstance(value, Reg):
            found.append(value.index)
        elif isinstance(value, ArrayRef):
            found.append(value.offset.index)
    return tuple(found)


def operands_at(role: Role, index: int, registers: Mapping[int, int]) -> Operands:
    """The instruction with its plain operands taken from `registers` (by number)."""
    inst = role.code[index]
    values: dict[str, int] = {}
    array = 0
    for field in inst.layout:
        value = getattr(inst, field.name)
        if isinstance(value, Reg):
            values[field.name] = registers[value.index]
        elif isinstance(value, ArrayRef):
            array = value.index + registers[value.offset.index]
        elif not isinstance(value, Addr | Mem) and type(value) is int:
            values[field.name] = value
    return Operands(role, index, values, array)
