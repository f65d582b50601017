"""Programs as assembly text that the assembler reads back: `assemble(program_text(p)) == p`.

That holds for every well-formed program: names of roles, tiles, channels, tensors and streams are unique, tiles
give every parameter and constant of their role, and branches go forward. Tensor data is written only if asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .asm_hosts import host_lines
from .asm_text import endpoint_text, heads_text, one_line, pair, slice_text, span_text, type_text, word
from .asm_work import work_lines
from .instruction import DType
from .instructions import Loop
from .interface import KvCache, ModelValue
from .operands import float32_text
from .program import HOST, Channel, Endpoint, Limits, Program, Reduce, Role, Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

Comment = Callable[[int], str]  # instruction index -> what stands behind it, "" for nothing

_WIDTH = 110
_OPERANDS = 48  # operands are padded to the longest of a role, but not beyond this many columns


def program_text(program: Program, *, values: bool = False) -> str:
    """The whole program as `.cimasm`; with `values`, the contents of its tensors too."""
    lines = list(head_lines(program))
    lines += tensor_lines(program, values=values)
    for role in program.roles:
        lines += ["", *role_lines(role)]
    lines += ["", *tile_lines(program, program.tiles), "", *channel_lines(program, program.channels)]
    lines += [*barrier_lines(program), *memory_lines(program), *stream_lines(program), *host_lines(program)]
    lines += [*cache_lines(program), *interface_lines(program), *work_lines(program.workload)]
    lines += replica_lines(program)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def head_lines(program: Program) -> Iterator[str]:
    """`.target`, `.limits`, `.origin`, `.option`."""
    origin = program.origin
    yield f".target {word(program.target.name)} hash={program.target.hash}"
    yield ".limits " + limits_text(program.limits)
    made_by = {"tool": origin.tool, "model": origin.model, "hash": origin.model_hash}
    written = [pair(key, value) for key, value in made_by.items() if value]
    if written:
        yield ".origin " + " ".join(written)
    for name, value in origin.options:
        yield ".option " + pair(name, value)


def limits_text(limits: Limits) -> str:
    """`context=512 chunk=16 segments=4096 sequences=1`, `source=128` if there are source rows, `pages=9 page=512`."""
    context, sequences = f"context={limits.max_context}", f"sequences={limits.sequences}"
    source = f" source={limits.max_source}" if limits.max_source else ""
    pages = f" pages={limits.pages} page={limits.page_rows}" if limits.pages or limits.page_rows else ""
    pages += f" ways={limits.page_ways}" if limits.page_ways != 1 else ""
    return f"{context} chunk={limits.chunk} segments={limits.segments} {sequences}{source}{pages}"


def tensor_lines(program: Program, *, values: bool = False) -> Iterator[str]:
    """`.tensor` lines, with their contents if asked for and there."""
    for info in program.tensors:
        yield f".tensor {word(info.name)} {type_text(info.dtype, info.shape)}"
        if values and program.data is not None:
            numbers = _value_texts(program.data[info.name], info.dtype)
            yield from wrap("  .values", numbers)


def _value_texts(array: NDArray[Any], dtype: DType) -> Iterable[str]:
    flat = array.reshape(-1).tolist()
    if dtype in (DType.I8, DType.I32):
        return map(str, flat)
    return ("nan" if value != value else float32_text(value) for value in flat)


def wrap(head: str, items: Iterable[str]) -> Iterator[str]:
    """`head item item ...` over as many lines as it takes, each with its head; no line without items."""
    line = head
    for item in items:
        if len(line) > len(head) and len(line) + 1 + len(item) > _WIDTH:
            yield line
            line = head
        line += " " + item
    if len(line) > len(head):
        yield line


def role_lines(
    role: Role, comment: Comment | None = None, heads: dict[str, str] | None = None
) -> Iterator[str]:
    """A role from `.role` to `.end`.

    `comment` says what stands behind an instruction; `heads` what stands behind a declaration, by its first two
    words (`.array a0`).
    """
    yield from declaration_lines(role, heads or {})
    yield ""
    for text, _ in code_lines(role, comment):
        yield text
    yield ".end"


def declaration_lines(role: Role, heads: dict[str, str]) -> Iterator[str]:
    """`.role` and the declarations of a role, in columns."""
    yield behind(f".role {word(role.name)}", heads.get(".role"))
    for line in wrap("  .param", map(word, role.params)):
        yield behind(line, heads.get(".param"))
    for rows in (_arrays(role), _ports(role), _constants(role), _regions(role)):
        for cells in columns(rows):
            yield behind("  " + cells, heads.get(" ".join(cells.split()[:2])))
    yield from wrap("  .site", map(word, role.sites))


def _arrays(role: Role) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for index, a in enumerate(role.arrays):
        kind = type_text(a.dtype, (a.rows, a.cols)) + (f" bits {a.bits}" if a.bits != 8 else "")
        kind += f" block {a.block}" if a.block else ""
        kind += f" copies {a.copies}" if a.copies != 1 else ""
        rows.append((f".array a{index}", word(a.name), a.kind.value, kind))
    return rows


def _ports(role: Role) -> list[tuple[str, ...]]:
    return [(f".port p{index}", word(p.name), p.direction.value) for index, p in enumerate(role.ports)]


def _constants(role: Role) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for index, c in enumerate(role.constants):
        rows.append((f".const c{index}", word(c.name), type_text(c.dtype, c.shape), f"at {c.offset}"))
    return rows


def _regions(role: Role) -> list[tuple[str, ...]]:
    return [(".region", word(r.name), f"at {r.offset}", f"bytes {r.bytes}") for r in role.regions]


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def behind(line: str, comment: str | None, column: int = 48) -> str:
    """A line with a comment from `column` on."""
    return f"{line:<{column}}  ; {one_line(comment)}" if comment else line


def labels_of(role: Role) -> dict[int, str]:
    """A label for each instruction index that something branches to: `end1` for loops, `skip1` for branches."""
    ends: dict[int, bool] = {}
    for inst in role.code:
        for field in inst.layout:
            if field.is_label:
                index = getattr(inst, field.name)
                ends[index] = ends.get(index, False) or isinstance(inst, Loop)
    names: dict[int, str] = {}
    counts = {True: 0, False: 0}
    for index in sorted(ends):
        if index > len(role.code):
            names[index] = str(index)  # nothing is there to carry a label
            continue
        counts[ends[index]] += 1
        names[index] = f"{'end' if ends[index] else 'skip'}{counts[ends[index]]}"
    return names


def depths_of(role: Role) -> list[int]:
    """How many loops each instruction is in; one more entry for the end of the code."""
    change = [0] * (len(role.code) + 2)
    for index, inst in enumerate(role.code):
        if isinstance(inst, Loop) and inst.end > index:
            change[index + 1] += 1
            change[min(inst.end, len(role.code) + 1)] -= 1
    depths, depth = [], 0
    for delta in change[:-1]:
        depth += delta
        depths.append(depth)
    return depths


def code_lines(role: Role, comment: Comment | None = None) -> Iterator[tuple[str, int]]:
    """The lines of code with labels, each with its instruction's index (-1 for a label)."""
    labels, depths = labels_of(role), depths_of(role)
    texts = [_columns_of(inst.text(labels)) for inst in role.code]
    indents = ["  " * (1 + depth) for depth in depths]
    width = max((len(i + t) for i, t in zip(indents, texts, strict=False) if len(t) <= _OPERANDS), default=0)
    sites = ["@" + word(role.sites[s]) if 0 <= s < len(role.sites) else "" for s in role.lines]
    sites += [""] * (len(texts) - len(sites))
    site_width = max(map(len, sites), default=0)
    for index, text in enumerate(texts):
        if index in labels:
            yield f"{indents[index]}{labels[index]}:", -1
        line = f"{indents[index] + text:<{width}}  {sites[index]:<{site_width}}"
        note = comment(index) if comment is not None else ""
        yield (f"{line}  ; {one_line(note)}" if note else line.rstrip()), index
    if len(texts) in labels:
        yield f"{indents[len(texts)]}{labels[len(texts)]}:", -1


