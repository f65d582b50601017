"""Checks of a Mapping's passes over the segments, and of what is a row of the source and what of a token."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from dataclasses import fields
from itertools import pairwise

from isa.program import HOST, ArrayKind, ArraySpec, Endpoint, Limits

from .mapping import Block, Mapping, Rows, Template
from .operations import Append, Attend, Operation, Receive, Send

READS = ("x", "a", "b", "q", "k", "v", "value", "ids")
"""The fields of operations that name values they read."""
_LASTING = (Rows.SEQUENCE, Rows.STEP, Rows.ONCE)


def pass_problems(template: Template, limits: Limits) -> Iterator[str]:
    """What is wrong with a template's passes, in words."""
    yield from _order(template)
    yield from _loops(template)
    yield from _values(template)
    if template.source_phases and not limits.max_source:
        yield "passes over the source, of which there are no rows (max_source)"
    appended = _appended(template)
    for array, kinds in appended.items():
        if len(kinds) > 1:
            yield f"appends rows of the source and of tokens to array {array!r}"
    for block in template.blocks:
        if isinstance(block.op, Attend):
            yield from _cached(block.op, _of_source(block, template), template, limits, appended)


def channel_problems(mapping: Mapping, templates: MappingType[str, Template]) -> Iterator[tuple[str, str]]:
    """Channels that carry rows of the source at one end and of tokens at the other: where, and what is wrong."""
    kinds = {t.name: _of_ports(t) for t in mapping.templates}
    streams = {part.channel: stream for stream in mapping.streams for part in stream.parts}

    def at(end: Endpoint, index: int) -> frozenset[bool]:
        if end.tile == HOST:
            return frozenset({streams[index].source} if index in streams else set())
        template = templates.get(mapping.tiles[end.tile].template)
        ports = template.ports if template else ()
        if template is None or end.port >= len(ports):
            return frozenset()
        return frozenset(kinds[template.name].get(ports[end.port].name, ()))

    for index, channel in enumerate(mapping.channels):
        found = {at(end, index) for end in (*channel.sources, *channel.dests)} - {frozenset()}
        if len(found) > 1:
            yield f"channel {channel.name}", "carries rows of the source at one end, and of tokens at another"
    for stream in mapping.streams:
        if stream.source and not mapping.limits.max_source:
            yield f"stream {stream.name}", "is for rows of the source, of which there are none (max_source)"


def _of_source(block: Block, template: Template) -> bool:
    """Whether the pass of a block goes over the source's segments."""
    return block.phase < template.source_phases


def _order(template: Template) -> Iterator[str]:
    phases = [block.phase for block in template.blocks]
    for before, after in pairwise([0, *phases]):
        if after - before not in (0, 1):
            yield f"pass {after} follows pass {before}"
    passes = 1 + max(phases, default=0)
    if not 0 <= template.source_phases <= passes:
        yield f"has {template.source_phases} passes over the source, and {passes} in all"


def _loops(template: Template) -> Iterator[str]:
    """Loops around passes that do not nest, or go around passes that are not there."""
    passes = 1 + max((block.phase for block in template.blocks), default=0)
    for index, repeat in enumerate(template.repeats):
        if not 0 <= repeat.first <= repeat.last < passes or repeat.count < 1:
            yield f"passes {repeat.first}..{repeat.last} are done {repeat.count} times; it has {passes}"
        for outer in template.repeats[:index]:
            inside = outer.first <= repeat.first and repeat.last <= outer.last
            if not inside and repeat.first <= outer.last:
                yield f"loops around passes {outer.first}..{outer.last} and {repeat.first}..{repeat.last} do not nest"
    for phase in template.once:
        if not template.source_phases <= phase < passes:
            yield f"pass {phase} is done once; it is no pass over tokens"


def _values(template: Template) -> Iterator[str]:
    """Values that are read where they are not, or no longer."""
    values = {v.name: v for v in template.values}
    written: dict[str, Block] = {}
    for block in template.blocks:
        kind = type(block.op).__name__
        for name in (getattr(block.op, f, "") for f in READS):
            if name not in values or name not in written:
                continue
            maker = written[name]
            if _of_source(maker, template) != _of_source(block, template):
                yield f"{kind} reads {name!r} for tokens, which has rows of the source"
            elif values[name].rows not in _LASTING and maker.phase != block.phase:
                yield f"{kind} reads {name!r} in a later pass than that which wrote it"
        out = getattr(block.op, "out", "")
        written[out] = block
        if _of_source(block, template) and _wants_outputs(block.op, values.get(out)):
            yield f"{kind} is for rows with outputs, of which a source segment has none"


