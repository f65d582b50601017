"""Tiles as a program describes them: arrays and constants filled from its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import NamedPlace, fail
from isa.operands import Addr, Space
from isa.program import ArrayData, ArrayKind, ArraySpec, Constant, Program, Role, Slice, Tile
from runtime.analog.arithmetic import AnalogArray, AnalogTarget

from .memory import MemoryState
from .network import End, Network
from .state import ArrayState, TileState

Tensors = Mapping[str, NDArray[Any]]


def _cut(tensors: Tensors, where: Slice, shape: Sequence[int], owner: str) -> NDArray[Any]:
    """The block of a tensor that a slice names. Raises `CimError` E0410 if the tensor has no such block."""
    if where.tensor not in tensors:
        raise fail("E0410", f"tensor {where.tensor!r} is used but not in the program", NamedPlace(owner))
    tensor = tensors[where.tensor]
    leading = len(where.start) - len(shape)
    if leading < 0 or tensor.ndim != len(where.start):
        raise fail(
            "E0410", f"a slice of {where.tensor!r} has {len(where.start)} dimensions", NamedPlace(owner)
        )
    ends = zip(where.start[leading:], shape, strict=True)
    block = tensor[where.start[:leading] + tuple(slice(start, start + extent) for start, extent in ends)]
    if block.shape != tuple(shape):
        text = f"tensor {where.tensor!r} {tensor.shape} has no block {tuple(shape)} at {where.start}"
        raise fail("E0410", text, NamedPlace(owner))
    return block


Contents = tuple[NDArray[Any] | None, NDArray[Any] | None]  # cells, column scales


def array_contents(tensors: Tensors, role: Role, tile: Tile) -> list[Contents]:
    """What the arrays of a tile hold at first: cells, and column scales; None where nothing is said.

    Raises `CimError` E0410 if the program's tensors do not fit the role.
    """
    data = tile.arrays or (None,) * len(role.arrays)
    if len(data) != len(role.arrays) or len(tile.constants) != len(role.constants):
        text = f"role {role.name} has {len(role.arrays)} arrays and {len(role.constants)} constants to fill"
        raise fail("E0410", text, NamedPlace(tile.name))
    return [_held(tensors, spec, held, tile.name) for spec, held in zip(role.arrays, data, strict=True)]


def _held(tensors: Tensors, spec: ArraySpec, data: ArrayData | None, owner: str) -> Contents:
    if data is None:
        if spec.kind is ArrayKind.WEIGHT:
            raise fail("E0410", f"weight array {spec.name} has no contents", NamedPlace(owner))
        return None, None
    cells = _cut(tensors, data.values, (spec.rows, spec.cols), owner)
    return cells, None if data.scales is None else _cut(tensors, data.scales, spec.scale_shape, owner)


def _array(spec: ArraySpec, contents: Contents, analog: AnalogArray | None) -> ArrayState:
    cells = np.zeros((spec.rows, spec.cols), np.float32)
    row_scales = np.zeros(spec.rows, np.float32)
    column_scales = np.ones((spec.groups, spec.cols), np.float32)
    if contents[0] is not None:
        cells[:] = contents[0]
    if contents[1] is not None:
        column_scales[:] = contents[1]
    return ArrayState(spec, cells, row_scales, column_scales, analog)


def constant_contents(tensors: Tensors, role: Role, tile: Tile) -> Iterator[tuple[Constant, NDArray[Any]]]:
    """The constants in a tile's buffer, and their values. Raises `CimError` E0410 if a tensor does not fit."""
    for constant, where in zip(role.constants, tile.constants, strict=True):
        values = _cut(tensors, where, constant.shape, tile.name)
        yield constant, np.ascontiguousarray(values, constant.dtype.value)


def _ends(network: Network, number: int, role: Role) -> list[tuple[Any, End | None]]:
    return [(port.direction, network.end(number, at, port.direction)) for at, port in enumerate(role.ports)]


def load_tile(
    program: Program,
    number: int,
    tensors: Tensors,
    network: Network,
    memories: Mapping[tuple[int, Space], MemoryState],
    analog: AnalogTarget,
) -> TileState:
    """The state of tile `number` before its first step."""
    tile = program.tiles[number]
    role = program.role(tile.role)
    chip = program.target.chip_of(tile.x, tile.y)
    contents = zip(role.arrays, array_contents(tensors, role, tile), strict=True)
    state = TileState(
        number,
        tile.params,
        [_array(spec, held, analog.array(spec, number, at)) for at, (spec, held) in enumerate(contents)],
        _ends(network, number, role),
        {space: memory for (at, space), memory in memories.items() if at == chip},
        program.target.buffer_bytes,
        int(program.target.tile.loop_depth.value),
    )
    for constant, values in constant_contents(tensors, role, tile):
        state.write(Addr(offset=constant.offset), values)
    return state
