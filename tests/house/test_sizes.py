"""No long files, no long functions: only tables are exempt, by name and with the reason."""

from __future__ import annotations

from tests.house.source import ALL, ROOT, files, functions

FILE_LINES = 400
FUNCTION_LINES = 50

LONG_FILES = {
    "isa/instructions.py": "THE TABLE: every instruction, declared once",
}


def _lines(name: str) -> int:
    return len((ROOT / name).read_text(encoding="utf-8").splitlines())


def test_files_are_short() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in files(*ALL)]
    assert {n: _lines(n) for n in names if _lines(n) > FILE_LINES and n not in LONG_FILES} == {}


def test_exemptions_are_needed() -> None:
    assert [name for name in LONG_FILES if _lines(name) <= FILE_LINES] == []


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{line} {name}: {length} lines"
        for path in files(*ALL)
        for name, line, length in functions(path)
        if length > FUNCTION_LINES
    ]
    assert long == []
