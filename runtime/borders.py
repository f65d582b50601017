"""What a program takes and gives, by the names of the ONNX file: its interface, or what its streams say of it."""

from __future__ import annotations

from isa.instruction import DType
from isa.interface import Interface, ModelValue, Use
from isa.program import Direction, Program, Stream

from .within import is_inner

_NUMBERS = (DType.I32,)

CACHED = (Use.KEYS, Use.VALUES, Use.KEYS_VALUES)
"""The uses of inputs and outputs that are caches."""


def interface_of(program: Program) -> Interface:
    """The program's interface; of a program that was not made from a file, one value for each stream."""
    if program.interface.inputs or program.interface.outputs:
        return program.interface
    values = {d: tuple(_value(s) for s in streams_of(program, d)) for d in (Direction.IN, Direction.OUT)}
    return Interface(values[Direction.IN], values[Direction.OUT], program.interface.padding)


def _value(stream: Stream) -> ModelValue:
    use = Use.IDS if is_numbers(stream) else Use.SOURCE if stream.source else Use.ROWS
    return ModelValue(stream.name, use, stream.name)


def is_numbers(stream: Stream) -> bool:
    """Whether a stream carries a number a token, not a row."""
    return stream.dtype in _NUMBERS and stream.columns == 1


def streams_of(program: Program, direction: Direction) -> list[Stream]:
    """The streams that go one way, as the caller of a step sees them."""
    return [s for s in program.streams if s.direction is direction and not is_inner(program, s)]


def is_cross(program: Program, value: ModelValue) -> bool:
    """Whether a value is a cache of the source's keys and values."""
    return value.cache >= 0 and program.caches[value.cache].cross


def ids_of(program: Program) -> ModelValue | None:
    """The input that is the token ids, if the program reads any."""
    return next((v for v in interface_of(program).inputs if v.use is Use.IDS and v.stream), None)


def logits_of(program: Program) -> ModelValue | None:
    """The output that says what comes next: `logits`, else the first that is no cache and has rows of the tokens."""
    found = [v for v in interface_of(program).outputs if v.use not in (*CACHED, Use.SOURCE)]
    return next((v for v in found if v.name == "logits"), found[0] if found else None)
