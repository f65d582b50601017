"""A step handed over to the reference in the middle: it goes on from the same state, and says what is wrong, if so.

This is how traps, tiles that wait for each other and whatever the engine does not know come to the reference's words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isa.instructions import Recv
from isa.operands import Reg, Space
from isa.program import Segment
from runtime.engine.network import BarrierState, ChannelState, Network
from runtime.engine.state import Loop, PendingReceive, Span, TileState
from runtime.fast.words import Words

from . import layout as at
from .state import State
from .template import Template, cells_of, scales_of


def hand_over(
    template: Template,
    state: State,
    tiles: Sequence[TileState],
    network: Network,
    segments: Sequence[Segment],
) -> list[int]:
    """Bring the reference's tiles and channels into the state of a step; the tiles that may go on, in order."""
    for number, channel in enumerate(network.channels):
        _set_channel(state, template.channels[number], channel)
    for number, barrier in enumerate(network.barriers):
        _set_barrier(template, state, number, barrier)
    for number, tile in enumerate(tiles):
        tile.begin(segments)
        set_contents(template, number, tile)
        _set_place(template, state, number, tile, network)
    head = state.m
    flags = head[int(head[at.H_READY]) : int(head[at.H_READY]) + len(tiles)]
    ready: list[int] = np.flatnonzero(flags).tolist()
    return sorted(ready, key=lambda number: number != head[at.H_CURRENT])


def set_contents(template: Template, number: int, tile: TileState) -> None:
    """What a tile holds from step to step: its buffer, its arrays, and its chip's memories."""
    first = int(template.state[template.tiles[number] + at.V_BUFFER])
    words = int(template.state[template.tiles[number] + at.V_WORDS])
    tile.set_buffer(template.memory[4 * first : 4 * (first + words)], template.written[first : first + words])
    for place, array in zip(template.arrays[number], tile.arrays, strict=True):
        array.cells[:] = cells_of(template.memory, place)
        array.row_scales[:], array.column_scales[:] = scales_of(template.memory, place)
    source = template.program.tiles[number]
    chip = template.program.target.chip_of(source.x, source.y)
    for space in Space:
        for region in template.regions.get((chip, space), ()):
            if region.is_own:
                tile.memory(space).write(region.start, region.data)


def take_contents(template: Template, number: int, tile: TileState) -> None:
    """The other way, between steps: a tile's buffer, arrays and memories, as the reference has them."""
    first = int(template.state[template.tiles[number] + at.V_BUFFER])
    contents, written = tile.buffer()
    template.memory[4 * first : 4 * first + contents.size] = contents
    template.written[first : first + written.size] = written
    for place, array in zip(template.arrays[number], tile.arrays, strict=True):
        rows, columns = scales_of(template.memory, place)
        cells_of(template.memory, place)[:] = array.cells
        rows[:], columns[:] = array.row_scales, array.column_scales
    source = template.program.tiles[number]
    chip = template.program.target.chip_of(source.x, source.y)
    for space in Space:
        for region in template.regions.get((chip, space), ()):
            region.data = tile.memory(space).read(region.start, region.stop - region.start)


def _set_place(template: Template, state: State, number: int, tile: TileState, network: Network) -> None:
    """Where a tile is in its text, and what it waits for."""
    row = state.m[template.tiles[number] : template.tiles[number] + at.V_SIZE]
    role = template.program.role(template.program.tiles[number].role)
    tile.registers = row[at.T_REGISTERS : at.T_REGISTERS + len(tile.registers)].tolist()
    tile.segment, tile.halted = int(row[at.T_SEGMENT]), bool(row[at.V_HALTED])
    tile.index, tile.next = int(row[at.V_INDEX]), int(row[at.T_PC])
    for which in range(int(row[at.T_LOOPS_LEN])):
        loop = row[at.T_LOOPS + which * at.LOOP_SIZE :][: at.LOOP_SIZE].tolist()
        register = Reg(loop[at.LOOP_REGISTER] % len(tile.registers))
        start, end, count, done = (
            loop[word] for word in (at.LOOP_START, at.LOOP_END, at.LOOP_COUNT, at.LOOP_INDEX)
        )
        tile.loops.append(Loop(start, end, register, count, done))
    for which in range(int(row[at.V_PENDING_COUNT])):
        waits = state.p[int(row[at.V_PENDING]) + which * at.P_SIZE :][: at.P_SIZE]
        inst = role.code[int(waits[at.P_INDEX])]
        assert isinstance(inst, Recv)
        tile.pending.append(_receive(waits, inst, tile))
    if row[at.V_BARRIER]:
        barrier = network.barriers[template.barriers.index(int(row[at.V_BARRIER]))]
        tile.barrier = barrier, int(row[at.V_AWAITED])


def _receive(waits: Words, inst: Recv, tile: TileState) -> PendingReceive:
    """A receive that waits, with registers from which its operands come out as they did."""
    row: list[int] = waits.tolist()
    registers = [0] * len(tile.registers)
    registers[inst.dst.base.index] = 4 * row[at.P_FIRST] - inst.dst.offset if inst.dst.base.index else 0
    for source, value in ((inst.n, row[at.P_N]), (inst.cols, row[at.P_COLS])):
        if isinstance(source, Reg):
            registers[source.index] = value
    span = Span(row[at.P_FIRST], row[at.P_ROWS], row[at.P_WORDS], row[at.P_PITCH])
    inbox = tile.inbox_at(row[at.P_PORT])
    return PendingReceive(row[at.P_INDEX], inst, row[at.P_PORT], inbox, span, registers)


def _set_channel(state: State, place: int, channel: ChannelState) -> None:
    """The messages of a channel that nobody has taken."""
    row = state.m[place : place + at.X_LEVEL].tolist()
    for which, queue in enumerate(channel.queues):
        if len(channel.queues) > 1:
            queue.extend(_messages(state, int(state.m[row[at.X_SOURCES] + which * at.S_SIZE + at.S_FIRST])))
    for which, inbox in enumerate(channel.inboxes):
        first = int(state.m[row[at.X_INBOXES] + which * at.I_SIZE + at.I_NEXT])
        inbox.messages.extend(_messages(state, first))


def _messages(state: State, block: int) -> list[NDArray[np.int32]]:
    found = []
    while block:
        first = block + at.Q_WORDS
        found.append(state.q[first : first + int(state.q[block + at.Q_SIZE])].copy())
        block = int(state.q[block + at.Q_NEXT])
    return found


def _set_barrier(template: Template, state: State, number: int, barrier: BarrierState) -> None:
    """Who has come to a barrier, and how often it has opened."""
    place = template.barriers[number]
    barrier.opened = int(state.m[place + at.B_OPENED])
    waiting = [
        tile
        for tile in barrier.members
        if state.m[template.tiles[tile] + at.V_BARRIER] == place
        and state.m[template.tiles[tile] + at.V_AWAITED] > barrier.opened
    ]
    barrier.arrived.update(waiting)