def _columns_of(text: str) -> str:
    mnemonic, _, operands = text.partition(" ")
    return f"{mnemonic:<6} {operands}".rstrip()


def tile_lines(program: Program, tiles: Iterable[Tile]) -> Iterator[str]:
    """`.tile` and what fills the role in, for each of the tiles."""
    roles = {role.name: role for role in program.roles}
    for tile in tiles:
        yield f".tile {word(tile.name)} {word(tile.role)} at {tile.x},{tile.y}"
        role = roles.get(tile.role)
        if role is None:
            continue
        yield from wrap("  .params", map(pair, role.params, tile.params))
        for index, data in enumerate(tile.arrays):
            if data is not None:
                scales = f" scales {slice_text(data.scales)}" if data.scales is not None else ""
                yield f"  .bind a{index} {slice_text(data.values)}{scales}"
        for index, part in enumerate(tile.constants):
            yield f"  .bind c{index} {slice_text(part)}"
        yield from wrap("  .nodes", map(pair, role.sites, tile.nodes))


def _ends(program: Program, ends: Iterable[Endpoint]) -> str:
    tiles = program.tiles
    return ", ".join(endpoint_text(None if e.tile == HOST else tiles[e.tile].name, e.port) for e in ends)


def channel_lines(program: Program, channels: Iterable[Channel]) -> Iterator[str]:
    """`.channel` lines."""
    for c in channels:
        reduce = "" if c.reduce is Reduce.NONE else f" {c.reduce.value}"
        yield f".channel {word(c.name)} from {_ends(program, c.sources)} to {_ends(program, c.dests)}{reduce}"


