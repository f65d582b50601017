"""In which order a step is simulated (docs/timing.md, "Order").

Tiles that can dispatch and operations that can start are worked off at once, whatever their time: nothing that
tiles do by themselves depends on another tile. What tiles share is given out through a heap in the order (time at
which everyone is ready, tile, sequence), and only when all else has gone as far as it can. What that adds to the
heap waited for what was served, so it is not earlier, and no decision has to be taken back.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

from .ledger import Ledger
from .operation import Flight, Operation
from .tile import TileState


class Agenda:
    """Tiles that can go on, operations that can start, and what waits for its turn at shared resources."""

    def __init__(self, tiles: list[TileState], ledger: Ledger) -> None:
        self.ledger = ledger
        self.tiles = deque(tiles)
        self.ready: list[Operation] = []
        self._heap: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self._pushed = 0
        self.now = 0  # ends that are not known yet are not before

    def push(self, ready: int, tile: int, sequence: int, action: Callable[[], None]) -> None:
        """`action` uses something shared; it takes its turn."""
        self._pushed += 1
        heapq.heappush(self._heap, (ready, tile, sequence, self._pushed, action))

    def serve(self) -> bool:
        """Give the earliest what it asks for; False if nobody asks."""
        if not self._heap:
            return False
        self.now, *_, action = heapq.heappop(self._heap)
        action()
        return True

    def resolve(self, flight: Flight, end: int, record: int) -> None:
        """The end of a flight is known: those that waited for it alone can start."""
        flight.done, flight.record = end, record
        if flight.waiters:
            self.ready.extend([waiter for waiter in flight.waiters if waiter.heard(flight)])
            flight.waiters = []

    def finish(self, operation: Operation, end: int, record: int) -> None:
        """The end of an operation is known."""
        self.ledger.finish(end, record)
        self.resolve(operation, end, record)
        self.ledger.note(operation.tile, operation.op, operation.start, end)
