"""Say in the program what the inputs and outputs of the ONNX file are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from compiler.ir.border import Border
from compiler.ir.graph import Graph, Input, Role
from compiler.pipeline import Compilation, Pass
from isa.interface import Interface, ModelValue, Use
from isa.program import Direction, Program

IDS = "input_ids"
"""The stream of token ids, whatever the file calls its input."""

_USES: Mapping[Role, Use] = {
    Role.IDS: Use.IDS,
    Role.POSITIONS: Use.POSITIONS,
    Role.MASK: Use.MASK,
    Role.TOKEN_TYPES: Use.TOKEN_TYPES,
    Role.START: Use.START,
    Role.SWITCH: Use.SWITCH,
    Role.SOURCE: Use.SOURCE,
    Role.SOURCE_IDS: Use.SOURCE,
    Role.OTHER: Use.ROWS,
}

_OF_SOURCE: Mapping[Use, Use] = {Use.MASK: Use.SOURCE_MASK, Use.POSITIONS: Use.OTHER}
"""What uses become where an input belongs to another sequence."""


@dataclass(frozen=True)
class AttachInterface(Pass):
    """Let the program carry what each input and output of the ONNX file is, in the file's order."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.program`."""
        if c.border is None:
            return False
        program = c.require_program()
        interface = interface_of(c.border, c.require_graph(), program)
        c.program = replace(program, interface=replace(interface, padding=c.padding))
        return True


def interface_of(border: Border, graph: Graph, program: Program) -> Interface:
    """What the file's inputs and outputs are in `program`, which was made from `graph`."""
    taken = {s.name: s.source for s in program.streams if s.direction is Direction.IN}
    given = {s.name: s.source for s in program.streams if s.direction is Direction.OUT}
    pasts, presents = dict(_pasts(graph, program)), dict(_presents(graph, program))
    heads = dict(graph.by_head)
    inputs = tuple(pasts.get(i.name) or _input(i, border, taken) for i in border.inputs)
    outputs = tuple(presents.get(name) or _output(name, given, heads.get(name, 0)) for name in border.outputs)
    return Interface(inputs, outputs)


def _input(given: Input, border: Border, streams: Mapping[str, bool]) -> ModelValue:
    """`streams` says of each whether it carries rows of the source."""
    use = Use.OTHER if given.name in border.unused else _USES.get(given.role, Use.OTHER)
    if given.name in border.of_source:
        use = _OF_SOURCE.get(use, use)
    stream = IDS if use is Use.IDS and given.name not in streams else given.name
    fits = streams.get(stream) is (use is Use.SOURCE)
    return ModelValue(given.name, use, stream if fits else "", heads=given.heads)


def _output(name: str, streams: Mapping[str, bool], heads: int) -> ModelValue:
    """`streams` says of each whether it carries rows of the source."""
    use = Use.SOURCE if streams.get(name) else Use.ROWS
    return ModelValue(name, use, name if name in streams else "", heads=heads)


def _pasts(graph: Graph, program: Program) -> Iterator[tuple[str, ModelValue]]:
    for at, cache in enumerate(graph.caches):
        names = (cache.past_key, cache.past_value)
        yield from _halves(names, _number(program, at), cache.flat)


def _presents(graph: Graph, program: Program) -> Iterator[tuple[str, ModelValue]]:
    for at, cache in enumerate(graph.caches):
        names = (cache.present_key, cache.present_value)
        yield from _halves(names, _number(program, at), cache.flat)


def _halves(names: tuple[str, str], cache: int, flat: bool) -> Iterator[tuple[str, ModelValue]]:
    uses = (Use.KEYS_VALUES,) * 2 if names[0] == names[1] else (Use.KEYS, Use.VALUES)
    for name, use in zip(names, uses, strict=True):
        if name and cache < 0:
            yield name, ModelValue(name, Use.OTHER)
        elif name:
            yield name, ModelValue(name, use, cache=cache, flat=flat)


def _number(program: Program, layer: int) -> int:
    """Which cache of the program is number `layer` of the graph; -1 if none is."""
    return next((n for n, cache in enumerate(program.caches) if cache.layer == layer), -1)
