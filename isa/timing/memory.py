"""Channels of DRAM and global buffers, shared by the tiles of a chip.

Addresses are interleaved over a memory's channels in blocks of `INTERLEAVE_BYTES`, so that a large transfer uses
all of them. A channel serves transfers in the order in which they were issued; its latency overlaps with the
transfers of others.
"""

from __future__ import annotations

from isa.hardware import Hardware, Memory
from isa.operands import Space

from .critical import NO_RECORD, Records
from .operation import Operation
from .rates import ceil_div

INTERLEAVE_BYTES = 256


def _bytes_before(address: int, channel: int, channels: int) -> int:
    """Bytes of [0, address) that lie in this channel."""
    stripe = INTERLEAVE_BYTES * channels
    inside = address % stripe - channel * INTERLEAVE_BYTES
    return address // stripe * INTERLEAVE_BYTES + min(max(inside, 0), INTERLEAVE_BYTES)


def channel_bytes(address: int, rows: int, row_bytes: int, pitch: int, channels: int) -> list[int]:
    """How many bytes of a block of rows (`pitch` bytes apart; 0: dense) each channel carries."""
    if pitch in (0, row_bytes):
        rows, row_bytes = 1, rows * row_bytes
    shares = [0] * channels
    for row in range(rows):
        start = address + row * pitch
        for channel in range(channels):
            shares[channel] += _bytes_before(start + row_bytes, channel, channels)
            shares[channel] -= _bytes_before(start, channel, channels)
    return shares


class MemoryPort:
    """One chip's memory of one space."""

    __slots__ = ("busy", "free", "latency", "record", "width")

    def __init__(self, target: Hardware, memory: Memory) -> None:
        channels = int(memory.channels.value)
        self.latency = target.cycles(memory.latency)
        self.width = target.bytes_per_cycle(memory.bandwidth)
        self.free = [0] * channels
        self.record = [NO_RECORD] * channels
        self.busy = 0

    def transfer(
        self, shares: list[int], ready: int, record: int, records: Records, first: int = 0
    ) -> tuple[int, int]:
        """When a transfer that is ready now ends, and the record that decides it: of channels that end together that of
        the one that comes `first`, where the transfer begins, or soonest behind it."""
        end, decides = ready, record
        for channel in (*range(first, len(shares)), *range(first)):
            size = shares[channel]
            if not size:
                continue
            begin, mine = ready, record
            if self.free[channel] > ready:
                begin = self.free[channel]
                mine = records.resume(record, begin, self.record[channel])
            occupied = ceil_div(size, self.width)
            self.free[channel], self.record[channel] = begin + occupied, mine
            self.busy += occupied
            if begin + occupied + self.latency > end:
                end, decides = begin + occupied + self.latency, mine
        return end, decides


class Memories:
    """All memories of a system, by chip and space."""

    def __init__(self, target: Hardware) -> None:
        self._target = target
        self._ports: dict[tuple[int, Space], MemoryPort] = {}

    def port(self, chip: int, space: Space) -> MemoryPort:
        """The memory of this chip and space."""
        found = self._ports.get((chip, space))
        if found is None:
            memory = self._target.dram if space is Space.DRAM else self._target.gbuf
            found = self._ports[chip, space] = MemoryPort(self._target, memory)
        return found

    def transfer(self, operation: Operation, records: Records) -> tuple[int, int]:
        """When a transfer that an operation asks for as it starts ends, and the record that decides it."""
        place, cost = operation.op.memory, operation.cost
        assert place is not None
        port = self.port(operation.tile.chip, place.space)
        shares = channel_bytes(
            operation.operand, cost.rows, cost.size // cost.rows, cost.pitch, len(port.free)
        )
        first = operation.operand // INTERLEAVE_BYTES % len(port.free)
        return port.transfer(shares, operation.start, operation.started, records, first)

    def latency(self, operation: Operation) -> int:
        """Cycles from a channel to the tile, of the memory that an operation asks."""
        assert operation.op.memory is not None
        return self.port(operation.tile.chip, operation.op.memory.space).latency

    def busy(self, space: Space) -> int:
        """Channel cycles spent on transfers, over all chips."""
        return sum(port.busy for (_, where), port in self._ports.items() if where is space)
