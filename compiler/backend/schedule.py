"""Reorder instructions inside straight pieces of a role so that units work side by side.

A tile issues in order: an instruction that waits holds up all behind it. A list scheduler therefore puts first
what can start first, and among those what the longest chain of others waits for. The order of network
instructions among themselves is kept, so that what the verifier shows of channels does not change. Buffer ranges
are compared by the region they lie in, at full size: an order that is right for the longest segment is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from isa.hardware import Hardware
from isa.instruction import ArrayMode, Inst, Mode, Timing, Unit
from isa.instructions import Halt, Loop, Seg, Sseg
from isa.operands import ZERO, Addr, ArrayRef, Reg
from isa.program import Role

_BARRIERS = (Halt, Loop, Seg, Sseg)
_MEMORY_CYCLES, _MESSAGE_CYCLES = 60, 30  # rough: only the order depends on them

Range = tuple[int, int]


@dataclass(slots=True)
class _Item:
    """An instruction with what it touches. `uses` pairs a resource with whether it is written."""

    inst: Inst
    site: int
    ranges: list[tuple[Range, bool]]
    uses: list[tuple[object, bool]]
    cycles: int
    after: set[int]
    rank: int = 0


def schedule(role: Role, hardware: Hardware) -> Role:
    """The role with its straight pieces reordered; meaning and length are unchanged."""
    spans = [(c.offset, c.offset + c.bytes) for c in role.constants]
    spans += [(r.offset, r.offset + r.bytes) for r in role.regions]
    code: list[Inst] = []
    lines: list[int] = []
    for start, stop in _pieces(role):
        items = [_item(role.code[i], role.lines[i], role, hardware, spans) for i in range(start, stop)]
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


def _item(inst: Inst, site: int, role: Role, hardware: Hardware, spans: list[Range]) -> _Item:
    ranges: list[tuple[Range, bool]] = []
    uses: list[tuple[object, bool]] = []
    for f in inst.layout:
        value = getattr(inst, f.name)
        for register in _registers(value):
            uses.append((register, f.writes_register))
        if f.access is not None:
            span = _span(value, spans)
            wrote = f.access.mode is not Mode.READ
            ranges.append((span, wrote))
            if f.access.mode is Mode.UPDATE or (wrote and getattr(inst, "acc", False)):
                ranges.append((span, False))
        if f.array is not None:
            uses.append((f"array{value.index}", f.array.mode in (ArrayMode.WRITE, ArrayMode.WRITE_SCALES)))
        if f.memory is not None:
            uses.append((f.name + "memory", f.memory.mode is not Mode.READ))
    if inst.unit is Unit.NETWORK:
        uses.append(("network", True))
    return _Item(inst, site, ranges, uses, _cycles(inst, role, hardware), set())


def _registers(value: object) -> Iterator[Reg]:
    if isinstance(value, Reg):
        yield value
    for name in ("base", "offset"):
        register = getattr(value, name, None)
        if isinstance(register, Reg) and register != ZERO:
            yield register


def _span(address: Addr, spans: list[Range]) -> Range:
    """All of the regions that an address lies in; the whole buffer if its base is a register."""
    if address.base != ZERO:
        return 0, 1 << 30
    hits = [span for span in spans if span[0] <= address.offset < span[1]]
    if not hits:
        return address.offset, 1 << 30
    return min(h[0] for h in hits), max(h[1] for h in hits)


def _cycles(inst: Inst, role: Role, hardware: Hardware) -> int:
    """A rough latency for one row."""
    match inst.timing:
        case Timing.ACTIVATE:
            return hardware.cycles(hardware.macro.mvm_latency) + 4
        case Timing.VECTOR:
            work = inst.work
            cols = _columns(inst, role)
            alu = cols * work.alu + work.row_alu
            sfu = cols * work.sfu + work.row_sfu
            lanes, sfu_lanes = hardware.vector.lanes.value, hardware.vector.sfu_lanes.value
            return int(hardware.vector.startup.value + max(alu / lanes, sfu / sfu_lanes)) + 1
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
    for (start_a, stop_a), wrote_a in later.ranges:
        for (start_b, stop_b), wrote_b in earlier.ranges:
            if (wrote_a or wrote_b) and start_a < stop_b and start_b < stop_a:
                return True
    return False


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
