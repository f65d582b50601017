"""Files that appear whole or not at all, and folders for them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isa.diagnostics import NamedPlace, fail


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Where to write a file that becomes `path` at the end, and vanishes on an error; a device gets what was written.

    Raises `CimError` E0003 if it cannot be written.
    """
    try:
        is_device = path.exists() and not path.is_file() and not path.is_dir()
        with tempfile.TemporaryDirectory(prefix=".cim-", dir=None if is_device else path.parent) as folder:
            part = Path(folder) / path.name
            yield part
            if is_device:
                with part.open("rb") as written, path.open("wb") as device:
                    shutil.copyfileobj(written, device)
            else:
                os.replace(part, path)
    except OSError as error:
        message = f"cannot write it: {error.strerror or error}"
        hint = "write to a folder that exists and that you own"
        raise fail("E0003", message, NamedPlace(str(path)), hint) from None


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that becomes `path` at the end, and vanishes on an error. Raises `CimError` E0003."""
    with whole_path(path) as part, part.open("w", encoding="utf-8") as file:
        yield file


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there. Raises `CimError` E0003."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot make the folder: {error.strerror}"
        hint = "name a folder where you may make one"
        raise fail("E0003", message, NamedPlace(str(path)), hint) from None
