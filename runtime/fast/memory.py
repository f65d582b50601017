"""Channels of DRAM and global buffers (isa/timing/memory.py)."""

from __future__ import annotations

from isa.timing.memory import INTERLEAVE_BYTES

from .arena import resume_record
from .flights import NUMBER, finish, free_port, operation_at, tile_of
from .jit import Floats, Items, Words, compiled
from .layout import (
    D_BUSY,
    D_BYTES,
    D_MEMORY,
    D_PITCH,
    D_ROWS,
    H_BUSY_DMA,
    I_DURATIONS,
    I_OPERAND,
    O_CAUSE,
    O_ITEM,
    O_START,
    P_BUSY,
    P_CHANNELS,
    P_LATENCY,
    P_RATE,
    P_SIZE,
    TILE_DRAM,
    TILE_GBUF,
)
from .links import cycles_of


@compiled
def bytes_before(address: int, channel: int, channels: int) -> int:
    """Bytes of [0, address) that lie in a channel."""
    stripe = INTERLEAVE_BYTES * channels
    inside = address % stripe - channel * INTERLEAVE_BYTES
    return address // stripe * INTERLEAVE_BYTES + min(max(inside, 0), INTERLEAVE_BYTES)


@compiled
def channel_bytes(address: int, rows: int, row_bytes: int, pitch: int, channel: int, channels: int) -> int:
    """How many bytes of a block of rows (`pitch` bytes apart; 0: dense) a channel carries."""
    if pitch in (0, row_bytes):
        rows, row_bytes = 1, rows * row_bytes
    share = 0
    for row in range(rows):
        start = address + row * pitch
        share += bytes_before(start + row_bytes, channel, channels) - bytes_before(start, channel, channels)
    return share


@compiled
def share_of(t: Items, k: Words, item: int, channel: int, channels: int) -> int:
    """Bytes of an operation's transfer that a channel carries."""
    cost, address = t[item + I_DURATIONS], t[item + I_OPERAND]
    rows = k[cost + D_ROWS]
    return channel_bytes(address, rows, k[cost + D_BYTES] // rows, k[cost + D_PITCH], channel, channels)


@compiled
def serve_channels(m: Words, t: Items, k: Words, rates: Floats, operation: int, port: int) -> tuple[int, int]:
    """When a transfer that is ready now ends, and the record that decides it."""
    ready, record = m[operation + O_START], m[operation + O_CAUSE]
    end, decides, channels = ready, record, m[port + P_CHANNELS]
    first = t[m[operation + O_ITEM] + I_OPERAND] // INTERLEAVE_BYTES
    for number in range(first, first + channels):
        channel = number % channels
        size = share_of(t, k, m[operation + O_ITEM], channel, channels)
        if size == 0:
            continue
        free = port + P_SIZE + channel
        begin, mine = ready, record
        if m[free] > ready:
            begin = m[free]
            mine = resume_record(m, record, begin, m[free + channels])
        occupied = cycles_of(size, rates[m[port + P_RATE]])
        m[free], m[free + channels] = begin + occupied, mine
        m[port + P_BUSY] += occupied
        if begin + occupied + m[port + P_LATENCY] > end:
            end, decides = begin + occupied + m[port + P_LATENCY], mine
    return end, decides


@compiled
def transfer(m: Words, t: Items, k: Words, rates: Floats, name: int) -> None:
    """A transfer's turn: the DMA engine is free for the next when what it asked for is on its way."""
    tile, number = tile_of(m, name), name & NUMBER
    operation = operation_at(m, tile, number)
    cost = t[m[operation + O_ITEM] + I_DURATIONS]
    port = m[tile + TILE_DRAM] if k[cost + D_MEMORY] == 1 else m[tile + TILE_GBUF]
    start, busy = m[operation + O_START], k[cost + D_BUSY]
    end, decides = serve_channels(m, t, k, rates, operation, port)
    asked = max(end - m[port + P_LATENCY], start + busy)
    end = max(end, start + busy)
    free_port(m, t, tile, number, operation, asked, decides)
    m[H_BUSY_DMA] += end - start
    finish(m, t, tile, number, operation, end, decides)
