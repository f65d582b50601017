"""The state of one tile while a step is simulated."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from isa.diagnostics import InstructionPlace
from isa.program import Role, Segment, Tile

from .costs import Cost
from .critical import NO_RECORD
from .decode import Op, Registers
from .operation import PENDING, Flight, Operation
from .scoreboard import Scoreboard

IDLE = Flight(done=0)


@dataclass(slots=True)
class Group:
    """Tiles of one role with the same nodes behind its sites: they are counted together."""

    role: Role
    nodes: tuple[str, ...]
    issued: list[int]
    executed: dict[Cost, int] = field(default_factory=dict)

    def node(self, index: int) -> str:
        """The ONNX nodes behind instruction `index`; `(role)` or `(role site)` where none are known."""
        lines = self.role.lines
        site = lines[index] if index < len(lines) else -1
        if not 0 <= site < len(self.nodes):
            return f"({self.role.name})"
        return self.nodes[site] or f"({self.role.name} {self.role.sites[site]})"


class Queue:
    """The queue of a unit.

    In order: `entries` are the latest operations dispatched to it, `busy` frees the unit for the next one. With a
    window: `pending` have not started, in the order of dispatch, `entries` are the latest that have, in the order of
    their starts; the unit is free at `free`, which record `holder` decides, and asks for a turn at `turn`.

    Of a receiving port `posted` are the latest receives, as many as can be under way.
    """

    __slots__ = ("busy", "entries", "free", "holder", "pending", "posted", "turn")

    def __init__(self) -> None:
        self.entries: deque[Operation] = deque()
        self.busy: Flight = IDLE
        self.pending: list[Operation] = []
        self.posted: deque[Operation] = deque()
        self.free, self.holder = 0, NO_RECORD
        self.turn = PENDING


class TileState:
    """Program counter, local time, what is in flight, and the queues of the units.

    `held` is the queue that has to have room before the sequencer can go on, `waiting` are operations of which it is
    not known when they can start, by sequence number.
    """

    __slots__ = (
        "barrier",
        "board",
        "chip",
        "cim",
        "cim_until",
        "dma",
        "group",
        "halted",
        "held",
        "index",
        "network_until",
        "ops",
        "pc",
        "record",
        "recvs",
        "registers",
        "sends",
        "sequence",
        "time",
        "vector",
        "waiting",
    )

    def __init__(
        self,
        index: int,
        tile: Tile,
        chip: int,
        ops: tuple[Op, ...],
        group: Group,
        segments: Sequence[Segment],
    ) -> None:
        self.index, self.chip, self.ops, self.group = index, chip, ops, group
        self.registers = Registers(tile.params, segments)
        self.board = Scoreboard()
        self.pc = 0
        self.time = 0  # when the next instruction can be dispatched
        self.record = NO_RECORD  # of what last held up the sequencer
        self.sequence = 0  # operations so far
        self.cim, self.vector, self.dma = Queue(), Queue(), Queue()
        self.sends: dict[int, Queue] = defaultdict(Queue)  # by port
        self.recvs: dict[int, Queue] = defaultdict(Queue)
        self.held: Queue | None = None
        self.barrier: Operation | None = None
        self.waiting: dict[int, Operation] = {}
        self.cim_until = 0
        self.network_until = 0
        self.halted = False

    def next_sequence(self) -> int:
        """A number for the next operation."""
        self.sequence += 1
        return self.sequence

    def outstanding(self) -> list[Flight]:
        """Everything dispatched and not known to be over, for a barrier."""
        queues = (self.cim, self.vector, self.dma, *self.sends.values(), *self.recvs.values())
        dispatched = (f for queue in queues for f in (*queue.entries, *queue.pending, *queue.posted))
        return [*dispatched, *self.board.flights()]


def place_of(tile: TileState, index: int) -> InstructionPlace:
    """An instruction of a tile's role."""
    code = tile.group.role.code
    text = str(code[index]) if index < len(code) else ""
    return InstructionPlace("program", tile.group.role.name, index, text)
