"""Queues of which the oldest instruction that is ready starts, among the first few: those of arrays and vector unit.

When the unit is free it takes the oldest that is ready; when none is, the first that becomes ready. Which one that is
can be said at once if all that might come before it is known. Otherwise the unit takes its turn on the agenda at the
time at which the best that is known could start: by then all that is ready earlier is known.
"""

from __future__ import annotations

from collections.abc import Callable

from isa.instruction import Unit

from .agenda import Agenda
from .decode import Op
from .operation import PENDING, Operation
from .tile import Queue, TileState


class Windows:
    """Picks what the arrays' port and the vector unit of tiles start next; `begin` starts it."""

    def __init__(self, size: int, agenda: Agenda, begin: Callable[[Operation], None]) -> None:
        self._size, self._agenda, self._begin = size, agenda, begin

    def has(self, op: Op) -> bool:
        """Whether an instruction's queue has a window of more than one."""
        return self._size > 1 and (op.unit is Unit.VECTOR or op.unit is Unit.CIM)

    def pick(self, tile: TileState, queue: Queue) -> None:
        """Start all of which it is known that nothing else comes first, and ask for a turn for the rest."""
        while queue.pending:
            first, free = queue.pending[0], queue.free
            if first.unknown or first.start > free:
                window = queue.pending[: self._size]
                known = [o for o in window if not o.unknown]
                if not known:
                    return
                first = min(known, key=lambda o: (max(o.start, free), o.sequence))
                at = max(first.start, free)
                is_sure = at <= self._agenda.now or (at <= tile.time and len(known) == len(window))
                if not is_sure:
                    self._ask(tile, queue, first, at)
                    return
            self._start(tile, queue, first)

    def _ask(self, tile: TileState, queue: Queue, first: Operation, at: int) -> None:
        """Take a turn at a time, unless there is an earlier one; what was asked for before is void."""
        if queue.turn == PENDING or at < queue.turn:
            queue.turn = at
            self._agenda.push(at, tile.index, first.sequence, lambda: self._turn(tile, queue, at))

    def _turn(self, tile: TileState, queue: Queue, at: int) -> None:
        if queue.turn == at:
            queue.turn = PENDING
            self.pick(tile, queue)

    def _start(self, tile: TileState, queue: Queue, operation: Operation) -> None:
        """Start an operation as soon as it is ready and the unit is free."""
        if queue.free > operation.start:
            operation.start, operation.predecessor, operation.by_issue = queue.free, queue.holder, False
        queue.pending.remove(operation)
        queue.entries.append(operation)
        queue.free = operation.start + operation.cost.port
        self._begin(operation)
        queue.holder = operation.started
        if tile.held is queue:
            tile.held = None
            self._agenda.tiles.append(tile)
