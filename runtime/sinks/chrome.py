"""A trace for ui.perfetto.dev and chrome://tracing: tiles are processes, units are threads, messages are arrows.

Operations of one unit that overlap (arrays of a tile, receiving ports) get a thread each. Times are in simulated
microseconds; the arguments of a slice give cycle, instruction text and ONNX nodes. Messages with
rows of a source say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from isa.instruction import Unit
from isa.program import HOST, Program
from isa.replicas import written_out
from runtime.segments import source_channels

from .files import whole_file

MAX_EVENTS = 1_000_000  # about 200 MB; what comes after is counted, not written
_THREADS = 256  # thread numbers a unit; overlapping operations of one are fewer

JsonValue = str | int | float | bool | None | dict[str, "JsonValue"] | list["JsonValue"]


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where the last operation of a network port was drawn; arrows start and end there."""

    process: int
    thread: int
    start: float
    end: float


class ChromeTrace:
    """A sink that writes Chrome's JSON trace format to an open file; `close` ends it."""

    def __init__(self, program: Program, file: TextIO, max_events: int = MAX_EVENTS) -> None:
        program = written_out(program)
        self._program, self._file, self._max = program, file, max_events
        self._roles = {role.name: role for role in program.roles}
        self._sources = source_channels(program)
        self._us = 1e6 / program.target.clock.si
        self._base = 0
        self._written = self._dropped = self._flows = 0
        self._lanes: dict[tuple[int, Unit], list[int]] = {}
        self._ports: dict[int, _Slice] = {}
        self._named: set[int] = set()
        file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')

    # ------------------------------------------------------------------------------------------- what is heard

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        """Draw an operation."""
        process, thread = self._process(tile), self._thread(tile, unit, self._base + start, self._base + end)
        inst = self._roles[role].code[index]
        at = self._time(start)
        arguments: JsonValue = {"text": str(inst), "node": node, "cycle": self._base + start, "index": index}
        self._slice(process, thread, inst.mnemonic, unit.value, at, (end - start) * self._us, arguments)
        if unit is Unit.NETWORK:
            self._ports[tile] = _Slice(process, thread, at, self._time(end))

    def on_message(
        self, channel: int, start: int, end: int, sources: Sequence[int], dests: Sequence[int], size: int
    ) -> None:
        """Draw arrows: from each sender to the first receiver, and from the first sender to the others."""
        name = self._program.channels[channel].name + (" (source)" if channel in self._sources else "")
        for tile in (*sources, *dests):
            if tile == HOST:
                self._host(name, start, end, size)
        pairs = [(source, dests[0]) for source in sources] + [(sources[0], dest) for dest in dests[1:]]
        for source, dest in pairs:
            self._arrow(name, self._ports[source], self._ports[dest], self._time(start), self._time(end))

    def on_step(self, cycles: int, tokens: int, source_rows: int) -> None:
        """The next step begins where this one ended."""
        self._base += cycles
        self._lanes.clear()

    def close(self) -> None:
        """End the JSON text."""
        name: JsonValue = {"name": "cim", "dropped_events": self._dropped}
        self._line({"name": "trace", "ph": "M", "pid": 0, "tid": 0, "args": name}, last=True)
        self._file.write("]}\n")

    # ------------------------------------------------------------------------------------------- what is written

    def _time(self, cycle: int) -> float:
        return (self._base + cycle) * self._us

    def _line(self, event: JsonValue, last: bool = False) -> None:
        self._file.write(json.dumps(event) + ("\n" if last else ",\n"))

    def _event(self, event: JsonValue) -> None:
        if self._written >= self._max:
            self._dropped += 1
            return
        self._written += 1
        self._line(event)

    def _slice(
        self, process: int, thread: int, name: str, kind: str, at: float, length: float, arguments: JsonValue
    ) -> None:
        self._event(
            {
                "name": name,
                "cat": kind,
                "ph": "X",
                "pid": process,
                "tid": thread,
                "ts": at,
                "dur": length,
                "args": arguments,
            }
        )

    def _process(self, tile: int) -> int:
        process = tile + 1  # the host is process 0
        if process not in self._named:
            self._named.add(process)
            name = (
                "host"
                if tile == HOST
                else f"{self._program.tiles[tile].name} ({self._program.tiles[tile].role})"
            )
            self._line({"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": name}})
        return process

    def _thread(self, tile: int, unit: Unit, start: int, end: int) -> int:
        """A thread of the unit that is free by `start`; a new one if there is none."""
        lanes = self._lanes.setdefault((tile, unit), [])
        lane = next((i for i, busy_until in enumerate(lanes) if busy_until <= start), len(lanes))
        if lane == len(lanes):
            lanes.append(end)
            number = f" {lane + 1}" if lane else ""
            arguments: JsonValue = {"name": unit.value + number}
            thread = list(Unit).index(unit) * _THREADS + lane
            self._line({"name": "thread_name", "ph": "M", "pid": tile + 1, "tid": thread, "args": arguments})
        lanes[lane] = end
        return list(Unit).index(unit) * _THREADS + lane

    def _host(self, name: str, start: int, end: int, size: int) -> None:
        process = self._process(HOST)
        thread = self._thread(HOST, Unit.NETWORK, self._base + start, self._base + end)
        at = self._time(start)
        self._slice(process, thread, name, "host", at, (end - start) * self._us, {"bytes": size})
        self._ports[HOST] = _Slice(process, thread, at, self._time(end))

    def _arrow(self, name: str, source: _Slice, dest: _Slice, start: float, end: float) -> None:
        self._flows += 1
        for phase, where, at in (("s", source, start), ("f", dest, end)):
            self._event(
                {
                    "name": name,
                    "cat": "message",
                    "ph": phase,
                    "bp": "e",
                    "id": self._flows,
                    "pid": where.process,
                    "tid": where.thread,
                    "ts": min(max(at, where.start), where.end),
                }
            )


@contextmanager
def chrome_trace(path: Path, program: Program, max_events: int = MAX_EVENTS) -> Iterator[ChromeTrace]:
    """A sink that writes a trace to `path`, whole or not at all. Raises `CimError` E0003."""
    with whole_file(path) as file:
        trace = ChromeTrace(program, file, max_events)
        yield trace
        trace.close()
