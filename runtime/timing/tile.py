"""The state of one tile while a step is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isa.program import Role, Segment, Tile

from .costs import Cost
from .critical import NO_RECORD
from .decode import Op, Registers
from .scoreboard import IDLE, Flight, Scoreboard


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


class TileState:
    """Program counter, local time, what is in flight, and what each unit is doing."""

    __slots__ = (
        "barrier",
        "board",
        "chip",
        "cim_until",
        "dma",
        "group",
        "halted",
        "index",
        "network_until",
        "ops",
        "pc",
        "port",
        "record",
        "recvs",
        "registers",
        "send",
        "shared",
        "time",
        "vector",
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
        self.time = 0  # when the next instruction can issue
        self.record = NO_RECORD  # of the last operation issued
        self.shared = 0  # operations on shared resources so far: orders those of one tile
        self.port: Flight = IDLE
        self.vector: Flight = IDLE
        self.dma: Flight = IDLE
        self.send: Flight = IDLE
        self.recvs: dict[int, Flight] = {}
        self.barrier: Flight | None = None
        self.cim_until = 0
        self.network_until = 0
        self.halted = False

    def next_shared(self) -> int:
        """A number for the next operation on a shared resource."""
        self.shared += 1
        return self.shared

    def outstanding(self) -> list[Flight]:
        """Everything in flight, for a barrier."""
        return [self.vector, self.dma, self.send, *self.recvs.values(), *self.board.flights()]
