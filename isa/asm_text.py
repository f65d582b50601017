"""How names, types, slices and endpoints are written in assembly, and the table of its directives.

The printer (`isa/asm_print.py`) writes with these functions and the assembler reads with them, so that each
notation is defined in one place. A name is written bare where it looks like one, and otherwise as a JSON
string, so any name round-trips.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .instruction import DType
from .operands import OperandError
from .program import HOST, Slice

_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./$-]*")
_BARE_VALUE = re.compile(r"[A-Za-z0-9_./$:+-]+")
_PAIR = re.compile(r'(?P<key>"(?:\\.|[^"\\])*"|[^"=]+)=(?P<value>.*)', re.DOTALL)
_RESERVED = frozenset({"host"})  # an endpoint of this name is the host's

DTYPES = {dtype.name.lower(): dtype for dtype in DType}


def word(name: str) -> str:
    """A name as it is written: bare, or as a JSON string."""
    return name if _BARE.fullmatch(name) and name not in _RESERVED else json.dumps(name)


def unword(text: str) -> str:
    """The name that `word` wrote. Raises `OperandError` if a quoted name has a bad escape."""
    if not text.startswith('"'):
        return str(text)  # not a subclass that knows its place
    try:
        return str(json.loads(text))
    except json.JSONDecodeError:
        raise OperandError(f"{text} has an escape that is not one of JSON", r"\n, \", \\ or \u1234") from None


def pair(key: str, value: str | int) -> str:
    """`key=value`."""
    text = str(value)
    return f"{word(key)}={text if _BARE_VALUE.fullmatch(text) else json.dumps(text)}"


def split_pair(text: str) -> tuple[str, str]:
    """The key and the value of `key=value`."""
    match = _PAIR.fullmatch(text)
    if match is None:
        raise OperandError(f"{text} is not a pair", "name=value")
    return unword(match["key"]), unword(match["value"])


def integer(text: str) -> int:
    """A whole number, decimal or hexadecimal. Raises `OperandError`."""
    try:
        return int(text, 16 if "0x" in text.lower() else 10)
    except ValueError:
        raise OperandError(f"{text} is not a whole number", "a whole number such as 12 or 0x0c") from None


def _integers(text: str) -> tuple[int, ...]:
    return tuple(integer(part.strip()) for part in text.split(",")) if text.strip() else ()


def type_text(dtype: DType, shape: tuple[int, ...]) -> str:
    """`f32[256,64]`."""
    return f"{dtype.name.lower()}[{','.join(map(str, shape))}]"


def split_type(text: str) -> tuple[DType, tuple[int, ...]]:
    """The element type and the shape of `f32[256,64]`."""
    name, _, inner = text.rstrip("]").partition("[")
    shape = _integers(inner)
    if min(shape, default=0) < 0:
        raise OperandError(f"{text} has a negative extent", "extents of at least 0")
    return dtype_of(name), shape


def dtype_of(name: str) -> DType:
    """The element type of this short name. Raises `OperandError`."""
    if name not in DTYPES:
        raise OperandError(f"there is no element type {name!r}", ", ".join(DTYPES))
    return DTYPES[name]


def slice_text(part: Slice) -> str:
    """`wq[0,256]`: the block of tensor wq that begins at element (0, 256)."""
    return f"{word(part.tensor)}[{','.join(map(str, part.start))}]"


def split_slice(text: str) -> Slice:
    """The block that `slice_text` wrote."""
    name, _, inner = text.removesuffix("]").rpartition("[")
    return Slice(unword(name), _integers(inner))


def span_text(name: str, first: int, count: int) -> str:
    """`logits[0:128]`: columns 0 to 127 travel on channel logits."""
    return f"{word(name)}[{first}:{first + count}]"


def split_span(text: str) -> tuple[str, int, int]:
    """Channel name, first column and number of columns of `logits[0:128]`."""
    name, _, inner = text.removesuffix("]").rpartition("[")
    first, _, stop = inner.partition(":")
    return unword(name), integer(first.strip()), integer(stop.strip()) - integer(first.strip())


def endpoint_text(tile: str | None, port: int) -> str:
    """`tile.p3`; without a tile, the host's."""
    if tile is None:
        return f"host.p{port}" if port else "host"
    return f"{word(tile)}.p{port}"


def split_endpoint(text: str) -> tuple[str | None, int]:
    """The tile name (None for the host) and port number that `endpoint_text` wrote."""
    name, dot, port = text.rpartition(".p")
    if not dot:
        return None, -1 - HOST
    return None if name == "host" else unword(name), integer(port)


def heads_text(tile: str, keys: int, values: int) -> str:
    """`tile.a0:a1`: keys in array 0 of the tile, values in array 1."""
    return f"{word(tile)}.a{keys}:a{values}"


def split_heads(text: str) -> tuple[str, int, int]:
    """The tile name and the numbers of both arrays that `heads_text` wrote."""
    rest, _, values = text.rpartition(":a")
    name, _, keys = rest.rpartition(".a")
    return unword(name), integer(keys), integer(values)


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A help text: the known name that is most like this one, or all of them if there are few."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    if not names:
        return f"no {what} is declared; declare it above its first use"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"known {what}s: {shown}"


