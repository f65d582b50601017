"""Numbers with units: how the hardware description writes what it knows.

Every quantity is a table

    latency = { value = 17.9, unit = "ns", source = "...", confidence = "silicon", year = 2021 }

so that a report can say where each joule's constant came from.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Confidence(Enum):
    """How sure we are of a number."""

    SILICON = "silicon"  # measured on a chip, read in the publication
    REPOSITORY = "repository"  # read in the source or data of a published model
    DERIVED = "derived"  # computed from such numbers; the source says how
    ASSUMED = "assumed"  # an engineering assumption; sweep it


_SCALE = {
    "1": 1.0,
    "bit": 1.0,
    "byte": 1.0,
    "cycle": 1.0,
    "Hz": 1.0,
    "MHz": 1e6,
    "GHz": 1e9,
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "fJ": 1e-15,
    "pJ": 1e-12,
    "nJ": 1e-9,
    "pJ/byte": 1e-12,
    "pJ/bit": 8e-12,  # joules a byte
    "pW/bit": 8e-12,  # watts a byte
    "mW": 1e-3,
    "W": 1.0,
    "GB/s": 1e9,
    "GFLOP/s": 1e9,
    "TFLOP/s": 1e12,
    "byte/cycle": 1.0,
    "mm2": 1.0,
    "KiB": 1024.0,
    "GiB": 1024.0**3,
}

_DIMENSION = {
    "count": {"1"},
    "size": {"byte", "KiB", "GiB"},
    "frequency": {"Hz", "MHz", "GHz"},
    "time": {"ns", "us", "ms", "s"},
    "cycles": {"cycle"},
    "energy": {"fJ", "pJ", "nJ"},
    "energy a byte": {"pJ/byte", "pJ/bit"},
    "power": {"mW", "W"},
    "power a byte": {"pW/bit"},
    "bandwidth": {"GB/s"},
    "rate of operations": {"GFLOP/s", "TFLOP/s"},
    "port width": {"byte/cycle"},
    "area": {"mm2"},
    "ratio": {"1"},
}


class Model(BaseModel):
    """A table of a target file: nothing else may be in it, and nothing changes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(Model):
    """A number with its unit, where it comes from and how sure we are of it."""

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    source: str = Field(min_length=1)
    confidence: Confidence
    year: int | None = None

    @property
    def si(self) -> float:
        """The value in base units: seconds, joules, watts, bytes, joules a byte, watts a byte."""
        return self.value * _SCALE[self.unit]

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


def _of(
    dimension: str, *, positive: bool = False, whole: bool = False, least: float = 0.0, most: float
) -> AfterValidator:
    """Check that a quantity has a unit of `dimension`, is positive or whole where it must be, and is from `least` to
    `most`, in base units. Limits keep what is computed of a quantity finite: they are far from all that is built."""

    def check(quantity: Quantity) -> Quantity:
        allowed = _DIMENSION[dimension]
        if quantity.unit not in allowed:
            raise ValueError(
                f"unit {quantity.unit!r} is not a {dimension}; use one of {', '.join(sorted(allowed))}"
            )
        if positive and quantity.value <= 0:
            raise ValueError("must be greater than 0")
        for limit, is_beyond, words in (
            (most, quantity.si > most, "above"),
            (least, quantity.si < least, "below"),
        ):
            if is_beyond:
                raise ValueError(f"must not be {words} {limit / _SCALE[quantity.unit]:g} {quantity.unit}")
        if whole and quantity.si != int(quantity.si):
            raise ValueError("must be a whole number")
        return quantity

    return AfterValidator(check)


Number = Annotated[Quantity, _of("count", positive=True, whole=True, most=1 << 20)]
Count = Annotated[Quantity, _of("count", positive=True, most=1e30)]
Size = Annotated[Quantity, _of("size", whole=True, most=1 << 50)]
Room = Annotated[Quantity, _of("size", positive=True, whole=True, most=1 << 50)]
Frequency = Annotated[Quantity, _of("frequency", positive=True, least=1e3, most=1e11)]
Time = Annotated[Quantity, _of("time", most=1.0)]
Age = Annotated[Quantity, _of("time", positive=True, least=1e-12, most=1e12)]
Cycles = Annotated[Quantity, _of("cycles", whole=True, most=1e9)]
EnergyEach = Annotated[Quantity, _of("energy", most=1.0)]
EnergyByte = Annotated[Quantity, _of("energy a byte", most=1.0)]
Power = Annotated[Quantity, _of("power", most=1e9)]
LeakageByte = Annotated[Quantity, _of("power a byte", most=1.0)]
Bandwidth = Annotated[Quantity, _of("bandwidth", positive=True, least=1e3, most=1e18)]
Width = Annotated[Quantity, _of("port width", positive=True, least=1e-3, most=1e9)]
Rate = Annotated[Quantity, _of("rate of operations", positive=True, least=1e3, most=1e24)]
Area = Annotated[Quantity, _of("area", most=1e9)]
Ratio = Annotated[Quantity, _of("ratio", positive=True, least=1e-6, most=1e6)]
Share = Annotated[Quantity, _of("ratio", most=1.0)]
