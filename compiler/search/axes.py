"""In which directions a choice can be changed: each axis names the neighbours of a choice along one field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from compiler.ir.graph import Attention
from compiler.ir.mapping import Mapping
from compiler.mapping.rules import LONGEST_CHUNK, WIDEST, hub_columns

from .judge import Choice, Judge, Score
from .starts import NARROWEST, PROJECTIONS, row_width

SHORTEST_CHUNK = 1
"""Tokens of a segment, at least: short ones are soon through all layers, long ones have fewer instructions a token."""
MOST_WAYS = 64
MOST_TILES = 1024  # of a target on which the whole graph is mapped anew to make room: that takes seconds on larger ones
GROUPS = (1, 4)  # KV heads that share an output projection, of heads over several tiles; of others all do
SPREADS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)  # times the tiles that feed-forward layers need
SAME_WAY = "way"  # the parameter of tiles over which a head is dealt

Neighbours = Callable[[Judge, Choice, Score], Iterator[Choice]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A field of the choice: what it is called, its value in words, and the choices beside one."""

    name: str
    value: Callable[[Choice, Score], str]
    neighbours: Neighbours


def _chunks(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    if judge.problem.chunk is None:
        for chunk in (score.chunk // 2, score.chunk * 2):
            if SHORTEST_CHUNK <= chunk <= LONGEST_CHUNK:
                yield replace(choice, chunk=chunk)


def _hub_widths(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    whole = row_width(judge.depths.graphs[0])
    by_rule = hub_columns(whole, judge.problem.hardware)
    now = choice.options.hub_width or by_rule
    # narrower ones gain more often: a segment's rows are through a stage sooner
    for width in (now // 2, now * 2):
        if NARROWEST <= width <= min(whole, WIDEST):
            yield _with(choice, hub_width=0 if width == by_rule else width)


def ways_of(mappings: list[Mapping] | None) -> int:
    """Over how many tiles a head is dealt at most."""
    found = 1
    for mapping in mappings or []:
        slots = {t.name: t.tables.index(SAME_WAY) for t in mapping.templates if SAME_WAY in t.tables}
        found = max([found, *(1 + t.tables[slots[t.template]] for t in mapping.tiles if t.template in slots)])
    return found


def _ways(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    now = choice.options.context_ways or ways_of(judge.mappings(choice.options))
    own = choice.options.own_projections
    if now == 1 and judge.problem.limits.max_context > judge.problem.hardware.macro_rows and not own:
        more = {"context_ways": 2, "own_projections": True, "own_outputs": False, "heads_together": 0}
        yield _with(choice, **more, hub_width=WIDEST, few_outputs=True, spread=1.0)  # all else on few tiles
    if now > 1:
        yield _with(choice, context_ways=now // 2, context_block=0, own_projections=own and now > 2)
        if now * 2 <= MOST_WAYS:
            block = _shorter(judge, choice, now * 2)
            yield _with_room(judge, _with(choice, context_ways=now * 2, context_block=block))


def _projections(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    """A dealt head's queries, keys and values on one tile or several, where half of the target's tiles are idle."""
    is_apart = ways_of(judge.mappings(choice.options)) > 1 and not choice.options.own_projections
    if is_apart and 2 * score.tiles <= judge.problem.hardware.tiles:
        yield _with(choice, projection_tiles=0 if choice.options.projection_tiles else PROJECTIONS)


def _shorter(judge: Judge, choice: Choice, ways: int) -> int:
    """Rows of a block such that a single sequence has one for each of so many tiles; 0 if it has them by rule. Tiles
    that several sequences share have work anyway."""
    longest, now = judge.problem.limits.max_context, block_of(judge.mappings(choice.options))
    own = -(-longest // ways // LONGEST_CHUNK) * LONGEST_CHUNK
    return own if judge.problem.limits.sequences == 1 and own < now else choice.options.context_block


def _whole_sequences(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    """Blocks as long as a sequence, where there are no fewer sequences than tiles over which a head is dealt: each
    sequence then is on one of them, and they take turns."""
    mappings, limits = judge.mappings(choice.options), judge.problem.limits
    longest, ways = min(limits.max_context, choice.options.block), ways_of(mappings)
    if 1 < ways <= limits.sequences and block_of(mappings) < longest == limits.max_context:
        yield _with(choice, context_block=longest, context_ways=ways)


def block_of(mappings: list[Mapping] | None) -> int:
    """Rows of the blocks in which heads are dealt."""
    return max((c.block for m in mappings or [] for c in m.caches if c.ways > 1), default=0)


def _with_room(judge: Judge, choice: Choice) -> Choice:
    """The choice; where it takes too many tiles, what the rules make of it: other sections on fewer tiles."""
    if judge.mappings(choice.options) is not None or judge.problem.hardware.tiles > MOST_TILES:
        return choice
    found = judge.settled(_with(choice, spread=0.0))
    if found is None:
        judge.work += judge.problem.hardware.tiles  # it has been mapped until it was too large, some times
    return found or choice


def _copies(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    """Over how many tiles the query heads of a KV head go, where a head's rows are not dealt."""
    caches = [cache for mapping in judge.mappings(choice.options) or [] for cache in mapping.caches]
    now = choice.options.kv_copies or max((cache.copies for cache in caches), default=1)
    if now > 1:
        yield _with(choice, kv_copies=now // 2)
    ops = [node.op for node in judge.problem.graph.nodes if isinstance(node.op, Attention)]
    if choice.options.kv_copies and now < max((op.heads // op.kv_heads for op in ops), default=1):
        yield _with(choice, kv_copies=now * 2)


def _groups(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    # where heads are not dealt, they may have their output projections themselves
    is_dealt = ways_of(judge.mappings(choice.options)) > 1
    ops = (node.op for node in judge.problem.graph.nodes)
    heads = max((op.heads for op in ops if isinstance(op, Attention)), default=1)
    now = choice.options.heads_together, choice.options.own_outputs
    forms = [(n, False) for n in GROUPS] if is_dealt else [(heads, True), (heads, False), (0, False)]
    for together, own in forms:
        if (together, own) != now:
            yield _with(choice, heads_together=together, own_outputs=own)


def _grouping(choice: Choice, score: Score) -> str:
    """Heads at an output projection, in words."""
    together = str(choice.options.heads_together or "by rule")
    return f"{together} on their own tiles" if choice.options.own_outputs else together


def _spreads(judge: Judge, choice: Choice, score: Score) -> Iterator[Choice]:
    """More tiles first, then fewer, each way as long as that does not take longer: a cut is that of many spreads."""
    now = choice.options.spread
    for way in ([s for s in SPREADS if s > now], [s for s in reversed(SPREADS) if s < now]):
        for spread in way:
            other = _with(choice, spread=spread)
            yield other
            found = judge.score(other, score)  # known: whoever asked for it has looked at it
            if found is None or found.mean > score.mean:
                break


def _with(choice: Choice, **changes: object) -> Choice:
    return replace(choice, options=replace(choice.options, **changes))  # type: ignore[arg-type]


AXES = (  # hub tiles last: of models that barely fit, other axes gain more
    Axis(
        "tiles of projections", lambda c, s: str(c.options.projection_tiles or "as few as fit"), _projections
    ),
    Axis("tiles a head", lambda c, s: str(c.options.context_ways or "by rule"), _ways),
    Axis("rows of a block", lambda c, s: str(c.options.context_block or "by rule"), _whole_sequences),
    Axis("copies of a head", lambda c, s: str(c.options.kv_copies or "by rule"), _copies),
    Axis("tokens a segment", lambda c, s: str(s.chunk), _chunks),
    Axis("heads at an output projection", _grouping, _groups),
    Axis("spread of feed-forward layers", lambda c, s: f"{c.options.spread:.2f}", _spreads),
    Axis("columns of a hub tile", lambda c, s: str(c.options.hub_width or "by rule"), _hub_widths),
)


def axes_of(judge: Judge) -> tuple[Axis, ...]:
    """The axes in the order in which they are followed, as not all may be looked at. Hub tiles pace a single sequence
    of rows too wide for one of them: their columns then come before what is beside the hub."""
    if judge.problem.limits.sequences > 1 or row_width(judge.depths.graphs[0]) <= WIDEST:
        return AXES
    *first, groups, spreads, hub = AXES
    return (*first, hub, groups, spreads)
