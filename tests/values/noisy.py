"""Analog targets for tests: the teaching target with converters and noise, or another one's cells."""

from __future__ import annotations

from dataclasses import dataclass, replace

from isa.hardware import Hardware
from isa.macro import Adc, Drift, Noise
from isa.program import Program
from isa.quantities import Confidence, Quantity
from tests.values.bench import tiny


def number(value: float, unit: str = "1") -> Quantity:
    """A quantity of a test."""
    return Quantity(value=value, unit=unit, source="a test", confidence=Confidence.ASSUMED)


@dataclass(frozen=True, slots=True)
class Cells:
    """What an analog macro of a test is like."""

    bits: int = 8
    covered: float | None = 0.5
    read_noise: float = 0.002
    programming_error: float = 0.02
    drift_s: float | None = None
    weight_slices: int = 4
    input_slices: int = 8
    pass_rows: int | None = None
    crossbar_weights: int | None = None

    def target(self, base: Hardware | None = None) -> Hardware:
        """The target with such macros."""
        base = base or tiny()
        drift = None
        if self.drift_s is not None:
            drift = Drift(
                exponent=number(0.05),
                spread=number(0.01),
                start=number(20, "s"),
                time=number(self.drift_s, "s"),
            )
        changes = {
            "adc": Adc(
                bits=number(self.bits),
                range=None if self.covered is None else number(self.covered),
                lines=number(8),
                latency=number(1, "ns"),
                energy=number(1, "pJ"),
            ),
            "noise": Noise(
                programming_error=number(self.programming_error),
                read_noise=number(self.read_noise),
                drift=drift,
            ),
            "weight_slices": number(self.weight_slices),
            "input_slices": number(self.input_slices),
            "pass_rows": None if self.pass_rows is None else number(self.pass_rows),
            "crossbar_cols": None
            if self.crossbar_weights is None
            else number(self.crossbar_weights * self.weight_slices),
        }
        return base.model_copy(update={"macro": base.macro.model_copy(update=changes)})

    def of(self, program: Program) -> Program:
        """A program whose target has such macros."""
        return replace(program, target=self.target(program.target))
