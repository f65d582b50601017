"""Programs with passes over a source, each broken in one instruction: the verifier refuses them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from compiler.ir.mapping import Arithmetic
from isa import instructions as t
from isa.instruction import Inst
from isa.operands import ZERO, Special
from isa.program import Program, Role
from isa.verifier import findings
from isa.verifier.appends import cached_arrays

from .building import Choices, program_of, tiny
from .cross_graphs import Cross, cross

SHAPES = {
    "t5": Cross(reach=12),
    "whole": Cross(encoder=1, heads=4),
    "telling": Cross(encoder=1),
}
NOTHING = t.Add(ZERO, ZERO, 0)
Code = tuple[Inst, ...]


def _dropped(code: Code, cached: set[int]) -> Iterator[tuple[str, Code]]:
    """The code without one of its messages, selections of a source segment, or appends to these arrays."""
    for at, inst in enumerate(code):
        appends = isinstance(inst, t.Wrow) and inst.a.index in cached
        if appends or isinstance(inst, t.Send | t.Recv | t.Sseg):
            yield f"without {inst}", (*code[:at], NOTHING, *code[at + 1 :])


def _misread(code: Code) -> Iterator[tuple[str, Code]]:
    """The code with another fact than the one it needs."""
    others = {Special.SOURCE: (Special.END, Special.TOKENS), Special.POSITION: (Special.TOKENS,)}
    for at, inst in enumerate(code):
        if isinstance(inst, t.Sys):
            for what in others.get(inst.what, ()):
                yield f"{inst} as {what.name}", (*code[:at], t.Sys(inst.rd, what), *code[at + 1 :])


def _over_tokens(code: Code) -> Code:
    """The code with its passes over the source made passes over the tokens."""
    return tuple(
        t.Seg(inst.index)
        if isinstance(inst, t.Sseg)
        else replace(inst, what=Special.SEGMENTS)
        if isinstance(inst, t.Sys) and inst.what is Special.SOURCES
        else inst
        for inst in code
    )


def _is_of_source(role: Role) -> bool:
    return any(isinstance(inst, t.Sseg) for inst in role.code)


def _with(program: Program, role: Role, code: Code) -> Program:
    roles = (replace(r, code=code) if r.name == role.name else r for r in program.roles)
    return replace(program, roles=tuple(roles))


@pytest.fixture(scope="module", params=SHAPES)
def program(request: pytest.FixtureRequest) -> Program:
    """A verified program."""
    choices = Choices(128, Arithmetic.INT8, source=96, sequences=2)
    graph = cross(SHAPES[request.param])
    if request.param == "telling":  # the host gets the encoder's rows
        encoded = next(n.output.name for n in graph.nodes if "encoded.gain" in n.inputs)
        graph = replace(graph, outputs=(*graph.outputs, encoded))
    made = program_of(graph, tiny(), choices)
    assert findings(made) == ()
    return made


def test_no_mutant_is_accepted(program: Program) -> None:
    tried = 0
    for role in filter(_is_of_source, program.roles):
        cached = {array for name, array in cached_arrays(program) if name == role.name}
        for what, code in (
            *_dropped(role.code, cached),
            *_misread(role.code),
            ("tokens", _over_tokens(role.code)),
        ):
            tried += 1
            assert findings(_with(program, role, code)), f"{role.name}: {what}"
    assert tried >= 10


def test_a_source_is_no_sequence_of_tokens(program: Program) -> None:
    roles = tuple(replace(role, code=_over_tokens(role.code)) for role in program.roles)
    assert {"E0404", "E0405"} <= {finding.code for finding in findings(replace(program, roles=roles))}
    streams = tuple(replace(stream, source=False) for stream in program.streams)
    assert "E0405" in {finding.code for finding in findings(replace(program, streams=streams))}
