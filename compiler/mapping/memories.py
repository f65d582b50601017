"""Refusals of what does not fit a chip's memories, with the numbers."""

from __future__ import annotations

from collections.abc import Iterable

from isa.diagnostics import CimError, fail
from isa.hardware import Hardware
from isa.operands import Space
from isa.program import MemoryRegion


def cache_too_large(hardware: Hardware, chip: int, need: int, memory: Iterable[MemoryRegion]) -> CimError:
    """KV rows need more bytes of a chip's DRAM than it has beside what lies in `memory` already."""
    capacity = int(hardware.dram.capacity.si)
    tables = sum(r.bytes for r in memory if (r.chip, r.space) == (chip, Space.DRAM))
    beside = f", beside {tables:,} of tables" if tables else ""
    return fail(
        "E0304",
        f"the KV cache's rows on chip {chip} need {need:,} bytes of DRAM{beside}, it has {capacity:,}",
        help="a shorter --max-context, a smaller --batch, or a target with a larger dram.capacity or more chips",
    )


def tables_too_large(hardware: Hardware, chip: int, need: int) -> CimError:
    """Embeddings and streamed weights need more bytes of a chip's DRAM than it has."""
    capacity = int(hardware.dram.capacity.si)
    return fail(
        "E0309",
        f"the tables of chip {chip} (embeddings, streamed weights) need {need:,} bytes, its DRAM has {capacity:,}",
        help="a target with a larger dram.capacity, or with more chips",
    )
