"""Run one tile of each class by the rules of docs/timing.md, and meet the others class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isa.events import Bound
from isa.interface import KvPolicy
from isa.program import Direction, Moment, Program, Segment
from isa.segments import dealt
from isa.timing.agenda import Agenda
from isa.timing.collection import no_collection
from isa.timing.decode import decode_role
from isa.timing.ledger import Ledger
from isa.timing.machine import Machine
from isa.timing.rates import rates_of
from isa.timing.tile import Group, TileState
from isa.turns import turns_of

from .classes import Classes, classes_of
from .copies import side_by_side
from .flows import Flows
from .links import Links
from .memories import ClassMemories
from .samples import THIN, Step, first_of, runs_of, thinned


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

    def longer(self, more: int, instructions: int = 0) -> Prediction:
        """A step that takes `more` cycles, spent in the same shares, and so many instructions more to predict."""
        cycles = self.cycles + more
        shares = {bound: spent * cycles // self.cycles for bound, spent in self.critical.items()}
        shares[self.bound_by] += cycles - sum(shares.values())
        return Prediction(cycles, shares, self.instructions + instructions)


class Predictor:
    """Predicts steps of a program. Its code is as it will run.

    `like` is the predictor of a program with the same tiles and channels but other code, or on another target: ways
    over the mesh are the same then, if that has the same geometry.
    """

    def __init__(self, program: Program, like: Predictor | None = None) -> None:
        self._program = program
        rates = rates_of(program.target)
        self._ops = {role.name: decode_role(role, rates) for role in program.roles}
        self.classes: Classes = like.classes if like else classes_of(program)
        self._flows: Flows = self._flows_of(program, like)

    def _flows_of(self, program: Program, like: Predictor | None) -> Flows:
        if like is None:
            return Flows(program, self.classes, Links(program.target))
        if like._program.target is program.target:
            return like._flows
        return Flows(program, self.classes, Links(program.target), like._flows)

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
        """The cycles of one step. Of a long one not all segments are run (`compiler/cost/samples.py`), and of several
        copies only the one with most tokens."""
        shares = [own for own in dealt(segments, len(self._program.corners)) if own]
        if len(shares) < 2:
            return self._alone(*(shares or [tuple(segments)]))
        told = self._alone(max(shares, key=lambda own: sum(segment.tokens for segment in own)))
        rows, program = sum(segment.outputs for segment in segments), self._program
        cycles = side_by_side(program.target, program.streams, told.cycles, rows, len(shares))
        return told.longer(round(cycles) - told.cycles)

    def _alone(self, segments: Sequence[Segment]) -> Prediction:
        """The cycles of one copy's segments."""
        runs = runs_of(segments)
        if len(runs) == 1:
            return self._thinned(runs[0])
        return (self._batch(runs, first_of(runs)) if runs else None) or self.whole(segments)

    def pair(self, segments: Sequence[Segment]) -> Prediction | None:
        """The cycles of a step with many sequences, from the first two of them: a quick estimate, that of the others
        going through at the second one's pace. None if the step has no such sequences, one after another."""
        runs = runs_of(segments, 0)
        return self._batch(runs, 2) if len(runs) > 1 else None

    def _thinned(self, run: Step) -> Prediction:
        """The cycles of many segments of one sequence."""
        few, many = (self.whole(thinned(run, size)) for size in (THIN, 2 * THIN))
        more = (len(run) - 2 * THIN) * (many.cycles - few.cycles) // THIN
        return many.longer(max(more, 0), few.instructions)

    def _batch(self, runs: Sequence[Step], count: int) -> Prediction | None:
        """The cycles of many sequences, of which the first `count` are run; None if their outputs do not tell when each
        is through."""
        if not count or not self._gives_rows_once:
            return None
        first = [segment for run in runs[:count] for segment in run]
        told, half = self.whole(first), self._flows.output(len(first) // 2)
        if half is None:
            return None
        return told.longer((len(runs) - count) * (told.cycles - half) // (count // 2))

    @property
    def _gives_rows_once(self) -> bool:
        """Whether each segment is one message on each channel to the host."""
        channels = [p.channel for s in self._program.streams if s.direction is Direction.OUT for p in s.parts]
        return len(set(channels)) == len(channels)

    def whole(self, segments: Sequence[Segment]) -> Prediction:
        """The cycles of one step, of which every segment is run."""
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
