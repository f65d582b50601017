"""The tiles at work: instructions are dispatched in order and start when nothing earlier is in their way.

A sequencer runs ahead in its own time until the queue that it needs is full and nobody knows yet when its first
entry starts, or until a barrier. An operation that waits for something whose end is not known (a message, a transfer
of memory, or another such operation) starts when all of that is known. `Agenda` says in which order this happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from isa.diagnostics import CimError, Diagnostic
from isa.events import Bound
from isa.instruction import Timing, Unit
from isa.operands import Space
from isa.program import Program
from isa.scalars import ScalarTrap

from .agenda import Agenda
from .costs import Cost
from .critical import INDEX_OF, NO_RECORD
from .decode import HALTED, Op, next_pass, trapped
from .memory import Memories
from .operation import Flight, Operation
from .tile import Queue, TileState, place_of
from .units import Units
from .windows import Windows

_SHOWN = 8  # waiting tiles that a deadlock names

_BOUND_OF_UNIT = {
    Unit.CIM: INDEX_OF[Bound.CIM],
    Unit.VECTOR: INDEX_OF[Bound.VECTOR],
    Unit.DMA: INDEX_OF[Bound.DMA],
    Unit.NETWORK: INDEX_OF[Bound.NETWORK],
}
_BOUND_OF_SPACE = {Space.DRAM: INDEX_OF[Bound.DRAM], Space.GBUF: INDEX_OF[Bound.GBUF]}


class Rendezvous(Protocol):
    """Where tiles meet each other and the host: messages and barriers."""

    def begin(self) -> None:
        """The step begins."""

    def post(self, operation: Operation) -> None:
        """A tile has come to a message or a barrier; when it is over, the agenda is told."""

    def leftovers(self) -> list[Diagnostic]:
        """What some end still waits for although all tiles have halted."""


class Machine:
    """One step of a program on its target: `tiles` of it, which meet each other in `messages`."""

    def __init__(
        self,
        program: Program,
        tiles: list[TileState],
        agenda: Agenda,
        memories: Memories,
        messages: Rendezvous,
    ) -> None:
        self._program, self._tiles, self._messages = program, tiles, messages
        self._agenda, self.ledger = agenda, agenda.ledger
        self._units = Units(memories, agenda, self.ledger)
        self._granule = program.target.granule_bytes
        self._depth = program.target.queue_depth
        self._windows = Windows(program.target.queue_window, agenda, self._begin)
        self._start: dict[Timing, Callable[[Operation], None]] = {
            Timing.ACTIVATE: self._units.cim,
            Timing.ROW_WRITE: self._units.cim,
            Timing.ROW_READ: self._units.cim,
            Timing.VECTOR: self._units.vector,
            Timing.COPY: self._units.copy,
            Timing.MEMORY: self._units.memory,
            Timing.MESSAGE: messages.post,
            Timing.BARRIER: messages.post,
        }

    # ------------------------------------------------------------------------------------------- the whole step

    def run(self) -> None:
        """Run all tiles to their end. Raises `CimError` E0405, E0406 or E0604 on programs that do not verify."""
        tiles, ready = self._agenda.tiles, self._agenda.ready
        self._messages.begin()
        while True:
            while tiles or ready:
                while ready:
                    self._begin_late(ready.pop())
                if tiles:
                    self._run_tile(tiles.popleft())
            if not self._agenda.serve():
                break
        waiting = [tile for tile in self._tiles if tile.waiting or not tile.halted]
        if waiting:
            raise self._deadlock(waiting)
        leftovers = self._messages.leftovers()
        if leftovers:
            raise CimError(leftovers)

    def _deadlock(self, waiting: list[TileState]) -> CimError:
        stuck = [min(tile.waiting.values(), key=lambda o: o.sequence, default=None) for tile in waiting]
        places = [
            place_of(tile, operation.op.index if operation else tile.pc)
            for tile, operation in zip(waiting, stuck, strict=True)
        ]
        notes = [
            f"tile {self._program.tiles[tile.index].name} waits at {place}"
            for tile, place in zip(waiting, places, strict=True)
        ]
        if len(notes) > _SHOWN:
            notes[_SHOWN:] = [f"and {len(notes) - _SHOWN} more tiles"]
        return CimError(
            Diagnostic(
                "E0406",
                f"{len(waiting)} tiles wait for messages that never come",
                places[0],
                "`cim verify` names the circle of channels",
                tuple(notes),
            )
        )

    # -------------------------------------------------------------------------------------------- the sequencer

    def _run_tile(self, tile: TileState) -> None:
        """Dispatch instructions until a queue is full or a barrier is not over, or the text ends."""
        pc, ops, registers, issued = tile.pc, tile.ops, tile.registers, tile.group.issued
        loops, silent = registers.loops, self.ledger.sink is None
        try:
            while pc != HALTED:
                if loops and loops[-1].end == pc:
                    pc = next_pass(registers, pc)
                op = ops[pc]
                if op.scalar is None:
                    if not self._dispatch(tile, op):
                        tile.pc = pc
                        return
                    pc += 1
                else:
                    pc = op.scalar(registers)
                    tile.time += 1
                    if not silent and op.index < len(tile.group.role.code):
                        self.ledger.note(tile, op, tile.time - 1, tile.time)
                issued[op.index] += 1
        except ScalarTrap as error:
            raise trapped(tile.group.role, op.index, error) from None
        tile.halted = True
        sequencer = INDEX_OF[Bound.SEQUENCER]
        halt = self.ledger.records.add(tile.time, tile.record, True, tile.index, op.index, sequencer)
        self.ledger.finish(tile.time, halt)

    def _dispatch(self, tile: TileState, op: Op) -> bool:
        """Hand an instruction to its unit; False if the tile has to wait until it can."""
        if op.timing is Timing.BARRIER:
            return self._barrier(tile, op)
        cost = op.cost(tile.registers.values)
        if cost.noop:
            self.ledger.note(tile, op, tile.time, tile.time)
            self._advance(tile, op, cost)
            return True
        operand = _operand(tile, op)
        queue = _queue(tile, op, operand)
        if not self._has_room(tile, queue):
            return False
        operation = Operation(tile, op, cost, operand, tile.next_sequence())
        operation.queue = queue
        operation.wait_for(self._take(tile, operation, queue))
        self._advance(tile, op, cost)
        if operation.unknown:
            tile.waiting[operation.sequence] = operation
        elif self._windows.has(op):
            self._windows.pick(tile, queue)
        else:
            self._begin(operation)
        return True

    def _has_room(self, tile: TileState, queue: Queue) -> bool:
        """Wait until the queue has a place; False if it is not known yet when that will be."""
        if len(queue.entries) + len(queue.pending) < self._depth:
            return True
        oldest = queue.entries[0] if queue.entries else None
        if oldest is None or oldest.started == NO_RECORD:
            tile.held = queue
            return False
        if oldest.start > tile.time:
            tile.time, tile.record = oldest.start, oldest.started
        queue.entries.popleft()
        return True

    def _advance(self, tile: TileState, op: Op, cost: Cost) -> None:
        """The instruction has been dispatched: count it, step its address registers."""
        executed = tile.group.executed
        executed[cost] = executed.get(cost, 0) + 1
        tile.time += 1
        values = tile.registers.values
        for access, span in zip(op.accesses, cost.spans, strict=True):
            if access.step:
                values[access.base] += span

    def _take(self, tile: TileState, operation: Operation, queue: Queue) -> list[Flight]:
        """Take a place in the queue and all that the operation accesses; what it has to wait for."""
        cost, board, time = operation.cost, tile.board, tile.time
        waits: list[Flight] = []
        ranges = self._ranges(tile, operation.op, cost)
        for low, high, writes, pitch, width in ranges:
            board.buffer.waits(low, high, writes, waits, pitch, width)
        for low, high, writes, pitch, width in ranges:
            board.buffer.hold(low, high, writes, operation, time, pitch, width)
        if cost.cells is not None or cost.scales:
            board.array_waits(cost.cells, cost.scales, waits)
            board.hold_scales(cost.scales, operation, time)
        if cost.cells is not None:
            operation.cells = Flight()
            board.hold_cells(cost.cells, operation.cells, time)
        if self._windows.has(operation.op):
            queue.pending.append(operation)
            return waits
        waits.append(queue.busy)
        queue.entries.append(operation)
        queue.busy = operation
        if operation.op.frees_early:
            queue.busy = operation.port = Flight()
        if operation.op.is_receive:
            if len(queue.posted) == self._depth:
                waits.append(queue.posted.popleft())
            queue.posted.append(operation)
        return waits

    def _ranges(self, tile: TileState, op: Op, cost: Cost) -> list[tuple[int, int, bool, int, int]]:
        """The granules low..high-1 that the operation accesses, whether it writes them, pitch and width of rows.

        The pitch is 0 where rows are dense, or do not all begin at the same place in a granule.
        """
        values, granule, ranges = tile.registers.values, self._granule, []
        for access, span, (pitch, row) in zip(op.accesses, cost.spans, cost.strides, strict=True):
            if span:
                start = values[access.base] + access.offset
                width = 0 if pitch % granule else (start % granule + row - 1) // granule + 1
                apart = pitch // granule if width else 0
                low, high = start // granule, (start + span - 1) // granule + 1
                ranges.append((low, high, access.writes, apart, width))
        return ranges

    def _barrier(self, tile: TileState, op: Op) -> bool:
        """Wait until all earlier operations of the tile are done, then for the others; then go on."""
        cost = op.cost(tile.registers.values)
        done = tile.barrier
        if done is None:
            done = tile.barrier = Operation(tile, op, cost, _operand(tile, op), tile.next_sequence())
            done.wait_for(tile.outstanding())
            if done.unknown:
                tile.waiting[done.sequence] = done
            else:
                self._begin(done)
            return False
        tile.record = self.ledger.records.resume(done.record, done.done, done.record)
        tile.barrier = None
        tile.time = done.done - 1
        self._advance(tile, op, cost)
        return True

    # -------------------------------------------------------------------------------------------------- starting

    def _begin(self, operation: Operation) -> None:
        """Start an operation, now that it is known when."""
        op = operation.op
        bound = _BOUND_OF_SPACE[op.memory.space] if op.memory else _BOUND_OF_UNIT[op.unit]
        operation.started = self.ledger.records.add(
            operation.start,
            operation.predecessor,
            operation.by_issue,
            operation.tile.index,
            op.index,
            bound,
        )
        if op.is_receive:  # the next one at its port can be posted
            assert operation.port is not None
            self._agenda.resolve(operation.port, operation.start, operation.started)
        self._start[op.timing](operation)

    def _begin_late(self, operation: Operation) -> None:
        """Start an operation that had to wait for an end nobody knew; the sequencer may have waited for this."""
        tile, queue = operation.tile, operation.queue
        del tile.waiting[operation.sequence]
        if queue is not None and self._windows.has(operation.op):
            self._windows.pick(tile, queue)
            return
        self._begin(operation)
        if queue is not None and tile.held is queue:
            tile.held = None
            self._agenda.tiles.append(tile)


def _operand(tile: TileState, op: Op) -> int:
    """What an instruction reads beside lengths and buffer addresses: an address outside, or a port's number."""
    values = tile.registers.values
    if op.memory is not None:
        return values[op.memory.base] + op.memory.offset
    return op.port.index + values[op.port.offset.index] if op.port is not None else 0


def _queue(tile: TileState, op: Op, port: int) -> Queue:
    """The queue of the instruction's unit: the arrays, the vector unit, DMA, or a port."""
    if op.unit is Unit.CIM:
        return tile.cim
    if op.unit is Unit.VECTOR:
        return tile.vector
    if op.unit is Unit.DMA:
        return tile.dma
    return tile.recvs[port] if op.is_receive else tile.sends[port]
