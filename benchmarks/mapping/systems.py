"""The hardware of a case: a target with just enough chips, by one rule for all cases."""

from __future__ import annotations

import math

from isa.hardware import Hardware, load_target
from isa.workload import Workload

from .cases import System

FILL = 0.7
"""Share of all macros that weights and keys and values take."""

_TARGETS = {
    System.DCIM22: "dcim22",
    System.DENSE: "dcim3",
    System.HYBRID: "hybrid",
    System.SMALL: "dcim22",
}


def base(system: System) -> Hardware:
    """The target that a system is made of."""
    return load_target(_TARGETS[system])


def weight_macros(work: Workload, hardware: Hardware) -> int:
    """Macros for all weights, each layer rounded up to whole macros."""
    rows, cols = hardware.macro_rows, hardware.macro_cols
    return sum(
        math.ceil(p.rows / rows) * math.ceil(p.cols / cols) for s in work.sections() for p in s.products
    )


def kv_macros(work: Workload, hardware: Hardware, context: int, batch: int) -> int:
    """Macros for the keys and values of all sequences at the full context."""
    total = 0
    for section in work.sections():
        a = section.attention
        if a is not None:
            high = math.ceil(a.seen(context) / hardware.macro_rows)
            wide = math.ceil(a.head_dim / hardware.macro_cols) + math.ceil(a.v_head_dim / hardware.macro_cols)
            total += a.kv_heads * high * wide
    return total * batch


def with_chips(hardware: Hardware, chips: int) -> Hardware:
    """The target with at least so many chips: the smallest grid whose sides differ by one at most."""
    across = math.ceil(math.sqrt(chips))
    down = math.ceil(chips / across)
    return hardware.with_chips(across, down)


def hardware_for(system: System, work: Workload, context: int, batch: int, fill: float = FILL) -> Hardware:
    """The system's hardware for a model's work at a context and a batch."""
    hardware = base(system)
    if system is System.SMALL:
        return hardware
    need = kv_macros(work, hardware, context, batch)
    if system is not System.HYBRID:
        need += weight_macros(work, hardware)
    chip = hardware.macros_per_tile * int(hardware.chip.tiles_x.value * hardware.chip.tiles_y.value)
    return with_chips(hardware, max(1, math.ceil(need / (fill * chip))))
