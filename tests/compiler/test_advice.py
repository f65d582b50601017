"""What does not fit is refused with the smallest changes that would fit: followed here, and one less tried."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.advice import largest, smallest, with_chips, with_value
from compiler.driver import compile_model
from compiler.ir.graph import Attention
from compiler.mapping.folded_mapping import cells, row_cells
from compiler.mapping.problem import Problem
from compiler.passes.partition_placement import PartitionPlacement
from compiler.passes.place_blocks import PlaceBlocks
from compiler.pipeline import Compilation, CompileOptions, run_pipeline
from compiler.search import Choice
from isa.diagnostics import CimError, Diagnostic, fail
from isa.hardware import Hardware, load_target
from isa.program import Limits
from models.make import make

TINY = load_target("tiny")
ALL = CompileOptions(place="all", shapes_only=True, max_context=64)


def _sized(**changes: float) -> Hardware:
    """The teaching target with other numbers: section__key=value."""
    target = TINY
    for name, value in changes.items():
        section, key = name.split("__")
        target = with_value(target, section, key, value)
    return target


def _bytes(target: Hardware, section: str, key: str, size: int) -> Hardware:
    """The target with a size in bytes."""
    part = getattr(target, section)
    quantity = getattr(part, key).model_copy(update={"value": size, "unit": "byte"})
    return target.model_copy(update={section: part.model_copy(update={key: quantity})})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama without weights."""
    path = tmp_path_factory.mktemp("advice") / "llama.onnx"
    make("llama-tiny", path, shapes_only=True)
    return path


@pytest.fixture(scope="module")
def graph(model: Path) -> Compilation:
    """The same as a graph."""
    return compile_model(model, ALL, TINY)


def _refusal(model: Path, options: CompileOptions, target: Hardware) -> Diagnostic:
    with pytest.raises(CimError) as caught:
        compile_model(model, options, target)
    return caught.value.diagnostics[0]


def _number(diagnostic: Diagnostic, pattern: str) -> int:
    assert diagnostic.help is not None
    found = re.search(pattern, diagnostic.help)
    assert found is not None, diagnostic.help
    return int(found[1].replace(",", ""))


def _fits(graph: Compilation, options: CompileOptions, target: Hardware) -> bool:
    trial = Compilation(graph.model, options, target, graph.graph, is_trial=True)
    try:
        run_pipeline((PartitionPlacement(), PlaceBlocks()), trial)
    except CimError:
        return False
    return True


