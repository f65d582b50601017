"""Getting at a program: from a `.cim` file, or by compiling a model on the way."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from isa.diagnostics import NamedPlace, fail

from .building import build
from .console import Console
from .files import STANDARD, as_file, existing
from .options import compile_defaults, flag

if TYPE_CHECKING:
    from isa.program import Program

PROGRAM_SUFFIX = ".cim"


def load_program(name: str, console: Console) -> Program:
    """The program in a file, or on standard input for `-`."""
    from isa.binary import read_program

    with as_file(name, PROGRAM_SUFFIX) as path, console.activity(f"reading {name}"):
        # A temporary file goes away when this ends, so its data must not be left in it.
        return read_program(path, map_data=name != STANDARD)


def program_or_model(
    name: str, options: argparse.Namespace, console: Console, batch: int | None = None
) -> Program:
    """The program in a `.cim` file, or the one that an ONNX file compiles to with the options given.

    `batch` is the number of sequences for which a model is compiled if the options do not say it. Raises `CimError`
    E0601 for options of the compiler beside a program.
    """
    if name != STANDARD and Path(name).suffix != PROGRAM_SUFFIX:
        options.batch = options.batch or batch
        return build(existing(name), options, console).require_program()
    for word, default in compile_defaults().items():
        if getattr(options, word) not in (default, None):
            hint = "leave it out, or give the model file"
            raise fail("E0601", f"{name} is compiled already", NamedPlace(flag(word)), hint)
    return load_program(name, console)
