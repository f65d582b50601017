"""Reading and writing files for the command line: `-` for the standard streams, whole files or none."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isa.diagnostics import NamedPlace, fail
from runtime.sinks.files import whole_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDARD = "-"


def read_text(name: str) -> str:
    """The text of a file, or of stdin for `-`. Raises `CimError` E0001."""
    if name == STANDARD:
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(name), _LOOK) from None
    except UnicodeDecodeError:
        raise fail("E0001", "it is not UTF-8 text", NamedPlace(name), "give a text file") from None


_LOOK = "check the path; `-` reads standard input where a command takes text or a model"


def existing(name: str) -> Path:
    """The path of a readable file. Raises `CimError` E0001."""
    path = Path(name)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise fail("E0001", f"cannot read it: {error.strerror}", NamedPlace(name), _LOOK) from None


@contextmanager
def as_file(name: str, suffix: str) -> Iterator[Path]:
    """A file with the bytes of `name`: itself, or a temporary one that holds stdin for `-`."""
    if name != STANDARD:
        yield existing(name)
        return
    with tempfile.TemporaryDirectory(prefix="cim-") as folder:
        path = Path(folder) / f"stdin{suffix}"
        path.write_bytes(sys.stdin.buffer.read())
        yield path


def write_file(name: str, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file that becomes `name`; for `-` copy it to stdout.

    So nobody ever sees half a file, and an interrupted command leaves the old one. Raises `CimError` E0003.
    """
    if name == STANDARD:
        _to_stdout(write)
        return
    with whole_path(Path(name)) as part:
        write(part)


def check_folder(path: Path) -> None:
    """Before what takes long: is there a folder to write the file to? Raises `CimError` E0003."""
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        message = "cannot write it: its folder is not there, or not to be written to"
        raise fail("E0003", message, NamedPlace(str(path)), "name a file in a folder that exists")


def write_text(name: str, text: str) -> None:
    """`write_file` of a text."""
    write_file(name, lambda path: path.write_text(text, encoding="utf-8"))


def _to_stdout(write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="cim-") as folder:
        part = Path(folder) / "stdout.cim"
        write(part)
        sys.stdout.flush()
        sys.stdout.buffer.write(part.read_bytes())
        sys.stdout.buffer.flush()


def read_arrays(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file. Raises `CimError` E0601 if it is none."""
    import zipfile

    import numpy as np

    try:
        with np.load(existing(name), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        message = f"not an .npz file of arrays: {error}"
        hint = "np.savez('in.npz', input_ids=np.array([1, 2, 3]))"
        raise fail("E0601", message, NamedPlace(name), hint) from None
