"""Chip rows: a program that keeps all arrays of a chip at work, verified and simulated like any other.

Every tile has one array, as large as all of its macros, and activates it over and over in a loop. What a macro row
leaves out is in here: the port between arrays and buffer, the buffer's accesses, instructions, adders, clock cycles as
whole numbers, and what all parts of the chip draw while they are on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

from isa import instructions as t
from isa.area import chip_area
from isa.events import Component
from isa.hardware import Hardware, load_target
from isa.instruction import DType
from isa.operands import Addr, ArrayRef, Reg
from isa.program import (
    ArrayData,
    ArrayKind,
    ArraySpec,
    Limits,
    Program,
    Role,
    Segment,
    Slice,
    TensorInfo,
    Tile,
)
from isa.verifier import verify
from runtime.energy import energy
from runtime.fast import timer_of

from .rows import Figure, PeakSubject
from .stacks import note

PASSES = 256
"""Activations of each array: what comes before the loop is then a thousandth at most."""

VECTORS = 16
"""Vectors of an activation, if the buffer has room for them and their sums, twice."""

OFF_CHIP = (Component.DRAM, Component.HOST, Component.HOST_LINK)

_WORD = 4


@dataclass(frozen=True, slots=True)
class Peak:
    """What the simulation of a chip at its peak found."""

    operations: int
    seconds: float
    joules: float
    area_mm2: float
    arrays_busy: float  # share of time in which macros work
    array_share: float  # of the energy

    def figure(self, figure: Figure) -> float:
        """It as a published figure."""
        tops = self.operations / self.seconds * 1e-12
        if figure is Figure.TOPS_PER_WATT:
            return self.operations / self.joules * 1e-12
        return tops / self.area_mm2 if figure is Figure.TOPS_PER_MM2 else tops


def target_of(subject: PeakSubject) -> Hardware:
    """The target, its macros at the widths and phases that a row asks for."""
    target = load_target(subject.target)
    if (subject.weight_bits, subject.input_bits, subject.phases) == (8, 8, 1):
        return target
    macro = target.macro.at_bits(subject.weight_bits, subject.input_bits * subject.phases)
    return target.model_copy(update={"macro": macro})


def grid(target: Hardware) -> tuple[int, int]:
    """All macros of a tile as rows and columns of a grid: the one that has least to pass the port."""
    count = target.macros_per_tile
    shapes = [(high, wide) for high, wide in product(range(1, count + 1), repeat=2) if high * wide == count]
    return min(shapes, key=lambda s: max(s[0] * target.macro_rows, _WORD * s[1] * target.macro_cols))


def peak_program(target: Hardware) -> Program:
    """A tile on every place of one chip, whose array works all the time. Raises `CimError` if it is not proven safe."""
    high, wide = grid(target)
    rows, cols = high * target.macro_rows, wide * target.macro_cols
    vectors = max(1, min(VECTORS, target.buffer_bytes // (rows + 2 * _WORD * cols)))
    spec = ArraySpec("w", ArrayKind.WEIGHT, rows, cols)
    x, one, other = 0, vectors * rows, vectors * (rows + _WORD * cols)
    a, n, i, words = ArrayRef(0), Reg(1), Reg(2), Reg(3)
    code = (
        t.Li(n, vectors),
        t.Li(words, rows // _WORD),
        t.Vfill(Addr(Reg(0), x, False), n, words, 0.0),
        t.Li(words, rows),
        t.Loop(i, PASSES // 2, 7),
        t.Mvm(a, Addr(Reg(0), one, False), Addr(Reg(0), x, False), n, Reg(0), words),
        t.Mvm(a, Addr(Reg(0), other, False), Addr(Reg(0), x, False), n, Reg(0), words),
        t.Halt(),
    )
    held = ArrayData(Slice("w", (0, 0)), Slice("w.scale", (0,)))
    width, height = int(target.chip.tiles_x.value), int(target.chip.tiles_y.value)
    program = Program(
        target,
        Limits(1, 1),
        (Role("peak", code, arrays=(spec,)),),
        tuple(Tile(f"t{x}_{y}", "peak", x, y, arrays=(held,)) for y in range(height) for x in range(width)),
        tensors=(TensorInfo("w", DType.I8, (rows, cols)), TensorInfo("w.scale", DType.F32, (cols,))),
    )
    verify(program, name=f"peak of {target.name}")
    return program


@cache
def simulated(subject: PeakSubject) -> Peak:
    """The chip of a row at its peak."""
    return simulate(target_of(subject))


def simulate(target: Hardware) -> Peak:
    """Run the program of a target."""
    program = peak_program(target)
    step = (Segment(1, 0, 0),)
    cost = timer_of(program, [step]).step(step)
    seconds = cost.cycles / target.clock.si
    spent = energy(target, program, [cost]).by_component
    joules = sum(spent[c] for c in Component if c not in OFF_CHIP)
    per_pass = target.mvm_cycles * PASSES * _vectors(program)
    return Peak(
        2 * cost.macs,
        seconds,
        joules,
        chip_area(target).total,
        per_pass / cost.cycles,
        spent[Component.ARRAYS] / joules,
    )


def _vectors(program: Program) -> int:
    first = program.roles[0].code[0]
    assert isinstance(first, t.Li)
    return int(first.value)


def predict(subject: PeakSubject, figure: Figure) -> tuple[float, tuple[str, ...]]:
    """A figure of a chip at its peak, and what else was found."""
    found = simulated(subject)
    tops = found.figure(Figure.TOPS)
    notes = [
        f"arrays work {found.arrays_busy:.1%} of the time and take {found.array_share:.0%} of the energy on the chip",
        f"{tops:,.4g} TOPS, {found.joules / found.seconds:,.3g} W, {found.area_mm2:,.4g} mm2",
    ]
    if figure is Figure.TOPS:
        notes.append(note(subject.target, tops))
    return found.figure(figure), tuple(notes)
