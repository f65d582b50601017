"""`--place host`: a decoder that the host runs by itself, costed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compiler.driver import compile_model
from compiler.pipeline import CompileOptions
from isa.diagnostics import CimError
from isa.events import Bound, Event
from isa.hardware import load_target
from isa.program import Moment, Program, segments_of
from isa.verifier import verify
from models.configs import CONFIGS, LlamaConfig
from models.make import make
from runtime.energy import energy, powered
from runtime.hostwork import with_hosts
from runtime.timing import StepCost, simulate

TARGET = "dcim22+gpu-a100"
NAME = "llama-tiny"
CONTEXT = 256


def compiled(name: str, folder: Path, *, half: bool) -> Program:
    make(name, folder / "m.onnx", shapes_only=True, half=half)
    options = CompileOptions(max_context=CONTEXT, place="host", shapes_only=True)
    return compile_model(folder / "m.onnx", options, load_target(TARGET)).require_program()


@pytest.fixture(scope="module", params=[2, 4], ids=["float16", "float32"])
def size(request: pytest.FixtureRequest) -> int:
    """Bytes of an element."""
    return int(request.param)


@pytest.fixture(scope="module")
def program(size: int, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return compiled(NAME, tmp_path_factory.mktemp("host"), half=size == 2)


def step(program: Program, tokens: int, position: int) -> StepCost:
    segments = segments_of(tokens, position, program.limits.chunk)
    return with_hosts(program, segments, simulate(program, segments))


def elements(config: LlamaConfig, tokens: int, position: int) -> list[tuple[int, int]]:
    """Operations and elements moved by each operator of a step, worked out from the shapes of the model."""
    h, f, kv = config.hidden, config.ffn, config.hidden * config.kv_heads // config.heads
    n, seen = tokens, position + tokens

    def linear(rows: int, cols: int) -> tuple[int, int]:
        return 2 * n * rows * cols, n * rows + rows * cols + n * cols

    def angles(width: int) -> tuple[int, int]:
        depth = config.hidden // config.heads
        return n * width, 2 * n * width + n * depth

    norm, row = (n * h, 2 * n * h + h), (n * h, 3 * n * h)
    attention = 2 * 2 * n * seen * h, 2 * n * h + 2 * kv * (position + 2 * n)
    layer = [
        norm,
        linear(h, h),
        linear(h, kv),
        linear(h, kv),
        angles(h),
        angles(kv),
        attention,
        linear(h, h),
        row,
    ]
    layer += [norm, linear(h, f), (n * f, 2 * n * f), linear(h, f), (n * f, 3 * n * f), linear(f, h), row]
    return [*(layer * config.layers), norm, linear(h, config.vocab)]


@pytest.mark.parametrize(("tokens", "position"), [(1, 0), (1, 200), (32, 0), (8, 100)])
def test_a_step_is_the_roofline_of_each_operator(
    program: Program, size: int, tokens: int, position: int
) -> None:
    config, host = CONFIGS[NAME], program.target.host
    assert isinstance(config, LlamaConfig)
    seconds = [
        host.dispatch.si + max(flops / host.flops.si, count * size / host.bandwidth.si)
        for flops, count in elements(config, tokens, position)
    ]
    ids = 4 * tokens + 2 * size * tokens * config.hidden  # numbers, rows read and rows written
    seconds.append(host.dispatch.si + ids / host.bandwidth.si)
    cost = step(program, tokens, position)
    assert cost.cycles == pytest.approx(sum(seconds) * program.target.clock.si, abs=1)
    assert cost.critical == {Bound.HOST: cost.cycles}


def test_float16_halves_what_is_moved(tmp_path: Path) -> None:
    wide, narrow = (compiled(NAME, tmp_path, half=half) for half in (False, True))

    def moved(program: Program) -> int:
        events = step(program, 1, 100).events
        return sum(count for (event, _), count in events.items() if event is Event.HOST_MEMORY_BYTE)

    assert moved(narrow) == pytest.approx(moved(wide) / 2, rel=1e-3)


def test_there_is_nothing_on_the_chip(program: Program) -> None:
    verify(program)
    assert (program.tiles, program.roles, program.channels) == ((), (), ())
    assert [part.moment for part in program.hosts] == [Moment.BEFORE]
    cost = step(program, 1, 10)
    spent = energy(program.target, program, [cost])
    host = program.target.host.power.si * cost.cycles / program.target.clock.si
    assert spent.by_cause[Event.HOST_BUSY_NS] == pytest.approx(host, rel=1e-3)
    assert sum(powered(program).values()) == 1  # the link


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "int4"}, "--weights int4 is about"),
        ({"kv_bits": 4, "kv": "streamed"}, "--kv-bits 4, --kv streamed is about"),
        ({"group": 0}, "--group 0 is about"),
        ({"kv_tokens": 64}, "--kv-tokens 64 is about"),
        ({"batch": 2}, "takes one sequence"),
    ],
)
def test_options_of_the_chip_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """They would change nothing, and whoever gives them means something by it."""
    make(NAME, tmp_path / "m.onnx", shapes_only=True)
    asked = CompileOptions(max_context=CONTEXT, place="host", shapes_only=True, **options)
    with pytest.raises(CimError) as refused:
        compile_model(tmp_path / "m.onnx", asked, load_target(TARGET))
    (found,) = refused.value.diagnostics
    assert (found.code, said in found.message) == ("E0305", True)


def test_its_note_says_where_all_is(tmp_path: Path) -> None:
    make(NAME, tmp_path / "m.onnx", shapes_only=True)
    asked = CompileOptions(max_context=CONTEXT, place="host", shapes_only=True)
    notes = compile_model(tmp_path / "m.onnx", asked, load_target(TARGET)).notes
    assert "Placement: all on the host, because --place says so." in {note.text for note in notes}
