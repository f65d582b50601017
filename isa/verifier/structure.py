"""Structure of a program: roles, tiles, tensors and memory fit together and fit the target."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from isa.instruction import DType
from isa.operands import WORD_BYTES, Space
from isa.program import ArrayData, ArrayKind, ArraySpec, Limits, Program, Role, Slice, TensorInfo, Tile

from .code import check_code
from .report import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray

Named = tuple[str, int, int]  # what it is, first byte, one past the last


def check_structure(program: Program, report: Report) -> None:
    """Report everything about roles, tiles, tensors and memory that does not fit (E0407, E0408, E0410)."""
    _check_limits(program, report)
    for what, names in (
        ("role", [role.name for role in program.roles]),
        ("tile", [tile.name for tile in program.tiles]),
        ("tensor", [tensor.name for tensor in program.tensors]),
        ("channel", [channel.name for channel in program.channels]),
        ("barrier", [barrier.name for barrier in program.barriers]),
        ("stream", [stream.name for stream in program.streams]),
        ("host part", [part.name for part in program.hosts]),
    ):
        _check_unique(what, names, report)
    for role in program.roles:
        _check_role(program, role, report)
        check_code(program, role, report)
    _check_tiles(program, report)
    _check_tensors(program, report)
    _check_memory(program, report)


def _check_limits(program: Program, report: Report) -> None:
    limits = program.limits
    for name in ("max_context", "chunk", "segments", "sequences", "page_ways"):
        if getattr(limits, name) < 1:
            report.thing("limits", "E0410", f"{name} is {getattr(limits, name)}; it must be at least 1")
    if limits.max_source < 0:
        report.thing("limits", "E0410", f"max_source is {limits.max_source}; it must not be negative")
    if limits.page_ways & (limits.page_ways - 1):
        report.thing("limits", "E0410", f"page_ways is {limits.page_ways}; it must be a power of two")
    if limits.pages or limits.page_rows:
        _check_pages(limits, report)


def _check_pages(limits: Limits, report: Report) -> None:
    """There is a page for one sequence at least, and no segment crosses the border of a page."""
    if limits.pages < 1 or limits.page_rows < 1:
        message = f"there are {limits.pages} pages of {limits.page_rows} rows; both are 0, or at least 1"
        report.thing("limits", "E0410", message)
    elif limits.page_rows % max(limits.chunk, 1):
        message = f"page_rows is {limits.page_rows}, and no multiple of chunk {limits.chunk}"
        report.thing("limits", "E0410", message)
    elif limits.pages * limits.page_ways < limits.pages_for(limits.max_context):
        ways = f" in each of {limits.page_ways} arrays" if limits.page_ways > 1 else ""
        message = f"{limits.pages} pages of {limits.page_rows} rows{ways} do not hold max_context"
        report.thing("limits", "E0410", f"{message} {limits.max_context}")


def _check_unique(what: str, names: list[str], report: Report) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            report.thing(f"{what} {name}", "E0410", f"there are two {what}s of this name")
        seen.add(name)


# ------------------------------------------------------------------------------------------------------- roles


def _check_role(program: Program, role: Role, report: Report) -> None:
    place = f"role {role.name}"
    target = program.target
    ports = int(target.tile.ports.value)
    if len(role.ports) > ports:
        report.thing(place, "E0401", f"the role has {len(role.ports)} ports; the target has {ports} a tile")
    _check_arrays(program, role, report)
    _check_constants(program, role, report)
    for region in role.regions:
        if region.offset < 0 or region.bytes < 0 or region.offset + region.bytes > target.buffer_bytes:
            report.thing(place, "E0408", f"region {region.name} does not lie within the tile buffer")
    if role.lines and len(role.lines) != len(role.code):
        report.thing(place, "E0410", f"{len(role.lines)} lines for {len(role.code)} instructions")
    if any(not -1 <= line < len(role.sites) for line in role.lines):
        report.thing(place, "E0410", f"a line names a site beyond the {len(role.sites)} there are")


def _check_arrays(program: Program, role: Role, report: Report) -> None:
    place, target = f"role {role.name}", program.target
    weights = written = 0
    for spec in role.arrays:
        if spec.rows < 1 or spec.cols < 1 or spec.copies < 1:
            size = f"{spec.rows} x {spec.cols}" + f" in {spec.copies} copies" * (spec.copies != 1)
            report.thing(place, "E0410", f"array {spec.name} is {size}")
        elif spec.dtype not in (DType.I8, DType.F32):
            message = f"array {spec.name} holds {spec.dtype.value}; arrays hold int8, or float32 in ideal arithmetic"
            report.thing(place, "E0410", message)
        elif not 2 <= spec.bits <= 8 or (spec.bits != 8 and spec.dtype is not DType.I8):
            report.thing(place, "E0410", f"array {spec.name} holds {spec.dtype.value} of {spec.bits} bits")
        elif spec.block < 0 or (spec.block and spec.kind is not ArrayKind.WEIGHT):
            report.thing(
                place, "E0410", f"array {spec.name} cannot have scales by blocks of {spec.block} rows"
            )
        elif spec.kind is ArrayKind.WEIGHT:
            weights += spec.macros(target.macro_rows, target.macro_cols)
        else:
            written += spec.macros(target.macro_rows, target.macro_cols)
    have, own = target.macros_per_tile, target.kv_macros_per_tile
    if own and written > own:
        message = (
            f"keys, values and streams take {written} macros; a tile of {target.name} has {own} for them"
        )
        report.thing(place, "E0408", message)
    if (macros := weights if own else weights + written) > have:
        what = "arrays of weights" if own else "arrays"
        report.thing(place, "E0408", f"the {what} take {macros} macros; a tile of {target.name} has {have}")


def _check_constants(program: Program, role: Role, report: Report) -> None:
    place, size = f"role {role.name}", program.target.buffer_bytes
    ranges: list[Named] = []
    for constant in role.constants:
        end = constant.offset + constant.bytes
        if constant.offset < 0 or end > size:
            message = (
                f"constant {constant.name} takes bytes {constant.offset}..{end - 1}; the buffer has {size}"
            )
            report.thing(place, "E0408", message)
        elif constant.offset % WORD_BYTES:
            report.thing(place, "E0410", f"constant {constant.name} does not begin at a word")
        elif any(extent < 1 for extent in constant.shape):
            report.thing(place, "E0410", f"constant {constant.name} has shape {list(constant.shape)}")
        else:
            ranges.append((f"constant {constant.name}", constant.offset, end))
    _check_disjoint(place, ranges, report)


def _check_disjoint(place: str, ranges: Iterable[Named], report: Report) -> None:
    ordered = sorted(ranges, key=lambda r: (r[1], r[2]))
    for (first, _, end), (second, start, _) in pairwise(ordered):
        if start < end:
            report.thing(place, "E0408", f"{first} and {second} overlap")


# ------------------------------------------------------------------------------------------------------- tiles


def _check_tiles(program: Program, report: Report) -> None:
    roles = {role.name: role for role in program.roles}
    tensors = {tensor.name: tensor for tensor in program.tensors}
    places: dict[tuple[int, int], str] = {}
    for tile in program.tiles:
        if report.full("E0410"):
            return
        place = f"tile {tile.name}"
        if not (0 <= tile.x < program.target.mesh_x and 0 <= tile.y < program.target.mesh_y):
            mesh = f"{program.target.mesh_x} x {program.target.mesh_y}"
            report.thing(place, "E0410", f"({tile.x}, {tile.y}) is not on the mesh of {mesh} tiles")
        other = places.setdefault((tile.x, tile.y), tile.name)
        if other != tile.name:
            report.thing(place, "E0410", f"({tile.x}, {tile.y}) is taken by tile {other}")
        role = roles.get(tile.role)
        if role is None:
            report.thing(place, "E0410", f"there is no role {tile.role!r}")
        else:
            _check_tile(tile, role, tensors, report)


def _check_tile(tile: Tile, role: Role, tensors: dict[str, TensorInfo], report: Report) -> None:
    place = f"tile {tile.name}"
    arrays = tile.arrays or (None,) * len(role.arrays)
    for what, given, wanted in (
        ("parameters", len(tile.params), len(role.params)),
        ("arrays", len(arrays), len(role.arrays)),
        ("constants", len(tile.constants), len(role.constants)),
        ("nodes", len(tile.nodes) or len(role.sites), len(role.sites)),
    ):
        if given != wanted:
            report.thing(place, "E0410", f"{given} {what}; role {role.name} has {wanted}")
    for param in tile.params:
        if not -(1 << 63) <= param < 1 << 63:
            report.thing(place, "E0410", f"parameter {param} does not fit a register")
    for spec, data in zip(role.arrays, arrays, strict=False):
        _check_array_data(place, spec, data, tensors, report)
    for constant, where in zip(role.constants, tile.constants, strict=False):
        _check_slice(place, where, constant.dtype, constant.shape, tensors, report)


def _check_array_data(
    place: str, spec: ArraySpec, data: ArrayData | None, tensors: dict[str, TensorInfo], report: Report
) -> None:
    if (data is None) != (spec.kind is not ArrayKind.WEIGHT):
        what = (
            "a weight array has no contents"
            if data is None
            else f"a {spec.kind.value.upper()} array has contents"
        )
        report.thing(place, "E0410", what)
    elif data is not None:
        _check_slice(place, data.values, spec.dtype, (spec.rows, spec.cols), tensors, report)
        if data.scales is not None:
            _check_slice(place, data.scales, DType.F32, spec.scale_shape, tensors, report)


def _check_slice(
    place: str,
    where: Slice,
    dtype: DType,
    shape: tuple[int, ...],
    tensors: dict[str, TensorInfo],
    report: Report,
) -> None:
    tensor = tensors.get(where.tensor)
    if tensor is None:
        report.thing(place, "E0410", f"there is no tensor {where.tensor!r}")
        return
    if tensor.dtype is not dtype:
        message = f"tensor {tensor.name} holds {tensor.dtype.value}; {dtype.value} is wanted"
        report.thing(place, "E0410", message)
    leading = len(where.start) - len(shape)
    extents = (1,) * leading + shape
    inside = (
        leading >= 0
        and len(tensor.shape) == len(where.start)
        and all(
            start >= 0 and start + extent <= size
            for start, extent, size in zip(where.start, extents, tensor.shape, strict=True)
        )
    )
    if not inside:
        message = (
            f"tensor {tensor.name} {list(tensor.shape)} has no block {list(shape)} at {list(where.start)}"
        )
        report.thing(place, "E0410", message)


# --------------------------------------------------------------------------------------------- tensors, memory


def _check_tensors(program: Program, report: Report) -> None:
    names = {tensor.name for tensor in program.tensors}
    # asking a mapping whether it has a name may make it compute the contents
    carried = set(program.data or ())
    for tensor in program.tensors:
        place = f"tensor {tensor.name}"
        if any(extent < 1 for extent in tensor.shape):
            report.thing(place, "E0410", f"its shape is {list(tensor.shape)}")
        if program.data is None:
            continue
        if tensor.name not in carried:
            report.thing(place, "E0410", "the program declares it but does not carry it")
        elif isinstance(program.data, dict):  # other mappings may have to compute what they are asked for
            _check_contents(place, tensor, program.data[tensor.name], report)
    for part in program.hosts:
        if part.model not in names:
            report.thing(f"host part {part.name}", "E0410", f"there is no tensor {part.model!r}")


def _check_contents(place: str, tensor: TensorInfo, values: NDArray[Any], report: Report) -> None:
    if tuple(values.shape) != tensor.shape or values.dtype.name != tensor.dtype.value:
        given = f"{values.dtype.name} {list(values.shape)}"
        message = f"it is {given}, declared {tensor.dtype.value} {list(tensor.shape)}"
        report.thing(place, "E0410", message)


def _check_memory(program: Program, report: Report) -> None:
    system = program.target.system
    chips = int(system.chips_x.value * system.chips_y.value)
    capacity = {
        Space.DRAM: int(program.target.dram.capacity.si),
        Space.GBUF: int(program.target.gbuf.capacity.si),
    }
    tensors = {tensor.name for tensor in program.tensors}
    by_memory: dict[tuple[Space, int], list[Named]] = {}
    for region in program.memory:
        place, end = f"memory {region.name}", region.offset + region.bytes
        if not 0 <= region.chip < chips:
            report.thing(place, "E0410", f"there is no chip {region.chip}; the system has {chips}")
        if region.offset < 0 or region.bytes < 1 or end > capacity[region.space]:
            message = (
                f"bytes {region.offset}..{end - 1} do not lie within the {capacity[region.space]} there are"
            )
            report.thing(place, "E0408", message)
        if region.tensor is not None and region.tensor not in tensors:
            report.thing(place, "E0410", f"there is no tensor {region.tensor!r}")
        named = (f"region {region.name}", region.offset, end)
        by_memory.setdefault((region.space, region.chip), []).append(named)
    for (space, chip), ranges in by_memory.items():
        _check_disjoint(f"{space.name.lower()} of chip {chip}", ranges, report)
