"""A program translated for the fast engine: the plan arena, and the state arena as it is when a step begins."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from isa.hardware import Hardware, Memory
from isa.program import Program, Role, Tile
from isa.replicas import written_out
from isa.timing.decode import Op, decode_role
from isa.timing.rates import rates_of
from isa.timing.tile import Group
from runtime.timing.exchange import Exchange
from runtime.timing.network import Network

from . import layout as at
from .board import FIRST_ROOM
from .decode import can_decode, code_words
from .messages import MESSAGE_EVENTS
from .routes import Routes, add_routes, port_ends
from .words import Pieces, Words

_FIRST_AGENDA = 256
_MARGIN = 8192  # words that anything small makes


@dataclass(frozen=True, slots=True)
class Team:
    """Tiles of one role with the same nodes: they are counted together. `nodes` are the numbers behind instructions."""

    role: int
    nodes: Words
    issued: int  # where the state arena counts what was issued


@dataclass(frozen=True, slots=True)
class Template:
    """What a step begins with, and where things lie in it."""

    program: Program  # all its copies written out
    copies: int
    state: Words
    plan: Words
    rates: np.ndarray[tuple[int], np.dtype[np.float64]]
    ops: tuple[tuple[Op, ...], ...]  # by role
    code: tuple[int, ...]  # where the roles' instructions lie
    teams: tuple[Team, ...]
    nodes: tuple[str, ...]
    routes: Routes
    exchange: Exchange
    memories: tuple[tuple[int, ...], tuple[int, ...]]  # of DRAM, of global buffers: by chip


def make_template(program: Program) -> Template | None:
    """Translate a program; None if it has what only the reference knows."""
    copies, program = len(program.corners), written_out(program)
    rates = rates_of(program.target)
    ops = tuple(decode_role(role, rates) for role in program.roles)
    if not all(can_decode(role, decoded) for role, decoded in zip(program.roles, ops, strict=True)):
        return None
    return _Maker(program, copies, ops).make()


class _Maker:
    """Puts a program's arenas together."""

    def __init__(self, program: Program, copies: int, ops: tuple[tuple[Op, ...], ...]) -> None:
        self._program, self._copies, self._ops = program, copies, ops
        self._state, self._plan = Pieces(at.H_SIZE), Pieces(at.X_SIZE)
        self._names: dict[str, int] = {}
        self._roles = {role.name: number for number, role in enumerate(program.roles)}

    def make(self) -> Template:
        """The program's template."""
        program, target = self._program, self._program.target
        windowed = target.queue_window > 1
        code = tuple(
            self._plan.add(code_words(role, ops, windowed))
            for role, ops in zip(program.roles, self._ops, strict=True)
        )
        teams, of_tile = self._teams()
        exchange = Exchange(program, Network(target, program), self._copies)
        routes = add_routes(exchange, self._state, self._plan)
        memories = self._memories()
        tiles = self._tiles(code, teams, of_tile, memories)
        self._ports(tiles, exchange, routes)
        first_tile = self._state.add(tiles)
        events = self._state.add(np.zeros(MESSAGE_EVENTS * len(self._names), np.int64))
        agenda = self._state.add(np.zeros(at.A_SIZE * _FIRST_AGENDA, np.int64))
        scratch = self._state.add(np.zeros(4 * routes.most_places, np.int64))
        state = self._state.all()
        head = state[: at.H_SIZE]
        head[[at.H_TILES, at.H_TILE_COUNT, at.H_EVENTS]] = first_tile, len(tiles), events
        head[[at.H_NODES, at.H_HEAP, at.H_HEAP_CAP]] = len(self._names), agenda, _FIRST_AGENDA
        head[[at.H_SCRATCH, at.H_PLACES]] = scratch, routes.most_places
        self._set_head(head, routes, int(tiles[:, at.T_PORT_COUNT].max()))
        return Template(
            program,
            self._copies,
            state,
            self._plan.all(),
            _rates(target, routes),
            self._ops,
            code,
            tuple(teams),
            tuple(self._names),
            routes,
            exchange,
            memories,
        )

    def _set_head(self, head: Words, routes: Routes, ports: int) -> None:
        target = self._program.target
        depth = target.queue_depth
        head[[at.H_DEPTH, at.H_WINDOW, at.H_GRANULE]] = depth, target.queue_window, target.granule_bytes
        head[[at.H_LAST, at.H_FREE]] = at.NO_RECORD, self._state.size
        most = 20 * routes.most_edges + 20 * routes.most_ends + 64 * (3 + ports) * depth
        head[[at.H_MARGIN, at.H_MOST]] = _MARGIN + most, at.N_SIZE * FIRST_ROOM

    # ------------------------------------------------------------------------------------------------- tiles

    def _teams(self) -> tuple[list[Team], list[int]]:
        """The teams, and which one each tile is in."""
        numbers: dict[tuple[str, tuple[str, ...]], int] = {}
        teams: list[Team] = []
        of_tile: list[int] = []
        for tile in self._program.tiles:
            number = numbers.setdefault((tile.role, tile.nodes), len(teams))
            if number == len(teams):
                teams.append(self._team(tile))
            of_tile.append(number)
        return teams, of_tile

    def _team(self, tile: Tile) -> Team:
        number = self._roles[tile.role]
        role, ops = self._program.roles[number], self._ops[number]
        issued = self._state.add(np.zeros(len(ops), np.int64))
        return Team(number, self._nodes(role, tile.nodes, len(ops)), issued)

    def _nodes(self, role: Role, nodes: tuple[str, ...], count: int) -> Words:
        """The numbers of the names behind each instruction."""
        group = Group(role, nodes, [])
        by_line: dict[int, int] = {}
        found = np.zeros(count, np.int64)
        for index in range(count):
            line = role.lines[index] if index < len(role.lines) else -1
            if line not in by_line:
                by_line[line] = self._names.setdefault(group.node(index), len(self._names))
            found[index] = by_line[line]
        return found

    def _tiles(
        self,
        code: tuple[int, ...],
        teams: list[Team],
        of_tile: list[int],
        memories: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> Words:
        program = self._program
        nodes = [self._plan.add(team.nodes) for team in teams]
        rows = np.zeros((len(program.tiles), at.T_SIZE), np.int64)
        rows[:, at.T_INDEX] = np.arange(len(rows))
        rows[:, at.T_RECORD] = at.NO_RECORD
        rows[:, at.T_GROUP] = of_tile
        rows[:, at.T_CODE] = [code[teams[team].role] for team in of_tile]
        rows[:, at.T_ISSUED] = [teams[team].issued for team in of_tile]
        rows[:, at.T_NODES] = [nodes[team] for team in of_tile]
        rows[:, at.T_PARAMS] = [self._plan.add(tile.params) for tile in program.tiles]
        rows[:, at.T_PARAM_COUNT] = [len(tile.params) for tile in program.tiles]
        chips = [program.target.chip_of(tile.x, tile.y) for tile in program.tiles]
        for column, places in zip((at.T_DRAM, at.T_GBUF), memories, strict=True):
            rows[:, column] = [places[chip] for chip in chips]
        boards = np.zeros((len(rows), 2, at.BOARD_SIZE), np.int64)
        rows[:, at.T_BUFFER] = self._state.add(boards) + 2 * at.BOARD_SIZE * np.arange(len(rows))
        rows[:, at.T_CELLS] = rows[:, at.T_BUFFER] + at.BOARD_SIZE
        return rows

    def _ports(self, tiles: Words, exchange: Exchange, routes: Routes) -> None:
        """Make the queues of all ports, and those in the tiles' rows."""
        ends = port_ends(exchange)
        counts: dict[int, int] = defaultdict(int)
        for tile, port, _, _ in ends:
            counts[tile] = max(counts[tile], port + 1)
        tiles[:, at.T_PORT_COUNT] = [counts.get(tile, 0) for tile in range(len(tiles))]
        before = np.cumsum(tiles[:, at.T_PORT_COUNT]) - tiles[:, at.T_PORT_COUNT]
        rows = np.zeros((int(tiles[:, at.T_PORT_COUNT].sum()), at.Q_SIZE), np.int64)
        owner = np.repeat(np.arange(len(tiles)), tiles[:, at.T_PORT_COUNT])
        first_tile = self._state.size + rows.size  # the tiles come right behind
        for tile, port, meeting, end in ends:
            row = rows[before[tile] + port]
            row[at.Q_MEETING], row[at.Q_END] = routes.meeting(meeting), end
        rows[:, at.Q_TILE] = first_tile + at.T_SIZE * owner
        tiles[:, at.T_PORTS] = self._state.add(rows) + at.Q_SIZE * before
        for queue in (at.T_CIM, at.T_VECTOR, at.T_DMA):
            tiles[:, queue + at.Q_TILE] = first_tile + at.T_SIZE * tiles[:, at.T_INDEX]
        if self._program.target.queue_window > 1:
            for queue in (at.T_CIM, at.T_VECTOR):
                tiles[:, queue + at.Q_HOLDER], tiles[:, queue + at.Q_TURN] = at.NO_RECORD, at.PENDING

    # ---------------------------------------------------------------------------------------------- memories

    def _memories(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        target = self._program.target
        chips = {target.chip_of(tile.x, tile.y) for tile in self._program.tiles}
        found = [
            tuple(self._memory(memory, rate) for _ in range(max(chips, default=-1) + 1))
            for memory, rate in ((target.dram, at.RATE_DRAM), (target.gbuf, at.RATE_GBUF))
        ]
        return found[0], found[1]

    def _memory(self, memory: Memory, rate: int) -> int:
        channels = int(memory.channels.value)
        row = [self._program.target.cycles(memory.latency), 0, rate, channels]
        return self._state.add([*row, *[0] * channels, *[at.NO_RECORD] * channels])


def _rates(target: Hardware, routes: Routes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bytes a cycle of links, buffers and memories."""
    from .routes import RATE_OF_KIND

    rates = np.ones(at.RATE_COUNT)
    for link in routes.found.links:
        rates[RATE_OF_KIND[link.kind]] = link.width
    rates[at.RATE_BUFFER] = target.bytes_per_cycle(target.buffer.port_width)
    rates[at.RATE_DRAM] = target.bytes_per_cycle(target.dram.bandwidth)
    rates[at.RATE_GBUF] = target.bytes_per_cycle(target.gbuf.bandwidth)
    return rates
