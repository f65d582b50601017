"""Where values lie in the tile buffer.

Constants come first. Values follow, each with room for a whole segment of `chunk` rows. Values of a segment have up to
thirty-two places, a fixed distance apart, which segments take in turn: so the units of a tile can work on consecutive
segments, and rows that come early (the residual stream, past a section) wait for those that they are added to. If there
is no room for two of all values, only what comes and goes in messages has several, or only what comes.

If all fit side by side they are kept apart; otherwise values that are never alive together share places (first fit, in
the order in which they are first written).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import Enum
from itertools import product

from compiler.ir.graph import Function, NormKind
from compiler.ir.mapping import FOUND, Arithmetic, Block, Format, MapValue, Rows, Template
from compiler.ir.operations import (
    Activate,
    Append,
    Attend,
    AttendStreamed,
    Multiply,
    Normalise,
    NormQuantise,
    Operation,
    Quantise,
    Receive,
    Send,
    Take,
)
from isa.hardware import Hardware
from isa.instruction import DType
from isa.program import ArraySpec, Constant, Limits, Region

GROUP_SUMS = ("sums", "odd_sums")
"""Working spaces of a product with groups of scales: sums of even and of odd groups."""

PLACES = (32, 16, 8, 4, 2)
"""How many places values may have: the most that there is room for. What comes past a section waits there for what
comes through it."""


LEAD = 2
"""How many places there are where rows come that other tiles have looked up. With more of them the memories would run
ahead of the layers, and fill links that the first segments still have to pass."""


def further(number: int) -> str:
    """The name of the region with the values' places `number` (from 1 on)."""
    return f"place.{number}"


class Extent(Enum):
    """Whose rows a range of the buffer has room for."""

    ONCE = "once"  # a size that does not depend on how many there are
    SEGMENT = "segment"
    SEQUENCES = "sequences"  # all that the sequences can have
    SOURCES = "sources"  # all that their sources can have
    STEP = "step"  # all of a step's segments

    def rows(self, limits: Limits) -> int:
        """How many rows these are at most."""
        match self:
            case Extent.ONCE:
                return 1
            case Extent.SEGMENT:
                return limits.chunk
            case Extent.SEQUENCES:
                return limits.max_context * limits.sequences
            case Extent.SOURCES:
                return limits.max_source * limits.sequences
            case Extent.STEP:
                return limits.chunk * limits.segments


@dataclass(frozen=True, slots=True)
class Need:
    """A range of the buffer: bytes a row, and the first and last block that use it.

    What holds more than a segment's rows is used all the time.
    """

    name: str
    bytes_per_row: int
    first: int
    last: int
    extent: Extent = Extent.SEGMENT

    def bytes(self, limits: Limits) -> int:
        """Its size."""
        return self.bytes_per_row * self.extent.rows(limits)


_Sized = tuple[Need, int]  # with its size in bytes
_Placing = Callable[[list[_Sized], int], dict[str, int]]


@dataclass(frozen=True, slots=True)
class BufferPlan:
    """Offsets in bytes by name, and the bytes used in all.

    The values in `turned` have `places` places `distance` bytes apart, which segments take in turn. Those `inside`
    others are columns of them.
    """

    offsets: dict[str, int]
    constants: tuple[Constant, ...]
    regions: tuple[Region, ...]
    total: int
    distance: int = 0
    turned: frozenset[str] = frozenset()
    places: int = 1
    inside: frozenset[str] = frozenset()


def operands(op: Operation) -> tuple[str, ...]:
    """The names of values, constants and slots that an operation mentions."""
    return tuple(value for f in fields(op) if isinstance(value := getattr(op, f.name), str) and value)


def scratch(op: Operation, template: Template, arithmetic: Arithmetic) -> dict[str, int]:
    """Bytes a row of the working space an operation needs, by name."""
    int8 = arithmetic is Arithmetic.INT8
    match op:
        case Normalise(kind=kind, groups=groups, to=to):
            columns = ["sum", *(["mean"] if kind is NormKind.LAYER else []), *(["part"] if to else [])]
            return dict.fromkeys(columns, 4 * groups)
        case NormQuantise(kind=kind, x=x, to=to):
            is_layer = kind is NormKind.LAYER
            rows = ["scaled", *(["centred"] if is_layer else [])]
            columns = ["sum", *(["part", "largest"] if to else []), *(["mean"] if is_layer else [])]
            return dict.fromkeys(rows, 4 * _value(template, x).cols) | dict.fromkeys(columns, 4)
        case Quantise(to=to) if to:
            return {"part": 4}
        case Activate(function=Function.QUICK_GELU, x=x):
            return {"gate": 4 * next(v.cols for v in template.values if v.name == x)}
        case Multiply(array=array) if (spec := _array(template, array)).block:
            return dict.fromkeys(GROUP_SUMS, 4 * spec.cols)
        case Multiply(offset=offset) if offset:
            return {"total": 4}
        case Append(array=array, x=x) if int8 and _value(template, x).format is not Format.Q8:
            return {"rows": _array(template, array).cols, "scale": 4}
        case Attend():
            return _attend_scratch(op, template, int8)
        case AttendStreamed():
            space = _attend_scratch(op.attend(), template, int8)
            return space | _appended_scratch(op, template, int8)
        case _:
            return {}


