"""Refusals of what does not fit a chip's memories, with the numbers."""

from __future__ import annotations

from isa.diagnostics import CimError, fail
from isa.hardware import Hardware


def cache_too_large(hardware: Hardware, chip: int, need: int) -> CimError:
    """KV rows need more bytes of a chip's DRAM than it has."""
    return fail(
        "E0304",
        f"the KV cache's rows on chip {chip} need {need:,} bytes of DRAM, it has {int(hardware.dram.capacity.si):,}",
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
