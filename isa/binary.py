"""Program files (`.cim`): one safetensors file with the program in its header and texts and weights as tensors.

    metadata["cim"]     JSON: format version, digest of the instruction table, target, limits, origin, roles
                        without their code, tiles, channels, barriers, tensor declarations, memory, streams, host
                        partitions, KV caches, the model's inputs and outputs, its work
    text/<role>         uint8 [instructions, 16]: the role's instruction words
    data/<tensor>       a tensor's contents; none of them in a shapes-only program

Any safetensors reader opens the file. Here the data is mapped, not read: a tensor costs memory when it is used.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open

from .codec import Codec, CodecError, Json, Strings
from .diagnostics import CimError, Diagnostic, InstructionPlace, NamedPlace, fail
from .digest import isa_hash
from .hardware import hardware_from_dict
from .instruction import INSTRUCTION_BYTES, Inst, decode
from .interface import Interface, KvCache
from .operands import OperandError
from .program import (
    FORMAT_VERSION,
    BarrierGroup,
    Channel,
    HostPart,
    Limits,
    MemoryRegion,
    Origin,
    Program,
    Replica,
    Role,
    Stream,
    TensorInfo,
    Tile,
)
from .workload import Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_NAMES = {"int8": "I8", "int32": "I32", "float16": "F16", "float32": "F32", "uint8": "U8"}
_AGAIN = "compile or assemble the program again"
_MOST = 20  # undecodable words reported in one go

# What the header holds in packed form, in this order; strings are numbers of the header's table.
_SECTIONS: dict[str, Any] = {
    "limits": Limits,
    "origin": Origin,
    "roles": tuple[Role, ...],
    "tiles": tuple[Tile, ...],
    "channels": tuple[Channel, ...],
    "barriers": tuple[BarrierGroup, ...],
    "tensors": tuple[TensorInfo, ...],
    "memory": tuple[MemoryRegion, ...],
    "streams": tuple[Stream, ...],
    "hosts": tuple[HostPart, ...],
    "results": tuple[str, ...],
    "caches": tuple[KvCache, ...],
    "interface": Interface,
    "workload": Workload,
    "replicas": tuple[Replica, ...],
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor of the file: its name there, NumPy type, shape, and whose content it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: Role | None = None
    tensor: str = ""

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def write_program(program: Program, path: Path) -> None:
    """Write the program to a temporary file beside `path`, then put it there in one step.

    Tensors are written one after another, each fetched from `program.data` once. Raises `CimError` E0003 if the file
    cannot be written and E0410 if a tensor's data is not what is declared.
    """
    entries = _entries(program)
    header = _file_header(program, entries)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(header)))
            file.write(header)
            for entry in entries:
                file.write(_content(program, entry).data)
        os.replace(temporary, path)
    except OSError as error:
        raise fail("E0003", f"cannot write {path}: {error.strerror}", NamedPlace(str(path))) from None
    finally:
        temporary.unlink(missing_ok=True)


def _entries(program: Program) -> list[_Entry]:
    """What the file holds, wide types first so that each tensor lies at a multiple of its element's size."""
    entries = [
        _Entry(f"text/{r.name}", "uint8", (len(r.code), INSTRUCTION_BYTES), role=r) for r in program.roles
    ]
    if program.data is not None:
        entries += [_Entry(f"data/{t.name}", t.dtype.value, t.shape, tensor=t.name) for t in program.tensors]
    return sorted(entries, key=lambda e: -np.dtype(e.dtype).itemsize)


