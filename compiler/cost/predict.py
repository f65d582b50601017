"""Run one tile of each class by the rules of docs/timing.md, and meet the others class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isa.events import Bound
from isa.interface import KvPolicy
from isa.program import Moment, Program, Segment
from isa.timing.agenda import Agenda
from isa.timing.collection import no_collection
from isa.timing.decode import decode_role
from isa.timing.ledger import Ledger
from isa.timing.machine import Machine
from isa.timing.rates import rates_of
from isa.timing.tile import Group, TileState
from isa.turns import turns_of

from .classes import Classes, classes_of
from .flows import Flows
from .links import Links
from .memories import ClassMemories


@dataclass(frozen=True, slots=True)
class Prediction:
    """Cycles of a step, what its critical path was spent on, and how many instructions of the tiles that stand for the
    others it took to find that out."""

    cycles: int
    critical: Mapping[Bound, int]
    instructions: int = 0

    @property
    def bound_by(self) -> Bound:
        """What most of the critical path was spent on."""
        return max(Bound, key=lambda bound: self.critical.get(bound, 0))


class Predictor:
    """Predicts steps of a program. Its code is as it will run.

    `like` is the predictor of a program with the same tiles and channels but other code: ways over the mesh are the
    same then.
    """

    def __init__(self, program: Program, like: Predictor | None = None) -> None:
        self._program = program
        rates = rates_of(program.target)
        self._ops = {role.name: decode_role(role, rates) for role in program.roles}
        self.classes: Classes = like.classes if like else classes_of(program)
        self._flows: Flows = like._flows if like else Flows(program, self.classes, Links(program.target))

    @property
    def turns(self) -> int:
        """How many sequences take turns in a step."""
        return turns_of(self._program)

    @property
    def is_possible(self) -> bool:
        """Whether a prediction can be made: what the host does within a step is not predicted, nor are barriers."""
        within = any(host.moment is Moment.WITHIN for host in self._program.hosts)
        return not within and not self._program.barriers

    @property
    def uses_memory(self) -> bool:
        """Whether rows of keys and values come from memory."""
        return any(cache.policy is not KvPolicy.RESIDENT for cache in self._program.caches)

    def step(self, segments: Sequence[Segment]) -> Prediction:
        """The cycles of one step."""
        with no_collection():
            tiles = [
                self._tile(number, each.members[0], segments)
                for number, each in enumerate(self.classes.classes)
            ]
            agenda = Agenda(tiles, Ledger(tiles, None))
            memories = ClassMemories(self._program, self.classes)
            Machine(self._program, tiles, agenda, memories, self._flows.connect(agenda)).run()
        ledger = agenda.ledger
        path = ledger.records.path(ledger.end, ledger.last, ledger.node)
        return Prediction(ledger.end, path.by_bound, sum(sum(tile.group.issued) for tile in tiles))

    def _tile(self, number: int, index: int, segments: Sequence[Segment]) -> TileState:
        """The tile that stands for class `number`."""
        tile, target = self._program.tiles[index], self._program.target
        ops = self._ops[tile.role]
        group = Group(ops[0].role, tile.nodes, [0] * len(ops))
        return TileState(number, tile, target.chip_of(tile.x, tile.y), ops, group, segments)


def predict(program: Program, segments: Sequence[Segment]) -> Prediction:
    """The prediction of one step; see `Predictor` for many."""
    return Predictor(program).step(segments)
