"""When the host's parts within a step have run: after the last of their messages, one part at a time.

What a part takes follows from its definition and its rows by the host's roofline; all sequences of the step go through
it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isa.events import Bound, Resource
from isa.hostcount import HostTime, share_out, time_of, work_of
from isa.program import HOST, Program, Segment
from isa.timing.critical import INDEX_OF, NO_RECORD
from isa.timing.ledger import Ledger, part_name
from runtime.within import Between

Ready = list[tuple[int, int]]  # parts that have all they need, and since when


class HostParts:
    """The parts of a program during one step: what they still wait for, and when the host has time."""

    def __init__(self, program: Program, segments: Sequence[Segment], ledger: Ledger) -> None:
        self._target, self._segments, self._ledger = program.target, segments, ledger
        self._between = between = Between(program)
        numbers = range(len(between.parts))
        awaited = [between.awaited(number, segments) for number in numbers]
        self._missing = [sum(counts.values()) for counts in awaited]
        self._takers: dict[int, list[int]] = {}
        for number in numbers:
            for channel in awaited[number]:
                self._takers.setdefault(channel, []).append(number)
        self._earlier = [set(earlier) for earlier in between.before]
        self._inputs = [(0, NO_RECORD) for _ in numbers]
        self._begun = [False for _ in numbers]
        self._free = (0, NO_RECORD)
        self._spent: dict[int, HostTime] = {}

    def first(self) -> Ready:
        """The parts that need nothing of the chip."""
        return [ready for number in range(len(self._begun)) for ready in self._ready(number)]

    def arrived(self, channel: int, at: int, record: int) -> Ready:
        """A message has come to the host, or gone from it; the parts that have all they need now."""
        found: Ready = []
        for number in self._takers.get(channel, ()):
            self._inputs[number] = max(self._inputs[number], (at, record))
            self._missing[number] -= 1
            found += self._ready(number)
        return found

    def after(self, number: int, at: int, record: int) -> Ready:
        """The parts that have all they need now that part `number` has ended."""
        found: Ready = []
        for later, earlier in enumerate(self._earlier):
            if number in earlier:
                earlier.discard(number)
                self._inputs[later] = max(self._inputs[later], (at, record))
                found += self._ready(later)
        return found

    def _ready(self, number: int) -> Ready:
        if self._begun[number] or self._missing[number] or self._earlier[number]:
            return []
        self._begun[number] = True
        return [(number, self._inputs[number][0])]

    def run(self, number: int) -> tuple[int, int]:
        """Run a part that is ready, when the host has time: when it ends, and the record that decides this."""
        start, cause = max(self._inputs[number], self._free)
        rows = self._between.rows(number, self._segments)
        if not rows:
            return self._inputs[number]
        works = work_of(self._between.parts[number].definition, rows)
        spent = self._spent[number] = time_of(works, self._target)
        ledger = self._ledger
        record = ledger.records.add(start, cause, False, HOST, number, INDEX_OF[Bound.HOST])
        self._free = start + spent.cycles, record
        ledger.finish(*self._free)
        ledger.busy[Resource.HOST] += spent.cycles
        for key, number_of in spent.events():
            ledger.events[key] += number_of
        return self._free

    def channels(self, number: int) -> list[tuple[int, list[int]]]:
        """The channels on which a part sends, and the bytes of each message."""
        segments = self._between.segments(number, self._segments)
        return [
            (part.channel, [s.tokens * part.columns * stream.dtype.bytes for s in segments])
            for stream in self._between.gives[number]
            for part in stream.parts
        ]

    def spread(self, cycles: Mapping[str, int]) -> dict[str, int]:
        """Cycles by node, with those of whole parts shared out among their nodes."""
        found = dict(cycles)
        for number, spent in self._spent.items():
            whole = found.pop(part_name(number), 0)
            for node, share in share_out(spent.shares, whole).items():
                found[node] = found.get(node, 0) + share
        return {node: share for node, share in found.items() if share}
