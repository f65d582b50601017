"""From a Mapping to a Program: every template becomes a role, every tile a parameter block."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.ir.mapping import Mapping, MapTile, Rows, Template
from isa.diagnostics import NamedPlace, fail
from isa.hardware import Hardware
from isa.program import Limits, Origin, Program, Role, Tile

from . import pieces as pieces  # registers the code of its operations
from .emit import emit
from .emitter import Emitter
from .layout import needs, plan_buffer

CHUNKS = (16, 8, 4, 2, 1)


class LazyData(MappingType[str, NDArray[Any]]):
    """Tensor contents by name, made when first asked for and then kept."""

    def __init__(self, makers: dict[str, Any]) -> None:
        self._makers = makers
        self._made: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._made:
            self._made[name] = np.ascontiguousarray(self._makers[name]())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def extended(self, more: MappingType[str, NDArray[Any]]) -> LazyData:
        """The same tensors and some more."""
        return LazyData(self._makers | {name: partial(_given, rows) for name, rows in more.items()})


def _given(rows: NDArray[Any]) -> NDArray[Any]:
    return rows


def limits_with(mapping: Mapping, chunk: int) -> Limits:
    """The limits with segments of up to `chunk` tokens.

    Of a mapping that keeps the rows of a whole step, `limits.segments` is how many rows there is room for.
    """
    keeps_step = any(value.rows is Rows.STEP for t in mapping.templates for value in t.values)
    segments = max(mapping.limits.segments // chunk, 1) if keeps_step else mapping.limits.segments
    return replace(mapping.limits, chunk=chunk, segments=segments)


def choose_chunk(mapping: Mapping, hardware: Hardware, most: int | None) -> int:
    """The longest segment, a power of two up to `most` (default 16), whose values fit every tile's buffer.

    Raises `CimError` E0301 if not even one token fits, naming the template and the largest values.
    """

    def total(template: Template, chunk: int) -> int:
        limits = limits_with(mapping, chunk)
        return plan_buffer(template, mapping.arithmetic, limits, hardware, double=False).total

    def takes_all(chunk: int) -> bool:
        return limits_with(mapping, chunk).segments >= mapping.limits.sequences

    wanted = [c for c in CHUNKS if (most is None or c <= most) and takes_all(c)] or [1]
    for chunk in wanted:
        if all(total(t, chunk) <= hardware.buffer_bytes for t in mapping.templates):
            return chunk
    worst = max(mapping.templates, key=lambda t: total(t, 1))
    need = total(worst, 1)
    source = " or --max-source" if mapping.limits.max_source else ""
    batch = ", or fewer sequences (--batch)" if mapping.limits.sequences > 1 else ""
    raise fail(
        "E0301",
        f"tiles of kind {worst.name} need {need:,} bytes of buffer for one token, {hardware.name} has "
        f"{hardware.buffer_bytes:,}; largest: {_largest(worst, mapping)}",
        NamedPlace(mapping.name, worst.name),
        help=f"a target with tile.buffer of {-(-need // 1024)} KiB or more, or a shorter --max-context{source}{batch}",
    )


def _largest(template: Template, mapping: Mapping) -> str:
    """The three largest values of a template, in words."""
    limits = replace(mapping.limits, chunk=1)
    sizes = [(need.bytes(limits), need.name) for need in needs(template, mapping.arithmetic, limits)]
    return ", ".join(f"{name} {size:,}" for size, name in sorted(sizes, reverse=True)[:3])


def build_role(template: Template, mapping: Mapping, hardware: Hardware, *, double: bool = True) -> Role:
    """The role of a template: buffer plan, code, line table. `double`: values may have two places (`BufferPlan`)."""
    plan = plan_buffer(template, mapping.arithmetic, mapping.limits, hardware, double=double)
    emitter = Emitter(template, plan, mapping.arithmetic, mapping.limits)
    sites = template.sites
    for index, block in enumerate(template.blocks):
        emitter.begin(index, sites.index(block.site), block.phase)
        emit(block.op, emitter)
    code, lines = emitter.text()
    return Role(
        template.name,
        code,
        template.tables,
        template.arrays,
        template.ports,
        plan.constants,
        plan.regions,
        sites,
        lines,
    )


def _tile(tile: MapTile) -> Tile:
    return Tile(
        tile.name, tile.template, tile.x, tile.y, tile.tables, tile.arrays, tile.constants, tile.nodes
    )


def build_program(
    mapping: Mapping, hardware: Hardware, origin: Origin, *, shapes_only: bool, double: bool = True
) -> Program:
    """The Program of a Mapping whose chunk is chosen."""
    return Program(
        hardware,
        mapping.limits,
        tuple(build_role(t, mapping, hardware, double=double) for t in mapping.templates),
        tuple(_tile(t) for t in mapping.tiles),
        mapping.channels,
        mapping.barriers,
        mapping.tensors,
        mapping.memory,
        mapping.streams,
        origin,
        caches=mapping.caches,
        replicas=mapping.replicas,
        data=None if shapes_only or mapping.data is None else LazyData(dict(mapping.data)),
    )


def with_chunk(mapping: Mapping, chunk: int) -> Mapping:
    """The mapping with its longest segment decided."""
    return replace(mapping, limits=limits_with(mapping, chunk))
