"""ONNX files of which the host runs a part within each step: `--place`, from the file to what ONNX Runtime gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from compiler.driver import compile_model
from compiler.ir.evaluate import evaluate
from compiler.ir.graph import Graph
from compiler.passes.partition_placement import TOO_LARGE, first_that_fits
from compiler.pipeline import Compilation, CompileOptions
from compiler.placement import CANDIDATES, Placement, split
from isa.binary import read_program, write_program
from isa.diagnostics import CimError, fail
from isa.hardware import load_target
from isa.program import Moment, segments_of
from models import bert, gpt2, llama, opt
from models.configs import CONFIGS, BertConfig, Gpt2Config, LlamaConfig, OptConfig
from models.save import save
from models.weights import RandomWeights
from runtime.hostend import HostEnd
from runtime.inference import Inference
from runtime.session import Session
from runtime.timing import Simulator
from tests.backend.vision import images, reference, write_vision
from tests.compiler.building import tiny
from tests.compiler.graphs import decoder
from tests.quantised.making import blocks, dynamic

PLACES = ["attention", "attention+ffn"]
TARGET = load_target("dcim22")
BATCH, TOKENS = 2, 20


def _opt() -> object:
    return opt.build(OptConfig(200, 64, 2, 4, 128, 64), with_cache=False)


def _bert() -> object:
    return bert.build(BertConfig(200, 64, 2, 4, 128, 64))


def _gpt2() -> object:
    config = CONFIGS["gpt2-tiny"]
    assert isinstance(config, Gpt2Config)
    return gpt2.build(config, with_cache=False)


def _llama() -> object:
    config = CONFIGS["llama-tiny"]
    assert isinstance(config, LlamaConfig)
    return llama.build(config, with_cache=False)


FAMILIES: dict[str, Callable[[], object]] = {"opt": _opt, "bert": _bert, "gpt2": _gpt2, "llama": _llama}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    for name, build in FAMILIES.items():
        save(build(), folder / f"{name}.onnx", RandomWeights(0), metadata={}, external=None)  # type: ignore[arg-type]
    return {name: folder / f"{name}.onnx" for name in FAMILIES}


def _compiled(path: Path, place: str, weights: str = "float32", **options: int) -> Compilation:
    asked = CompileOptions(place=place, weights=weights, max_context=64, **options)  # type: ignore[arg-type]
    return compile_model(path, asked, TARGET)


def _feeds(path: Path) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.float32]]:
    """Inputs of a file, and what ONNX Runtime makes of them."""
    random, session = np.random.default_rng(0), onnxruntime.InferenceSession(str(path))
    shape = BATCH, TOKENS
    known = {
        "input_ids": random.integers(0, 200, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": random.integers(0, 2, shape),
        "position_ids": np.tile(np.arange(TOKENS), (BATCH, 1)),
    }
    feeds = {i.name: known[i.name] for i in session.get_inputs()}
    return feeds, np.asarray(session.run(["logits"], feeds)[0])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("int8", 0.03)])
def test_families(files: dict[str, Path], family: str, place: str, weights: str, tolerance: float) -> None:
    feeds, wanted = _feeds(files[family])
    program = _compiled(files[family], place, weights).require_program()
    got = Inference(program).run(feeds)["logits"]
    np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_runtime_runs_every_part(files: dict[str, Path], family: str, place: str) -> None:
    host = HostEnd(_compiled(files[family], place).require_program())
    assert {host.model(number).engine for number in range(len(host.between.parts))} == {"onnxruntime"}


@pytest.mark.parametrize("place", PLACES)
def test_sessions_and_files(files: dict[str, Path], place: str, tmp_path: Path) -> None:
    program = _compiled(files["llama"], place, "int8", batch=2).require_program()
    write_program(program, tmp_path / "m.cim")
    again = read_program(tmp_path / "m.cim")
    assert again.hosts == program.hosts
    ids = list(range(3, 20))
    whole = Session(program).score(ids, sequence=1)
    read = Session(again)
    for number, token in enumerate(ids):
        logits = read.step([token], sequence=1)
        np.testing.assert_allclose(logits[0], whole[number], atol=0.02 * np.abs(whole).max())


@pytest.mark.parametrize("place", PLACES)
def test_parts_around_the_step_and_within(tmp_path: Path, place: str) -> None:
    """A vision transformer: its stem and its classifier are the host's before and after the steps."""
    path = write_vision(tmp_path / "vision.onnx")
    program = _compiled(path, place).require_program()
    moments = [part.moment for part in program.hosts]
    assert (moments[0], moments[-1]) == (Moment.BEFORE, Moment.AFTER)
    assert set(moments[1:-1]) == {Moment.WITHIN}
    wanted = reference(path, images(2))
    np.testing.assert_allclose(Inference(program).run(images(2))["logits"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [dynamic, blocks])
def test_quantised_files(make: Callable[[str], Path], place: str) -> None:
    """The host multiplies by the file's integers times their scales."""
    ids = np.random.default_rng(5).integers(0, 60, 24)
    c = compile_model(make("llama"), CompileOptions(place=place, max_context=32), tiny(8))
    expected = evaluate(c.require_graph(), ids)
    got = Session(c.require_program()).score(ids.tolist())
    assert np.sqrt(np.mean((got - expected) ** 2)) / np.std(expected) < 0.1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kv", ["resident", "streamed", "tiered"])
def test_the_cache_lies_where_it_is_asked_for(files: dict[str, Path], kv: str, place: str) -> None:
    ids = list(range(3, 40))
    options = CompileOptions(place=place, kv=kv, weights="float32", max_context=64)
    program = compile_model(files["llama"], options, TARGET).require_program()
    wanted = Session(_compiled(files["llama"], "all").require_program()).score(ids)
    got = Session(program).score(ids)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


# ----------------------------------------------------------------------------------------------------------- choice


def _choice(most: int) -> Compilation:
    """A model placed by `--place auto` where so many operators fit on the chip."""
    c = Compilation(Path("model.onnx"), CompileOptions(place="auto"), graph=decoder())

    def place(chip: Graph) -> None:
        if len(chip.nodes) > most:
            raise fail("E0303", f"{len(chip.nodes)} operators do not fit")

    first_that_fits(c, place)
    return c


def test_auto_takes_the_first_that_fits() -> None:
    sizes = {place: len(split(decoder(), place).nodes) for place in CANDIDATES}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    for place, most in sizes.items():
        c = _choice(most)
        (note,) = c.notes
        assert note.text.startswith(f"Placement: {place.value} on the chip")
        assert note.text.count("does not fit") == CANDIDATES.index(place)
        assert (c.chip is None) is (place is Placement.ALL)


def test_where_nothing_fits_all_is_told() -> None:
    with pytest.raises(CimError) as refused:
        _choice(1)
    told = refused.value.diagnostics[0]
    assert told.code in TOO_LARGE
    assert told.message == f"{len(decoder().nodes)} operators do not fit"
    assert [note.split(" does not")[0] for note in told.notes] == [
        "--place attention+ffn",
        "--place attention",
    ]


def test_sequences_longer_than_learned_positions_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(CimError, match="E0308"):
        compile_model(files["opt"], CompileOptions(place="attention", max_context=100), TARGET)


def test_shapes_alone_are_enough_for_time(files: dict[str, Path]) -> None:
    full = _compiled(files["gpt2"], "attention").require_program()
    bare = _compiled(files["gpt2"], "attention", shapes_only=True).require_program()
    assert bare.data is None
    assert [p.definition for p in bare.hosts] == [p.definition for p in full.hosts]
    segments = segments_of(9, 0, full.limits.chunk)
    assert Simulator(bare).step(segments) == Simulator(full).step(segments)
