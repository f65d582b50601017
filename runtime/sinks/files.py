"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isa.diagnostics import NamedPlace, fail


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that becomes `path` at the end, and vanishes on an error.

    Raises `CimError` E0003 if it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".cim-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            with part.open("w", encoding="utf-8") as file:
                yield file
            os.replace(part, path)
    except OSError as error:
        message = f"cannot write it: {error.strerror or error}"
        raise fail("E0003", message, NamedPlace(str(path)), "name a file in a folder that exists") from None
