"""The tiles at work: in-order issue against the scoreboard, and the operations that tiles share.

A tile runs ahead in its own time until it needs something whose end is not known yet: a message, a transfer of
memory. Those go through one heap in the order (ready time, tile, sequence), so that shared resources are given out
in the order of time. All tiles that can run have run before the earliest entry is taken; what they add later is
never earlier than it, so no decision has to be taken back.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable

from isa.diagnostics import CimError, Diagnostic, InstructionPlace, fail
from isa.instruction import Timing, Unit
from isa.operands import Space
from isa.program import HOST, Program
from runtime.events import Bound, Event, Resource, Sink
from runtime.scalars import ScalarTrap

from .costs import Cost
from .critical import INDEX_OF, NO_RECORD, Records
from .decode import HALTED, Op, next_pass, trapped
from .exchange import Exchange, Meeting, Post, place_of
from .memory import Memories, channel_bytes
from .network import Network
from .scoreboard import IDLE, PENDING, Flight
from .tile import TileState

CONTROL_BYTES = 4  # of a barrier's control word
_SHOWN = 8  # waiting tiles that a deadlock names

_BOUND_OF_UNIT = {
    Unit.CIM: INDEX_OF[Bound.CIM],
    Unit.VECTOR: INDEX_OF[Bound.VECTOR],
    Unit.DMA: INDEX_OF[Bound.DMA],
    Unit.NETWORK: INDEX_OF[Bound.NETWORK],
}
_BOUND_OF_SPACE = {Space.DRAM: INDEX_OF[Bound.DRAM], Space.GBUF: INDEX_OF[Bound.GBUF]}

Range = tuple[int, int, bool]  # granules low..high-1, written


class Machine:
    """One step of a program on its target."""

    def __init__(
        self,
        program: Program,
        tiles: list[TileState],
        network: Network,
        exchange: Exchange,
        sink: Sink | None,
    ) -> None:
        self._program, self._sink = program, sink
        self.tiles, self.network, self.exchange = tiles, network, exchange
        self.memories = Memories(program.target)
        self.records = Records()
        self.busy: dict[Resource, int] = defaultdict(int)
        self.events: dict[tuple[Event, str], int] = defaultdict(int)
        self.messages = 0
        self.message_bytes = 0
        self.end = 0
        self.last = NO_RECORD
        self._granule = program.target.granule_bytes
        self._runnable = deque(tiles)
        self._heap: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self._pushed = 0
        self._start: dict[Timing, Callable[[TileState, Op, Cost, int, int], Flight]] = {
            Timing.ACTIVATE: self._start_cim,
            Timing.ROW_WRITE: self._start_cim,
            Timing.ROW_READ: self._start_cim,
            Timing.VECTOR: self._start_vector,
            Timing.COPY: self._start_copy,
            Timing.MEMORY: self._start_memory,
            Timing.MESSAGE: self._start_message,
        }

    # ------------------------------------------------------------------------------------------- the whole step

    def run(self) -> None:
        """Run all tiles to their end. Raises `CimError` E0405, E0406 or E0604 on programs that do not verify."""
        while True:
            while self._runnable:
                self._run_tile(self._runnable.popleft())
            if not self._heap:
                break
            heapq.heappop(self._heap)[-1]()
        waiting = [tile for tile in self.tiles if not tile.halted]
        if waiting:
            raise self._deadlock(waiting)
        leftovers = self.exchange.leftovers()
        if leftovers:
            raise CimError(leftovers)

    def _push(self, ready: int, tile: int, sequence: int, action: Callable[[], None]) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (ready, tile, sequence, self._pushed, action))

    def _deadlock(self, waiting: list[TileState]) -> CimError:
        notes = [
            f"tile {self._program.tiles[tile.index].name} waits at {place_of(tile, tile.pc)}"
            for tile in waiting
        ]
        if len(notes) > _SHOWN:
            notes[_SHOWN:] = [f"and {len(notes) - _SHOWN} more tiles"]
        first = waiting[0]
        return CimError(
            Diagnostic(
                "E0406",
                f"{len(waiting)} tiles wait for messages that never come",
                place_of(first, first.pc),
                "`cim verify` names the circle of channels",
                tuple(notes),
            )
        )

    def node(self, tile: int, index: int) -> str:
        """The node behind instruction `index` of a tile."""
        return "host" if tile == HOST else self.tiles[tile].group.node(index)

    def _finish(self, end: int, record: int) -> None:
        if end > self.end:
            self.end, self.last = end, record

    def _note(self, tile: TileState, op: Op, start: int, end: int) -> None:
        if self._sink is not None:
            role = tile.group.role
            self._sink.on_op(tile.index, op.unit, start, end, role.name, op.index, tile.group.node(op.index))

    # ------------------------------------------------------------------------------------------------- one tile

    def _run_tile(self, tile: TileState) -> None:
        """Issue instructions until one has to wait for something unknown, or the text ends."""
        pc, ops, registers, issued = tile.pc, tile.ops, tile.registers, tile.group.issued
        loops, silent = registers.loops, self._sink is None
        try:
            while pc != HALTED:
                if loops and loops[-1].end == pc:
                    pc = next_pass(registers, pc)
                op = ops[pc]
                if op.scalar is None:
                    if not self._issue(tile, op):
                        tile.pc = pc
                        return
                    pc += 1
                else:
                    pc = op.scalar(registers)
                    tile.time += 1
                    if not silent and op.index < len(tile.group.role.code):
                        self._note(tile, op, tile.time - 1, tile.time)
                issued[op.index] += 1
        except ScalarTrap as error:
            raise trapped(tile.group.role, op.index, error) from None
        tile.halted = True
        halt = self.records.add(tile.time, tile.record, True, tile.index, op.index, INDEX_OF[Bound.SEQUENCER])
        self._finish(tile.time, halt)

    def _issue(self, tile: TileState, op: Op) -> bool:
        """Start an operation as soon as nothing is in its way; False if that time is not known yet."""
        if op.timing is Timing.BARRIER:
            return self._barrier(tile, op)
        cost = op.cost(tile.registers.values)
        if cost.noop:
            self._note(tile, op, tile.time, tile.time)
            self._advance(tile, op, cost, tile.time)
            return True
        ranges = self._ranges(tile, op, cost)
        start, predecessor, by_issue = tile.time, tile.record, True
        for flight in self._waits(tile, op, cost, ranges):
            if flight.done == PENDING:
                flight.waiters.append(tile)
                return False
            if flight.done > start:
                start, predecessor, by_issue = flight.done, flight.record, False
        tile.board.prune(start)
        bound = _BOUND_OF_SPACE[op.memory.space] if op.memory else _BOUND_OF_UNIT[op.unit]
        tile.record = self.records.add(start, predecessor, by_issue, tile.index, op.index, bound)
        flight = self._start[op.timing](tile, op, cost, start, tile.record)
        for low, high, writes in ranges:
            tile.board.hold_buffer(low, high, writes, flight)
        tile.board.hold_scales(cost.scales, flight)
        if flight.done != PENDING:
            self._finish(flight.done, flight.record)
            self._note(tile, op, start, flight.done)
        self._advance(tile, op, cost, start)
        return True

    def _advance(self, tile: TileState, op: Op, cost: Cost, start: int) -> None:
        """The instruction has issued: count it, step its address registers."""
        executed = tile.group.executed
        executed[cost] = executed.get(cost, 0) + 1
        tile.time = start + 1
        values = tile.registers.values
        for access, span in zip(op.accesses, cost.spans, strict=True):
            if access.step:
                values[access.base] += span

    def _ranges(self, tile: TileState, op: Op, cost: Cost) -> list[Range]:
        """The granules that the operation accesses."""
        values, granule, ranges = tile.registers.values, self._granule, []
        for access, span in zip(op.accesses, cost.spans, strict=True):
            if span:
                start = values[access.base] + access.offset
                ranges.append((start // granule, (start + span - 1) // granule + 1, access.writes))
        return ranges

    def _waits(self, tile: TileState, op: Op, cost: Cost, ranges: list[Range]) -> list[Flight]:
        """All that is in the way: the unit, ranges of the buffer, macro rows, scales."""
        waits = [self._unit(tile, op)]
        for low, high, writes in ranges:
            tile.board.buffer_waits(low, high, writes, waits)
        if cost.cells is not None or cost.scales:
            tile.board.array_waits(cost.cells, cost.scales, waits)
        return waits

    def _unit(self, tile: TileState, op: Op) -> Flight:
        """What the unit does now: the port of the arrays, the vector unit, DMA, the sender, a receiving port."""
        if op.unit is Unit.CIM:
            return tile.port
        if op.unit is Unit.VECTOR:
            return tile.vector
        if op.unit is Unit.DMA:
            return tile.dma
        if not op.accesses[0].writes:
            return tile.send
        return tile.recvs.get(self._port(tile, op), IDLE)

    # --------------------------------------------------------------------------------------- units of the tile

    def _start_cim(self, tile: TileState, op: Op, cost: Cost, start: int, record: int) -> Flight:
        tile.port = Flight(start + cost.port, record)
        if cost.cells is not None:
            tile.board.hold_cells(cost.cells, Flight(start + cost.busy, record))
            self.busy[Resource.MACROS] += cost.cells.macros * cost.busy
        end = start + cost.done
        self.busy[Resource.CIM] += max(0, end - max(start, tile.cim_until))
        tile.cim_until = max(tile.cim_until, end)
        return Flight(end, record)

    def _start_vector(self, tile: TileState, op: Op, cost: Cost, start: int, record: int) -> Flight:
        tile.vector = Flight(start + cost.done, record)
        self.busy[Resource.VECTOR] += cost.done
        return tile.vector

    def _start_copy(self, tile: TileState, op: Op, cost: Cost, start: int, record: int) -> Flight:
        tile.dma = Flight(start + cost.done, record)
        self.busy[Resource.DMA] += cost.done
        return tile.dma

    # ------------------------------------------------------------------------------------------ shared resources

    def _start_memory(self, tile: TileState, op: Op, cost: Cost, start: int, record: int) -> Flight:
        flight = tile.dma = Flight()
        place = op.memory
        assert place is not None
        address = tile.registers.values[place.base] + place.offset

        def serve() -> None:
            port = self.memories.port(tile.chip, place.space)
            shares = channel_bytes(address, cost.rows, cost.size // cost.rows, cost.pitch, len(port.free))
            end, decides = port.transfer(shares, start, record, self.records)
            end = max(end, start + cost.busy)
            self.busy[Resource.DMA] += end - start
            self._resolve(flight, end, decides)
            self._note(tile, op, start, end)

        self._push(start, tile.index, tile.next_shared(), serve)
        return flight

    def _resolve(self, flight: Flight, end: int, record: int) -> None:
        """The end of a shared operation is known: let those go on that wait for it."""
        flight.done, flight.record = end, record
        self._finish(end, record)
        self._runnable.extend(flight.waiters)
        flight.waiters = []

    def _port(self, tile: TileState, op: Op) -> int:
        assert op.port is not None
        return op.port.index + tile.registers.values[op.port.offset.index]

    def _meeting(self, tile: TileState, op: Op) -> tuple[Meeting, int]:
        port = self._port(tile, op)
        found = self.exchange.meeting(tile.index, port)
        if found is None:
            place = InstructionPlace(
                "program", tile.group.role.name, op.index, str(tile.group.role.code[op.index])
            )
            raise fail("E0604", f"no channel at port {port} of tile {tile.index}", place)
        return found

    def _start_message(self, tile: TileState, op: Op, cost: Cost, start: int, record: int) -> Flight:
        flight = Flight()
        if op.accesses[0].writes:
            tile.recvs[self._port(tile, op)] = flight
        else:
            tile.send = flight
        self._post(tile, op, start, record, flight, cost.size)
        return flight

    def _post(self, tile: TileState, op: Op, start: int, record: int, flight: Flight, size: int) -> None:
        """A tile has come to a message; if it is the last one, the message takes its turn."""
        meeting, end = self._meeting(tile, op)
        meeting.posts.append(Post(end, tile, op, start, record, flight, size, tile.next_shared()))
        if not meeting.complete():
            return
        posts, host_size = meeting.take()
        last = max(posts, key=lambda p: (p.start, -p.end))
        first = posts[0]
        sender, sequence = (first.tile.index, first.sequence) if first.end == 0 else (HOST, meeting.number)
        self._push(last.start, sender, sequence, lambda: self._transmit(meeting, posts, last, host_size))

    def _transmit(self, meeting: Meeting, posts: list[Post], last: Post, host_size: int | None) -> None:
        """Everyone is there: send the message on its way."""
        first, plan = posts[0], self.exchange.plan(meeting)
        size = 0 if meeting.is_barrier else self._agreed_size(meeting, posts, host_size)
        bound = INDEX_OF[plan.bound]
        record = self.records.add(last.start, last.record, True, first.tile.index, first.op.index, bound)
        arrivals = self.network.transmit(plan, size, last.start, record, self.records)
        latest = max(arrivals, key=lambda a: a.end)
        self._finish(latest.end, latest.record)
        senders = 0 if meeting.is_barrier else len(meeting.sources)
        for post in posts:
            arrival = latest if post.end < senders else arrivals[post.end - senders]
            tile = post.tile
            self.busy[Resource.NETWORK] += max(0, arrival.end - max(last.start, tile.network_until))
            tile.network_until = max(tile.network_until, arrival.end)
            self._resolve(post.flight, arrival.end, arrival.record)
            self._note(tile, post.op, post.start, arrival.end)
        self._count_message(meeting, size, first)
        if self._sink is not None and not meeting.is_barrier:
            sources = tuple(e.tile for e in meeting.sources)
            dests = tuple(e.tile for e in meeting.dests)
            self._sink.on_message(meeting.number, last.start, latest.end, sources, dests, size)

    def _agreed_size(self, meeting: Meeting, posts: list[Post], host_size: int | None) -> int:
        sizes = {post.size for post in posts} | ({host_size} if host_size is not None else set())
        if len(sizes) > 1:
            shown = ", ".join(str(size) for size in sorted(sizes))
            message = f"channel {meeting.name}: the ends of message {meeting.served - 1} differ in size ({shown} bytes)"
            raise fail("E0405", message, place_of(posts[0].tile, posts[0].op.index))
        return sizes.pop()

    def _count_message(self, meeting: Meeting, size: int, first: Post) -> None:
        plan, node = self.exchange.plan(meeting), first.tile.group.node(first.op.index)
        carried = CONTROL_BYTES if meeting.is_barrier else size
        for event, kind in (
            (Event.HOP_BYTE, Bound.NETWORK),
            (Event.CHIP_LINK_BYTE, Bound.CHIP_LINKS),
            (Event.HOST_LINK_BYTE, Bound.HOST_LINK),
        ):
            self.events[event, node] += carried * plan.links(kind)
        if not meeting.is_barrier:
            self.events[Event.REDUCE_OP, node] += (len(meeting.sources) - 1) * (size // 4)
            self.messages += 1
            self.message_bytes += size

    def _barrier(self, tile: TileState, op: Op) -> bool:
        """Wait until all earlier operations of the tile are done, then for the others; then go on."""
        cost = op.cost(tile.registers.values)
        if tile.barrier is None:
            start, predecessor, by_issue = tile.time, tile.record, True
            for flight in tile.outstanding():
                if flight.done == PENDING:
                    flight.waiters.append(tile)
                    return False
                if flight.done > start:
                    start, predecessor, by_issue = flight.done, flight.record, False
            bound = INDEX_OF[Bound.NETWORK]
            record = self.records.add(start, predecessor, by_issue, tile.index, op.index, bound)
            tile.barrier = Flight()
            tile.barrier.waiters.append(tile)
            self._post(tile, op, start, record, tile.barrier, 0)
            return False
        done = tile.barrier
        tile.record = self.records.resume(done.record, done.done, done.record)
        tile.barrier = None
        self._advance(tile, op, cost, done.done - 1)
        return True
