"""Macro rows: one vector through a whole macro, by the functions that the simulator charges activations with."""

from __future__ import annotations

from isa.hardware import load_target
from isa.macro import Macro
from isa.target_files import target_path, target_values

from .rows import Figure, MacroSubject, described_macros

BASE = "dcim22"
"""Where described macros have what no row depends on from: writes, reads, leakage."""


def described(name: str) -> Macro:
    """A macro of `published/macros.toml`."""
    base = target_values(target_path(BASE))["macro"]
    return Macro.model_validate({**base, **described_macros()[name]})


def macro_of(subject: MacroSubject) -> Macro:
    """The macro of a row, at the widths and phases that the row asks for."""
    macro = described(subject.described) if subject.described else load_target(subject.target).macro
    if (subject.weight_bits, subject.input_bits, subject.phases) == (8, 8, 1):
        return macro
    return macro.at_bits(subject.weight_bits, subject.input_bits * subject.phases)


def joules(macro: Macro, ones: float | None) -> float:
    """Energy of a vector through the whole macro, with data of some activity."""
    rows, cols = int(macro.rows.value), int(macro.cols.value)
    spent = macro.mvm_joules(rows, cols)
    if ones is None:
        return spent
    return spent + rows * cols * macro.mac_energy.si * (macro.activity_factor(ones) - 1.0)


def predict(subject: MacroSubject, figure: Figure) -> float:
    """What the macro model says of a figure."""
    macro = macro_of(subject)
    rows, cols = int(macro.rows.value), int(macro.cols.value)
    if figure is Figure.DENSITY:
        return rows * cols * 8 * 1e-6 / macro.area.si
    operations = 2 * rows * cols
    seconds = macro.mvm_seconds(rows, cols)
    if figure is Figure.NANOSECONDS:
        return seconds * 1e9
    if figure is Figure.TOPS_PER_WATT:
        return operations / joules(macro, subject.ones) * 1e-12
    tops = subject.macros * operations / seconds * 1e-12
    return tops / (subject.macros * macro.area.si) if figure is Figure.TOPS_PER_MM2 else tops
