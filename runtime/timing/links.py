"""Links of the mesh and when they carry what (docs/timing.md, "Messages")."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from isa.events import Bound
from isa.timing.critical import NO_RECORD
from isa.timing.rates import ceil_div

_MANY = 16  # stretches of a lane beyond which those in the past are looked for


class Lane:
    """Stretches of time that are taken, in order and apart from each other, each with the record of its last message
    and the bytes that its last cycle could still carry (`spare`)."""

    __slots__ = ("ends", "records", "spare", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.spare: list[float] = []
        self.records: list[int] = []

    def after(self, time: int) -> int:
        """The first stretch that ends after a time."""
        return bisect_right(self.ends, time)

    def is_in(self, at: int, time: int) -> bool:
        """Whether the first stretch that ends after a time has begun by then."""
        return at < len(self.starts) and self.starts[at] <= time

    def put(self, begin: int, cycles: int, spare: float, record: int) -> None:
        """Take so many free cycles."""
        at = self.after(begin)
        self.starts.insert(at, begin)
        self.ends.insert(at, begin + cycles)
        self.spare.insert(at, spare)
        self.records.insert(at, record)
        self._join(at)
        if at:
            self._join(at - 1)

    def lengthen(self, at: int) -> None:
        """Let a stretch end a cycle later, which is free: stretches that touch are one."""
        self.ends[at] += 1
        self._join(at)

    def _join(self, at: int) -> None:
        """Make a stretch one with the next if they touch."""
        after = at + 1
        if after < len(self.starts) and self.ends[at] == self.starts[after]:
            self.ends[at], self.spare[at] = self.ends[after], self.spare[after]
            self.records[at] = self.records[after]
            del self.starts[after], self.ends[after], self.spare[after], self.records[after]

    def forget(self, now: int) -> None:
        """Nothing comes before `now` any more. What ends just then can still be followed."""
        if len(self.ends) > _MANY:
            past = bisect_left(self.ends, now)
            del self.starts[:past], self.ends[:past], self.spare[:past], self.records[:past]


class Link:
    """One direction of a link, and when it carries what.

    A message takes the first time from its arrival on at which the link is free for long enough: one that is held up
    on its way here takes none until it comes. Short messages, of one cycle, do not wait for long ones, but for each
    other, in a lane of their own: what they take from the message on the link lets it stay a cycle longer.
    """

    __slots__ = ("all", "busy", "kind", "latency", "short", "width")

    def __init__(self, kind: Bound, latency: int, width: float) -> None:
        self.kind, self.latency, self.width = kind, latency, width
        self.reset()

    def reset(self) -> None:
        """As at the beginning of a step."""
        self.all, self.short, self.busy = Lane(), Lane(), 0

    def take(self, ready: int, size: int) -> tuple[int, int, int]:
        """Carry a message of so many bytes that is here at `ready`: when it begins, for how many cycles, and what held
        it up (`NO_RECORD`: nothing)."""
        cycles = ceil_div(size, self.width)
        if cycles == 1:
            at = self.short.after(ready)
            is_held = self.short.is_in(at, ready)
            return (self.short.ends[at], 1, self.short.records[at]) if is_held else (ready, 1, NO_RECORD)
        lane, begin, blocker = self.all, ready, NO_RECORD
        at = lane.after(ready)
        if at and lane.ends[at - 1] == ready:
            cycles = self._behind(at - 1, size)
        while at < len(lane.starts) and lane.starts[at] < begin + cycles:
            begin, blocker, cycles = lane.ends[at], lane.records[at], self._behind(at, size)
            at += 1
        return begin, cycles, blocker

    def _behind(self, at: int, size: int) -> int:
        """Cycles of a message right behind a stretch: it has what that leaves of its last cycle."""
        return max(ceil_div(size - self.all.spare[at], self.width), 1)

    def hold(self, begin: int, cycles: int, size: int, record: int) -> None:
        """A message that `record` decided is on the link as `take` has found."""
        self.busy += cycles
        lane, at = self.all, self.all.after(begin)
        if ceil_div(size, self.width) == 1:
            self.short.put(begin, 1, 0.0, record)
            if lane.is_in(at, begin):
                lane.lengthen(at)
            else:
                lane.put(begin, 1, 0.0, record)
        else:
            before = lane.spare[at - 1] if at and lane.ends[at - 1] == begin else 0.0
            lane.put(begin, cycles, before + cycles * self.width - size, record)

    def forget(self, now: int) -> None:
        """Nothing comes before `now` any more."""
        self.all.forget(now)
        self.short.forget(now)
