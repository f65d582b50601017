"""Memories while a step is predicted: the transfers of all tiles of a class are asked for at once."""

from __future__ import annotations

from collections import Counter

from isa.operands import Space
from isa.program import Program
from isa.timing.critical import Records
from isa.timing.memory import INTERLEAVE_BYTES, Memories, channel_bytes
from isa.timing.operation import Operation

from .classes import Classes, TileClass

Shape = tuple[int, int, int, int]  # of a transfer: address within all channels, rows, bytes, pitch


class ClassMemories(Memories):
    """The memories of a system, each transfer on behalf of a whole class: on every chip, as many as tiles there."""

    def __init__(self, program: Program, classes: Classes) -> None:
        super().__init__(program.target)
        self._members = [_apart(program, each) for each in classes.classes]
        self._shares: dict[tuple[int, int, Space, Shape], dict[int, list[int]]] = {}

    def transfer(self, operation: Operation, records: Records) -> tuple[int, int]:
        """When the last tile of the class has what it asked for, and the record that decides it."""
        place = operation.op.memory
        assert place is not None
        latest = operation.start, operation.started
        for chip, shares in self._of(operation, place.space, place.base).items():
            port = self.port(chip, place.space)
            latest = max(latest, port.transfer(shares, operation.start, operation.started, records))
        return latest

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
