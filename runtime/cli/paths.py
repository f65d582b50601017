"""The files that a command names: none is empty, and none that it writes is one that it reads or writes too."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from .files import STANDARD
from .options import flag


def names_files(
    parser: argparse.ArgumentParser,
    *,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    keeps: Sequence[str] = (),
) -> None:
    """Say which arguments name files: those that are read, those that are written (`-` is standard output), and those
    that are kept beside what is printed, for which `-` stands for nothing."""
    parser.set_defaults(reads=tuple(reads), writes=tuple(writes), keeps=tuple(keeps))


def check_files(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse names of files that cannot be meant. Exits with 2."""
    reads, writes, keeps = (getattr(options, name, ()) for name in ("reads", "writes", "keeps"))
    for option in (*reads, *writes, *keeps):
        if _given(options, option) in ("", Path()):
            parser.error(f"{_word(parser, option)}: the name of a file is missing")
    for option in keeps:
        if str(_given(options, option)) == STANDARD:
            parser.error(
                f"{_word(parser, option)} -: it is written to a file: name one (./- if it is called so)"
            )
    taken = {path: option for option, path in _paths(options, reads)}
    for option, path in _paths(options, (*writes, *keeps)):
        if path in taken:
            other = _word(parser, taken[path])
            parser.error(f"{_word(parser, option)}: {path.name} is the file of {other}: name another")
        taken[path] = option


def _given(options: argparse.Namespace, option: str) -> object:
    return getattr(options, option, None)


def _paths(options: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The files that options name, without standard streams and devices."""
    for name in names:
        given = _given(options, name)
        if isinstance(given, str | Path) and str(given) != STANDARD:
            try:
                path = Path(given).resolve()
                is_device = path.exists() and not path.is_file()
            except (
                OSError,
                RuntimeError,
            ):  # names that are too long, links in circles: reading or writing says so
                continue
            if not is_device:
                yield name, path


def _word(parser: argparse.ArgumentParser, option: str) -> str:
    """An argument as it is written: `--stats`, or `MODEL.onnx`."""
    found = next((a for a in parser._actions if a.dest == option), None)
    if found is None:
        return flag(option)
    return found.option_strings[-1] if found.option_strings else str(found.metavar)
