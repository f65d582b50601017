"""Where words go: results to stdout, talk and progress to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from isa.diagnostics import Diagnostic
from runtime.amounts import plain

from .pace import Pace

PATIENCE_S = 2.0  # how long an activity may be silent
REPEAT_S = 10.0  # how often it speaks when stderr is a file

_HEAD = re.compile(r"error\[(\w+)\]")


@dataclass(slots=True)
class Activity:
    """Something that may take a while; `note` says what it is doing now, `pace` how far it is."""

    label: str
    note: str = ""
    pace: Pace | None = None
    started_s: float = field(default_factory=time.perf_counter)

    def line(self) -> str:
        """One line of progress."""
        notes = [note for note in (self.pace.text() if self.pace else "", self.note) if note]
        note = f": {', '.join(notes)}" if notes else ""
        return f"{plain(self.label)}{note} ({time.perf_counter() - self.started_s:.0f} s)"


class Console:
    """The two streams of a command."""

    def __init__(self, *, json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.json = json
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._live = False

    def result(self, text: str) -> None:
        """Print a result (left out when JSON is asked for)."""
        if not self.json:
            self.write(plain(text) + "\n")

    def data(self, value: object) -> None:
        """Print the result as JSON (only when asked for)."""
        if self.json:
            self.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write(self, text: str) -> None:
        """Write to stdout as it is, at once."""
        self._wipe()
        self._out.write(text)
        self._out.flush()

    def say(self, text: str) -> None:
        """Tell something on stderr."""
        self._tell(plain(text))

    def diagnostics(self, found: Iterable[Diagnostic]) -> None:
        """Show what is wrong: on stderr for people, and as JSON on stdout when asked for."""
        listed = tuple(found)
        for diagnostic in listed:
            self._tell(self._paint(plain(diagnostic.render())))
        self.data({"diagnostics": [diagnostic_record(diagnostic) for diagnostic in listed]})

    @contextmanager
    def activity(self, label: str) -> Iterator[Activity]:
        """Show on stderr, from two seconds on, that `label` goes on and for how long."""
        activity = Activity(label)
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(activity, done), daemon=True)
        watcher.start()
        try:
            yield activity
        finally:
            done.set()
            watcher.join()
            self._wipe()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._wipe()

    def _watch(self, activity: Activity, done: threading.Event) -> None:
        terminal = self._err.isatty()
        wait = PATIENCE_S
        while not done.wait(wait):
            if terminal:
                self._err.write(f"\r\x1b[K{activity.line()}")
                self._live = True
            else:
                self._err.write(activity.line() + "\n")
            self._err.flush()
            wait = 0.5 if terminal else REPEAT_S

    def _tell(self, text: str) -> None:
        self._wipe()
        self._err.write(text + "\n")
        self._err.flush()

    def _wipe(self) -> None:
        if self._live:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._live = False

    def _paint(self, text: str) -> str:
        """Colour, where a person looks at a terminal and has not set NO_COLOR."""
        if not self._err.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            return text
        text = _HEAD.sub("\x1b[1;31merror[\\1]\x1b[0m", text, count=1)
        return text.replace("\nhelp: ", "\n\x1b[1;36mhelp:\x1b[0m ").replace(
            "\nnote: ", "\n\x1b[1mnote:\x1b[0m "
        )


def diagnostic_record(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic as JSON: code, message, place (as text), help, notes."""
    return {
        "code": diagnostic.code,
        "message": diagnostic.message,
        "place": str(diagnostic.place) if diagnostic.place is not None else None,
        "help": diagnostic.help,
        "notes": list(diagnostic.notes),
    }


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A plain table: columns two spaces apart, those numbered in `right` flush right."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    flush = set(right)

    def text(line: Sequence[str]) -> str:
        cells = (
            c.rjust(w) if i in flush else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(text(line) for line in lines)