def barrier_lines(program: Program) -> Iterator[str]:
    """`.barrier` lines."""
    for b in program.barriers:
        yield f".barrier {word(b.name)} {_ends(program, b.members)}"


def memory_lines(program: Program) -> Iterator[str]:
    """`.memory` lines."""
    for m in program.memory:
        tensor = f" tensor {word(m.tensor)}" if m.tensor is not None else ""
        place = f"{m.space.name.lower()} chip {m.chip} at {m.offset} bytes {m.bytes}"
        yield f".memory {word(m.name)} {place}{tensor}"


def replica_lines(program: Program) -> Iterator[str]:
    """`.replica` lines."""
    for corner in program.replicas:
        yield f".replica at {corner.x},{corner.y}"


def stream_lines(program: Program) -> Iterator[str]:
    """`.stream` lines."""
    for s in program.streams:
        parts = " ".join(span_text(program.channels[p.channel].name, p.column, p.columns) for p in s.parts)
        what = f"{s.direction.value} {s.dtype.name.lower()} columns {s.columns}"
        rows = f"{' source' * s.source}{' every' * s.every}"
        yield f".stream {word(s.name)} {what}{rows}{' via ' * bool(parts)}{parts}"


def cache_lines(program: Program) -> Iterator[str]:
    """`.cache` lines, each with its heads."""
    for cache in program.caches:
        ring = f" ring {cache.ring}" if cache.ring else ""
        copies = f" copies {cache.copies}" if cache.copies > 1 else ""
        dealt = f" ways {cache.ways} blocks {cache.blocks} rows {cache.block}" if cache.ways > 1 else ""
        yield f".cache {cache.layer}{' cross' * cache.cross}{dealt}{ring}{_in_memory(cache)}{copies}{_factors(cache)}"
        heads = (heads_text(program.tiles[h.tile].name, h.keys, h.values) for h in cache.heads)
        yield from wrap("  .heads", heads)
        if cache.rows:
            yield from wrap("  .regions", (word(program.memory[h.memory].name) for h in cache.heads))


def _factors(cache: KvCache) -> str:
    return f" factors {word(cache.key_factors)} {word(cache.value_factors)}" if cache.key_factors else ""


def _in_memory(cache: KvCache) -> str:
    hot = f" hot {cache.hot}" if cache.hot else ""
    return f" memory {cache.rows}{hot}" if cache.rows else ""


def interface_lines(program: Program) -> Iterator[str]:
    """`.input`, `.output` and `.padding` lines."""
    for value in program.interface.inputs:
        yield f".input {_value_text(value)}"
    for value in program.interface.outputs:
        yield f".output {_value_text(value)}"
    if program.interface.padding:
        yield ".padding " + " ".join(map(str, program.interface.padding))


def _value_text(value: ModelValue) -> str:
    stream = f" stream {word(value.stream)}" if value.stream else ""
    cache = f" cache {value.cache}" if value.cache >= 0 else ""
    heads = f" heads {value.heads}" if value.heads else ""
    return f"{word(value.name)} {value.use.value}{stream}{cache}{' flat' * value.flat}{heads}"
