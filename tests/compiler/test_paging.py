"""Programs whose sequences share KV arrays in pages: the same numbers, in less room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping_verify import verify_mapping
from compiler.mapping.paging import page_rows_for, with_pages
from compiler.optimisations import Optimisation
from isa.diagnostics import CimError
from isa.instructions import Page
from isa.program import ArrayKind, Limits, Program, segments_of
from isa.verifier import verify
from runtime.machine import Machine
from runtime.paging import PagePool

from .building import Choices, mapping_of, program_of, tiny
from .graphs import Shape, decoder

LENGTH = 150
IDS = np.random.default_rng(3).integers(0, 64, LENGTH)
SHAPES = {
    "llama": Shape(layers=1),
    "window": Shape(layers=1, window=70, softcap=5.0),
    "encoder": Shape(layers=1, causal=False),
    "spread": Shape(width=320, layers=1, heads=8, kv_heads=8, inner=256, vocabulary=64),
}


def _paged(shape: Shape, kv_tokens: int, sequences: int = 3, ways: int = 1) -> Program:
    return program_of(decoder(shape), tiny(14), Choices(sequences=sequences, kv_tokens=kv_tokens, ways=ways))


def _step(machine: Machine, pool: PagePool, pieces: list[tuple[int, int, int]]) -> dict[int, np.ndarray]:
    """Logits of a step of pieces (sequence, start, end) of IDS, by sequence."""
    chunk = machine.program.limits.chunk
    cuts = [segments_of(b - a, a, chunk, last_only=False, sequence=s) for s, a, b in pieces]
    ids = np.concatenate([IDS[a:b] for _, a, b in pieces]).astype(np.int32)
    segments = pool.placed([segment for cut in cuts for segment in cut])
    rows = machine.step(segments, {"input_ids": ids[:, None]})["logits"]
    borders = np.cumsum([b - a for _, a, b in pieces])[:-1]
    return {s: part for (s, _, _), part in zip(pieces, np.split(rows, borders), strict=True)}


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize(
    ("name", "left_out"),
    [*((name, ()) for name in SHAPES), ("window", ("ring",)), ("window", ("ring", "skip-window"))],
)
def test_programs_with_pages_verify_and_compute_the_same(
    name: str, left_out: tuple[str, ...], ways: int
) -> None:
    graph = decoder(SHAPES[name])
    # how feed-forward layers are cut looks at the room that is left
    without = frozenset(map(Optimisation, ("ffn-grid", *left_out)))
    choices = Choices(192, sequences=2, kv_tokens=320, ways=ways, kv_block=64, copies=1, without=without)
    verify_mapping(mapping_of(graph, tiny(14), choices))
    paged = program_of(graph, tiny(14), choices)
    verify(paged)
    assert paged.limits.page_rows == 64
    own = 1 if name == "spread" else 2  # two with rows of their own would not fit
    has_ring = name == "window" and not left_out  # and so no pages, and one tile
    dealt = 0 if has_ring else paged.limits.page_ways
    plain = program_of(graph, tiny(14), replace(choices, sequences=own, kv_tokens=None, ways=dealt))
    whole = _step(Machine(plain), PagePool(plain.limits), [(0, 0, LENGTH)])[0]
    pool, machine = PagePool(paged.limits), Machine(paged)
    pool.grow({0: 1})  # so that pages do not lie one behind the other
    if not SHAPES[name].causal:
        np.testing.assert_array_equal(_step(machine, pool, [(1, 0, LENGTH)])[1], whole)
        return
    first = _step(machine, pool, [(1, 0, 60)])[1]
    pool.grow({0: 65})
    found = np.concatenate([first, _step(machine, pool, [(1, 60, LENGTH)])[1]])
    np.testing.assert_array_equal(found, whole)


def test_pages_are_dealt_over_tiles_as_many_as_it_takes() -> None:
    shape = SHAPES["llama"]
    assert [
        (p.limits.pages, p.limits.page_ways) for p in (_paged(shape, 320, ways=w) for w in (1, 2, 4))
    ] == [
        (5, 1),
        (3, 2),
        (2, 4),
    ]
    wide = Shape(width=320, layers=1, heads=4, kv_heads=4, inner=256, vocabulary=64)
    # five pages of keys and values of 80 columns are 50 macros, a tile has 32
    limits = _paged(wide, 320).limits
    assert (limits.pages, limits.page_ways) == (3, 2)
    without = frozenset({Optimisation.SPLIT_CONTEXT})
    with pytest.raises(CimError, match=r"E0304"):
        program_of(decoder(wide), tiny(14), Choices(sequences=3, kv_tokens=320, without=without))


def test_tiles_with_a_page_each() -> None:
    program = _paged(SHAPES["llama"], 200, sequences=2, ways=4)
    assert (program.limits.pages, program.limits.page_ways) == (1, 4)
    verify(program)
    apart = program_of(decoder(SHAPES["llama"]), tiny(14), Choices(sequences=2, ways=4, kv_block=64))
    expected = _step(Machine(apart), PagePool(apart.limits), [(1, 0, LENGTH)])[1]
    found = _step(Machine(program), PagePool(program.limits), [(1, 0, LENGTH)])[1]
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module", params=[1, 2, 4])
def paged(request: pytest.FixtureRequest) -> Program:
    return _paged(SHAPES["llama"], 320, ways=request.param)


@pytest.fixture(scope="module")
def alone(paged: Program) -> np.ndarray:
    return _step(Machine(paged), PagePool(paged.limits), [(0, 0, LENGTH)])[0]


@settings(max_examples=6)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=3), max_size=8)
)
def test_sequences_that_come_and_go_do_not_see_each_other(
    alone: np.ndarray, paged: Program, steps: list[list[tuple[int, int]]]
) -> None:
    """Sequences grow by random pieces, some in a step; one that has no room, or is done, ends and begins anew."""
    machine, pool, at = Machine(paged), PagePool(paged.limits), dict.fromkeys(range(3), 0)
    for step in steps:
        pieces = []
        for sequence, count in dict(step).items():
            if at[sequence] + count > LENGTH or not pool.has_room({sequence: at[sequence] + count}):
                pool.release(sequence)
                at[sequence] = 0
            if pool.has_room({sequence: at[sequence] + count}):
                pool.grow({sequence: at[sequence] + count})
                pieces.append((sequence, at[sequence], at[sequence] + count))
        for sequence, rows in (_step(machine, pool, pieces) if pieces else {}).items():
            np.testing.assert_array_equal(rows, alone[at[sequence] : at[sequence] + len(rows)])
            at[sequence] += len(rows)


def test_left_out_every_sequence_has_rows_of_its_own() -> None:
    shape = SHAPES["llama"]
    without = frozenset({Optimisation.PAGING})
    plain = program_of(decoder(shape), tiny(14), Choices(sequences=3, kv_tokens=320, without=without, ways=1))
    assert (plain.limits.pages, _kv_rows(plain)) == (0, 3 * 256)
    assert plain.roles == program_of(decoder(shape), tiny(14), Choices(sequences=3, ways=1)).roles
    paged = _paged(shape, 320)
    assert _kv_rows(paged) == 320
    assert any(isinstance(inst, Page) for role in paged.roles for inst in role.code)


def _kv_rows(program: Program) -> int:
    (rows,) = {a.rows for role in program.roles for a in role.arrays if a.kind is ArrayKind.KV}
    return rows


def test_room_for_all_needs_no_pages() -> None:
    assert not _paged(SHAPES["llama"], 3 * 256).limits.pages


def test_pages_are_whole_macros_and_eight_a_context() -> None:
    target = tiny()  # macros of 64 rows
    assert [page_rows_for(Limits(n, 1), target, 512) for n in (50, 512, 1100, 9000)] == [64, 64, 128, 512]


def test_less_than_one_sequence_is_refused() -> None:
    with pytest.raises(CimError, match=r"--kv-tokens 100 .* 256") as error:
        with_pages(Limits(256, 1, sequences=2), 100, 64)
    assert error.value.diagnostics[0].help == "--kv-tokens 256 or more, or --max-context 128 or less"


def test_pages_are_a_matter_of_the_step_alone() -> None:
    """Any table that the host may choose gives the same numbers: pages backwards."""
    paged = _paged(SHAPES["llama"], 320)
    (first, second) = (Machine(paged), Machine(paged))
    segments = PagePool(paged.limits).placed(segments_of(LENGTH, 0, paged.limits.chunk, last_only=False))
    turned = [replace(s, pages=tuple(4 - page for page in s.pages)) for s in segments]
    ids = {"input_ids": IDS.astype(np.int32)[:, None]}
    np.testing.assert_array_equal(first.step(segments, ids)["logits"], second.step(turned, ids)["logits"])
