"""One analysis: a role and those of its tiles that take the same way through its text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from isa.operands import Reg, Space
from isa.program import MemoryRegion, Program, Role

from .again import Memory
from .appends import Appends
from .arithmetic import Arithmetic
from .bounds import Bounds
from .buffer import Span
from .dealt import Cached
from .poly import NOTHING, Poly
from .report import Report
from .script import Range, Recorder
from .segments import Over
from .state import Knowledge, State
from .stored import Planes, Stored
from .symbols import Op, Shape, SymbolTable

FAR = 1 << 40  # an interval wider than this is no bound that one could name


class MemoryMap:
    """The declared regions of the chips' memories."""

    def __init__(self, program: Program) -> None:
        self._regions: dict[tuple[Space, int], list[MemoryRegion]] = {}
        for region in sorted(program.memory, key=lambda r: r.offset):
            self._regions.setdefault((region.space, region.chip), []).append(region)
        self._starts = {key: [r.offset for r in regions] for key, regions in self._regions.items()}

    def holds(self, space: Space, chip: int, low: int, high: int) -> bool:
        """Whether bytes low..high-1 lie within one region."""
        at = bisect_right(self._starts.get((space, chip), []), low) - 1
        if at < 0:
            return False
        region = self._regions[space, chip][at]
        return high <= region.offset + region.bytes


@dataclass(frozen=True, slots=True)
class Job:
    """What is analysed, and where findings go; `caches` are the arrays of KV caches (`cached_arrays`), `planes`
    their rows in memory (`stored_planes`)."""

    program: Program
    role: Role
    tiles: tuple[int, ...]
    report: Report
    memory: MemoryMap
    caches: Mapping[tuple[str, int], Cached] = field(default_factory=dict)
    planes: Planes = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """An analysis under way. `recording` is off while loops are being explored.

    `loops` says of each enclosing loop that is not unrolled which list of segments it runs over, in an order that
    all tiles share, or None.
    """

    job: Job
    values: Arithmetic
    params: tuple[Poly, ...]
    param_values: dict[int, tuple[int, ...]]
    knowledge: Knowledge
    recorder: Recorder = field(default_factory=Recorder)
    recording: bool = True
    loops: list[Over | None] = field(default_factory=list)
    branches: list[dict[int, State]] = field(default_factory=list)
    maybe_halted: bool = False
    appends: Appends = field(default_factory=Appends)
    stored: Stored = field(default_factory=Stored)
    pretended: set[Span] = field(default_factory=set)
    memory: Memory = field(default_factory=Memory)

    @property
    def table(self) -> SymbolTable:
        """The symbols."""
        return self.values.table

    @property
    def level(self) -> int:
        """How many loops that are not unrolled are around."""
        return len(self.loops)

    def bounds(self, state: State) -> Bounds:
        """Answers about values in this state."""
        return self.knowledge.bounds(state)

    def value(self, state: State, operand: Reg | int) -> Poly:
        """A scalar operand."""
        return state.regs[operand.index] if isinstance(operand, Reg) else Poly(operand)

    def find(
        self,
        index: int,
        code: str,
        message: str,
        *involved: Poly,
        hint: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Report a finding, unless it follows from a value that was already found wrong."""
        if self.recording and not any(self.table.doubtful(poly) for poly in involved):
            self.job.report.instruction(self.job.role, index, code, message, hint, notes)

    def doubtful(self, low: int, high: int) -> Poly:
        """A value to go on with after a finding."""
        return self.table.unknown(self.level, low, high, doubtful=True)

    def text(self, poly: Poly) -> str:
        """A value in words, with its range."""
        if not poly.terms:
            return str(poly.const)
        low, high = self.values.plain.lower(poly), self.values.plain.upper(poly)
        extent = f"{low}..{high}" if high - low < FAR else "not bounded"
        return f"{self.table.text(poly)} ({extent})"

    def extent(self, span: Span) -> str:
        """A span in words."""
        rows = f"{self.text(span.rows)} rows, {span.pitch} bytes apart, of " if span.pitch else ""
        return f"{rows}{self.text(span.width)} bytes from {self.text(span.start)} on"

    def granules(self, state: State, span: Span) -> Range:
        """The granules from the first to the last byte that a span may cover."""
        bounds, granule = self.bounds(state), self.job.program.target.granule_bytes
        low, high = bounds.lower(span.start) // granule, -(-bounds.upper(span.end) // granule)
        base = Poly(0, span.start.terms)
        if not base.terms or not base.divisible_by(granule):
            return Range(low, high, NOTHING, low, high)
        end = -(-bounds.upper(span.end - base) // granule)
        return Range(span.start.const // granule, end, base, low, high)


def open_context(job: Job) -> Context:
    """A fresh analysis of a role for these tiles; parameters equal in all of them are constants."""
    table = SymbolTable()
    values = Arithmetic(table, job.program.limits)
    params: list[Poly] = []
    columns: dict[int, tuple[int, ...]] = {}
    for number, name in enumerate(job.role.params):
        column = tuple(job.program.tiles[tile].params[number] for tile in job.tiles)
        low, high = min(column), max(column)
        if low == high:
            params.append(Poly(low))
            continue
        symbol = table.make(Op.PARAM, Shape(low, high), name=name)
        columns[len(table.symbols) - 1] = column
        params.append(symbol)
    return Context(job, values, tuple(params), columns, Knowledge(values))
