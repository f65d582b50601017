"""KV caches and the interface: what they name exists, and is what they say it is (E0410)."""

from __future__ import annotations

from collections.abc import Iterator

from isa.interface import CacheHead, KvCache, KvPolicy, ModelValue, Use, memory_planes, plane_bytes
from isa.operands import Space
from isa.program import ArrayKind, ArraySpec, Direction, Limits, Program, Stream

from .report import Report

_CACHES = (Use.KEYS, Use.VALUES, Use.KEYS_VALUES)


def check_interface(program: Program, report: Report) -> None:
    """Report caches that lie nowhere or not alike, and inputs and outputs that name what is not there."""
    seen: set[tuple[int, bool]] = set()
    used: set[tuple[int, int]] = set()
    for number, cache in enumerate(program.caches):
        place = f"cache {number}"
        if (cache.layer, cache.cross) in seen:
            which = "cross-attention" if cache.cross else "attention"
            report.thing(place, "E0410", f"there are two caches for the {which} of layer {cache.layer}")
        seen.add((cache.layer, cache.cross))
        _check_cache(program, place, cache, used, report)
    for what, values, direction in (
        ("input", program.interface.inputs, Direction.IN),
        ("output", program.interface.outputs, Direction.OUT),
    ):
        names: set[str] = set()
        for value in values:
            for message in _wrong_value(program, value, direction, names):
                report.thing(f"{what} {value.name}", "E0410", message)
            names.add(value.name)


# ------------------------------------------------------------------------------------------------------ caches


def _check_cache(
    program: Program, place: str, cache: KvCache, used: set[tuple[int, int]], report: Report
) -> None:
    is_streamed = cache.policy is KvPolicy.STREAMED  # arrays that blocks pass through may serve several heads
    found = [_arrays(program, place, head, None if is_streamed else used, report) for head in cache.heads]
    _check_regions(place, cache, used, report)
    heads = [arrays for arrays in found if arrays is not None]
    if not cache.heads:
        report.thing(place, "E0410", "it has no heads")
    if not heads or len(heads) < len(cache.heads):
        return
    first = heads[0]
    for keys, values in heads:
        if keys.rows != values.rows:
            message = f"array {keys.name} has {keys.rows} rows, {values.name} has {values.rows}: one a token in each"
            report.thing(place, "E0410", message)
            return
        if _shapes(keys, values) != _shapes(*first):
            message = f"its heads differ: {_shapes(*first)}, and {_shapes(keys, values)}"
            report.thing(place, "E0410", message)
            return
    each = cache.ways * cache.copies
    if min(cache.ways, cache.copies) < 1 or len(heads) % each or (cache.ways > 1 and cache.block < 1):
        message = f"its {len(heads)} arrays do not make heads of {each}, in blocks of {cache.block} rows"
        report.thing(place, "E0410", message)
        return
    messages = list(_wrong_memory(program, cache)) if cache.rows or cache.hot else []
    if cache.policy is not KvPolicy.STREAMED:
        messages += _wrong_rows(program, cache, first[0].rows)
    for message in messages:
        report.thing(place, "E0410", message)


def _check_regions(place: str, cache: KvCache, used: set[tuple[int, int]], report: Report) -> None:
    """No two heads, of whatever caches, have the same region of memory (which is noted as tile -1)."""
    for region in dict.fromkeys(head.memory for head in cache.heads if cache.rows):
        if (-1, region) in used:
            report.thing(place, "E0410", f"memory region number {region} belongs to two caches")
        used.add((-1, region))


def _shapes(keys: ArraySpec, values: ArraySpec) -> str:
    kinds = (f"{a.dtype.value} {a.rows} x {a.cols}" for a in (keys, values))
    return "keys {}, values {}".format(*kinds)


