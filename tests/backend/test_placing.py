"""`--place auto` where weights are streamed: estimates, what is taken, what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.driver import compile_model
from compiler.pipeline import Compilation, CompileOptions
from compiler.placement import CANDIDATES, Placement
from compiler.placing import Estimate, Weighing, estimate, loads_of
from compiler.workload import workload_of
from isa.hardware import Hardware
from isa.program import segments_of
from models import llama
from models.configs import LlamaConfig
from models.save import save
from models.weights import RandomWeights
from runtime.timing import Simulator
from tests.compiler.building import tiny, with_quantity

CONTEXT = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose weights do not fit a small mesh."""
    path = tmp_path_factory.mktemp("placing") / "wide.onnx"
    config = LlamaConfig(400, 128, 2, 4, 2, 512, CONTEXT)
    save(llama.build(config, with_cache=False), path, RandomWeights(0), metadata={}, external=None)
    return path


def target(tiles: int = 4, dram: float = 1.0, dispatch: float = 0.01, host: float = 100.0) -> Hardware:
    """The teaching target; `dram` and `host` are GB/s, `dispatch` is in us."""
    hardware = with_quantity(tiny(tiles), "dram", "bandwidth", dram)
    hardware = with_quantity(hardware, "host", "bandwidth", host)
    return with_quantity(hardware, "host", "dispatch", dispatch)


def compiled(model: Path, hardware: Hardware, place: str = "auto") -> Compilation:
    options = CompileOptions(max_context=CONTEXT, place=place, shapes_only=True)
    return compile_model(model, options, hardware)


def told(c: Compilation) -> str:
    return "\n".join(note.text for note in c.notes if note.text.startswith("Placement"))


def test_a_host_with_fast_memory_takes_what_would_be_streamed(model: Path) -> None:
    c = compiled(model, target())
    assert c.chip is not None
    assert "by estimate: all about" in told(c)


def test_a_slow_host_does_not(model: Path) -> None:
    c = compiled(model, target(host=0.1, dispatch=100.0))
    assert c.chip is None
    assert told(c).startswith("Placement: all on the chip: it fits")
    assert "Placement: all on the chip, by estimate" in told(c)


def test_weights_that_stay_are_not_weighed(model: Path) -> None:
    c = compiled(model, target(tiles=14))
    assert c.chip is None and "estimate" not in told(c)


def test_the_same_is_taken_each_time(model: Path) -> None:
    first, second = (compiled(model, target()) for _ in range(2))
    assert first.program == second.program


@pytest.mark.parametrize("place", ["all", "attention"])
def test_estimates_are_close_where_dram_or_the_host_decides(model: Path, place: str) -> None:
    hardware = target(host=2.0)
    c = compiled(model, hardware, place)
    graph, chip, program = c.require_graph(), c.require_chip(), c.require_program()
    work = workload_of(graph, chip=c.chip)
    guess = estimate(Placement(place), chip, c.require_mapping(), hardware, work)
    measured = Simulator(program).step(segments_of(1, CONTEXT - 1, program.limits.chunk)).cycles
    assert 0.8 * measured < guess.decode < 1.1 * measured


def test_loads_are_those_of_streamed_weights(model: Path) -> None:
    c = compiled(model, target(), "all")
    hardware = c.require_target()
    weights = loads_of(c.require_mapping(), hardware).weights
    linears = sum(
        int(c.require_graph().constants[n.inputs[1]].count)
        for n in c.require_graph().nodes
        if type(n.op).__name__ == "Linear"
    )
    assert 0.5 * linears < weights < 1.3 * linears
    stays = compiled(model, target(tiles=14), "all")
    assert loads_of(stays.require_mapping(), hardware).weights == 0


def test_what_does_not_fit_is_named(model: Path) -> None:
    c = compiled(model, target(host=0.1), "all")

    def refuses(_: object) -> object:
        from isa.diagnostics import fail

        raise fail("E0303", "too many tiles")

    weighing = Weighing(c, Placement.ALL, refuses)  # type: ignore[arg-type]
    assert weighing.best() is None
    (note,) = weighing.notes()
    assert all(f"{p.value} does not fit" in note.text for p in CANDIDATES[1:])


def test_a_mean_is_geometric() -> None:
    assert Estimate(Placement.ALL, 4.0, 9.0).mean == 6.0
