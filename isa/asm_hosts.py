"""Host partitions in assembly: `.host`, and behind it `.reads`, `.makes`, `.runs`, `.positions`; `.result`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .asm_lines import LineError, Statement
from .asm_roles import member_of, name_of
from .asm_text import word
from .program import HostPart, Moment, Program

if TYPE_CHECKING:
    from lark import Token


class Hosts:
    """The partitions read so far. `know_tensor` complains about a tensor that is not declared."""

    def __init__(self, know_tensor: Callable[[str, Token], object]) -> None:
        self._know_tensor = know_tensor
        self.parts: list[HostPart] = []
        self.results: list[str] = []

    def values(self) -> Iterator[str]:
        """The names of all inputs and outputs of the partitions."""
        for part in self.parts:
            yield from (*part.inputs, *part.outputs)

    def take(self, s: Statement) -> None:
        """One of the lines."""
        names = tuple(name_of(token) for token in s.all())
        if s.rule == "result":
            self.results += names
        elif s.rule == "host":
            name, _, model, definition = names
            self._know_tensor(model, s.token(2))
            moment = member_of(Moment, s.token(1), "a moment")
            self.parts.append(HostPart(name, moment, (), (), model, definition))
        elif not self.parts:
            raise LineError("E0101", f".{s.rule} stands behind a .host line", s.token(0))
        else:
            last = self.parts[-1]
            match s.rule:
                case "reads":
                    self.parts[-1] = replace(last, inputs=(*last.inputs, *names))
                case "positions":
                    self.parts[-1] = replace(last, positions=names[0])
                case "makes":
                    self.parts[-1] = replace(last, outputs=(*last.outputs, *names))
                case _:
                    self.parts[-1] = replace(last, nodes=(*last.nodes, *names))


def host_lines(program: Program) -> Iterator[str]:
    """The lines of the partitions of a program."""
    for part in program.hosts:
        model = f"{word(part.model)} {word(part.definition)}"
        yield f".host {word(part.name)} {part.moment.value} {model}"
        for directive, names in ((".reads", part.inputs), (".makes", part.outputs), (".runs", part.nodes)):
            if names:
                yield " ".join((directive, *map(word, names)))
        if part.positions:
            yield f".positions {word(part.positions)}"
    if program.results:
        yield " ".join((".result", *map(word, program.results)))
