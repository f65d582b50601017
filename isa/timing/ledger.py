"""What is written down while a step is simulated: records, counts, and what a sink is told."""

from __future__ import annotations

from collections import defaultdict

from isa.events import Event, Resource, Sink
from isa.program import HOST

from .critical import NO_RECORD, Records
from .decode import Op
from .tile import TileState


def part_name(number: int) -> str:
    """What stands for all nodes of a part that the host runs within the step."""
    return f"host part {number}"


class Ledger:
    """Records of what decided what, busy cycles, events, messages, and the end of the step so far."""

    def __init__(self, tiles: list[TileState], sink: Sink | None) -> None:
        self._tiles = tiles
        self.sink = sink
        self.records = Records()
        self.busy: dict[Resource, int] = defaultdict(int)
        self.events: dict[tuple[Event, str], int] = defaultdict(int)
        self.messages = 0
        self.message_bytes = 0
        self.end = 0
        self.last = NO_RECORD

    def finish(self, end: int, record: int) -> None:
        """Something ends; the step does not end before."""
        if end > self.end:
            self.end, self.last = end, record

    def note(self, tile: TileState, op: Op, start: int, end: int) -> None:
        """Tell the sink what an instruction occupied its unit for."""
        if self.sink is not None:
            role = tile.group.role
            self.sink.on_op(tile.index, op.unit, start, end, role.name, op.index, tile.group.node(op.index))

    def node(self, tile: int, index: int) -> str:
        """The node behind instruction `index` of a tile; of the host, the name of its part `index` (`part_name`)."""
        return part_name(index) if tile == HOST else self._tiles[tile].group.node(index)
