"""A program laid out for the engine of values: plan, state as a step begins, and the memory of all tiles.

Weights that are only ever multiplied by lie turned (runtime/values/products.py); they are read from the program's
tensors once, block by block.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.instruction import DType
from isa.operands import Space
from isa.program import HOST, ArrayKind, ArraySpec, Channel, Direction, Program, Reduce, Role
from runtime.analog.model import MAGNITUDE_BITS, AnalogModel
from runtime.copies import ArrayOptions
from runtime.engine.load import array_contents, constant_contents
from runtime.engine.memory import Region, load_regions
from runtime.fast.words import Pieces, Words

from . import layout as at
from .plan import code_words

_REDUCE = {Reduce.NONE: at.REDUCE_NONE, Reduce.SUM: at.REDUCE_SUM, Reduce.MAX: at.REDUCE_MAX}
_WAY = {
    Direction.IN: at.WAY_IN,
    Direction.OUT: at.WAY_OUT,
    Direction.BARRIER: at.WAY_BARRIER,
}
_SMALL: int | None = getattr(mmap, "MADV_NOHUGEPAGE", None)  # not every system has them
_LARGE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_ALIGNED = 16  # words: a cache line
_APART = (
    17 * _ALIGNED
)  # words between buffers, whose first lines would all fall into one set of a cache otherwise


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """Where an array of a tile lies: scales at words of the memory, cells at a byte (int8) or a word (float32)."""

    spec: ArraySpec
    cells: int
    is_turned: bool
    row_scales: int
    column_scales: int
    analog: tuple[int, int, int, int] = (0, 0, 0, 0)  # `A_ANALOG` and what follows


@dataclass(frozen=True, slots=True)
class Template:
    """What steps begin with. `tiles`, `channels` and `barriers` are places in the state arena."""

    program: Program
    state: Words
    plan: Words
    memory: NDArray[np.uint8]
    written: NDArray[np.uint8]
    tiles: Words
    arrays: tuple[tuple[ArrayPlace, ...], ...]
    channels: tuple[int, ...]
    barriers: tuple[int, ...]
    regions: dict[tuple[int, Space], list[Region]]
    region_rows: dict[int, Region]  # by their places in the state arena


def _aligned(words: int) -> int:
    return -(-words // _ALIGNED) * _ALIGNED


def zeros(size: int, sparse: int) -> NDArray[np.uint8]:
    """So many bytes, of which the first `sparse` are used here and there, so that small pages save memory."""
    mapped = mmap.mmap(-1, max(size, 1))
    begin = sparse // mmap.PAGESIZE * mmap.PAGESIZE
    for advice, start, end in ((_SMALL, 0, begin), (_LARGE, begin, size)):
        if advice is not None and end > start:
            mapped.madvise(advice, start, end - start)
    return np.frombuffer(mapped, np.uint8)[:size]


def make_template(program: Program, arrays: ArrayOptions) -> Template:
    """Lay a program out. Raises `CimError` E0410 if it does not fit together."""
    return _Maker(program, arrays).make()


class _Maker:
    def __init__(self, program: Program, arrays: ArrayOptions) -> None:
        assert program.data is not None
        self._program, self._data, self._options = program, program.data, arrays
        self._models = dict[AnalogModel, int]()
        self._state, self._plan = Pieces(at.H_SIZE), Pieces(1)
        self._roles = {role.name: role for role in program.roles}
        self._top = 0  # words of the memory

    def _room(self, words: int) -> int:
        """Room in the memory: its first word."""
        place = self._top
        self._top += _aligned(words)
        return place

    def make(self) -> Template:
        """The program's template."""
        program, count = self._program, len(self._program.tiles)
        each = _aligned(program.target.buffer_bytes // 4) + _APART
        buffers, scratch = self._room(count * each), self._room(at.LANES + 4 * each)
        rows = np.zeros((count, at.V_SIZE), np.int64)
        tiles = self._state.size + at.V_SIZE * np.arange(count, dtype=np.int64)
        self._state.add(rows)
        channels, barriers, ends = self._channels(tiles)
        regions = load_regions(program, self._data)
        places, of_chip = self._regions(regions)
        arrays = self._put_tiles(rows, ends, of_chip)
        rows[:, at.V_BUFFER] = buffers + each * np.arange(count)
        rows[:, at.V_WORDS] = program.target.buffer_bytes // 4
        rows[:, at.V_PENDING] = at.FIRST_PENDING * at.P_SIZE * np.arange(count)
        rows[:, at.V_PENDING_ROOM] = at.FIRST_PENDING
        if self._options.meter is not None:
            rows[:, at.V_METER] = self._options.meter.tables
        longest = _aligned(
            max((max(p.spec.rows, p.spec.cols) for t in arrays for p in t if p.analog[0]), default=0)
        )
        passes = self._room(
            -(-(6 + MAGNITUDE_BITS) * longest // 2)
        )  # a sum, a total and slices of each element
        ready = self._state.add(np.ones(count, np.int64))
        state = self._state.all()
        state[tiles[0] : tiles[0] + rows.size] = rows.reshape(-1)
        state[[at.H_READY, at.H_READY_COUNT, at.H_TILES, at.H_TILE_COUNT]] = ready, count, tiles[0], count
        state[[at.H_UNFINISHED, at.H_SCRATCH, at.H_SCRATCH_WORDS, at.H_USED]] = count, scratch, each, 1
        state[[at.H_ANALOG, at.H_ANALOG_WORDS]] = passes, longest
        memory, written = zeros(4 * self._top, 4 * scratch), zeros(count * each, count * each)
        template = Template(
            *(program, state, self._plan.all(), memory, written, tiles, arrays),
            *(channels, barriers, regions, places),
        )
        _fill(template, self._roles)
        return template

    # ------------------------------------------------------------------------------------------------- tiles

    def _put_tiles(
        self,
        rows: Words,
        ends: Mapping[tuple[int, int, Direction], int],
        of_chip: Mapping[tuple[int, Space], tuple[int, int]],
    ) -> tuple[tuple[ArrayPlace, ...], ...]:
        program = self._program
        code = {name: self._plan.add(code_words(role)) for name, role in self._roles.items()}
        turned = {name: _turned(role) for name, role in self._roles.items()}
        arrays = []
        for number, (row, tile) in enumerate(zip(rows, program.tiles, strict=True)):
            role = self._roles[tile.role]
            places = tuple(
                self._array(spec, is_turned, number, at_)
                for at_, (spec, is_turned) in enumerate(zip(role.arrays, turned[tile.role], strict=True))
            )
            arrays.append(places)
            row[at.T_CODE], row[at.V_NUMBER] = code[tile.role], number
            row[[at.T_PARAMS, at.T_PARAM_COUNT]] = self._plan.add(tile.params), len(tile.params)
            row[[at.V_ARRAYS, at.V_ARRAY_COUNT]] = self._plan.add(_array_rows(places)), len(places)
            ports = [
                (_WAY[port.direction], ends[number, which, port.direction])
                if (number, which, port.direction) in ends
                else (at.WAY_NONE, 0)
                for which, port in enumerate(role.ports)
            ]
            row[[at.V_PORTS, at.V_PORT_COUNT]] = self._plan.add(np.array(ports, np.int64)), len(ports)
            chip = program.target.chip_of(tile.x, tile.y)
            for space, columns in _REGION_COLUMNS.items():
                row[list(columns)] = of_chip.get((chip, space), (0, 0))
        return tuple(arrays)

    def _array(self, spec: ArraySpec, is_turned: bool, tile: int, number: int) -> ArrayPlace:
        row_scales, column_scales = self._room(spec.rows), self._room(spec.groups * spec.cols)
        if spec.dtype is DType.F32:
            return ArrayPlace(spec, self._room(spec.rows * spec.cols), False, row_scales, column_scales)
        cells = 4 * self._room(-(-spec.rows * spec.cols // 4))
        return ArrayPlace(
            spec, cells, is_turned, row_scales, column_scales, self._analog_words(spec, tile, number)
        )

    def _analog_words(self, spec: ArraySpec, tile: int, number: int) -> tuple[int, int, int, int]:
        """What the row of an array says of its analog macros, if it has such."""
        model = self._options.analog.model(spec)
        if model is None:
            return 0, 0, 0, 0
        if model not in self._models:
            self._models[model] = self._plan.add(model_words(model))
        key = np.uint64(model.key(tile, number)).astype(np.int64)
        each = -(-spec.rows * spec.cols // 2)
        conducted = self._room(model.weight_slices * each)
        return self._models[model], int(key), 2 * conducted, 2 * self._room(each)

    # ------------------------------------------------------------------------------------------------- network

    def _channels(
        self, tiles: Words
    ) -> tuple[tuple[int, ...], tuple[int, ...], dict[tuple[int, int, Direction], int]]:
        """The rows of channels and barriers, and what is at each end."""
        ends: dict[tuple[int, int, Direction], int] = {}
        channels = tuple(self._channel(channel, tiles, ends) for channel in self._program.channels)
        barriers = []
        for group in self._program.barriers:
            members = self._state.add([tiles[end.tile] for end in group.members])
            barriers.append(self._state.add([0, 0, members, len(group.members)]))
            ends |= {(end.tile, end.port, Direction.BARRIER): barriers[-1] for end in group.members}
        return channels, tuple(barriers), ends

    def _channel(self, channel: Channel, tiles: Words, ends: dict[tuple[int, int, Direction], int]) -> int:
        sources = np.zeros((len(channel.sources), at.S_SIZE), np.int64)
        inboxes = np.zeros((len(channel.dests), at.I_SIZE), np.int64)
        place = self._state.size + sources.size + inboxes.size
        sources[:, at.S_CHANNEL] = inboxes[:, at.I_CHANNEL] = place
        inboxes[:, at.I_TILE] = [0 if end.tile == HOST else tiles[end.tile] for end in channel.dests]
        first, second = self._state.add(sources), self._state.add(inboxes)
        row = [_REDUCE[channel.reduce], first, len(sources), second, len(inboxes), 0]
        self._state.add([*row, *[0] * len(sources)])
        for which, end in enumerate(channel.sources):
            ends[end.tile, end.port, Direction.OUT] = first + at.S_SIZE * which
        for which, end in enumerate(channel.dests):
            ends[end.tile, end.port, Direction.IN] = second + at.I_SIZE * which
        return place

    def _regions(
        self, regions: Mapping[tuple[int, Space], list[Region]]
    ) -> tuple[dict[int, Region], dict[tuple[int, Space], tuple[int, int]]]:
        """The rows of memory regions: which each is of, and where those of a chip's memory lie."""
        places, of_chip = dict[int, Region](), dict[tuple[int, Space], tuple[int, int]]()
        for key, found in regions.items():
            first = self._state.size
            for region in found:
                places[self._state.add(region_words(region))] = region
            of_chip[key] = first, len(found)
        return places, of_chip


_REGION_COLUMNS = {
    Space.DRAM: (at.V_REGIONS, at.V_REGION_COUNT),
    Space.GBUF: (at.V_GBUF_REGIONS, at.V_GBUF_COUNT),
}


def region_words(region: Region) -> list[int]:
    """The row of a region: its bytes, where they are, whether they may be written."""
    return [region.start, region.stop, region.data.ctypes.data, int(region.is_own)]


def _turned(role: Role) -> list[bool]:
    """Which arrays of a role have their cells turned: int8 weights."""
    return [spec.kind is ArrayKind.WEIGHT and spec.dtype is DType.I8 for spec in role.arrays]


def _array_rows(places: Iterable[ArrayPlace]) -> Words:
    return np.array(
        [
            (
                *(p.spec.dtype is DType.F32, p.spec.rows, p.spec.cols, p.cells, p.is_turned),
                *(p.row_scales, p.column_scales, p.spec.groups, *p.analog),
            )
            for p in places
        ],
        np.int64,
    )


def model_words(model: AnalogModel) -> Words:
    """The row of a kind of analog macros."""
    words = np.zeros(at.N_SIZE, np.int64)
    words[at.N_INPUT_SLICES : at.N_DRIFT] = (
        *(model.input_slices, model.input_bits, model.weight_slices, model.weight_bits),
        *(model.fraction, model.limit, model.error, model.gain, model.levels, model.step, model.noise),
        *(model.down, model.across, model.drift is not None),
    )
    words[at.N_DRIFT :] = np.array(model.drift or (0, 0), np.float64).view(np.int64)
    return words


def cells_of(memory: NDArray[np.uint8], place: ArrayPlace) -> NDArray[Any]:
    """The cells of an array [rows, cols], as they lie in the memory (a view)."""
    spec = place.spec
    if spec.dtype is DType.F32:
        words = memory.view(np.float32)[place.cells : place.cells + spec.rows * spec.cols]
        return words.reshape(spec.rows, spec.cols)
    codes = memory.view(np.int8)[place.cells : place.cells + spec.rows * spec.cols]
    return codes.reshape(spec.cols, spec.rows).T if place.is_turned else codes.reshape(spec.rows, spec.cols)


def scales_of(memory: NDArray[np.uint8], place: ArrayPlace) -> tuple[NDArray[Any], NDArray[Any]]:
    """The scales of an array's rows [rows] and columns [groups, cols] (views)."""
    spec, floats = place.spec, memory.view(np.float32)
    columns = floats[place.column_scales : place.column_scales + spec.groups * spec.cols]
    return floats[place.row_scales : place.row_scales + spec.rows], columns.reshape(spec.groups, spec.cols)


def _fill(template: Template, roles: Mapping[str, Role]) -> None:
    """Put weights, scales and constants into the memory."""
    program, memory = template.program, template.memory
    assert program.data is not None
    for number, tile in enumerate(program.tiles):
        role = roles[tile.role]
        contents = array_contents(program.data, role, tile)
        for place, (cells, scales) in zip(template.arrays[number], contents, strict=True):
            _, columns = scales_of(memory, place)
            columns[:] = 1 if scales is None else scales
            if cells is not None:
                cells_of(memory, place)[:] = cells
        first = int(template.state[template.tiles[number] + at.V_BUFFER])
        for constant, values in constant_contents(program.data, role, tile):
            start, bytes_ = 4 * first + constant.offset, values.reshape(-1).view(np.uint8)
            memory[start : start + bytes_.size] = bytes_
            words = -(-bytes_.size // 4)
            template.written[first + constant.offset // 4 :][:words] = 1
