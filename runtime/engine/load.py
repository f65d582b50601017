"""Tiles as a program describes them: arrays and constants filled from its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import NamedPlace, fail
from isa.operands import Addr, Space
from isa.program import ArrayData, ArrayKind, ArraySpec, Program, Role, Slice, Tile

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


def _array(tensors: Tensors, spec: ArraySpec, data: ArrayData | None, owner: str) -> ArrayState:
    cells = np.zeros((spec.rows, spec.cols), np.float32)
    row_scales = np.zeros(spec.rows, np.float32)
    column_scales = np.ones((spec.groups, spec.cols), np.float32)
    if data is not None:
        cells[:] = _cut(tensors, data.values, cells.shape, owner)
        if data.scales is not None:
            column_scales[:] = _cut(tensors, data.scales, spec.scale_shape, owner)
    elif spec.kind is ArrayKind.WEIGHT:
        raise fail("E0410", f"weight array {spec.name} has no contents", NamedPlace(owner))
    return ArrayState(spec, cells, row_scales, column_scales)


def _fill_constants(state: TileState, tensors: Tensors, role: Role, tile: Tile) -> None:
    for constant, where in zip(role.constants, tile.constants, strict=True):
        values = _cut(tensors, where, constant.shape, tile.name)
        state.write(Addr(offset=constant.offset), np.ascontiguousarray(values, constant.dtype.value))


def _ends(network: Network, number: int, role: Role) -> list[tuple[Any, End | None]]:
    return [(port.direction, network.end(number, at, port.direction)) for at, port in enumerate(role.ports)]


def load_tile(
    program: Program,
    number: int,
    tensors: Tensors,
    network: Network,
    memories: Mapping[tuple[int, Space], MemoryState],
) -> TileState:
    """The state of tile `number` before its first step."""
    tile = program.tiles[number]
    role = program.role(tile.role)
    chip = program.target.chip_of(tile.x, tile.y)
    data = tile.arrays or (None,) * len(role.arrays)
    if len(data) != len(role.arrays) or len(tile.constants) != len(role.constants):
        text = f"role {role.name} has {len(role.arrays)} arrays and {len(role.constants)} constants to fill"
        raise fail("E0410", text, NamedPlace(tile.name))
    state = TileState(
        number,
        tile.params,
        [_array(tensors, spec, held, tile.name) for spec, held in zip(role.arrays, data, strict=True)],
        _ends(network, number, role),
        {space: memory for (at, space), memory in memories.items() if at == chip},
        program.target.buffer_bytes,
        int(program.target.tile.loop_depth.value),
    )
    _fill_constants(state, tensors, role, tile)
    return state
