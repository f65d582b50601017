"""Which values of a folded hub stay in its buffers from pass to pass, and in which slots.

A pass ends where a section begins. A value that is read in a later pass than its own, what sections make, and the value
that the loop hands on are kept; a slot is given again once nothing more reads its value. What sections read is made
from hub values in the pass before, and kept too (`feeds`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .folding import Fold, Item
from .sections import Section


@dataclass(frozen=True, slots=True)
class Plan:
    """The slot of each kept value, and the place of each value that sections read, by graph name."""

    slots: dict[str, int]
    feeds: dict[str, int]


def plan_values(fold: Fold) -> Plan:
    """Slots for the hub values of a fold; the loop's first and last value are in slot 0."""
    items = [*fold.before, *(items[0] for items in fold.body), *fold.after]
    begin, end = len(fold.before), len(fold.before) + len(fold.body)
    names = {fold.carry[-1]: items[end - 1].output}  # behind the loop, its last value is what the body makes
    last = _last_uses(items, names, end)
    kept = _kept(items, names, (begin, end), fold.carry[0])
    slots: dict[str, int] = {}
    feeds: dict[str, int] = {}
    for at, item in enumerate(items):
        if item.output in kept:
            is_handed_on = at in (begin - 1, end - 1)
            taken = {s for name, s in slots.items() if last[name] > at}
            free = next(s for s in range(len(items)) if s not in taken)
            slots[item.output] = 0 if is_handed_on else free
            if is_handed_on and 0 in taken:
                raise ValueError("the value that the loop hands on has no slot")
        if isinstance(item.work, Section):
            name = names.get(item.inputs[0], item.inputs[0])
            busy = {f for other, f in feeds.items() if _last_read(items, names, other) >= at}
            feeds.setdefault(name, next(f for f in range(len(items)) if f not in busy))
    made = items[end - 1].output
    return Plan(slots, feeds | ({fold.carry[-1]: feeds[made]} if made in feeds else {}))


def _last_uses(items: list[Item], names: dict[str, str], end: int) -> dict[str, int]:
    """For each value the last item that reads it; of what the loop hands on, at least the loop's end."""
    last = {item.output: at for at, item in enumerate(items)}
    for at, item in enumerate(items):
        for name in item.inputs:
            real = names.get(name, name)
            if real in last:
                last[real] = max(last[real], at)
    last[items[end - 1].output] = max(last[items[end - 1].output], end)
    return last


def _last_read(items: list[Item], names: dict[str, str], name: str) -> int:
    """The last section that reads a value."""
    return max(
        at
        for at, item in enumerate(items)
        if isinstance(item.work, Section) and names.get(item.inputs[0], item.inputs[0]) == name
    )


def _kept(items: list[Item], names: dict[str, str], loop: tuple[int, int], first: str) -> set[str]:
    """The values that a later pass reads, those of sections, and what the loop begins and ends with."""
    passes, number = [], 0
    for at in range(len(items)):
        number += at in loop or (at > 0 and isinstance(items[at - 1].work, Section))
        passes.append(number)
    made = {item.output: passes[at] for at, item in enumerate(items)}
    kept = {items[loop[1] - 1].output, first}
    for at, item in enumerate(items):
        if isinstance(item.work, Section):
            kept.add(item.output)
        for name in item.inputs:
            real = names.get(name, name)
            if real in made and made[real] != passes[at]:
                kept.add(real)
    return kept
