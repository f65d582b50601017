"""A program translated for the fast engine: the plan arena, and the state arena as it is when a step begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Kind:
    """Tiles of one role with the same parameters, which lie at `place` in the plan; the most ports that one has."""

    role: int
    params: tuple[int, ...]
    place: int
    ports: int


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
    kinds: tuple[Kind, ...]
    of_tile: tuple[Words, Words]  # the numbers of each tile's team, and kind
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
        tiles = self._tiles(teams, of_tile, memories)
        self._ports(tiles, exchange, routes)
        first_tile = self._state.add_lines(tiles)
        kinds, kind_of_tile = self._kinds(tiles[:, at.TILE_PORT_COUNT].tolist())
        events = self._state.add(np.zeros(MESSAGE_EVENTS * len(self._names), np.int64))
        agenda = self._state.add_lines(np.zeros(at.A_SIZE * _FIRST_AGENDA, np.int64))
        scratch = self._state.add_lines(np.zeros(at.PLACE_SIZE * routes.most_places, np.int64))
        state = self._state.all()
        head = state[: at.H_SIZE]
        head[[at.H_TILES, at.H_TILE_COUNT, at.H_EVENTS]] = first_tile, len(tiles), events
        head[[at.H_NODES, at.H_HEAP, at.H_HEAP_CAP]] = len(self._names), agenda, _FIRST_AGENDA
        head[at.H_SCRATCH] = scratch
        self._set_head(head, routes, int(tiles[:, at.TILE_PORT_COUNT].max()))
        return Template(
            program,
            self._copies,
            state,
            self._plan.all(),
            _rates(target, routes),
            self._ops,
            code,
            tuple(teams),
            kinds,
            (np.array(of_tile, np.int64), kind_of_tile),
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
        head[[at.H_MARGIN, at.H_MOST]] = _MARGIN + most, at.O_SIZE

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
        return Team(number, self._nodes(role, tile.nodes, len(ops)))

    def _kinds(self, ports: Sequence[int]) -> tuple[tuple[Kind, ...], Words]:
        """The kinds of tiles, and which one each tile is of."""
        numbers: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for index, tile in enumerate(self._program.tiles):
            numbers.setdefault((self._roles[tile.role], tuple(tile.params)), []).append(index)
        found, of_tile = [], np.zeros(len(ports), np.int64)
        for number, ((role, params), tiles) in enumerate(numbers.items()):
            of_tile[tiles] = number
            found.append(Kind(role, params, self._plan.add(params), max(ports[index] for index in tiles)))
        return tuple(found), of_tile

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
        self, teams: list[Team], of_tile: list[int], memories: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> Words:
        program = self._program
        nodes = [self._plan.add(team.nodes) for team in teams]
        rows = np.zeros((len(program.tiles), at.TILE_SIZE), np.int64)
        rows[:, at.TILE_INDEX] = np.arange(len(rows))
        rows[:, at.TILE_RECORD] = at.NO_RECORD
        rows[:, at.TILE_NODES] = [nodes[team] for team in of_tile]
        rows[:, at.TILE_ALIVE + at.RING_FIRST] = 1
        for queue in (at.TILE_CIM, at.TILE_VECTOR):
            rows[:, queue + at.Q_HOLDER], rows[:, queue + at.Q_TURN] = at.NO_RECORD, at.PENDING
        chips = [program.target.chip_of(tile.x, tile.y) for tile in program.tiles]
        for column, places in zip((at.TILE_DRAM, at.TILE_GBUF), memories, strict=True):
            rows[:, column] = [places[chip] for chip in chips]
        return rows

    def _ports(self, tiles: Words, exchange: Exchange, routes: Routes) -> None:
        """Make the rows of all ports."""
        ends = port_ends(exchange)
        counts: dict[int, int] = defaultdict(int)
        for tile, port, _, _ in ends:
            counts[tile] = max(counts[tile], port + 1)
        count = at.TILE_PORT_COUNT
        tiles[:, count] = [counts.get(tile, 0) for tile in range(len(tiles))]
        before = np.cumsum(tiles[:, count]) - tiles[:, count]
        rows = np.zeros((int(tiles[:, count].sum()), at.PORT_SIZE), np.int64)
        for tile, port, number, end in ends:
            meeting = exchange.meetings[number]
            way = at.PORT_SENDS if end < len(meeting.sources) else at.PORT_RECEIVES
            kind = at.PORT_BARRIER if meeting.is_barrier else way
            rows[before[tile] + port, :3] = routes.meeting(number), routes.end(number, end), kind
        tiles[:, at.TILE_PORTS] = self._state.add_lines(rows) + at.PORT_SIZE * before

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
