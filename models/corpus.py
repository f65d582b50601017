"""The text that the shipped model is trained and measured on: CPython's own standard library.

Every machine with CPython has it, and its licence (PSF) allows the use. A file belongs to the
training or to the held-out set by a hash of its path relative to `Lib`, so the split does not
depend on directory order, on the platform or on a random seed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = 0
"""Byte id that stands between two files in the training stream (it occurs in no source file)."""

HELD_OUT_SHARE = 20
"""One file in this many is held out."""

EXCERPT_BYTES = 6000
"""Most bytes of one held-out file that go into the shipped excerpt."""

SKIPPED_DIRECTORIES = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data", "__pycache__"}
)
"""Tests are not library text; `encodings` and `pydoc_data` are generated tables."""

SKIPPED_PREFIXES = ("_sysconfigdata", "config-")
"""Generated when CPython was built: they hold the paths of the machine that built it."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: its path relative to `Lib` with forward slashes, and its bytes."""

    path: str
    text: bytes

    @property
    def held_out(self) -> bool:
        """Whether the file is kept away from training."""
        return is_held_out(self.path)


def is_held_out(path: str) -> bool:
    """Decide by SHA-256 of the relative path; about one file in `HELD_OUT_SHARE`."""
    digest = hashlib.sha256(path.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_SHARE == 0


def library_files(root: Path | None = None) -> list[SourceFile]:
    """All library sources below `root` (default: this interpreter's `Lib`), sorted by path.

    Generated tables, tests and files that are not UTF-8 are left out.
    """
    base = root if root is not None else Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in _sources(base):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        if text and SEPARATOR not in text and _is_utf8(text):
            files.append(SourceFile(path.relative_to(base).as_posix(), text))
    return sorted(files, key=lambda f: f.path)


def join(files: list[SourceFile]) -> bytes:
    """One stream: the files in the given order, each preceded by the separator byte."""
    return b"".join(bytes([SEPARATOR]) + f.text for f in files)


def _sources(base: Path) -> Iterator[Path]:
    """The `.py` files below `base`, without entering what is skipped."""
    for folder, subfolders, names in os.walk(base):
        subfolders[:] = [s for s in subfolders if s not in SKIPPED_DIRECTORIES and _kept(s)]
        yield from (Path(folder, name) for name in names if name.endswith(".py") and _kept(name))


def _kept(name: str) -> bool:
    return not name.startswith(SKIPPED_PREFIXES)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def excerpt(files: list[SourceFile], bytes_each: int) -> bytes:
    """The first whole lines of every held-out file, at most `bytes_each` of each, without markers."""
    return b"".join(_first_lines(f.text, bytes_each) for f in files if f.held_out)


def _first_lines(text: bytes, limit: int) -> bytes:
    if len(text) <= limit:
        return text
    return text[: text.rfind(b"\n", 0, limit) + 1]


def main() -> None:
    """`python -m models.corpus F.txt`: write the held-out excerpt that ships."""
    if len(sys.argv) != 2:
        print("usage: python -m models.corpus F.txt", file=sys.stderr)
        raise SystemExit(2)
    Path(sys.argv[1]).write_bytes(excerpt(library_files(), EXCERPT_BYTES))


if __name__ == "__main__":
    main()
