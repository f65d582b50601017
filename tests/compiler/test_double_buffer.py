"""Two places for the values of a segment: where they lie, what fits, and that no bit changes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from compiler.backend.build import build_program
from compiler.backend.emitter import PLACE
from compiler.backend.layout import BufferPlan, further, needs, plan_buffer
from compiler.ir.mapping import Arithmetic, Mapping, Template
from compiler.ir.operations import Receive, Send
from isa.hardware import Hardware
from isa.operands import Addr
from isa.program import Origin, Program
from isa.verifier import verify
from runtime.machine import Machine

from .building import Choices, mapping_of, run, tiny, with_quantity
from .graphs import Shape, decoder

IDS = np.random.default_rng(2).integers(0, 64, 100)


def widest(mapping: Mapping) -> Template:
    return max(mapping.templates, key=lambda t: single(mapping, t).total)


def single(mapping: Mapping, template: Template) -> BufferPlan:
    return plan_buffer(template, mapping.arithmetic, mapping.limits, tiny(), double=False)


def with_buffer(kib: int) -> Hardware:
    return with_quantity(tiny(), "tile", "buffer", kib)


@pytest.mark.parametrize("arithmetic", Arithmetic)
@pytest.mark.parametrize("shape", [Shape(), Shape(causal=False, bias=True, kv_heads=4)])
def test_two_places_change_no_bit(shape: Shape, arithmetic: Arithmetic) -> None:
    graph = decoder(shape)
    made = mapping_of(graph, tiny(), Choices(128, arithmetic, chunk=4))
    programs = [
        build_program(made, tiny(), Origin(), shapes_only=False, double=double) for double in (False, True)
    ]
    assert [behind_place(program) for program in programs] == [False, True]
    verify(programs[1])
    one, two = (run(Machine(program), IDS) for program in programs)
    np.testing.assert_array_equal(one, two)


def behind_place(program: Program) -> bool:
    return any(
        isinstance(at, Addr) and at.base == PLACE
        for role in program.roles
        for inst in role.code
        for at in (getattr(inst, field.name) for field in inst.layout)
    )


def test_places_do_not_overlap() -> None:
    made = mapping_of(decoder(), tiny(), Choices(chunk=4))
    for template in made.templates:
        plan = plan_buffer(template, made.arithmetic, made.limits, tiny())
        ranges = [(c.offset, c.offset + c.bytes) for c in plan.constants]
        for region in plan.regions:
            if region.name not in map(further, range(plan.places)):
                ranges.append((region.offset, region.offset + region.bytes))
            for place in range(1, plan.places if region.name in plan.turned else 0):
                start = region.offset + place * plan.distance
                ranges.append((start, start + region.bytes))
        ranges.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
        assert ranges[-1][1] <= plan.total <= tiny().buffer_bytes


def test_what_has_two_places_depends_on_the_room() -> None:
    made = mapping_of(decoder(), tiny(), Choices(chunk=16))
    template = widest(made)
    received = {b.op.out for b in template.blocks if isinstance(b.op, Receive)}
    sent = {b.op.value for b in template.blocks if isinstance(b.op, Send)}
    values = {need.name for need in needs(template, made.arithmetic, made.limits)}
    found = []
    for kib in range(1, 128):
        plan = plan_buffer(template, made.arithmetic, made.limits, with_buffer(kib))
        names = {name.removesuffix(".scale") for name in plan.turned}
        assert plan.total <= kib * 1024 or not names
        found.append(names)
    every = {name.removesuffix(".scale") for name in values}
    assert found[0] == set() and found[-1] == every
    assert all(names in (set(), every & received, every & (received | sent), every) for names in found)
    assert len({frozenset(names) for names in found}) == 4


def test_a_program_for_one_segment_has_one_place() -> None:
    made = mapping_of(decoder(), tiny(), Choices(chunk=4))
    one = replace(made, limits=replace(made.limits, segments=1))
    assert behind_place(build_program(made, tiny(), Origin(), shapes_only=True))
    assert not behind_place(build_program(one, tiny(), Origin(), shapes_only=True))


def test_little_room_changes_no_bit() -> None:
    graph, target = decoder(), with_buffer(12)
    made = mapping_of(graph, target, Choices(128, chunk=8))
    programs = [
        build_program(made, target, Origin(), shapes_only=False, double=double) for double in (False, True)
    ]
    verify(programs[1])
    np.testing.assert_array_equal(*(run(Machine(program), IDS) for program in programs))