def _attend_scratch(op: Attend, template: Template, int8: bool) -> dict[str, int]:
    """Scaled queries, scores, running and block's (m, l), the block's output; quantised queries and probabilities."""
    g, is_ready = op.group, _value(template, op.q).format is Format.Q8
    space = {} if op.scale == 1 or (int8 and not is_ready) else {"q": 4 * g * op.dim}
    space |= {"s": 4 * g * op.block} | ({"top": 4 * g} if op.sums else {"ml": 8 * g})
    space |= {"ml_block": 8 * g, "o_block": 4 * g * op.v_dim}
    if int8:
        space |= {} if is_ready else {"q8": g * op.dim, "q_scale": 4 * g}
        space |= {"p8": g * op.block, "p_scale": 4 * g}
    return space


def _appended_scratch(op: AttendStreamed, template: Template, int8: bool) -> dict[str, int]:
    """Quantised rows of the segment, and rows that leave the ring."""
    size = 1 if int8 else 4
    space = {"old_k": size * op.dim, "old_v": size * op.v_dim} if op.hot else {}
    space |= {"old_k_scale": 4, "old_v_scale": 4} if op.hot and int8 else {}
    for name, x, cols in (("k", op.k, op.dim), ("v", op.v, op.v_dim)):
        if int8 and _value(template, x).format is not Format.Q8:
            space |= {f"{name}8": cols, f"{name}_scale": 4}
    return space


def staging(op: Operation, arithmetic: Arithmetic) -> dict[str, int]:
    """Bytes of the working space whose size does not depend on the segment: a block of rows and their scales."""
    if not isinstance(op, AttendStreamed):
        return {}
    size = arithmetic.dtype.bytes
    space = {"k_in": size * op.dim * op.block, "v_in": size * op.v_dim * op.block}
    if arithmetic is Arithmetic.INT8:
        space |= {"k_in_scale": 4 * op.block, "v_in_scale": 4 * op.block}
    return space


def _value(template: Template, name: str) -> MapValue:
    return next(v for v in template.values if v.name == name)


def _array(template: Template, name: str) -> ArraySpec:
    return next(a for a in template.arrays if a.name == name)


def scratch_name(index: int, name: str) -> str:
    """The name of block `index`'s working space."""
    return f"tmp{index}.{name}"


def taken(template: Template, limits: Limits) -> dict[str, Take]:
    """The values that are columns of another, which lies where its columns follow each other: in segments of a row."""
    takes = [block.op for block in template.blocks if isinstance(block.op, Take)]
    return {op.out: op for op in takes} if limits.chunk == 1 else {}


def needs(template: Template, arithmetic: Arithmetic, limits: Limits) -> tuple[Need, ...]:
    """Every range of the buffer that a template's blocks use, in the order of first use."""
    uses: dict[str, list[int]] = {v.name: [] for v in template.values}
    inside = taken(template, limits)
    for index, block in enumerate(template.blocks):
        for name in operands(block.op):
            if name in uses:
                uses[inside[name].x if name in inside else name].append(index)
    found = list(_value_needs(template, uses))
    for index, block in enumerate(template.blocks):
        found += _scratch_needs(index, block, template, arithmetic)
    return tuple(sorted(found, key=lambda need: need.first))


def _value_needs(template: Template, uses: dict[str, list[int]]) -> Iterator[Need]:
    for value in template.values:
        if not uses[value.name]:
            continue
        first, last = uses[value.name][0], uses[value.name][-1]
        extent = Extent.SEGMENT
        if value.rows in (Rows.STEP, Rows.ONCE):
            extent = Extent.STEP if value.rows is Rows.STEP else Extent.ONCE
            first, last = 0, len(template.blocks) - 1
        if value.rows is Rows.SEQUENCE:
            is_source = template.blocks[first].phase < template.source_phases
            extent = Extent.SOURCES if is_source else Extent.SEQUENCES
            first, last = 0, len(template.blocks) - 1
        size = DType.I8.bytes if value.format is Format.Q8 else DType.F32.bytes
        yield Need(value.name, value.cols * size, first, last, extent)
        if value.format is Format.Q8:
            yield Need(f"{value.name}.scale", 4 * value.scales, first, last, extent)


def _scratch_needs(index: int, block: Block, template: Template, arithmetic: Arithmetic) -> Iterator[Need]:
    for name, size in scratch(block.op, template, arithmetic).items():
        yield Need(scratch_name(index, name), size, index, index)
    for name, size in staging(block.op, arithmetic).items():
        yield Need(scratch_name(index, name), size, index, index, Extent.ONCE)


