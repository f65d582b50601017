"""Behind the last keys and values, only rows whose outputs are wanted are made; no value that is wanted changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.ir.mapping import Arithmetic
from compiler.mapping.policies import KvChoice
from compiler.optimisations import Optimisation
from isa.interface import KvPolicy
from isa.program import Program, Segment, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, program_of, run, tiny
from .graphs import Shape, decoder

TOKENS, CONTEXT = 20, 32
IDS = np.random.default_rng(1).integers(0, 64, TOKENS + 3)
WITHOUT = frozenset({Optimisation.WANTED_ROWS})
FORMS = {
    "one tile a head": Choices(CONTEXT),
    "heads over tiles": Choices(CONTEXT, ways=2, kv_block=8),
    "shared output projections": Choices(CONTEXT, ways=2, kv_block=8, together=2),
    "narrow hub tiles": Choices(CONTEXT, hub_width=16),
    "ideal arithmetic": Choices(CONTEXT, Arithmetic.FLOAT32),
    "keys and values in memory": Choices(CONTEXT, kv=KvChoice(KvPolicy.STREAMED)),
}
SHAPES = {
    "plain": Shape(),
    "biases": Shape(bias=True),
    "head norms": Shape(head_norm=True),
    "one layer": Shape(layers=1),
}


def prompt(program: Program) -> tuple[Segment, ...]:
    """Segments of a prompt of which the last token's outputs are wanted."""
    return segments_of(TOKENS, 0, program.limits.chunk)


def logits(program: Program) -> NDArray[np.float32]:
    """Logits of the last token of a prompt, and of the tokens behind it, one at a time."""
    machine = Machine(program)
    fed = {"input_ids": IDS[:TOKENS].astype(np.int32)[:, None]}
    rows = [machine.step(prompt(program), fed)["logits"]]
    rows += [run(machine, IDS[at : at + 1], at) for at in range(TOKENS, len(IDS))]
    return np.concatenate(rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", SHAPES)
def test_wanted_rows_are_equal_to_the_bit(model: str, form: str) -> None:
    graph, choices = decoder(SHAPES[model]), FORMS[form]
    programs = [program_of(graph, tiny(16), replace(choices, without=w)) for w in (frozenset(), WITHOUT)]
    verify(programs[0])
    assert programs[0].roles != programs[1].roles
    np.testing.assert_array_equal(*map(logits, programs))


def test_it_does_not_matter_which_rows_are_wanted() -> None:
    program = program_of(decoder(), tiny(14), Choices(CONTEXT))
    every = run(Machine(program), IDS[:TOKENS])
    np.testing.assert_array_equal(logits(program)[0], every[-1])


def test_a_prompt_is_faster() -> None:
    programs = [program_of(decoder(), tiny(14), Choices(CONTEXT, without=w)) for w in (frozenset(), WITHOUT)]
    wanted, every = (Simulator(program).step(prompt(program)) for program in programs)
    assert wanted.cycles < every.cycles
    assert sum(wanted.busy.values()) < sum(every.busy.values())


def test_all_rows_go_through_where_rows_see_later_ones() -> None:
    graph = decoder(Shape(causal=False))
    programs = [program_of(graph, tiny(14), Choices(CONTEXT, without=w)) for w in (frozenset(), WITHOUT)]
    assert programs[0].roles == programs[1].roles
