"""Checks that a Mapping hangs together: names, slots, channel ends, widths, places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

from isa.diagnostics import CimError, Diagnostic, NamedPlace
from isa.interface import KvCache
from isa.program import HOST, ArrayKind, Direction, Endpoint, Reduce

from .mapping import Format, Mapping, MapTile, Template
from .mapping_passes import READS, channel_problems, pass_problems
from .operations import Attend, Multiply, Part, Receive, Send

MAX_GROUP, MAX_ENTRIES = 255, 4095  # what instructions have room for


def verify_mapping(mapping: Mapping) -> None:
    """Raises `CimError` E0410 with everything found wrong."""
    found = [
        Diagnostic(
            "E0410",
            message,
            NamedPlace(mapping.name, where),
            help="this is a defect of the mapper; report it",
        )
        for where, message in _problems(mapping)
    ]
    if found:
        raise CimError(found)


def _problems(mapping: Mapping) -> Iterator[tuple[str, str]]:
    templates = {t.name: t for t in mapping.templates}
    if len(templates) < len(mapping.templates):
        yield "templates", "two templates have the same name"
    for template in mapping.templates:
        problems = (*_template(template), *pass_problems(template, mapping.limits))
        yield from ((f"template {template.name}", problem) for problem in problems)
    tensors = {t.name: t.shape for t in mapping.tensors}
    for tile in mapping.tiles:
        if tile.template not in templates:
            yield f"tile {tile.name}", f"there is no template {tile.template}"
            continue
        yield from (
            (f"tile {tile.name}", problem) for problem in _tile(tile, templates[tile.template], tensors)
        )
    places = Counter((tile.x, tile.y) for tile in mapping.tiles)
    yield from ((f"place {at}", f"holds {count} tiles") for at, count in places.items() if count > 1)
    yield from _ends(mapping, templates)
    yield from channel_problems(mapping, templates)
    for cache in mapping.caches:
        yield from ((f"cache {cache.layer}", problem) for problem in _cache(cache, mapping, templates))


def _template(template: Template) -> Iterator[str]:
    values = {v.name: v for v in template.values}
    slots = {
        *values,
        *(a.name for a in template.arrays),
        *(p.name for p in template.ports),
        *(c.name for c in template.constants),
        *template.tables,
    }
    written: set[str] = set()
    for block in template.blocks:
        for f in fields(block.op):
            name = getattr(block.op, f.name)
            if isinstance(name, str) and name and name not in slots:
                yield f"{type(block.op).__name__}.{f.name} names {name!r}, which is not declared"
            elif f.name in READS and name and name not in written:
                yield f"{type(block.op).__name__} reads {name!r} before it is written"
        written |= {getattr(block.op, "out", ""), getattr(block.op, "sums", "")}
        if isinstance(block.op, Receive | Send):
            yield from _parts(block.op, template)
        if isinstance(block.op, Multiply):
            yield from _multiply(block.op, template)
        if isinstance(block.op, Attend):
            yield from _attend(block.op, template)


def _parts(op: Receive | Send, template: Template) -> Iterator[str]:
    name = op.out if isinstance(op, Receive) else op.value
    value = next((v for v in template.values if v.name == name), None)
    wanted = Direction.IN if isinstance(op, Receive) else Direction.OUT
    ports = {p.name: p.direction for p in template.ports}
    parts: tuple[Part, ...] = op.parts
    for port, col, cols in parts:
        if ports.get(port) is not wanted:
            yield f"{type(op).__name__} uses {port!r}, which is no {wanted.value} port"
        if value is not None and not 0 <= col <= col + cols <= value.cols:
            yield f"columns {col}..{col + cols} of {name!r} do not exist"
        if value is not None and value.format is Format.Q8 and (col % 4 or cols % 4):
            yield f"columns {col}..{col + cols} of {name!r} are not whole words"


def _multiply(op: Multiply, template: Template) -> Iterator[str]:
    values = {v.name: v.cols for v in template.values}
    array = next((a for a in template.arrays if a.name == op.array), None)
    if array is None or op.x not in values or op.out not in values:
        return
    if (values[op.x], values[op.out]) != (array.rows, array.cols):
        yield f"array {op.array} is {array.rows} x {array.cols}, its values have {values[op.x]} and {values[op.out]}"


def _attend(op: Attend, template: Template) -> Iterator[str]:
    """Widths of what an Attend works on: queries, keys, values, bias."""
    values = {v.name: v.cols for v in template.values}
    arrays = {a.name: a.cols for a in template.arrays}
    constants = {c.name: c.cols for c in template.constants}
    bias = op.group * (2 * op.reach + 1 if op.reach else 1)
    for name, slots, width in (
        (op.q, values, op.group * op.dim),
        (op.out, values, op.group * op.v_dim),
        (op.keys, arrays, op.dim),
        (op.values, arrays, op.v_dim),
        (op.bias, constants, bias),
    ):
        if slots.get(name, width) != width:
            yield f"{name!r} has {slots[name]} columns, Attend takes {width}"
    if op.group > MAX_GROUP or (op.bias and bias > MAX_ENTRIES):
        yield f"Attend has {op.group} heads and a bias of reach {op.reach}, more than an instruction takes"


def _cache(cache: KvCache, mapping: Mapping, templates: dict[str, Template]) -> Iterator[str]:
    """Heads of a cache that are not where it says, or not of whose rows it says."""
    for head in cache.heads:
        tile = mapping.tiles[head.tile] if 0 <= head.tile < len(mapping.tiles) else None
        template = templates.get(tile.template) if tile else None
        arrays = template.arrays if template else ()
        for index in (head.keys, head.values):
            if not 0 <= index < len(arrays) or arrays[index].kind is not ArrayKind.KV:
                yield f"tile {head.tile} has no KV array {index}"
            elif template is not None and not _sees(template, arrays[index].name, cross=cache.cross):
                yield f"tile {head.tile} looks for {'tokens' if cache.cross else 'the source'} in KV array {index}"


def _sees(template: Template, array: str, *, cross: bool) -> bool:
    """Whether those that look at an array, if any, look for rows of the source (`cross`), or of tokens."""
    ops = (b.op for b in template.blocks if isinstance(b.op, Attend) and array in (b.op.keys, b.op.values))
    return all(op.cross == cross for op in ops)


def _tile(tile: MapTile, template: Template, tensors: dict[str, tuple[int, ...]]) -> Iterator[str]:
    for what, filled, slots in (
        ("tables", tile.tables, template.tables),
        ("arrays", tile.arrays, template.arrays),
        ("constants", tile.constants, template.constants),
        ("sites", tile.nodes, template.sites),
    ):
        if len(filled) != len(slots):
            yield f"fills {len(filled)} of the template's {len(slots)} {what}"
    for data, spec in zip(tile.arrays, template.arrays, strict=False):
        if data is None:
            continue
        shape = tensors.get(data.values.tensor)
        if shape is None:
            yield f"array {spec.name} is filled from {data.values.tensor!r}, which is not declared"
        elif data.values.start[0] + spec.rows > shape[0] or data.values.start[1] + spec.cols > shape[1]:
            yield f"array {spec.name} reaches beyond tensor {data.values.tensor!r}"


def _ends(mapping: Mapping, templates: dict[str, Template]) -> Iterator[tuple[str, str]]:
    used: Counter[Endpoint] = Counter()
    for channel in mapping.channels:
        where = f"channel {channel.name}"
        if not channel.sources or not channel.dests:
            yield where, "has no source or no destination"
        if len(channel.sources) > 1 and channel.reduce is Reduce.NONE:
            yield where, "has several sources and no reduction"
        used.update(end for end in (*channel.sources, *channel.dests) if end.tile != HOST)
    for end, count in used.items():
        if count > 1:
            yield f"tile {end.tile}", f"port {end.port} is on {count} channels"
    for index, tile in enumerate(mapping.tiles):
        template = templates.get(tile.template)
        for number, port in enumerate(template.ports if template else ()):
            if port.direction is not Direction.BARRIER and Endpoint(index, number) not in used:
                yield f"tile {tile.name}", f"port {port.name} is on no channel"