def one_line(text: str) -> str:
    """The text of a comment: what would end the line or move the cursor is escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def numbered(count: int, letter: str, what: str) -> str:
    """`4 arrays (a0..a3)`"""
    some = {0: "", 1: f" ({letter}0)"}.get(count, f" ({letter}0..{letter}{count - 1})")
    return f"{count} {what}{'' if count == 1 else 's'}{some}"


@dataclass(frozen=True, slots=True)
class Directive:
    """A line that begins with a dot: its name, the section it belongs to, how it is written, what it says."""

    name: str
    section: str
    syntax: str
    summary: str


DIRECTIVES = (
    Directive(
        "target", "file", ".target NAME [hash=H]", "the hardware; a name, or a .toml file beside this one"
    ),
    Directive(
        "limits",
        "file",
        ".limits context=N chunk=N [segments=N] [sequences=N] [source=N] [pages=N page=N [ways=N]]",
        "what the program is made for",
    ),
    Directive(
        "origin", "file", ".origin [tool=T] [model=M] [hash=H]", "what made the program, from which model"
    ),
    Directive("option", "file", ".option NAME=VALUE", "an option it was compiled with"),
    Directive(
        "tensor", "file", ".tensor NAME f32[256,64] [= V V ...]", "a tensor; one value fills all of it"
    ),
    Directive("values", "file", ".values V V ...", "more values of the tensor above"),
    Directive("role", "role", ".role NAME", "begin a role; declarations and code follow, up to `.end`"),
    Directive("param", "role", ".param NAME ...", "names of the parameters that `ldp` reads, from 0 on"),
    Directive(
        "array",
        "role",
        ".array a0 NAME weight|kv i8[ROWS,COLS]",
        "a logical array; behind it `bits N`: of its integers, if fewer than 8; `block N`: rows that share column "
        "scales; `copies N`: so many of them",
    ),
    Directive("port", "role", ".port p0 NAME in|out|barrier", "an end of a channel, or a barrier"),
    Directive(
        "const", "role", ".const c0 NAME f32[192] at OFFSET", "bytes of the buffer loaded with the program"
    ),
    Directive("region", "role", ".region NAME at OFFSET bytes N", "a name for a range of the buffer"),
    Directive("site", "role", ".site NAME ...", "labels for `@NAME` behind instructions: what they work on"),
    Directive("end", "role", ".end", "end of the role"),
    Directive("tile", "tile", ".tile NAME ROLE at X,Y", "a tile that fills a role in; its lines follow"),
    Directive("params", "tile", ".params NAME=N ...", "values of the role's parameters"),
    Directive(
        "bind", "tile", ".bind a0|c0 TENSOR[I,J] [scales TENSOR[I]]", "what an array or a constant holds"
    ),
    Directive("nodes", "tile", ".nodes SITE=NODE ...", "the ONNX nodes behind the role's sites"),
    Directive("channel", "file", ".channel NAME from T.p0, ... to T.p1, ... [sum|max]", "an ordered channel"),
    Directive("barrier", "file", ".barrier NAME T.p0, ...", "tiles that wait for each other"),
    Directive(
        "memory",
        "file",
        ".memory NAME dram|gbuf chip N at OFFSET bytes N [tensor NAME]",
        "a range of a chip's memory, loaded with a tensor or reserved",
    ),
    Directive(
        "stream",
        "file",
        ".stream NAME in|out f32 columns N [source] [every] [via CHANNEL[FIRST:END] ...]",
        "what the host exchanges in every segment, or in every source segment (then all rows, out too); every: rows "
        "out of all tokens, wanted or not; without channels its parts within the step exchange it alone",
    ),
    Directive(
        "host",
        "file",
        ".host NAME before|after|within TENSOR DEFINITION",
        "a part of the model that the host runs: the tensor holds an ONNX model; its definition, without weights",
    ),
    Directive("reads", "file", ".reads NAME ...", "inputs of the part above"),
    Directive("makes", "file", ".makes NAME ...", "outputs of the part above"),
    Directive("runs", "file", ".runs NODE ...", "the ONNX nodes of the part above"),
    Directive(
        "positions", "file", ".positions NAME", "the input of the part above that is its rows' positions"
    ),
    Directive("result", "file", ".result NAME ...", "the model's outputs where the host makes some of them"),
    Directive(
        "cache",
        "file",
        ".cache LAYER [cross] [ways N blocks N rows N] [ring N] [memory N [hot N]] [copies N] [factors T T]",
        "a KV cache; cross: of the source's rows, not the tokens'; ways: heads lie in several arrays; ring: its rows; "
        "copies: how many arrays hold the same; factors: tensors with what keys and values were divided by",
    ),
    Directive("heads", "file", ".heads TILE.a0:a1 ...", "keys and values of the KV heads of the cache above"),
    Directive(
        "regions",
        "file",
        ".regions MEMORY ...",
        "the memory of the heads above, if the cache has rows in memory",
    ),
    Directive(
        "input",
        "file",
        ".input NAME USE [stream S] [cache N] [flat] [heads N]",
        "an input of the model's file: what it is for, the stream that carries it, the cache that it is",
    ),
    Directive(
        "output", "file", ".output NAME USE [stream S] [cache N] [flat] [heads N]", "an output of the same"
    ),
    Directive(
        "padding",
        "file",
        ".padding ID ...",
        "token ids that must not occur: the file counts positions without them",
    ),
    Directive(
        "replica",
        "file",
        ".replica at X,Y",
        "a further copy of all tiles and channels, its corner (0, 0) at X,Y; sequences are dealt among the copies",
    ),
    Directive(
        "work",
        "file",
        ".work WHAT NAME=VALUE ...",
        "a piece of the model's work on any machine, or a part of the piece above: `cim` computes lower bounds from it",
    ),
)
