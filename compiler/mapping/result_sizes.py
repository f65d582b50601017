"""How an output layer is cut that does not fit the tiles left for it: columns that stay in arrays, and pieces that pass
through an array of the same tile, from its buffer or from DRAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.ir.streamed import piece_bytes
from isa.hardware import Hardware
from isa.instruction import DType
from isa.operands import WORD_BYTES
from isa.program import ArrayKind, ArraySpec

SPARE_BYTES = 8 << 10  # of a tile's buffer, for what alignment takes
LOOP_CYCLES = 60  # of a piece, beside writing the array


@dataclass(frozen=True, slots=True)
class ResultShape:
    """An output layer of `rows` x `cols` on `tiles` tiles; `segment`: rows of the longest segment that is wanted."""

    rows: int
    cols: int
    has_bias: bool
    tiles: int
    segment: int


@dataclass(frozen=True, slots=True)
class ResultCut:
    """Each tile makes `width` columns, the last fewer: `width` - pieces x `columns` of them with weights that stay,
    then those of `loaded` pieces from DRAM, then those of `kept` pieces from its buffer. `bytes`: of a piece."""

    width: int
    columns: int
    loaded: int
    kept: int
    bytes: int

    @property
    def stays(self) -> int:
        """Columns whose weights stay in an array."""
        return self.width - (self.loaded + self.kept) * self.columns


def piece_array(rows: int, columns: int, dtype: DType) -> ArraySpec:
    """The array that pieces pass through."""
    return ArraySpec("passing", ArrayKind.STREAM, rows, columns, dtype)


def choose_cut(hardware: Hardware, shape: ResultShape, dtype: DType) -> ResultCut | None:
    """The cut that is estimated to take least time for one row; None if none fits."""
    cuts = _cuts(hardware, shape, dtype)
    return min(cuts, key=lambda cut: _cycles(hardware, shape, cut), default=None)


def _cuts(hardware: Hardware, shape: ResultShape, dtype: DType) -> Iterator[ResultCut]:
    """Every width of pieces, with as many of them in the buffer as it has room for."""
    step = hardware.macro_cols
    high = -(-shape.rows // hardware.macro_rows)
    wide = hardware.written_macros_per_tile // high
    width = -(-shape.cols // shape.tiles // WORD_BYTES) * WORD_BYTES
    own = hardware.kv_macros_per_tile > 0  # else the widest leaves none for weights that stay
    for macros in range(1, wide + own):
        columns, most = macros * step, (hardware.macros_per_tile // high - (0 if own else macros)) * step
        pieces = max(-(-(width - most) // columns), 1)
        stays = width - pieces * columns
        last = shape.cols - (shape.tiles - 1) * width - pieces * columns
        size = piece_bytes((piece_array(shape.rows, columns, dtype),), ())
        left = hardware.buffer_bytes - _working(shape, width, columns, dtype)
        kept = max(left // size, 0)
        if kept < pieces:  # one place is for those that come from DRAM
            kept = max(kept - 1, 0)
            if left < size:
                continue
        if stays > 0 and last > 0:
            kept = min(kept, pieces)
            yield ResultCut(width, columns, pieces - kept, kept, size)


def _working(shape: ResultShape, width: int, columns: int, dtype: DType) -> int:
    """Bytes of a tile's buffer that are not for pieces: rows in and out, sums, biases."""
    row = shape.rows * (dtype.bytes + WORD_BYTES * (dtype is DType.F32)) + WORD_BYTES * (
        2 * width + columns + 4
    )
    biases = WORD_BYTES * (width + columns) if shape.has_bias else 0
    return shape.segment * row + biases + SPARE_BYTES


def _cycles(hardware: Hardware, shape: ResultShape, cut: ResultCut) -> float:
    """Cycles of one row: pieces are loaded for all tiles one after the other, while others are written into arrays."""
    chips = hardware.tiles // hardware.tiles_per_chip
    rate = float(hardware.bytes_per_cycle(hardware.dram.bandwidth) * hardware.dram.channels.value) * chips
    written = max(
        shape.rows * hardware.cycles(hardware.written.row_write_latency),
        cut.bytes / hardware.cim.port_width.value,
    )
    pieces = cut.loaded + cut.kept
    return max(cut.loaded * shape.tiles * cut.bytes / rate, pieces * (written + LOOP_CYCLES))
