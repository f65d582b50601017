"""Data that arrays multiply, counted while values are computed: how many bits of inputs and of cells are ones
(docs/energy.md, Activity).

What is counted are codes, of inputs and of cells apart, for each kind of event and node; what a bit or a level of them
is, is the macro's. Every SAMPLE-th activation of each instruction of a tile counts, the first included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isa import instructions as t
from isa.events import Event
from isa.instruction import DType, Inst
from isa.macro import Macro
from isa.program import Program, Role
from isa.timing.rates import KV_EVENTS, rates_of
from isa.timing.tile import Group

from .analog.model import slices_of

Counts = NDArray[np.int64]

SAMPLE = 16
CODES = 256
LARGEST = 127  # magnitude of a code
SLOT = 2 * CODES  # words: how often each code was an input, and how often a cell held it
_PRODUCTS = (t.Mvm, t.Mvmw, t.Mvmt)


class Meter:
    """Counts. `arena` holds for each tile and instruction which counts its products go to and how many it has done,
    then the counts; `tables` says where a tile's begin."""

    def __init__(self, program: Program) -> None:
        self._slots: dict[tuple[Event, str], int] = {}
        rates = rates_of(program.target)
        lengths = [2 * len(program.role(tile.role).code) for tile in program.tiles]
        firsts = np.cumsum([1, *lengths])
        self.tables: list[int] = firsts[:-1].tolist()
        top, entries = int(firsts[-1]), dict[int, int]()
        for table, tile in zip(self.tables, program.tiles, strict=True):
            role = program.role(tile.role)
            group = Group(role, tile.nodes, [])
            for index, inst in enumerate(role.code):
                if not _is_counted(role, inst):
                    continue
                events = rates.cells(role.arrays[inst.a.index].kind).events  # type: ignore[attr-defined]
                event = events.mac_transposed if isinstance(inst, t.Mvmt) else events.mac
                slot = self._slots.setdefault((event, group.node(index)), top + SLOT * len(self._slots))
                entries[table + 2 * index] = slot
        self.arena: Counts = np.zeros(top + SLOT * len(self._slots), np.int64)
        for place, slot in entries.items():
            self.arena[place] = slot

    def note(self, tile: int, index: int, x: NDArray[np.int8], cells: NDArray[np.float32]) -> None:
        """Count a product of vectors with cells, if its turn has come."""
        entry = self.tables[tile] + 2 * index
        slot, done = self.arena[entry : entry + 2].tolist()
        self.arena[entry + 1] += 1
        if slot and done % SAMPLE == 0:
            for first, codes in ((slot, x), (slot + CODES, cells.astype(np.int8))):
                self.arena[first : first + CODES] += np.bincount(
                    codes.reshape(-1).view(np.uint8), minlength=CODES
                )

    def counts(self) -> dict[tuple[Event, str], tuple[Counts, Counts]]:
        """How often each code (as an unsigned byte) was an input, and how often a cell held it: [256] each."""
        return {
            key: (self.arena[slot : slot + CODES], self.arena[slot + CODES : slot + SLOT])
            for key, slot in self._slots.items()
        }


def _is_counted(role: Role, inst: Inst) -> bool:
    if not isinstance(inst, _PRODUCTS):
        return False
    number = inst.a.index
    return number < len(role.arrays) and role.arrays[number].dtype is DType.I8


@dataclass(frozen=True, slots=True)
class NodeActivity:
    """What arrays multiplied on behalf of a node, in the activations that were counted."""

    event: Event
    node: str
    inputs: int  # elements of vectors
    zeros: float  # share of these
    cells: int  # that these were multiplied with
    input_ones: float  # share of ones of the bits of inputs, or mean level of their slices
    cell_ones: float  # the same of cells
    factor: float  # of the energy of a multiply-accumulate


def levels(macro: Macro, slices: float) -> NDArray[np.float64]:
    """How much of a code (as an unsigned byte) is driven, or conducts, if it is cut into so many slices: [256], 0 to 1.

    Of digital macros, the share of ones of the bits of two's complement; of analog ones, the mean level of the slices
    of the magnitude, of the largest: with slices of one bit, the share of ones of its bits.
    """
    codes = np.arange(CODES, dtype=np.uint8)
    if not macro.is_analog:
        ones: NDArray[np.float64] = np.unpackbits(codes[:, None], axis=1).mean(axis=1)
        return ones
    count, bits = slices_of(slices)
    magnitudes = np.minimum(np.abs(codes.view(np.int8).astype(np.int64)), LARGEST)
    most = (1 << bits) - 1
    found: NDArray[np.float64] = np.mean(
        [(magnitudes >> bits * i & most) / most for i in range(count)], axis=0
    )
    return found


def activities(program: Program, meter: Meter) -> tuple[NodeActivity, ...]:
    """What was counted, by event and node; those of which nothing was are left out."""
    found = []
    for (event, node), (inputs, cells) in meter.counts().items():
        if not inputs.sum() or not cells.sum():
            continue
        is_written = event in (KV_EVENTS.mac, KV_EVENTS.mac_transposed)
        macro = program.target.written if is_written else program.target.macro
        of_inputs, of_cells = (
            float(counts @ levels(macro, columns.value) / counts.sum())
            for counts, columns in ((inputs, macro.input_slices), (cells, macro.weight_slices))
        )
        counted = int(inputs.sum()), float(inputs[0] / inputs.sum()), int(cells.sum())
        factor = macro.activity_factor(of_inputs * of_cells)
        found.append(NodeActivity(event, node, *counted, of_inputs, of_cells, factor))
    return tuple(found)


def factors_of(found: Iterable[NodeActivity]) -> dict[tuple[Event, str], float]:
    """What the energy of multiply-accumulates is multiplied with, by event and node."""
    return {(activity.event, activity.node): activity.factor for activity in found}
