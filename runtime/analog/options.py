"""How analog macros compute in a run, and what a result was computed with."""

from __future__ import annotations

from dataclasses import dataclass

from isa.hardware import Hardware
from isa.instruction import DType
from isa.macro import Macro
from isa.program import ArrayKind, Program


@dataclass(frozen=True, slots=True)
class AnalogOptions:
    """How analog macros compute in a run; what is None is as the target says."""

    is_ideal: bool = False  # as digital ones do
    adc_bits: int | None = None
    seed: int = 0
    drift_s: float | None = None  # seconds since cells were programmed


def drift_seconds(macro: Macro, options: AnalogOptions) -> float | None:
    """How long ago cells were programmed; None if they do not drift."""
    if macro.noise is None or macro.noise.drift is None:
        return None
    return macro.noise.drift.time.si if options.drift_s is None else options.drift_s


@dataclass(frozen=True, slots=True)
class Applied:
    """What one kind of macros computes with."""

    macros: str  # what they hold: `weights, keys and values`
    adc_bits: int
    adc_range: float  # of a slice's largest sum
    read_noise: float  # of the same
    programming_error: float  # of the range of a cell's conductances
    drift_s: float | None  # seconds since cells were programmed
    seed: int

    def __str__(self) -> str:
        parts = (
            f"ADC of {self.adc_bits} bits over {100 * self.adc_range:g} % of the range",
            f"read noise {100 * self.read_noise:g} %",
            f"programming error {100 * self.programming_error:g} %",
            *([] if self.drift_s is None else [f"drift of {self.drift_s:g} s"]),
            f"seed {self.seed}",
        )
        return f"{self.macros}: {', '.join(parts)}"


def has_drift(target: Hardware) -> bool:
    """Whether a target has cells whose conductances drift."""
    return any(m.noise is not None and m.noise.drift is not None for m in (target.macro, target.written))


def is_analog(target: Hardware) -> bool:
    """Whether a target has analog macros."""
    return target.macro.is_analog or target.written.is_analog


_HELD = {
    ArrayKind.WEIGHT: "weights",
    ArrayKind.STREAM: "streamed weights",
    ArrayKind.KV: "keys and values",
}
_WRITTEN = (ArrayKind.STREAM, ArrayKind.KV)


def applied(program: Program, options: AnalogOptions) -> tuple[Applied, ...]:
    """What analog macros compute a program's products with; empty if all are exact. Only arrays of int8 use them."""
    if options.is_ideal:
        return ()
    target = program.target
    used = {array.kind for role in program.roles for array in role.arrays if array.dtype is DType.I8}
    own = [(target.macro, (ArrayKind.WEIGHT,)), (target.written, _WRITTEN)]
    by_macro = own if target.kv is not None else [(target.macro, (ArrayKind.WEIGHT, *_WRITTEN))]
    named = [(", ".join(_HELD[kind] for kind in kinds if kind in used), macro) for macro, kinds in by_macro]
    return tuple(_applied(name, macro, options) for name, macro in named if name and macro.is_analog)


def _applied(name: str, macro: Macro, options: AnalogOptions) -> Applied:
    assert macro.adc is not None
    return Applied(
        macros=name,
        adc_bits=options.adc_bits or int(macro.adc.bits.value),
        adc_range=1.0 if macro.adc.range is None else macro.adc.range.si,
        read_noise=macro.noise.read_noise.si if macro.noise else 0.0,
        programming_error=macro.noise.programming_error.si if macro.noise else 0.0,
        drift_s=drift_seconds(macro, options),
        seed=options.seed,
    )
