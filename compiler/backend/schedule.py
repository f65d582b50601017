"""Reorder instructions inside straight pieces of a role so that units work side by side.

A unit starts its instructions in order: one that waits holds up all behind it in its queue. A list scheduler
therefore puts first what can start first, and among those what the longest chain of others waits for. The order of
network instructions among themselves is kept, so that what the verifier shows of channels does not change. Buffer
ranges are compared by the region they lie in, at full size: an order that is right for the longest segment is right.
An address with a base register stays within the region that its offset lies in, or within the second place of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from isa.hardware import Hardware
from isa.instruction import ArrayMode, Inst, Mode, Timing, Unit
from isa.instructions import Halt, Loop, Seg, Sseg
from isa.operands import ZERO, Addr, ArrayRef, Reg
from isa.program import Role

from .layout import PLACES, further
from .registers import registers_of

_BARRIERS = (Halt, Loop, Seg, Sseg)
_ANYWHERE = 1 << 30
_MEMORY_CYCLES, _MESSAGE_CYCLES = 60, 30  # rough: only the order depends on them

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an operand may lie: in the regions start..stop-1 behind `base`, whatever that is in any of `spans`."""

    base: Reg
    start: int
    stop: int
    spans: tuple[Range, ...]

    def meets(self, other: _Place) -> bool:
        """Whether both may have a byte in common. (If the base changes between, other dependences say so.)"""
        if self.base == other.base:
            return self.start < other.stop and other.start < self.stop
        return any(a < d and c < b for a, b in self.spans for c, d in other.spans)


@dataclass(slots=True)
class _Item:
    """An instruction with what it touches. `uses` pairs a resource with whether it is written."""

    inst: Inst
    site: int
    places: list[tuple[_Place, bool]]
    uses: list[tuple[object, bool]]
    cycles: int
    after: set[int]
    rank: int = 0


def schedule(role: Role, hardware: Hardware) -> Role:
    """The role with its straight pieces reordered; meaning and length are unchanged."""
    regions = _Regions(role)
    code: list[Inst] = []
    lines: list[int] = []
    for start, stop in _pieces(role):
        items = [_item(role.code[i], role.lines[i], role, hardware, regions) for i in range(start, stop)]
        for index in _order(items):
            code.append(items[index].inst)
            lines.append(items[index].site)
    return replace(role, code=tuple(code), lines=tuple(lines))


def _pieces(role: Role) -> Iterator[Range]:
    """Ranges of instructions between control instructions and loop borders; control stands alone."""
    borders = {i.end for i in role.code if isinstance(i, Loop)}
    start = 0
    for index, inst in enumerate(role.code):
        is_control = isinstance(inst, _BARRIERS) or any(f.is_label for f in inst.layout)
        if is_control or index in borders:
            if start < index:
                yield start, index
            start = index
        if is_control:
            yield index, index + 1
            start = index + 1
    if start < len(role.code):
        yield start, len(role.code)


def _item(inst: Inst, site: int, role: Role, hardware: Hardware, regions: _Regions) -> _Item:
    places: list[tuple[_Place, bool]] = []
    uses: list[tuple[object, bool]] = []
    for f in inst.layout:
        value = getattr(inst, f.name)
        for register in registers_of(value):
            uses.append((register, f.writes_register))
        if f.access is not None:
            places.append((regions.place(value), f.access.mode is not Mode.READ))
        if f.array is not None:
            uses.append((f"array{value.index}", f.array.mode in (ArrayMode.WRITE, ArrayMode.WRITE_SCALES)))
        if f.memory is not None:
            uses.append((value.space, f.memory.mode is not Mode.READ))
    if inst.unit is Unit.NETWORK:
        uses.append(("network", True))
    return _Item(inst, site, places, uses, _cycles(inst, role, hardware), set())