@pytest.mark.parametrize("most", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("limit", [0, 1, 5, 7, 99, 200])
def test_the_largest_that_fits_is_found(most: int, limit: int) -> None:
    assert largest(lambda n: n <= limit, most) == min(most, limit)


@pytest.mark.parametrize("need", [1, 3, 4, 17, 64, 65])
def test_the_smallest_that_fits_is_found(need: int) -> None:
    assert smallest(lambda n: n >= need, 3, 64) == (max(need, 3) if need <= 64 else 0)


def test_rows_that_no_arrays_hold_are_counted_and_not_mapped(
    graph: Compilation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows and pages need fewer; a target with more chips has more cells."""
    whole = graph.require_graph()
    row = row_cells(whole, Limits(1, 1))
    most = cells(TINY) // row
    tried: list[int] = []

    def refuse(problem: Problem, asked: Choice) -> None:
        tried.append(problem.limits.max_context)
        raise fail("E0303", "mapped")

    monkeypatch.setattr("compiler.search.by_rule", refuse)
    options = replace(ALL, kv="resident", max_context=most + 1)
    assert not _fits(graph, options, TINY) and not tried
    for other, target in (
        (replace(options, max_context=most), TINY),
        (replace(options, kv="auto"), TINY),
        (replace(options, kv_tokens=most), TINY),
        (options, with_chips(TINY, 2)),
    ):
        tried.clear()
        assert not _fits(graph, other, target) and tried
    assert row_cells(whole, Limits(100, 1, sequences=3)) == 300 * row
    nodes = tuple(
        replace(n, op=replace(n.op, window=8)) if isinstance(n.op, Attention) else n for n in whole.nodes
    )
    assert row_cells(replace(whole, nodes=nodes), Limits(100, 1)) == 8 * row


@pytest.mark.slow
def test_a_cache_too_large_names_the_context_the_chips_and_another_policy(
    model: Path, graph: Compilation
) -> None:
    options = replace(ALL, kv="resident", max_context=65536)
    told = _refusal(model, options, TINY)
    assert told.code in ("E0303", "E0304")
    context = _number(told, r"--max-context (\d+)")
    chips = _number(told, r"a system of ([\d,]+) of these chips")
    assert "--kv streamed" in (told.help or "")
    assert compile_model(model, replace(options, max_context=context), TINY).program is not None
    assert not _fits(graph, replace(options, max_context=context + 1), TINY)
    assert _fits(graph, options, with_chips(TINY, chips))
    assert not _fits(graph, options, with_chips(TINY, chips - 1))
    assert _fits(graph, replace(options, kv="streamed"), TINY)


@pytest.mark.slow
def test_too_many_sequences_name_the_batch(model: Path, graph: Compilation) -> None:
    options, target = (
        replace(ALL, kv="resident", max_context=1024, batch=16),
        _sized(chip__tiles_x=5, chip__tiles_y=5),
    )
    batch = _number(_refusal(model, options, target), r"--batch (\d+)")
    assert _fits(graph, replace(options, batch=batch), target)
    assert not _fits(graph, replace(options, batch=batch + 1), target)


def test_a_model_too_large_for_every_policy_names_the_chips(model: Path, graph: Compilation) -> None:
    options, target = replace(ALL, place="auto"), _sized(chip__tiles_x=1, chip__tiles_y=1)
    told = _refusal(model, options, target)
    assert told.code == "E0303" and "cannot be streamed" in told.message
    assert [note.split(" does not")[0] for note in told.notes] == [
        "--place attention+ffn",
        "--place attention",
    ]
    chips = _number(told, r"system\.chips_x = (\d+)")
    assert compile_model(model, options, with_chips(target, chips)).program is not None
    assert not _fits(graph, options, with_chips(target, chips - 1))


def test_a_buffer_too_small_names_its_size(model: Path, graph: Compilation) -> None:
    target = _sized(tile__buffer=1)
    told = _refusal(model, ALL, target)
    assert told.code == "E0301" and "has 1,024" in told.message
    kib = _number(told, r"tile\.buffer = (\d+) KiB")
    assert compile_model(model, ALL, with_value(target, "tile", "buffer", kib)).program is not None
    assert not _fits(graph, ALL, with_value(target, "tile", "buffer", kib - 1))


@pytest.mark.slow
def test_a_memory_too_small_names_its_size_and_the_context(model: Path, graph: Compilation) -> None:
    target = _bytes(TINY, "dram", "capacity", 300_000)
    options = replace(ALL, kv="streamed", max_context=16384)
    told = _refusal(model, options, target)
    assert told.code in ("E0304", "E0309")
    size = _number(told, r"dram\.capacity = ([\d,]+) byte")
    context = _number(told, r"--max-context (\d+)")
    assert _fits(graph, options, _bytes(target, "dram", "capacity", size))
    assert not _fits(graph, options, _bytes(target, "dram", "capacity", size - 1))
    assert _fits(graph, replace(options, max_context=context), target)
    assert not _fits(graph, replace(options, max_context=context + 1), target)


def test_instructions_without_room_name_the_memory(model: Path) -> None:
    target = _bytes(TINY, "tile", "code", 256)
    told = _refusal(model, ALL, target)
    assert told.code == "E0310"
    size = _number(told, r"tile\.code = (\d+) byte")
    assert compile_model(model, ALL, _bytes(target, "tile", "code", size)).program is not None
    assert _refusal(model, ALL, _bytes(target, "tile", "code", size - 1)).code == "E0310"


def test_too_few_ports_name_their_number(model: Path) -> None:
    target = _sized(tile__ports=3)
    told = _refusal(model, ALL, target)
    assert told.code == "E0311"
    ports = _number(told, r"tile\.ports = (\d+)")
    assert compile_model(model, ALL, with_value(target, "tile", "ports", ports)).program is not None
    assert _refusal(model, ALL, with_value(target, "tile", "ports", ports - 1)).code == "E0311"
