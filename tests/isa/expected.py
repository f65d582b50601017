"""Assembly files that say on the guilty line which errors it has: `mvm a300, ...   ; ERROR E0103: is out of range`."""

from __future__ import annotations

import re
from pathlib import Path

from isa.diagnostics import CimError, Diagnostic, FilePlace

_EXPECTED = re.compile(r"; ERROR (E\d{4}): ([^;]*)")


def expected_errors(path: Path) -> list[tuple[int, str, str]]:
    """Line number, code and a part of the message for each error that the file announces."""
    found: list[tuple[int, str, str]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found += [(number, code, part.strip()) for code, part in _EXPECTED.findall(line)]
    return found


def _place(diagnostic: Diagnostic) -> tuple[int, str]:
    assert isinstance(diagnostic.place, FilePlace)
    return diagnostic.place.line, diagnostic.code


def check(path: Path, error: CimError | None) -> None:
    """The error has exactly the diagnostics that the file announces, each with a place and a way out."""
    expected, found = expected_errors(path), error.diagnostics if error is not None else ()
    wanted = sorted((line, code) for line, code, _ in expected)
    assert sorted(map(_place, found)) == wanted, error
    for line, code, part in expected:
        assert any(_place(d) == (line, code) and part in d.message for d in found), (
            line,
            code,
            part,
            str(error),
        )
    for diagnostic in found:
        assert diagnostic.help, diagnostic.render()
        assert isinstance(diagnostic.place, FilePlace)
        assert diagnostic.place.column + diagnostic.place.width - 1 <= len(diagnostic.place.text) + 1