def _wants_outputs(op: Operation, out: object) -> bool:
    return getattr(op, "wanted", False) or getattr(out, "rows", None) is Rows.OUTPUTS


def _appended(template: Template) -> dict[str, set[bool]]:
    """Of each array that is appended to, whether by rows of the source (True), of tokens (False), or both."""
    kinds: dict[str, set[bool]] = {}
    for block in template.blocks:
        if isinstance(block.op, Append):
            kinds.setdefault(block.op.array, set()).add(_of_source(block, template))
    return kinds


def _cached(
    op: Attend, of_source: bool, template: Template, limits: Limits, appended: dict[str, set[bool]]
) -> Iterator[str]:
    """What is wrong with the rows that an Attend sees."""
    if op.cross and of_source:
        yield "Attend looks at the source in a pass over the source"
    if op.cross and (op.causal or op.window or op.bias):
        yield "Attend limits by distance which rows of the source are seen, or adds to their scores"
    wanted = op.cross or of_source
    need = limits.max_source if wanted else limits.max_context
    if op.ring:
        need = min(need, op.window)
        yield from _ring(op)
    specs = [spec for name in (op.keys, op.values) for spec in template.arrays if spec.name == name]
    for spec in specs:
        if appended.get(spec.name, {wanted}) != {wanted}:
            yield f"Attend looks in {spec.name!r} for rows of {'the source' if wanted else 'tokens'}"
        paged = limits.pages > 0 and not (wanted or op.ring)
        if op.ways > 1 and not paged:
            yield from _dealt_room(spec, need, op, limits)
        else:
            yield from _room(spec, need, limits, paged=paged)
    if len({spec.rows for spec in specs}) > 1:
        yield f"{op.keys!r} and {op.values!r} have not as many rows"


def _ring(op: Attend) -> Iterator[str]:
    """What is wrong with an Attend that looks at a ring."""
    if not (op.causal and op.window and op.skip) or op.ring % op.block:
        yield f"Attend takes a ring of {op.ring} rows without a window, or not in whole blocks of {op.block}"


def _room(spec: ArraySpec, need: int, limits: Limits, *, paged: bool) -> Iterator[str]:
    rows, rest = divmod(spec.rows, limits.sequences)
    if paged:
        if spec.kind is not ArrayKind.KV or spec.rows != limits.pages * limits.page_rows:
            yield f"array {spec.name!r} is no KV array of {limits.pages} pages of {limits.page_rows} rows"
    elif spec.kind is not ArrayKind.KV or rest:
        yield f"array {spec.name!r} is no KV array with as many rows for each of {limits.sequences} sequences"
    elif not 0 < need <= rows:
        yield f"array {spec.name!r} has {rows} rows a sequence, which can have {need}"


def _dealt_room(spec: ArraySpec, need: int, op: Attend, limits: Limits) -> Iterator[str]:
    if op.blocks * op.block < need:
        yield f"Attend has {op.blocks} blocks of {op.block} rows for a sequence, which can have {need}"
    slots = -(-limits.sequences * op.blocks // op.ways)
    if spec.kind is not ArrayKind.KV or spec.rows < slots * op.block:
        yield f"array {spec.name!r} has {spec.rows} rows, dealt blocks need {slots * op.block}"


def _of_ports(template: Template) -> dict[str, set[bool]]:
    """Of each port, whether messages go with source segments (True), with those of tokens (False), or both."""
    names = {port.name for port in template.ports}
    kinds: dict[str, set[bool]] = {}
    for block in template.blocks:
        op = block.op
        used = {part[0] for part in op.parts} if isinstance(op, Receive | Send) else set()
        used |= {part[0] for part in op.scales} if isinstance(op, Receive) else set()
        used |= {value for f in fields(op) if (value := getattr(op, f.name)) in names}
        for port in used & names:
            kinds.setdefault(port, set()).add(_of_source(block, template))
    return kinds