class _Regions:
    """The named ranges of a role's buffer; those before the further places have one of their own in each."""

    def __init__(self, role: Role) -> None:
        self._spans = [(c.offset, c.offset + c.bytes) for c in role.constants]
        names = {further(n) for n in range(1, max(PLACES))}
        self._spans += [(r.offset, r.offset + r.bytes) for r in role.regions if r.name not in names]
        again = [r for r in role.regions if r.name in names]
        self._distances = [(n + 1) * r.bytes for n, r in enumerate(again)]
        self._turned = (again[0].offset - again[0].bytes, again[0].offset) if again else (0, 0)

    def place(self, address: Addr) -> _Place:
        """Where an operand may lie: all of the regions that its offset lies in, and, behind a base, their others."""
        hits = [span for span in self._spans if span[0] <= address.offset < span[1]]
        if not hits:
            return _Place(address.base, 0, _ANYWHERE, ((0, _ANYWHERE),))
        start, stop = min(h[0] for h in hits), max(h[1] for h in hits)
        spans: tuple[Range, ...] = ((start, stop),)
        if address.base != ZERO and self._turned[0] <= start < self._turned[1]:
            spans += tuple((start + distance, stop + distance) for distance in self._distances)
        return _Place(address.base, start, stop, spans)


def _cycles(inst: Inst, role: Role, hardware: Hardware) -> int:
    """A rough latency for one row."""
    match inst.timing:
        case Timing.ACTIVATE:
            return hardware.cycles(hardware.macro.mvm_latency) + 4
        case Timing.VECTOR:
            work = inst.work
            cols = _columns(inst, role)
            _, sfu = work.operations(1, cols)
            alu = work.alu_cycles(1, cols, int(hardware.vector.lanes.value))
            return int(hardware.vector.startup.value + max(alu, sfu / hardware.vector.sfu_lanes.value)) + 1
        case Timing.MEMORY:
            return _MEMORY_CYCLES
        case Timing.MESSAGE | Timing.BARRIER:
            return _MESSAGE_CYCLES
        case Timing.ROW_WRITE | Timing.ROW_READ:
            return hardware.cycles(hardware.macro.row_write_latency) + 2
        case _:
            return 1


def _columns(inst: Inst, role: Role) -> int:
    name = inst.work.cols
    if name == "a.cols":
        array = getattr(inst, "a", None)
        assert isinstance(array, ArrayRef)
        return role.arrays[array.index].cols
    value = getattr(inst, name) if isinstance(name, str) else name
    return value if isinstance(value, int) else 256  # a length from a register: some block of scores


def _depends(later: _Item, earlier: _Item) -> bool:
    for a, wrote_a in later.uses:
        for b, wrote_b in earlier.uses:
            if (wrote_a or wrote_b) and a == b:
                return True
    return any(
        (wrote_a or wrote_b) and a.meets(b) for a, wrote_a in later.places for b, wrote_b in earlier.places
    )


def _order(items: list[_Item]) -> list[int]:
    """Indices in issue order: of those ready, the earliest to start; then the one most waited for."""
    for i, item in enumerate(items):
        item.after = {j for j in range(i) if _depends(item, items[j])}
    for i in range(len(items) - 1, -1, -1):
        waiting = [items[k].rank for k in range(i + 1, len(items)) if i in items[k].after]
        items[i].rank = items[i].cycles + max(waiting, default=0)
    done: dict[int, int] = {}
    free: dict[Unit, int] = {}
    clock, order = 0, []
    left = list(range(len(items)))
    while left:
        ready = [i for i in left if items[i].after <= done.keys()]
        start = {
            i: max([clock, _unit_free(items[i], free), *(done[j] for j in items[i].after)]) for i in ready
        }
        best = min(ready, key=lambda i: (start[i], -items[i].rank, i))
        finish = start[best] + items[best].cycles
        done[best] = finish
        if items[best].inst.unit in (Unit.VECTOR, Unit.DMA):
            free[items[best].inst.unit] = finish
        clock = start[best] + 1
        order.append(best)
        left.remove(best)
    return order


def _unit_free(item: _Item, free: dict[Unit, int]) -> int:
    return free.get(item.inst.unit, 0)
