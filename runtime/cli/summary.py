"""What a compilation came to: a few facts, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from isa.program import ArrayKind
from runtime.within import parts_around, parts_within

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.pipeline import Compilation
    from isa.program import Program


def program_facts(program: Program) -> dict[str, object]:
    """Tiles, macros, KV rows, instructions, limits of a program."""
    target = program.target
    tiles = Counter(tile.role for tile in program.tiles * len(program.corners))

    def macros(kind: ArrayKind) -> int:
        return sum(
            tiles[role.name] * array.macros(target.macro_rows, target.macro_cols)
            for role in program.roles
            for array in role.arrays
            if array.kind is kind
        )

    kv_bytes = sum(
        tiles[role.name] * array.rows * array.cols * array.dtype.bytes
        for role in program.roles
        for array in role.arrays
        if array.kind is ArrayKind.KV
    )
    kv_memory = sum(program.memory[head.memory].bytes for c in program.caches if c.rows for head in c.heads)
    return {
        "target": target.name,
        "target_hash": target.hash,
        "tiles": program.tile_count,
        "replicas": len(program.corners),
        "tiles_available": target.tiles,
        "roles": len(program.roles),
        "instructions": sum(len(role.code) for role in program.roles),
        "weight_macros": macros(ArrayKind.WEIGHT),
        "kv_macros": macros(ArrayKind.KV),
        "macros_available": target.tiles * target.all_macros_per_tile,
        "kv_bytes": kv_bytes,
        "kv_copy_bytes": _copied(program),
        "kv_memory_bytes": kv_memory,
        "kv_layers": dict(Counter(cache.policy.value for cache in program.caches)),
        "max_context": program.limits.max_context,
        "sequences": program.step_limits.sequences,
        "chunk": program.limits.chunk,
        "has_weights": program.data is not None,
        "host_nodes": {part.name: len(part.nodes) for part in program.hosts},
    }


def program_summary(program: Program) -> str:
    """The facts of a program in a few lines."""
    f = program_facts(program)
    limits = program.step_limits
    sequences = "1 sequence" if limits.sequences == 1 else f"{limits.sequences:,} sequences"
    return "\n".join(
        (
            f"target      {f['target']}: {f['tiles']:,} of {f['tiles_available']:,} tiles{_replicas(program)}; "
            f"macros: {f['weight_macros']:,} for weights{_streamed(program)}, {f['kv_macros']:,} for KV, "
            f"of {f['macros_available']:,}",
            f"KV cache    {f['kv_bytes']:,} bytes in arrays{_copies(program)}{_in_memory(program)}, for {sequences} of "
            f"{limits.max_context:,} tokens{_pages(program)}; segments of up to {limits.chunk} tokens",
            f"program     {f['roles']} roles, {f['instructions']:,} instructions"
            + ("" if f["has_weights"] else ", no weights (shapes only)"),
            *_hosts(program),
        )
    )


def _replicas(program: Program) -> str:
    """In how many copies the program lies there, if in several."""
    return f" in {len(program.corners)} copies" if program.replicas else ""


def _streamed(program: Program) -> str:
    """The macros that weights pass through, if they are streamed."""
    target, tiles = program.target, Counter(tile.role for tile in program.tiles)
    macros = sum(
        tiles[role.name] * array.macros(target.macro_rows, target.macro_cols)
        for role in program.roles
        for array in role.arrays
        if array.kind is ArrayKind.STREAM
    )
    return f" that stay and {macros:,} for weights streamed from DRAM" if macros else ""


def _pages(program: Program) -> str:
    """How sequences share KV arrays, if they do."""
    limits = program.limits
    if not limits.pages:
        return ""
    rows = limits.pages * limits.page_rows
    return f" each, {rows:,} together in {limits.pages:,} pages"


def _copied(program: Program) -> int:
    """Bytes of KV arrays that have rows which another tile has, too."""
    roles = {role.name: role for role in program.roles}
    total = 0
    for cache in program.caches:
        for head in cache.heads:
            arrays = roles[program.tiles[head.tile].role].arrays
            own = (arrays[number] for number in (head.keys, head.values))
            each = sum(array.rows * array.cols * array.dtype.bytes for array in own)
            total += each * (cache.copies - 1) // cache.copies
    return total


def _copies(program: Program) -> str:
    """What of the KV arrays are copies, if any are."""
    most = max((cache.copies for cache in program.caches), default=1)
    if most == 1:
        return ""
    each = f"{most} tiles" if all(c.copies == most for c in program.caches) else f"up to {most} tiles"
    return f" ({_copied(program):,} of them copies: query heads that share rows are on {each})"


def _in_memory(program: Program) -> str:
    """What of the KV cache lies in memory, if anything does."""
    layers = Counter(cache.policy for cache in program.caches if cache.rows)
    if not layers:
        return ""
    size = sum(program.memory[head.memory].bytes for c in program.caches if c.rows for head in c.heads)
    which = ", ".join(f"{count} of {len(program.caches)} layers {p.value}" for p, count in layers.items())
    return f" and {size:,} in DRAM ({which})"


def _hosts(program: Program) -> list[str]:
    """A line on what the host does, if it does anything."""
    around, within = parts_around(program), parts_within(program)
    parts = [f"{len(p.nodes)} nodes {p.moment.value} the chip ({p.name})" for p in around]
    if within:
        nodes = sum(len(p.nodes) for p in within)
        parts.append(f"{nodes:,} nodes within each step, in {len(within)} parts between what the chip does")
    return [f"host        {', '.join(parts)}"] if parts else []


def attention_layers(graph: Graph) -> int:
    """How many attention operators a graph has, with a cache or without."""
    from compiler.ir.graph import Attention

    return sum(isinstance(node.op, Attention) for node in graph.nodes)


def facts_of(compilation: Compilation) -> dict[str, object]:
    """What is known of a compilation at the level that it reached."""
    from runtime.bounds import standard_points

    graph, mapping, program = compilation.graph, compilation.mapping, compilation.program
    facts: dict[str, object] = {"model": str(compilation.model)}
    if graph is not None:
        facts["nodes"] = len(graph.nodes)
        facts["attention_layers"] = attention_layers(graph)
    if mapping is not None:
        facts["templates"] = len(mapping.templates)
    if program is not None:
        facts |= program_facts(program)
        facts["bounds"] = {
            name: {"cycles": b.cycles, "binding": b.binding.value} for name, b in standard_points(program)
        }
        facts["verified"] = True  # the pipeline ends with the proof, or with a diagnostic
    return facts


def summary(compilation: Compilation, output: str | None) -> str:
    """What a compilation came to, in a few lines."""
    graph, program = compilation.graph, compilation.program
    nodes = (
        f": {len(graph.nodes)} operators, {attention_layers(graph)} attention layers"
        if graph is not None
        else ""
    )
    lines = [f"model       {compilation.model.name}{nodes}"]
    if program is None:
        return "\n".join([*lines, "stopped before a program was made"])
    lines += [
        program_summary(program),
        *_bounds(program),
        *_wear(program),
        f"verified    for every position and length; {_written(output)}",
    ]
    return "\n".join(lines)


def _bounds(program: Program) -> list[str]:
    """The least time of the steps that stand for the program."""
    from runtime.bounds import standard_points

    points = [f"{name} {b.cycles:,} cycles ({b.binding.value})" for name, b in standard_points(program)]
    return [f"at least    {', '.join(points)}, whatever the mapping"] if points else []


def _wear(program: Program) -> list[str]:
    """What wears out, and how soon it may, on targets whose cells do."""
    from isa.bound.points import standard_steps
    from isa.endurance import wear
    from runtime.amounts import duration
    from runtime.bounds import bound_of

    worn, (_, step) = wear(program), standard_steps(program)[0]
    least = bound_of(program, step) if worn else None
    if least is None:
        return []
    cycles = least.cycles / sum(segment.tokens for segment in step if segment.sequence == step[0].sequence)
    return [
        f"warning     {item.what} lie in {item.cell} cells, which survive {item.endurance:g} writes: at "
        f"{item.writes_per_token:.3g} writes a token and {cycles:,.0f} cycles a token they may be worn out in "
        f"{duration(item.lifetime_s(cycles / program.target.clock.si))}"
        for item in worn
    ]


def _written(output: str | None) -> str:
    return f"written to {output}" if output else "not written (-o names a file)"
