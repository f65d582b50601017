"""The constants that `cim bench sensitivity` varies, and how far: by what their sources state, else by confidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.headline.baselines import Machine
from isa.hardware import Hardware
from isa.macro import Cell as CellKind
from isa.quantities import Confidence, Quantity

RANGES = {
    Confidence.SILICON: (0.9, 1.1),
    Confidence.REPOSITORY: (0.8, 1.25),
    Confidence.DERIVED: (0.8, 1.25),
    Confidence.ASSUMED: (0.5, 2.0),
}
"""Factors by confidence."""

STATED = {
    "vector.sfu_energy": (0.3, 5.0),  # pJ, range of publications
    "host.dispatch": (1.0, 5.0),  # us, usual launches of kernels
}
"""Ranges in the constant's own unit where its source states one."""

SRAM_LEAKAGE = (
    19.35,
    49000.0,
)  # pW/bit: half of low-leakage cells at 22 nm, and high-performance cells (CACTI)
"""The same for leakage of SRAM, in macros and in buffers: which cells a chip has matters most."""

CPU = {
    "cpu bandwidth": (0.75 / 0.8, 0.85 / 0.8),  # sustained share, 0.75 to 0.85 of the peak
    "cpu power": (0.5, 2.0),  # thermal design power, assumed
    "cpu DRAM energy": (10 / 15, 20 / 15),  # pJ a bit
}
"""Factors for the ideal CPU."""

_ENERGY = {"fJ", "pJ", "nJ", "pJ/byte", "pJ/bit", "pW/bit", "mW", "W"}
_TIME = {"ns", "us", "ms", "cycle", "GB/s", "byte/cycle", "GFLOP/s", "TFLOP/s", "Hz", "MHz", "GHz"}
_FACTORS = {"macro.transpose_energy_factor": False, "macro.transpose_latency_factor": True}


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant by its path, factors to its least and most, and whether times depend on it."""

    path: str
    low: float
    high: float
    is_time: bool
    confidence: str

    @property
    def is_cpu(self) -> bool:
        """Whether it is the CPU's."""
        return self.path in CPU


def constants(target: Hardware) -> Iterator[Constant]:
    """The constants of a target that time or energy depend on, and the ideal CPU's. Sizes and counts are choices."""
    yield _constant("clock", target.clock, is_time=True)
    for section in type(target).model_fields:
        table = getattr(target, section)
        is_sram = section == "buffer" or getattr(table, "cell", None) is CellKind.SRAM
        for name in getattr(type(table), "model_fields", {}):
            quantity, path = getattr(table, name), f"{section}.{name}"
            if not isinstance(quantity, Quantity) or not quantity.value:
                continue
            if quantity.unit in _ENERGY | _TIME or path in _FACTORS:
                stated = SRAM_LEAKAGE if is_sram and name == "leakage" else None
                is_time = _FACTORS.get(path, quantity.unit in _TIME)
                yield _constant(path, quantity, is_time=is_time, stated=stated)
    for path, (low, high) in CPU.items():
        yield Constant(path, low, high, False, "assumed")


def _constant(
    path: str, quantity: Quantity, *, is_time: bool, stated: tuple[float, float] | None = None
) -> Constant:
    low, high = RANGES[quantity.confidence]
    stated = STATED.get(path, stated)
    if stated is not None:
        low, high = (end / quantity.value for end in stated)
    return Constant(path, low, high, is_time, quantity.confidence.value)


def with_constant(hardware: Hardware, path: str, factor: float) -> Hardware:
    """The target with one of its numbers (`macro.leakage`, `clock`) times a factor."""
    section, _, name = path.partition(".")
    if not name:
        return hardware.model_copy(update={section: _times(getattr(hardware, section), factor)})
    table = getattr(hardware, section)
    changed = table.model_copy(update={name: _times(getattr(table, name), factor)})
    return hardware.model_copy(update={section: changed})


def _times(quantity: Quantity, factor: float) -> Quantity:
    """A quantity times a factor; cycles stay whole."""
    value = quantity.value * factor
    return quantity.model_copy(update={"value": float(round(value)) if quantity.unit == "cycle" else value})


def with_cpu_constant(cpu: Machine, path: str, factor: float) -> Machine:
    """The CPU with one of its numbers times a factor."""
    if path == "cpu bandwidth":
        return replace(
            cpu,
            cache_bandwidth=cpu.cache_bandwidth * factor,
            weight_bandwidth=cpu.weight_bandwidth * factor,
        )
    if path == "cpu power":
        return replace(cpu, power=cpu.power * factor)
    return replace(cpu, memory_energy=cpu.memory_energy * factor)