def plan_buffer(
    template: Template, arithmetic: Arithmetic, limits: Limits, hardware: Hardware, *, double: bool = True
) -> BufferPlan:
    """Offsets for segments of `limits.chunk` tokens. The total may exceed the buffer; the caller decides what then.

    `double`: values of a segment may have several places.
    """
    granule = hardware.granule_bytes

    def align(size: int) -> int:
        return -(-size // granule) * granule

    constants: list[Constant] = []
    at = 0
    for slot in template.constants:
        count = slot.cols * max(slot.times, 1)
        constants.append(Constant(slot.name, at, DType.F32, (count,)))
        at += align(4 * count)
    wanted = [(need, align(need.bytes(limits))) for need in needs(template, arithmetic, limits)]
    choices = _turns(template, wanted, limits) if double else []
    once = frozenset[str](), 1
    for place, (turned, places) in [*product((_apart, _shared), choices), (_apart, once), (_shared, once)]:
        placed, distance, total = _place(wanted, at, turned, places, place)
        if total <= hardware.buffer_bytes:
            break
    regions = [Region(need.name, placed[need.name], size) for need, size in wanted]
    regions += [Region(further(n), at + n * distance, distance) for n in range(1, places)]
    offsets = {c.name: c.offset for c in constants} | placed
    inside, turned = _inside(template, limits, offsets, turned)
    return BufferPlan(
        offsets | inside, tuple(constants), tuple(regions), total, distance, turned, places, frozenset(inside)
    )


def _inside(
    template: Template, limits: Limits, offsets: dict[str, int], turned: frozenset[str]
) -> tuple[dict[str, int], frozenset[str]]:
    """Where values lie that are columns of others, and what has several places with them."""
    found: dict[str, int] = {}
    for out, op in taken(template, limits).items():
        x = _value(template, op.x)
        found[out] = offsets[op.x] + op.col
        found[f"{out}.scale"] = offsets[f"{op.x}.scale"] + 4 * (op.col * x.scales // x.cols)
        turned |= {out, f"{out}.scale"} if op.x in turned else set()
    return found, turned


def _turns(template: Template, wanted: list[_Sized], limits: Limits) -> list[tuple[frozenset[str], int]]:
    """Values with several places, and how many, from the most to the least; no more than a step has segments."""
    longest = max(limits.max_context, limits.max_source)
    segments = min(limits.segments, -(-longest // limits.chunk) * limits.sequences)
    is_ahead = any(isinstance(b.op, Receive) and b.site == FOUND for b in template.blocks)
    counts = [n for n in PLACES if n < 2 * segments and not (is_ahead and n > LEAD)]
    return list(product(_sets_to_turn(template, wanted), counts))


def _sets_to_turn(template: Template, wanted: list[_Sized]) -> list[frozenset[str]]:
    """What may have several places, from the most to the least: all values of a segment, messages, what is received."""
    once = {need.name for need, _ in wanted if need.extent is not Extent.SEGMENT}
    received = {b.op.out for b in template.blocks if isinstance(b.op, Receive)}
    sent = {b.op.value for b in template.blocks if isinstance(b.op, Send)}
    names = [need.name for need, _ in wanted if need.name not in once]
    sets = [
        frozenset(names),
        frozenset(name for name in names if name.removesuffix(".scale") in received | sent),
        frozenset(name for name in names if name.removesuffix(".scale") in received),
    ]
    return [names for names in sets if names]


def _place(
    wanted: list[_Sized], at: int, turned: frozenset[str], places: int, place: _Placing
) -> tuple[dict[str, int], int, int]:
    """Offsets from `at` on: values in `turned`, their further places, the others; the distance, the end of all."""
    several = [(need, size) for need, size in wanted if need.name in turned]
    single = [(need, size) for need, size in wanted if need.name not in turned]
    placed = place(several, at)
    distance = max((placed[need.name] + size for need, size in several), default=at) - at
    end = at + places * distance
    placed |= place(single, end)
    return placed, distance, max([end, *(placed[need.name] + size for need, size in single)])


def _apart(wanted: list[_Sized], at: int) -> dict[str, int]:
    placed = {}
    for need, size in wanted:
        placed[need.name] = at
        at += size
    return placed


def _shared(wanted: list[_Sized], base: int) -> dict[str, int]:
    """First fit among the ranges of needs that are alive at the same time."""
    placed: dict[str, int] = {}
    done: list[_Sized] = []
    for need, size in wanted:
        taken = sorted(
            (placed[other.name], placed[other.name] + extent)
            for other, extent in done
            if other.last >= need.first and need.last >= other.first
        )
        at = base
        for start, stop in taken:
            if at + size <= start:
                break
            at = max(at, stop)
        placed[need.name] = at
        done.append((need, size))
    return placed