def _file_header(program: Program, entries: list[_Entry]) -> bytes:
    header: dict[str, Any] = {
        "__metadata__": {"cim": json.dumps(_program_header(program), separators=(",", ":"))}
    }
    at = 0
    for entry in entries:
        span = [at, at + entry.bytes]
        header[entry.name] = {"dtype": _NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": span}
        at = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _program_header(program: Program) -> dict[str, Any]:
    strings = Strings()
    packed: dict[str, Json] = {}
    for name, hint in _SECTIONS.items():
        value = getattr(program, name)
        if name == "roles":
            value = tuple(replace(role, code=()) for role in value)
        packed[name] = Codec(hint, strings, absent=(Inst,)).pack(value)
    return {
        "format": FORMAT_VERSION,
        "isa": isa_hash(),
        "target_hash": program.target.hash,
        "target": program.target.model_dump(mode="json"),
        "has_data": program.data is not None,
        "strings": strings.texts,
        **packed,
    }


def _content(program: Program, entry: _Entry) -> NDArray[np.uint8]:
    """The bytes of an entry; a view of the tensor where its layout allows."""
    if entry.role is not None:
        return np.frombuffer(b"".join(inst.encode() for inst in entry.role.code), np.uint8)
    assert program.data is not None
    array = np.asarray(program.data[entry.tensor])
    if array.dtype != np.dtype(entry.dtype) or array.shape != entry.shape:
        found, declared = f"{array.dtype}{list(array.shape)}", f"{entry.dtype}{list(entry.shape)}"
        raise fail("E0410", f"the data of tensor {entry.tensor!r} is {found}, declared is {declared}")
    little = np.ascontiguousarray(array, dtype=np.dtype(entry.dtype).newbyteorder("<"))
    return little.reshape(-1).view(np.uint8)


def read_program(path: Path, *, map_data: bool = True) -> Program:
    """The program in a file; its tensors are read-only views of the mapped file, or copies without `map_data`.

    Raises `CimError`: E0001 (no such file), E0110 (not a program, damaged), E0111 (other instruction table),
    E0112 (other format), E0113 (words that are no instructions), E0502 (target description).
    """
    place = NamedPlace(str(path))
    metadata = _metadata(path, place)
    header = _checked(metadata, place)
    spans, data = _map(path)
    target = hardware_from_dict(header["target"], f"{path}: target")
    try:
        strings = Strings([str(text) for text in header["strings"]])
        parts = {
            name: Codec(hint, strings, absent=(Inst,)).unpack(header[name])
            for name, hint in _SECTIONS.items()
        }
        texts = {role.name: _text(spans, data, role.name) for role in parts["roles"]}
        tensors = _tensors(parts["tensors"], spans, data, map_data) if header["has_data"] else None
    except (CodecError, KeyError, TypeError, ValueError) as error:
        raise _damaged(place, f"its header does not fit together: {error}") from None
    parts["roles"] = _decoded(parts["roles"], texts, str(path))
    return Program(target=target, data=tensors, **parts)


def _damaged(place: NamedPlace, why: str) -> CimError:
    return fail("E0110", f"this is not a whole cim program: {why}", place, f"{_AGAIN}; or give a .cim file")


def _metadata(path: Path, place: NamedPlace) -> str:
    """The text of the header's entry `cim`. The library checks that the file is whole."""
    if not path.is_file():
        raise fail("E0001", f"there is no file {path}", place, "check the name and the folder")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(place, str(error)) from None
    if "cim" not in metadata:
        raise _damaged(place, "it is a safetensors file, but not one that holds a program")
    return str(metadata["cim"])


def _checked(metadata: str, place: NamedPlace) -> dict[str, Any]:
    """The header, if it is of this format and made with this instruction table."""
    try:
        header = json.loads(metadata)
    except json.JSONDecodeError as error:
        raise _damaged(place, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict) or "format" not in header:
        raise _damaged(place, "its header has no format version")
    if header["format"] != FORMAT_VERSION:
        message = f"the file has format {header['format']}, this tool reads format {FORMAT_VERSION}"
        raise fail("E0112", message, place, f"{_AGAIN}, or use the tool that wrote it")
    if header.get("isa") != isa_hash():
        message = f"the program uses instruction table {header.get('isa')}, this tool has {isa_hash()}"
        raise fail("E0111", message, place, f"{_AGAIN}, or use the tool that wrote it")
    if not isinstance(header.get("target"), dict):
        raise _damaged(place, "its header has no target")
    return header


_Spans = dict[str, tuple[str, tuple[int, ...], int, int]]  # name -> safetensors type, shape, first byte, end


def _map(path: Path) -> tuple[_Spans, mmap.mmap]:
    """Where each tensor of a checked file lies, and the file in memory."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    spans: _Spans = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, end = entry["data_offsets"]
            spans[name] = entry["dtype"], tuple(entry["shape"]), 8 + size + first, 8 + size + end
    return spans, data


def _view(spans: _Spans, data: mmap.mmap, name: str, dtype: str = "uint8") -> NDArray[Any]:
    """A read-only view of a tensor. Raises `CodecError` if it is missing or of another type."""
    if name not in spans or spans[name][0] != _NAMES[dtype]:
        raise CodecError(f"there is no {dtype} tensor {name!r}")
    _, shape, first, end = spans[name]
    kind = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(data, kind, (end - first) // kind.itemsize, first).reshape(shape)


def _text(spans: _Spans, data: mmap.mmap, role: str) -> NDArray[Any]:
    text = _view(spans, data, f"text/{role}")
    if text.shape[1:] != (INSTRUCTION_BYTES,):
        raise CodecError(f"the text of role {role!r} has shape {list(text.shape)}")
    return text


def _tensors(
    infos: tuple[TensorInfo, ...], spans: _Spans, data: mmap.mmap, map_data: bool
) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    for info in infos:
        view = _view(spans, data, f"data/{info.name}", info.dtype.value)
        if view.shape != info.shape:
            raise CodecError(f"tensor {info.name!r} is {list(view.shape)}, declared {list(info.shape)}")
        tensors[info.name] = view if map_data else view.copy()
    return tensors


def _decoded(roles: tuple[Role, ...], texts: dict[str, NDArray[Any]], path: str) -> tuple[Role, ...]:
    """The roles with their code. Raises `CimError` E0113 for words that are no instructions, with their places."""
    found: list[Diagnostic] = []
    decoded = tuple(
        replace(role, code=tuple(_words(texts[role.name], role.name, path, found))) for role in roles
    )
    if found:
        shown, more = found[:_MOST], len(found) - _MOST
        if more > 0:
            shown[-1] = replace(shown[-1], notes=(f"{more} more words cannot be decoded",))
        raise CimError(shown)
    return decoded


def _words(text: NDArray[Any], role: str, path: str, found: list[Diagnostic]) -> Iterator[Inst]:
    words = text.tobytes()
    for index in range(len(words) // INSTRUCTION_BYTES):
        word = words[index * INSTRUCTION_BYTES : (index + 1) * INSTRUCTION_BYTES]
        try:
            yield decode(word)
        except OperandError as error:
            place = InstructionPlace(path, role, index, word.hex())
            help_text = f"expected {error.expected}; the file is damaged: {_AGAIN}"
            found.append(Diagnostic("E0113", f"the word is no instruction: {error}", place, help_text))
