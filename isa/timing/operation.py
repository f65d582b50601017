"""Instructions that a tile has dispatched: when they start and end, as far as that is known, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .costs import Cost
from .critical import NO_RECORD
from .decode import Op

if TYPE_CHECKING:
    from .tile import Queue, TileState

PENDING = -1


class Flight:
    """Something under way: when it is over (`PENDING` while that is unknown) and the record that decides it."""

    __slots__ = ("done", "record", "waiters")

    def __init__(self, done: int = PENDING, record: int = NO_RECORD) -> None:
        self.done, self.record = done, record
        self.waiters: list[Operation] = []


class Operation(Flight):
    """An instruction in the queue of its unit or at work; as a flight, it is over when its results are there.

    `operand` is what was read at dispatch: an address outside the tile, or the number of a port. `sequence` orders
    what one tile asks of shared resources. While `unknown` earlier flights have no end yet, `start` is the latest
    known reason to wait (at first the cycle of dispatch, `by_issue`), which `predecessor` decides; then it is the
    start, and `started` its record. `port` is over when the next operation of its queue can start, if that is
    earlier than the end; `cells` when the macro rows are free.
    """

    __slots__ = (
        "by_issue",
        "cells",
        "cost",
        "op",
        "operand",
        "port",
        "predecessor",
        "queue",
        "sequence",
        "start",
        "started",
        "tile",
        "unknown",
    )

    def __init__(self, tile: TileState, op: Op, cost: Cost, operand: int, sequence: int) -> None:
        super().__init__()
        self.tile, self.op, self.cost, self.operand, self.sequence = tile, op, cost, operand, sequence
        self.start, self.predecessor, self.by_issue = tile.time, tile.record, True
        self.started = NO_RECORD
        self.unknown = 0
        self.queue: Queue | None = None
        self.port: Flight | None = None
        self.cells: Flight | None = None

    def wait_for(self, flights: list[Flight]) -> None:
        """Start after all of these."""
        for flight in flights:
            if flight.done == PENDING:
                flight.waiters.append(self)
                self.unknown += 1
            elif flight.done > self.start:
                self.start, self.predecessor, self.by_issue = flight.done, flight.record, False

    def heard(self, flight: Flight) -> bool:
        """The end of something waited for is known now; whether it was the last."""
        if flight.done > self.start:
            self.start, self.predecessor, self.by_issue = flight.done, flight.record, False
        self.unknown -= 1
        return not self.unknown
