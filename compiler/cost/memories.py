"""Memories while a step is predicted: a transfer is on behalf of all tiles of a class.

The tile that stands for its class is the last to be served. Behind a message all ask at once. If since the transfer
before it has waited for nothing but itself, the others ask as much earlier as they have been served earlier: while
one works on what it has loaded, the channels work for the others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from isa.operands import Space
from isa.program import Program
from isa.timing.critical import Records
from isa.timing.memory import INTERLEAVE_BYTES, Memories, channel_bytes
from isa.timing.operation import Operation
from isa.timing.rates import ceil_div

from .classes import Classes, TileClass

Shape = tuple[int, int, int, int]  # of a transfer: address within all channels, rows, bytes, pitch


@dataclass(slots=True)
class _Served:
    """A class's last transfer: the record that decided its end, and by chip, how much earlier than the last tile the
    first one was served."""

    record: int
    ahead: dict[int, int]


class ClassMemories(Memories):
    """The memories of a system, each transfer on behalf of a whole class: on every chip, as many as tiles there."""

    def __init__(self, program: Program, classes: Classes) -> None:
        super().__init__(program.target)
        self._members = [_apart(program, each) for each in classes.classes]
        self._counts = [_by_chip(members) for members in self._members]
        self._shares: dict[tuple[int, int, Space, Shape], dict[int, list[int]]] = {}
        self._served: dict[tuple[int, Space], _Served] = {}

    def transfer(self, operation: Operation, records: Records) -> tuple[int, int]:
        """When the last tile of the class has what it asked for, and the record that decides it."""
        place = operation.op.memory
        assert place is not None
        latest, ahead = (operation.start, operation.started), dict[int, int]()
        before = self._before(operation, place.space, records)
        for chip, shares in self._of(operation, place.space, place.base).items():
            port, count = self.port(chip, place.space), self._counts[operation.tile.index][chip]
            own = max(ceil_div(ceil_div(size, count), port.width) for size in shares)
            asked = operation.start - before.get(chip, 0)
            began = max([asked, *(free for free, size in zip(port.free, shares, strict=True) if size)])
            found = port.transfer(shares, asked, operation.started, records)
            alone = operation.start + own + port.latency, operation.started
            latest = max(latest, max(found, alone))
            ahead[chip] = max(found, alone)[0] - port.latency - own - began
        self._served[operation.tile.index, place.space] = _Served(latest[1], ahead)
        return latest

    def _before(self, operation: Operation, space: Space, records: Records) -> dict[int, int]:
        """How much earlier the first tiles of a class ask than the last: nothing if this one has waited for others."""
        number = operation.tile.index
        served = self._served.get((number, space))
        if served is None:
            return {}
        record = operation.started
        while record > served.record and records.tile[record] == number:
            record = records.predecessor[record]
        return served.ahead if record == served.record else {}

    def _of(self, operation: Operation, space: Space, register: int) -> dict[int, list[int]]:
        """By chip, the bytes that each channel carries for all tiles of the operation's class."""
        cost, number = operation.cost, operation.tile.index
        channels = len(self.port(0, space).free)
        at = operation.operand % (channels * INTERLEAVE_BYTES)
        param = _param(operation)
        key = number, param, space, (at, cost.rows, cost.size, cost.pitch)
        if key not in self._shares:
            found: dict[int, list[int]] = {}
            for (chip, params), count in self._members[number].items():
                address = at + (params[param] if params else 0)
                each = channel_bytes(address, cost.rows, cost.size // cost.rows, cost.pitch, channels)
                sums = found.setdefault(chip, [0] * channels)
                found[chip] = [a + count * b for a, b in zip(sums, each, strict=True)]
            self._shares[key] = found
        return self._shares[key]


def _by_chip(members: Counter[tuple[int, tuple[int, ...]]]) -> Counter[int]:
    """How many of a class's tiles each chip has."""
    found: Counter[int] = Counter()
    for (chip, _), count in members.items():
        found[chip] += count
    return found


def _apart(program: Program, each: TileClass) -> Counter[tuple[int, tuple[int, ...]]]:
    """A class's tiles by chip and by how far their parameters are from those of the first."""
    tiles = [program.tiles[index] for index in each.members]
    first = tiles[0].params
    return Counter(
        (program.target.chip_of(t.x, t.y), tuple(a - b for a, b in zip(t.params, first, strict=True)))
        for t in tiles
    )


def _param(operation: Operation) -> int:
    """Which parameter an address comes from: the one closest below it."""
    params = operation.tile.registers.params
    below = [(value, index) for index, value in enumerate(params) if value <= operation.operand]
    return max(below)[1] if below else 0
