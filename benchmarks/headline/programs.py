"""Programs of cells: compiled once from shapes alone, kept in a folder, read again from there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

import compiler
import isa
import models
from benchmarks.headline.cases import Cell
from benchmarks.headline.systems import room_of, sized
from benchmarks.mapping.measure import streams_weights
from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.binary import read_program, write_program
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.program import Program
from models.configs import CONFIGS
from models.make import make

TOO_SMALL = ("E0302", "E0303", "E0304", "E0309")
"""Refusals that more chips help."""


class NoRoomError(Exception):
    """A cell that the stated system has no place for; the text says why, with numbers."""


@cache
def compiler_hash() -> str:
    """Of the sources of what makes programs: those that another version made are not taken for this one's."""
    digest = hashlib.sha256()
    for package in (compiler, isa, models):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def model_file(cell: Cell, folder: Path) -> Path:
    """The model's shapes in float16. Where the context goes beyond its learned positions, the table is longer."""
    path = folder / f"{cell.model}-{max(cell.room, CONFIGS[cell.model].max_positions)}.onnx"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as made:
            part = Path(made) / path.name
            make(cell.model, part, shapes_only=True, positions=cell.room, half=True)
            os.replace(part, path)
    return path


def program_of(cell: Cell, place: str, stated: Hardware, folder: Path) -> Program:
    """The program of a cell on just enough chips, from the folder if it is there.

    Raises `NoRoomError` if the stated system cannot hold weights, keys and values in its arrays, `CimError` if it does
    not compile for another reason.
    """
    room = room_of(cell, place, stated)
    if not room.is_enough:
        raise NoRoomError(
            f"needs {room.needed / 2**30:.1f} GiB of cells, the stated system has {room.stated / 2**30:.1f}"
        )
    reason = ""
    for hardware in sized(cell, place, stated):
        path = folder / f"{cell.model}-{cell.room}x{cell.batch}-{place}-{hardware.hash}-{compiler_hash()}.cim"
        kept = _kept(path)
        if kept is not None:
            return kept
        try:
            program = _compiled(cell, place, hardware, folder)
        except CimError as error:
            if error.diagnostics[0].code not in TOO_SMALL:
                raise
            reason = error.diagnostics[0].message
            continue
        if not streams_weights(program):
            part = path.with_suffix(f".{os.getpid()}")
            write_program(program, part)
            os.replace(part, path)
            return program
        reason = "weights would be loaded in every step"
    raise NoRoomError(reason)


def _kept(path: Path) -> Program | None:
    """The program of a file, if it is there and of this version."""
    try:
        return read_program(path)
    except CimError:
        return None


def _compiled(cell: Cell, place: str, hardware: Hardware, folder: Path) -> Program:
    options = CompileOptions(
        max_context=cell.room, batch=cell.batch, kv="resident", place=place, shapes_only=True
    )
    return compile_model(model_file(cell, folder), options, hardware).require_program()
