"""Facts about written bytes, against sets of bytes: what is said to be covered is covered, for every length."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from isa.verifier.bounds import Bounds
from isa.verifier.buffer import Facts, LoopExit, Span, after_loop, dense, meet, pitched
from isa.verifier.poly import Poly, symbol_poly
from isa.verifier.symbols import Op, Shape, SymbolTable

MOST = 4
N, I = symbol_poly(0), symbol_poly(1)  # a length 0..4, and the counter of a loop


@dataclass(frozen=True)
class Linear:
    """constant + by_n * n + by_i * i."""

    constant: int
    by_n: int = 0
    by_i: int = 0

    def poly(self) -> Poly:
        return Poly(self.constant) + N.times(self.by_n) + I.times(self.by_i)

    def at(self, n: int, i: int) -> int:
        return self.constant + self.by_n * n + self.by_i * i


@dataclass(frozen=True)
class Area:
    """A span by its numbers."""

    start: Linear
    rows: Linear
    width: int
    pitch: int

    def span(self) -> Span:
        return pitched(self.start.poly(), self.rows.poly(), Poly(self.width), self.pitch)

    def bytes(self, n: int, i: int = 0) -> set[int]:
        first, pitch = self.start.at(n, i), self.pitch or self.width
        return {first + row * pitch + byte for row in range(self.rows.at(n, i)) for byte in range(self.width)}


def table() -> SymbolTable:
    """The two symbols; the counter belongs to a loop."""
    symbols = SymbolTable()
    symbols.make(Op.UNKNOWN, Shape(0, MOST), name="n")
    symbols.make(Op.COUNTER, Shape(0, MOST - 1), name="i", level=1)
    return symbols


small = st.integers(0, 6)
rows = st.sampled_from([Linear(1), Linear(2), Linear(3), Linear(0, 1), Linear(1, 1), Linear(0, 2)])


def areas(by_i: st.SearchStrategy[int]) -> st.SearchStrategy[Area]:
    """Spans around the same few bytes."""
    start = st.builds(Linear, small, st.sampled_from([0, 0, 0, 2, 4]), by_i)
    return st.builds(Area, start, rows, st.integers(1, 5), st.sampled_from([0, 0, 2, 4, 4, 6]))


fixed = areas(st.just(0))
moving = areas(st.sampled_from([0, 1, 2, 4, 8]))


def _facts(bounds: Bounds, written: list[Area]) -> Facts:
    facts = Facts()
    for area in written:
        facts.add(bounds, area.span())
    return facts


def _union(written: list[Area], n: int, i: int = 0) -> set[int]:
    return set().union(*(area.bytes(n, i) for area in written))


@given(st.lists(fixed, max_size=5), fixed)
@settings(max_examples=500)
def test_what_is_covered_is_written(written: list[Area], asked: Area) -> None:
    bounds = Bounds(table())
    if _facts(bounds, written).covers(bounds, asked.span()):
        for n in range(MOST + 1):
            assert asked.bytes(n) <= _union(written, n)


@given(st.lists(fixed, max_size=3), st.lists(fixed, max_size=3), fixed)
@settings(max_examples=200)
def test_where_paths_meet_both_have_written(left: list[Area], right: list[Area], asked: Area) -> None:
    bounds = Bounds(table())
    both = meet(_facts(bounds, left), bounds, _facts(bounds, right), bounds)
    if both.covers(bounds, asked.span()):
        for n in range(MOST + 1):
            assert asked.bytes(n) <= _union(left, n) & _union(right, n)


@given(
    st.lists(fixed, max_size=2),
    st.lists(moving, max_size=3),
    fixed,
    st.sampled_from([0, 1, 2, 3, "n", "n+1"]),
)
@settings(max_examples=500)
def test_after_a_loop(before: list[Area], body: list[Area], asked: Area, count: int | str) -> None:
    bounds = Bounds(table())
    passes = {"n": Linear(0, 1), "n+1": Linear(1, 1)}.get(str(count)) or Linear(int(count))
    first = _facts(bounds, before)
    end = first.copy()
    for area in body:
        end.add(bounds, area.span())
    loop = LoopExit(1, 1, passes.poly(), bounds.at_least(passes.poly(), 1))
    if after_loop(first, end, loop, bounds).covers(bounds, asked.span()):
        for n in range(MOST + 1):
            written = _union(before, n).union(*(_union(body, n, i) for i in range(passes.at(n, 0))))
            assert asked.bytes(n) <= written


# --------------------------------------------------------------------------------------- what must be recognised


def _covers(written: list[Span], asked: Span) -> bool:
    bounds = Bounds(table())
    facts = Facts()
    for span in written:
        facts.add(bounds, span)
    return facts.covers(bounds, asked)


def test_columns_add_up_to_rows() -> None:
    columns = [pitched(Poly(100 + 8 * part), N, Poly(8), 32) for part in (2, 0, 3, 1)]
    assert _covers(columns, dense(Poly(100), N.times(32)))
    assert not _covers(columns[:3], dense(Poly(100), N.times(32)))
    assert _covers(columns[:3], pitched(Poly(100), N, Poly(8), 32))


def test_row_blocks_and_column_slices_of_a_block() -> None:
    block = [dense(Poly(0), N.times(32))]
    assert _covers(block, pitched(Poly(8), N, Poly(8), 32))
    assert not _covers(block, pitched(Poly(8), N, Poly(28), 32))
    wide = [pitched(Poly(0), N.plus(2), Poly(16), 32)]
    assert _covers(wide, pitched(Poly(64), N, Poly(16), 32))
    assert not _covers(wide, pitched(Poly(96), N, Poly(16), 32))
    assert _covers(wide, dense(Poly(36), Poly(12)))
    assert not _covers(wide, dense(Poly(36), Poly(13)))


def test_neighbours_are_one_range() -> None:
    parts = [dense(N.times(4), N.times(4)), dense(N.times(8), Poly(16)), dense(Poly(0), N.times(4))]
    assert _covers(parts, dense(Poly(0), N.times(8).plus(16)))
    assert not _covers(parts[:2], dense(Poly(0), N.times(8)))


def test_sweeps_of_loops() -> None:
    bounds = Bounds(table())

    def after(span: Span, count: Poly, *, ran: bool) -> Facts:
        return after_loop(Facts(), Facts([span]), LoopExit(1, 1, count, ran), bounds)

    rows = dense(I.times(8).plus(100), Poly(8))
    assert after(rows, N, ran=False).covers(bounds, dense(Poly(100), N.times(8)))
    gaps = dense(I.times(12).plus(100), Poly(8))
    assert after(gaps, N, ran=False).covers(bounds, pitched(Poly(100), N, Poly(8), 12))
    assert not after(gaps, N, ran=False).covers(bounds, dense(Poly(100), N.times(8)))
    columns = pitched(I.times(8), N, Poly(8), 32)
    assert after(columns, Poly(4), ran=True).covers(bounds, dense(Poly(0), N.times(32)))
    fixed_place = dense(Poly(0), Poly(8))
    assert after(fixed_place, N, ran=True).covers(bounds, fixed_place)
    assert not after(fixed_place, N, ran=False).covers(bounds, fixed_place)
