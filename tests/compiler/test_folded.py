"""Streamed weights: folds, values, chunkings, batches, overlap, bandwidth, refusals."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.explain import Note
from compiler.ir.mapping import Arithmetic, Mapping
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.mapping_verify import verify_mapping
from compiler.mapping.cutting import cut
from compiler.mapping.folding import fold
from compiler.mapping.mapper import MapOptions
from compiler.mapping.policies import KvChoice
from compiler.mapping.problem import Problem
from compiler.mapping.sections import Section
from compiler.mapping.settle import settle
from isa.diagnostics import CimError
from isa.hardware import Hardware
from isa.instruction import Unit
from isa.instructions import Li, Load, Mvm, Wrowc
from isa.interface import KvPolicy
from isa.operands import Reg
from isa.program import ArrayKind, Limits, Program, segments_of
from isa.verifier import findings
from runtime.machine import Machine
from runtime.timing import Simulator

from .building import Choices, mapping_of, program_of, reference, run, tiny, with_quantity
from .graphs import Shape, decoder

DEEP = Shape(layers=3)
SHAPES = (
    DEEP,
    Shape(layers=1),
    Shape(layers=2, bias=True),
    Shape(layers=2, head_norm=True, softcap=20.0),
    Shape(layers=3, window=24),
    Shape(layers=2, kv_heads=1, inner=100),
)
SHORT = Choices(context=64, stream=True)
SLOW = with_quantity(tiny(4), "dram", "bandwidth", 0.25)
IDS = np.arange(7, 47) % 96


def choices(**changes: object) -> Choices:
    """A short context, with streamed weights unless said otherwise."""
    return replace(SHORT, **changes)  # type: ignore[arg-type]


@cache
def streamed(shape: Shape = DEEP, chosen: Choices = SHORT) -> Program:
    return program_of(decoder(shape), tiny(4), chosen)


def logits(program: Program, ids: NDArray[np.int64] = IDS, sequence: int = 0) -> NDArray[np.float32]:
    """Logits of all tokens, as many segments a step as the program takes."""
    machine, limits = Machine(program), program.limits
    at_once = limits.chunk * limits.segments
    parts = [
        run(machine, ids[at : at + at_once], position=at, sequence=sequence)
        for at in range(0, len(ids), at_once)
    ]
    return np.concatenate(parts)


def test_the_layers_of_a_decoder_are_found() -> None:
    graph = decoder(DEEP)
    found = fold(graph, cut(graph))
    assert found is not None
    assert (found.count, len(found.body), len(found.before), len(found.after)) == (3, 6, 1, 2)
    assert [isinstance(items[0].work, Section) for items in found.body] == [False, True, False] * 2
    assert len(found.carry) == 4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_those_of_resident_weights(shape: Shape) -> None:
    chosen = choices(arithmetic=Arithmetic.FLOAT32)
    resident = program_of(decoder(shape), tiny(8), replace(chosen, stream=False))
    expected, found = logits(resident), logits(streamed(shape, chosen))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_an_output_layer_of_more_rounds_than_ports() -> None:
    graph, ideal = decoder(Shape(vocabulary=9000)), choices(arithmetic=Arithmetic.FLOAT32)
    program = program_of(graph, with_quantity(tiny(4), "tile", "ports", 24), ideal)
    (stream,) = (s for s in program.streams if s.name == "logits")
    senders = {program.channels[part.channel].sources[0].tile for part in stream.parts}
    assert len(stream.parts) > 24 * len(senders)
    expected = logits(program_of(graph, tiny(12), replace(ideal, stream=False)))
    assert np.abs(logits(program) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert Simulator(program).step(segments_of(20, 0, program.limits.chunk, last_only=False)).cycles > 0


def test_integers_agree_within_their_rounding() -> None:
    resident = program_of(decoder(DEEP), tiny(8), choices(stream=False))
    exact = reference(decoder(DEEP), IDS)
    for program in (resident, streamed()):
        assert np.sqrt(np.mean((logits(program) - exact) ** 2)) <= 0.03 * np.std(exact)


@pytest.mark.parametrize("chunk", [1, 4])
def test_how_a_sequence_is_cut_changes_no_bit(chunk: int) -> None:
    np.testing.assert_array_equal(logits(streamed(DEEP, choices(chunk=chunk))), logits(streamed()))


def test_token_by_token_changes_no_bit() -> None:
    machine = Machine(streamed())
    found = [run(machine, IDS[at : at + 1], position=at) for at in range(len(IDS))]
    np.testing.assert_array_equal(np.concatenate(found), logits(streamed()))


def test_sequences_of_a_batch_share_a_pass_over_the_weights() -> None:
    program = streamed(DEEP, choices(sequences=2))
    chunk = program.limits.chunk
    one = segments_of(9, 0, chunk, last_only=False)
    two = segments_of(5, 0, chunk, last_only=False, sequence=1)
    ids = np.concatenate([IDS[:9], IDS[20:25]]).astype(np.int32)
    both = Machine(program).step((*one, *two), {"input_ids": ids[:, None]})["logits"]
    np.testing.assert_array_equal(both[:9], logits(streamed(), IDS[:9]))
    np.testing.assert_array_equal(both[9:], logits(streamed(), IDS[20:25]))
    simulator = Simulator(program_of(decoder(DEEP), SLOW, choices(sequences=2)))
    cost = [simulator.step(step).cycles for step in (one, two, (*one, *two))]
    assert cost[2] < 0.6 * (cost[0] + cost[1])


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_rows_in_memory_change_no_bit(arithmetic: Arithmetic) -> None:
    chosen = choices(arithmetic=arithmetic)
    in_memory = replace(chosen, kv=KvChoice(KvPolicy.STREAMED))
    program = streamed(DEEP, in_memory)
    assert all(cache.policy is KvPolicy.STREAMED for cache in program.caches)
    np.testing.assert_array_equal(logits(program), logits(streamed(DEEP, chosen)))


def test_a_model_too_large_for_the_arrays_is_streamed() -> None:
    graph = decoder(Shape(layers=2, width=128, inner=512))
    few = with_quantity(tiny(4), "tile", "macros", 16)
    notes: list[Note] = []
    options = MapOptions(block=64)
    settle(Problem(graph, few, Limits(64, chunk=1), Arithmetic.INT8), options, notes)
    assert any("weights are streamed" in note.text and "cells" in note.text for note in notes)
    assert any("rounds a step" in note.text for note in notes)


def test_the_mapping_reads_back_equal() -> None:
    mapping: Mapping = mapping_of(decoder(DEEP), tiny(4), choices())
    verify_mapping(mapping)
    again = parse_mapping(print_mapping(mapping))
    assert again == mapping
    assert any(template.repeats and template.once for template in again.templates)


# ------------------------------------------------------------------------------------------------------- time


class Timeline:
    """When units work, by tile and instruction."""

    def __init__(self, program: Program) -> None:
        self.roles = {role.name: role for role in program.roles}
        self.ops: list[tuple[int, type, int, int]] = []

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        """Note an operation."""
        self.ops.append((tile, type(self.roles[role].code[index]), start, end))

    def __getattr__(self, name: str) -> object:
        return lambda *args, **kwargs: None

    def intervals(self, kind: type) -> dict[int, list[tuple[int, int]]]:
        """When operations of a kind run, by tile."""
        found: dict[int, list[tuple[int, int]]] = {}
        for tile, op, start, end in self.ops:
            if op is kind:
                found.setdefault(tile, []).append((start, end))
        return found


def test_pieces_are_loaded_while_others_are_multiplied() -> None:
    program = program_of(decoder(DEEP), SLOW, choices())
    line = Timeline(program)
    Simulator(program).step(segments_of(32, 0, program.limits.chunk), line)  # type: ignore[arg-type]
    loads, works = line.intervals(Load), line.intervals(Mvm)
    streaming = [n for n, t in enumerate(program.tiles) if "pieces" in program.role(t.role).params]
    assert streaming
    for tile in streaming:
        during = [
            (start, end)
            for start, end in works[tile]
            if any(begin < end and start < stop for begin, stop in loads[tile])
        ]
        assert during, f"tile {tile} multiplies only when nothing is loaded"


def _cycles(hardware: Hardware, tokens: int) -> int:
    program = program_of(decoder(DEEP), hardware, choices())
    limits = program.limits
    segments = segments_of(tokens, 0, limits.chunk)
    steps = [segments[at : at + limits.segments] for at in range(0, len(segments), limits.segments)]
    return sum(Simulator(program).step(step).cycles for step in steps)


def test_more_bandwidth_is_never_slower() -> None:
    found = [_cycles(with_quantity(tiny(4), "dram", "bandwidth", rate), 20) for rate in (0.25, 1, 4, 16)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[-1]


def test_a_step_takes_little_more_than_its_weights_take_to_load() -> None:
    program = program_of(decoder(DEEP), SLOW, choices())
    held = {spec.name for role in program.roles for spec in role.arrays if spec.kind is ArrayKind.STREAM}
    assert held
    weights = sum(int(np.prod(t.shape)) for t in program.tensors if t.name.startswith("pieces."))
    rate = SLOW.bytes_per_cycle(SLOW.dram.bandwidth) * SLOW.dram.channels.value
    for tokens in (1, 16):
        cycles = Simulator(program).step(segments_of(tokens, 0, program.limits.chunk)).cycles
        assert weights / rate <= cycles <= 1.5 * weights / rate


# --------------------------------------------------------------------------------------------------- refusals


def test_a_memory_too_small_is_refused() -> None:
    small = with_quantity(tiny(4), "dram", "capacity", 1e-4)
    with pytest.raises(CimError) as error:
        mapping_of(decoder(DEEP), small, choices())
    assert error.value.diagnostics[0].code == "E0309"
    assert "DRAM" in str(error.value)


def test_why_weights_are_not_streamed_is_said() -> None:
    with pytest.raises(CimError, match=r"E0303.*cannot be streamed: attention is not causal"):
        mapping_of(decoder(Shape(causal=False)), tiny(4), choices())
    with pytest.raises(CimError) as error:
        mapping_of(decoder(Shape(causal=False, layers=4)), tiny(2), choices(stream=None))
    text = error.value.diagnostics[0].render()
    assert "attention is not causal" in text


def test_the_verifier_counts_what_a_channel_brings_the_host() -> None:
    program = streamed(Shape(vocabulary=2500))
    (stream,) = (s for s in program.streams if s.name == "logits")
    first = stream.parts[0]
    rounds = sum(part.channel == first.channel for part in stream.parts)
    assert rounds > 2
    left = tuple(replace(part, column=part.column - first.columns) for part in stream.parts[1:])
    fewer = replace(stream, columns=stream.columns - first.columns, parts=left)
    others = tuple(s for s in program.streams if s is not stream)
    text = "\n".join(d.render() for d in findings(replace(program, streams=(*others, fewer))))
    assert f"{rounds - 1} times" in text


def test_the_verifier_wants_rows_written_before_they_are_used() -> None:
    program = streamed()

    def without(role: object) -> object:
        code = tuple(Li(Reg(20), 0) if isinstance(i, Wrowc) else i for i in role.code)  # type: ignore[attr-defined]
        return replace(role, code=code)  # type: ignore[type-var]

    assert not findings(program)
    broken = replace(program, roles=tuple(without(role) for role in program.roles))  # type: ignore[misc]
    found = findings(broken)
    assert {d.code for d in found} == {"E0404"}
    assert any("rows of streamed array" in d.message for d in found)
