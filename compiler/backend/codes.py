"""Code that rounds rows to integers with scales."""

from __future__ import annotations

from isa.instruction import Inst
from isa.instructions import Quant, Quantl
from isa.levels import levels_of
from isa.operands import Addr, Reg


def quantising(dst: Addr, scales: Addr, src: Addr, n: Reg, cols: int, bits: int) -> Inst:
    """The instruction that rounds n rows to codes of `bits` bits, each row by its largest magnitude."""
    if bits == 8:
        return Quant(dst, scales, src, n, cols)
    return Quantl(dst, scales, src, n, cols, levels_of(bits))
