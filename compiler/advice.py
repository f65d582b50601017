"""What would make a model fit that does not: each change by itself, found by trying it.

A number is searched by trying: what is named fits, and one less (of chips, bytes) or one more (of tokens, sequences)
does not. Where a DRAM is too small, the search begins at an estimate: what is needed grows evenly with tokens. Rows of
keys and values that have to lie in arrays are counted first: more of them than cells are refused without mapping.

Models of many operators take long to place: their refusals keep what the mapper counted itself, the chips that the
tiles of its smallest mapping would take.
"""

from __future__ import annotations

import math
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

CLOSER = 3
"""Times that an estimate is improved: rows are counted in blocks."""

Needs = Callable[[CompileOptions, Hardware], int | None]

ROOMY = 1024
"""Times the DRAM of a target, at most, that are named."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A problem that does not fit: its size, what was asked for, where, and how a changed one is tried: `needs` tells
    the bytes of the fullest chip's DRAM, None of what does not fit."""

    nodes: int
    context: int
    options: CompileOptions
    target: Hardware
    needs: Needs

    def fits(self, options: CompileOptions, target: Hardware) -> bool:
        """Whether a changed problem fits."""
        return self.needs(options, target) is not None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Where a DRAM is too small: about how many tokens fit, and how large it would have to be, in its unit; 0 where
    nothing is known."""

    context: int = 0
    capacity: int = 0


def advised(error: CimError, refused: Refused) -> CimError:
    """The refusal with the changes that would lift it, instead of its own help, if any would."""
    first, *others = error.diagnostics
    if first.code not in TOO_SMALL or refused.nodes > FEW_NODES:
        return error
    about = _estimate(refused) if _is_of_dram(first) else Estimate()
    found = [*_other_choices(refused), *_smaller(refused, about), *_larger(refused, first, about)]
    if not found:
        return error
    help_text = f"{'this' if len(found) == 1 else 'each of these'} would fit: {'; '.join(found)}"
    return CimError([replace(first, help=help_text), *others])


def _is_of_dram(told: Diagnostic) -> bool:
    return "DRAM" in told.message


def _estimate(refused: Refused) -> Estimate:
    """From what a target with much DRAM needs for the tokens, and for half of them: as much less for each other one."""
    target, options = refused.target, refused.options
    dram, context = target.dram.capacity, refused.context
    roomy = with_value(target, "dram", "capacity", ROOMY * dram.value)

    def need(tokens: int) -> int:
        return refused.needs(replace(options, max_context=tokens), roomy) or 0

    whole = need(context)
    more = whole - need(context // 2)
    if not dram.value or more in (0, whole):
        return Estimate()
    tokens = context
    for _ in range(CLOSER):
        tokens -= (need(tokens) - int(dram.si)) * (context - context // 2) // more
        tokens = min(max(tokens, 1), context)
    return Estimate(tokens, math.ceil(whole * dram.value / dram.si))


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


def _smaller(refused: Refused, about: Estimate) -> Iterator[str]:
    """Fewer tokens or sequences."""
    options, target = refused.options, refused.target

    def of_context(size: int) -> bool:
        return refused.fits(replace(options, max_context=size), target)

    def of_batch(size: int) -> bool:
        return refused.fits(replace(options, batch=size), target)

    most = largest(of_context, refused.context - 1, about.context)
    if most:
        yield f"--max-context {most}"
    most = largest(of_batch, options.batch - 1)
    if most:
        yield f"--batch {most}"


def largest(fits: Callable[[int], bool], most: int, about: int = 0) -> int:
    """The largest number up to `most` that fits, if all smaller ones do; 0 if none.

    Tried are those `about` one first, in steps twice as long each time. Nothing above twice the answer is tried unless
    that one is: what is much too large takes long to refuse.
    """
    low, high = 0, most + 1  # low fits, high does not or is not asked for
    at, step = min(max(about, 1), most), 1
    while low < at < high:
        if fits(at):
            low, at = at, at + step if high > most else high
        else:
            high, at = at, at - step if low == 0 else low
        at, step = min(max(at, 1), most), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def smallest(fits: Callable[[int], bool], least: int, most: int, about: int = 0) -> int:
    """The smallest number from `least` to `most` that fits, if all larger ones do; 0 if none. Tried are those `about`
    one first."""
    if least > most:
        return 0
    too_small = largest(lambda n: not fits(least - 1 + n), most - least + 1, about - least)
    return least + too_small if least + too_small <= most else 0


def _larger(refused: Refused, told: Diagnostic, about: Estimate) -> Iterator[str]:
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
    if _is_of_dram(told):
        size = int(target.dram.capacity.value)
        larger = smallest(tried("dram", "capacity"), size + 1, ROOMY * max(size, 1), about.capacity)
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
