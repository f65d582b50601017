"""What would make a model fit that does not: each change by itself, found by trying it.

A number is not estimated but searched by bisection: what is named fits, and one less (of chips, bytes) or one more (of
tokens, sequences) does not. Models of many operators take long to place: their refusals keep what the mapper counted
itself, the chips that the tiles of its smallest mapping would take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError, Diagnostic
from isa.hardware import Hardware, hardware_from_dict

TOO_SMALL = ("E0301", "E0302", "E0303", "E0304", "E0309")
"""Refusals that a smaller problem or a larger target lifts: buffer, macros, tiles, room for the KV cache, tables."""

FEW_NODES = 150
"""Operators of a model up to which changes are tried."""

MOST_CHIPS = 4096
TILES_TRIED = 1024
"""Larger systems are not tried: placing a model on them takes longer than a person waits for advice."""

Fits = Callable[[CompileOptions, Hardware], bool]


@dataclass(frozen=True, slots=True)
class Refused:
    """A problem that does not fit: its size, what was asked for, where, and how a changed one is tried."""

    nodes: int
    context: int
    options: CompileOptions
    target: Hardware
    fits: Fits


def advised(error: CimError, refused: Refused) -> CimError:
    """The refusal with the changes that would lift it, instead of its own help, if any would."""
    first, *others = error.diagnostics
    if first.code not in TOO_SMALL or refused.nodes > FEW_NODES:
        return error
    found = [*_other_choices(refused), *_smaller(refused), *_larger(refused, first)]
    if not found:
        return error
    help_text = f"{'this' if len(found) == 1 else 'each of these'} would fit: {'; '.join(found)}"
    return CimError([replace(first, help=help_text), *others])


def _other_choices(refused: Refused) -> Iterator[str]:
    """Policies and placements that were not asked for."""
    options, target = refused.options, refused.target
    for name, asked in (("kv", options.kv), ("place", options.place)):
        choices = {"kv": ("resident", "tiered", "streamed"), "place": ("all", "attention+ffn", "attention")}[
            name
        ]
        if asked == "auto":
            continue
        taken = [c for c in choices if c != asked and refused.fits(_with(options, name, c), target)]
        if taken:
            yield f"--{name} {' or '.join(taken)}"


def _with(options: CompileOptions, name: str, choice: str) -> CompileOptions:
    return replace(options, kv=choice) if name == "kv" else replace(options, place=choice)


def _smaller(refused: Refused) -> Iterator[str]:
    """Fewer tokens or sequences."""
    options, target = refused.options, refused.target

    def of_context(size: int) -> bool:
        return refused.fits(replace(options, max_context=size), target)

    def of_batch(size: int) -> bool:
        return refused.fits(replace(options, batch=size), target)

    most = largest(of_context, refused.context - 1)
    if most:
        yield f"--max-context {most}"
    most = largest(of_batch, options.batch - 1)
    if most:
        yield f"--batch {most}"


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, if all smaller ones do; 0 if none.

    Nothing above twice the answer is tried: what is much too large takes long to refuse.
    """
    if most < 1 or not fits(1):
        return 0
    low = 1
    while 2 * low <= most and fits(2 * low):
        low *= 2
    high = min(2 * low, most + 1)  # low fits, high does not or is not asked for
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def smallest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The smallest number from `least` to `most` that fits, if all larger ones do; 0 if none."""
    if least > most:
        return 0
    high = least
    while not fits(high):
        if high >= most:
            return 0
        least, high = high + 1, min(2 * high, most)
    found = largest(lambda less: fits(high - less), high - least) if high > least else 0
    return high - found


def _larger(refused: Refused, told: Diagnostic) -> Iterator[str]:
    """A target with more of what is too small."""
    options, target = refused.options, refused.target

    def tried(section: str, key: str) -> Callable[[int], bool]:
        return lambda size: refused.fits(options, with_value(target, section, key, size))

    def of_chips(count: int) -> bool:
        return refused.fits(options, with_chips(target, count))

    if told.code == "E0301":
        have = int(target.tile.buffer.value)
        kib = smallest(tried("tile", "buffer"), have + 1, 1024)
        if kib:
            yield f"a target with tile.buffer = {kib} {target.tile.buffer.unit}"
        return
    if told.code != "E0309":
        have = int(target.system.chips_x.value * target.system.chips_y.value)
        each = int(target.chip.tiles_x.value * target.chip.tiles_y.value)
        chips = smallest(of_chips, have + 1, min(MOST_CHIPS, TILES_TRIED // each))
        if chips:
            yield f"a system of {chips:,} of these chips (system.chips_x = {chips}, chips_y = 1; it has {have:,})"
    if "DRAM" in told.message:
        size = int(target.dram.capacity.value)
        larger = smallest(tried("dram", "capacity"), size + 1, 1024 * max(size, 1))
        if larger:
            yield f"a target with dram.capacity = {larger:,} {target.dram.capacity.unit}"


def with_value(target: Hardware, section: str, key: str, value: float) -> Hardware:
    """The target with another number, in its unit."""
    values = target.model_dump(mode="json")
    values[section][key]["value"] = value
    return hardware_from_dict(values, target.name)


def with_chips(target: Hardware, count: int) -> Hardware:
    """The target with so many chips in a row."""
    return with_value(with_value(target, "system", "chips_x", count), "system", "chips_y", 1)
