"""Host, chip, host: a vision transformer from pixels to classes, compiled, saved, run and costed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.asm_print import program_text
from isa.assembler import assemble
from isa.binary import read_program, write_program
from isa.diagnostics import CimError
from isa.events import Component, Event
from isa.hardware import load_target
from isa.program import Direction, Program, segments_of
from runtime.energy import energy
from runtime.hostwork import part_cost, with_hosts
from runtime.inference import Inference
from runtime.session import Session, is_decoder
from runtime.timing import Simulator
from tests.backend.vision import TOKENS, images, reference, write_vision

TARGET = load_target("tiny")


def _compiled(path: Path, weights: str = "float32", *, shapes_only: bool = False) -> Program:
    options = CompileOptions(max_context=TOKENS, weights=weights, shapes_only=shapes_only)
    return compile_model(path, options, TARGET).require_program()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision(tmp_path_factory.mktemp("vision") / "m.onnx")


@pytest.fixture(scope="module")
def program(model: Path) -> Program:
    return _compiled(model)


@pytest.mark.parametrize("batch", [1, 3])
def test_ideal_arithmetic_gives_what_onnx_runtime_gives(model: Path, program: Program, batch: int) -> None:
    inference = Inference(program)
    got = inference.run(images(batch))
    wanted = reference(model, images(batch))
    np.testing.assert_allclose(got["logits"], wanted, rtol=1e-4, atol=1e-5)
    assert len(inference.steps) == batch


def test_int8_is_near(model: Path) -> None:
    wanted = reference(model, images(2))
    got = Inference(_compiled(model, "int8")).run(images(2))["logits"]
    assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()


def test_images_do_not_see_each_other(program: Program) -> None:
    both = Inference(program).run(images(2))["logits"]
    one = Inference(program).run({"pixels": images(2)["pixels"][1:]})["logits"]
    np.testing.assert_array_equal(both[1:], one)


def test_sequences_of_any_batch_take_turns(model: Path, program: Program) -> None:
    """Nothing is kept between steps, so one sequence's room is enough for all; a target for one takes 64."""
    options = CompileOptions(max_context=TOKENS, weights="float32", batch=64)
    made = compile_model(model, options, TARGET)
    many = made.require_program()
    assert (many.limits, many.tiles) == (program.limits, program.tiles)
    assert any("take turns, one a step" in note.text for note in made.notes)
    inference = Inference(many)
    together = inference.run(images(3))["logits"]
    alone = [Inference(program).run({"pixels": images(3)["pixels"][[n]]})["logits"] for n in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert len(inference.steps) == 3


def test_a_program_file_carries_the_host_parts(program: Program, tmp_path: Path) -> None:
    write_program(program, tmp_path / "m.cim")
    again = read_program(tmp_path / "m.cim")
    assert (again.hosts, again.results) == (program.hosts, ("logits",))
    feeds = images(1)
    np.testing.assert_array_equal(
        Inference(again).run(feeds)["logits"], Inference(program).run(feeds)["logits"]
    )
    text = assemble(program_text(program))
    assert (text.hosts, text.results, text.tensors) == (program.hosts, program.results, program.tensors)


def test_streams_are_rows_at_the_border(program: Program) -> None:
    front, back = program.hosts
    names = {d: [s.name for s in program.streams if s.direction is d] for d in Direction}
    assert names[Direction.IN] == list(front.outputs)
    assert names[Direction.OUT] == list(back.inputs)
    assert not is_decoder(program)
    with pytest.raises(CimError, match="not a decoder"):
        Session(program)


def test_the_cost_of_a_step_has_the_host_in_it(program: Program) -> None:
    step = segments_of(TOKENS, 0, program.limits.chunk, last_only=False)
    chip = Simulator(program).step(step)
    whole = with_hosts(program, step, chip)
    hosts = [part_cost(part, TOKENS, TARGET) for part in program.hosts]
    assert whole.cycles == chip.cycles + sum(cost.cycles for cost in hosts)
    assert sum(whole.critical.values()) == sum(whole.critical_nodes.values()) == whole.cycles
    assert whole.count(Event.HOST_LINK_BYTE) == chip.count(Event.HOST_LINK_BYTE) > 0
    spent = energy(TARGET, program, [whole])
    seconds = whole.count(Event.HOST_BUSY_NS) * 1e-9
    moved = whole.count(Event.HOST_MEMORY_BYTE) * TARGET.host.memory_energy.si
    assert spent.by_component[Component.HOST] == pytest.approx(TARGET.host.power.si * seconds + moved)
    convolution = [node for node in spent.by_node if "Conv" in node]
    assert convolution and spent.by_node[convolution[0]] > 0


def test_costs_need_no_weights(model: Path, program: Program) -> None:
    bare = _compiled(model, shapes_only=True)
    assert bare.data is None
    for ours, theirs in zip(bare.hosts, program.hosts, strict=True):
        assert part_cost(ours, TOKENS, TARGET) == part_cost(theirs, TOKENS, TARGET)


def test_more_tokens_cost_the_host_no_less(program: Program) -> None:
    costs = [sum(part_cost(part, n, TARGET).cycles for part in program.hosts) for n in (1, 2, 4)]
    assert costs == sorted(costs)


def _pixels(*shape: int) -> dict[str, np.ndarray]:
    return {"pixels": np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["E0601", "pixels"]),
        (_pixels(1, 3, 9, 9), ["E0601", "pixels", "[batch, 3, 8, 8]"]),
        ({**_pixels(1, 3, 8, 8), "attention_mask": np.array([[1, 0]])}, ["E0601", "attention_mask"]),
        ({**_pixels(1, 3, 8, 8), "position_ids": np.array([[1, 2]])}, ["E0601", "position_ids"]),
    ],
)
def test_wrong_inputs_are_diagnosed(
    program: Program, feeds: dict[str, np.ndarray], words: Sequence[str]
) -> None:
    with pytest.raises(CimError) as caught:
        Inference(program).run(feeds)
    assert all(word in str(caught.value) for word in words)