def _wrong_rows(program: Program, cache: KvCache, rows: int) -> Iterator[str]:
    limits = program.limits
    needed, name = (limits.max_source, "max_source") if cache.cross else (limits.max_context, "max_context")
    if cache.cross and not limits.max_source:
        yield "it holds rows of a source, and the program is made for none (max_source 0)"
    elif limits.is_paged(cache):
        yield from _wrong_pages(limits, cache, rows)
    elif cache.ways > 1:
        slots = -(-limits.sequences * cache.blocks // cache.ways)
        if cache.blocks * cache.block < needed:
            yield f"it has {cache.blocks} blocks of {cache.block} rows a sequence; {name} is {needed}"
        elif rows < slots * cache.block:
            yield f"it has {rows} rows in each of {cache.ways} arrays of a head, and needs {slots * cache.block}"
    elif rows % limits.sequences:
        yield f"its {rows} rows cannot be shared out among {limits.sequences} sequences"
    elif cache.ring:
        yield from _wrong_ring(program, cache, rows // limits.sequences)
    elif rows // limits.sequences < needed:
        yield f"it has {rows // limits.sequences} rows a sequence; {name} is {needed}"


def _wrong_memory(program: Program, cache: KvCache) -> Iterator[str]:
    """What is wrong with a cache's rows in memory."""
    limits, regions = program.limits, [head.memory for head in cache.heads]
    if cache.cross or cache.ways > 1 or cache.copies > 1:
        yield "it has rows in memory, and is of a source, dealt over several arrays, or copied"
    elif cache.rows < limits.max_context:
        yield f"it has {cache.rows} rows a sequence in memory; max_context is {limits.max_context}"
    elif cache.hot and (cache.hot % limits.chunk or cache.ring < cache.hot + limits.chunk):
        yield f"the last {cache.hot} rows are to lie in a ring of {cache.ring}: whole segments, and one more, must fit"
    elif not all(0 <= region < len(program.memory) for region in regions):
        yield "a head's memory region does not exist"
    elif len(set(regions)) < len(regions):
        yield "two heads have the same memory region"
    else:
        for head in cache.heads:
            yield from _wrong_region(program, cache, head)


def _wrong_region(program: Program, cache: KvCache, head: CacheHead) -> Iterator[str]:
    tile, region = program.tiles[head.tile], program.memory[head.memory]
    specs, total = program.role(tile.role).arrays, cache.rows * program.limits.sequences
    keys, values = specs[head.keys], specs[head.values]
    need = plane_bytes(total, memory_planes(total, keys.cols, values.cols, keys.dtype))
    if region.space is not Space.DRAM or region.tensor is not None:
        yield f"memory {region.name} is not a reserved region of DRAM"
    elif region.chip != program.target.chip_of(tile.x, tile.y):
        yield f"memory {region.name} is not on the chip of tile {tile.name}"
    elif region.bytes < need:
        yield f"memory {region.name} has {region.bytes} bytes, its rows need {need}"


def _wrong_ring(program: Program, cache: KvCache, rows: int) -> Iterator[str]:
    if cache.cross:
        yield "a ring has rows of tokens, and it is for those of a source"
    elif cache.ring != rows or cache.ring % program.limits.chunk:
        chunk = program.limits.chunk
        yield f"its ring has {cache.ring} rows: it takes the {rows} of a sequence, and a multiple of {chunk}"


def _wrong_pages(limits: Limits, cache: KvCache, rows: int) -> Iterator[str]:
    if rows != limits.pages * limits.page_rows:
        need = f"{limits.pages} pages of {limits.page_rows} are {limits.pages * limits.page_rows}"
        yield f"it has {rows} rows; {need}"
    if cache.ways != limits.page_ways:
        yield f"its heads are dealt over {cache.ways} arrays, pages over {limits.page_ways}"
    elif cache.ways > 1 and cache.block != limits.page_rows:
        yield f"its blocks have {cache.block} rows, pages {limits.page_rows}"


def _arrays(
    program: Program, place: str, head: CacheHead, used: set[tuple[int, int]] | None, report: Report
) -> tuple[ArraySpec, ArraySpec] | None:
    """The arrays of keys and values of a head; None if they are not there."""
    if not 0 <= head.tile < len(program.tiles):
        report.thing(place, "E0410", f"there is no tile number {head.tile}")
        return None
    tile = program.tiles[head.tile]
    specs = program.role(tile.role).arrays
    for number in (head.keys, head.values):
        if not 0 <= number < len(specs):
            report.thing(place, "E0410", f"tile {tile.name} has no array {number}; its role has {len(specs)}")
            return None
        if specs[number].kind is not ArrayKind.KV:
            message = f"array {specs[number].name} of tile {tile.name} is no KV array"
            report.thing(place, "E0410", message)
            return None
        if used is not None and (head.tile, number) in used:
            message = f"array {specs[number].name} of tile {tile.name} is used twice"
            report.thing(place, "E0410", message)
        if used is not None:
            used.add((head.tile, number))
    return specs[head.keys], specs[head.values]


# --------------------------------------------------------------------------------------------- inputs, outputs


def _wrong_value(program: Program, value: ModelValue, direction: Direction, names: set[str]) -> Iterator[str]:
    if value.name in names:
        yield "there are two of this name"
    if value.heads < 0:
        yield f"it has {value.heads} heads"
    if value.use in _CACHES and not 0 <= value.cache < len(program.caches):
        yield f"it is for {value.use.value}; there is no cache {value.cache}, the program has {len(program.caches)}"
    elif value.use not in _CACHES and value.cache != -1:
        yield f"it is for {value.use.value}, and names cache {value.cache}"
    if value.stream:
        yield from _wrong_stream(program, value, direction)


def _wrong_stream(program: Program, value: ModelValue, direction: Direction) -> Iterator[str]:
    stream = _stream(program, value.stream)
    if stream is None:
        if not any(value.stream in (*part.inputs, *part.outputs) for part in program.hosts):
            yield f"there is no stream {value.stream!r}"
    elif stream.direction is not direction:
        yield f"stream {stream.name} goes {stream.direction.value}, not {direction.value}"
    elif value.use is Use.SOURCE and not stream.source:
        yield f"it has rows of the source, and stream {stream.name} goes with the tokens"


def _stream(program: Program, name: str) -> Stream | None:
    return next((stream for stream in program.streams if stream.name == name), None)
