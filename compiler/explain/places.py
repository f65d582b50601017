"""What lies where: the tiles of each layer, the chips that layers span, and where the caches and tables are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from compiler.ir.graph import Graph
from compiler.ir.mapping import Mapping, MapTile, Template
from isa.hardware import Hardware
from isa.interface import KvCache, KvPolicy
from isa.operands import Space
from isa.program import ArrayKind, Program

from .layers import BEFORE, SOURCE, Group, groups_of, kind_of
from .note import Heading, Note
from .words import listed, several, size, span

_WORK = {
    "embed": "embedding, first norm",
    "gather": "looking up rows of the embedding's table",
    "take": "taking rows of the host",
    "project": "q, k and v",
    "attend": "attention and its KV cache",
    "cross_attend": "attention to the source",
    "attention": "attention of a KV head with its projections and its KV cache",
    "cross_attention": "attention to the source with its projections",
    "combine": "output projection",
    "residual": "residual sums, norms, quantising (hub)",
    "source": "embedding of the source (hub)",
    "source_residual": "residual sums and norms of the source (hub)",
    "ffn": "feed-forward section, both layers",
    "expand": "first feed-forward layers",
    "reduce": "last feed-forward layer",
    "final": "last residual sum and norm",
    "output": "output layer",
    "hub": "the hub: residual sums, norms, quantising",
    "front": "embedding and outputs",
    "core": "weights, passed through piece by piece",
}


def places_of(graph: Graph, mapping: Mapping, program: Program) -> Iterator[Note]:
    """Layers on tiles and chips, caches, tables."""
    target, templates = program.target, {t.name: t for t in mapping.templates}
    if program.replicas:
        yield _note(
            f"The program lies on the mesh {len(program.corners)} times; what follows is one of the copies."
        )
    if any(t.repeats for t in mapping.templates):
        yield _note(f"All layers take turns on the same tiles: {_kinds(_by_kind(mapping), templates)}.")
    else:
        yield from _layered(groups_of(graph, mapping), templates, target)
    yield from _caches(program)
    tables = [r for r in program.memory if r.tensor is not None]
    for space in Space:
        regions = [r for r in tables if r.space is space]
        if regions:
            chips = len({r.chip for r in regions})
            where = "DRAM" if space is Space.DRAM else "the global buffers"
            yield _note(
                f"Tables that rows are looked up in (embeddings, rotary angles) lie in {where} of "
                f"{several(chips, 'chip')}: {size(sum(r.bytes for r in regions))}."
            )


def _note(text: str) -> Note:
    return Note(Heading.PLACES, text)


def _by_kind(mapping: Mapping) -> list[Group]:
    found: dict[str, list[MapTile]] = {}
    for tile in mapping.tiles:
        found.setdefault(kind_of(tile.template), []).append(tile)
    return [Group(0, kind, tuple(tiles)) for kind, tiles in found.items()]


def _layered(groups: list[Group], templates: dict[str, Template], target: Hardware) -> Iterator[Note]:
    """Runs of equal layers, each said once; then how they lie behind each other."""
    layers: dict[int, list[Group]] = {}
    for group in groups:
        layers.setdefault(group.layer, []).append(group)
    last, chips = max(layers), {number: _chips(found, target) for number, found in layers.items()}
    for first, end in _runs(layers, templates):
        if first in (BEFORE, SOURCE):
            name = "For rows of the source" if first == SOURCE else "Before the first layer"
        elif first == last and first > 0 and all(g.kind in ("final", "output") for g in layers[first]):
            name = "Behind the last layer"
        else:
            name = f"Layer {first}" if first == end else f"Each of the layers {first} to {end}"
        of_run = [len(chips[number]) for number in range(first, end + 1)]
        tiles = sum(len(group.tiles) for group in layers[first])
        split = "" if max(of_run) == 1 else f", on {span(of_run)} chips"
        yield _note(f"{name}, {several(tiles, 'tile')}{split}: {_kinds(layers[first], templates)}.")
    yield from _pipeline([chips[number] for number in sorted(chips) if number >= 0], target)


def _runs(layers: dict[int, list[Group]], templates: dict[str, Template]) -> Iterator[tuple[int, int]]:
    """First and last of the layers that are cut alike."""
    numbers = sorted(layers)
    start = numbers[0]
    for number, after in zip(numbers, [*numbers[1:], None], strict=True):
        same = after is not None and after == number + 1 and number >= 0
        if not (same and after is not None and _alike(layers[number], layers[after], templates)):
            yield start, number
            start = number if after is None else after


def _alike(one: list[Group], other: list[Group], templates: dict[str, Template]) -> bool:
    def form(groups: list[Group]) -> dict[str, Counter[str]]:
        return {g.kind: Counter(_arrays(templates[t.template]) for t in g.tiles) for g in groups}

    return form(one) == form(other)


def _chips(groups: Sequence[Group], target: Hardware) -> set[int]:
    return {target.chip_of(tile.x, tile.y) for group in groups for tile in group.tiles}


def _kinds(groups: list[Group], templates: dict[str, Template]) -> str:
    """Kinds of tiles with their number, work and arrays."""
    return "; ".join(_kind(group, templates) for group in groups)


def _kind(group: Group, templates: dict[str, Template]) -> str:
    forms = Counter(_arrays(templates[tile.template]) for tile in group.tiles)
    arrays = listed([form for form in forms if form])
    said = f"{len(group.tiles):,} {group.kind} ({_WORK.get(group.kind, group.kind)}"
    return f"{said}: {arrays})" if arrays else f"{said})"


def _arrays(template: Template) -> str:
    """The arrays of a tile: their sizes, equal ones counted."""
    sizes = Counter(
        f"{array.rows:,} x {array.cols:,}" + (" of KV" if array.kind is ArrayKind.KV else "")
        for array in template.arrays
    )
    return " + ".join(text if count == 1 else f"{count} of {text}" for text, count in sizes.items())


def _pipeline(chips: list[set[int]], target: Hardware) -> Iterator[Note]:
    """How layers follow each other over chips."""
    have = target.tiles // target.tiles_per_chip
    used = len(set().union(*chips)) if chips else 0
    if have == 1 or used == 0:
        return
    shared = sum(bool(one & other) for one, other in pairwise(chips))
    yield _note(
        f"Layers follow each other over the chips (pipeline), in the order in which rows pass through: "
        f"{used:,} of {have:,} chips work for them, and {several(shared, 'neighbouring pair')} of layers "
        f"{'shares' if shared == 1 else 'share'} a chip. Where a layer takes more than one chip, it is cut by "
        "columns and heads over them (tensor split)."
    )


def _caches(program: Program) -> Iterator[Note]:
    """The KV caches by policy and form."""
    counts = Counter((_form(cache, program), cache.cross) for cache in program.caches)
    for (form, cross), count in counts.items():
        what = "rows of the source" if cross else "KV cache"
        yield _note(f"{what.capitalize() if cross else what} of {several(count, 'layer')}: {form}.")


def _form(cache: KvCache, program: Program) -> str:
    head, limits = cache.heads[0], program.limits
    role = next(r for r in program.roles if r.name == program.tiles[head.tile].role)
    rows = role.arrays[head.keys].rows
    regions = sum(program.memory[h.memory].bytes for h in cache.heads if h.memory >= 0)
    if cache.policy is KvPolicy.STREAMED:
        return f"streamed from DRAM ({size(regions)} a layer), {rows:,} rows at a time through arrays"
    if cache.policy is KvPolicy.TIERED:
        return (
            f"tiered: the last {cache.hot:,} rows of a sequence and the newest block in arrays, older ones in DRAM "
            f"({size(regions)} a layer)"
        )
    if cache.ring:
        return f"resident in arrays, a ring of {cache.ring:,} rows a sequence: what the window has left is written over"
    if cache.ways > 1:
        dealt = (
            f"each head dealt over {cache.ways} tiles in blocks of {cache.block} rows, {rows:,} rows a tile"
        )
        return f"resident in arrays, {dealt}" + _paged(cache, program)
    return f"resident in arrays, {rows:,} rows on one tile a head" + _paged(cache, program) * bool(
        limits.pages
    )


def _paged(cache: KvCache, program: Program) -> str:
    limits = program.limits
    if not limits.is_paged(cache):
        return ""
    return f"; {limits.sequences} sequences share {limits.pages:,} pages of {limits.page_rows} rows"
