"""The allocator of pages, and the checks of steps that have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa.diagnostics import CimError
from isa.program import Limits, Segment
from runtime.paging import KvUse, PagePool, PageTables, check_pages, with_pages
from runtime.segments import check_segments

LIMITS = Limits(max_context=64, chunk=8, sequences=4, pages=6, page_rows=16)


def test_pages_are_given_as_sequences_grow_and_come_back() -> None:
    pool = PagePool(LIMITS)
    pool.grow({0: 16, 1: 17})
    assert (pool.table(0), pool.table(1), pool.free) == ((0,), (1, 2), 3)
    pool.grow({0: 17})
    assert pool.table(0) == (0, 3)
    pool.release(1)
    pool.grow({2: 33})
    assert (pool.table(1), pool.table(2), pool.free) == ((), (1, 2, 4), 1)
    assert pool.use == KvUse(6, 16, 5, 50)
    assert pool.use.fragmentation == 1 - 50 / 80
    pool.release(0)
    assert pool.peak == KvUse(6, 16, 5, 50)


def test_a_full_cache_is_refused_with_numbers_and_nothing_is_given() -> None:
    pool = PagePool(LIMITS)
    pool.grow({0: 64})
    with pytest.raises(
        CimError, match=r"6 pages of 16 rows, 2 free; 3 more .* sequence 1 \(33 tokens\)"
    ) as error:
        pool.grow({1: 33})
    assert "--kv-tokens 112" in error.value.diagnostics[0].help
    assert (pool.table(1), pool.free) == ((), 2)


def test_without_pages_a_sequence_reserves_the_longest() -> None:
    pool = PagePool(replace(LIMITS, pages=0, page_rows=0))
    segments = pool.placed([Segment(4, 0, 0, 2)])
    assert segments == [Segment(4, 0, 0, 2)]
    assert pool.use == KvUse(4, 64, 1, 4)
    assert pool.use.fragmentation == 1 - 4 / 64


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 64)), max_size=40))
def test_no_page_has_two_owners_and_none_is_lost(requests: list[tuple[int, int]]) -> None:
    pool, lengths = PagePool(LIMITS), dict.fromkeys(range(4), 0)
    for sequence, tokens in requests:
        if not tokens:
            pool.release(sequence)
            lengths[sequence] = 0
            continue
        before = {s: pool.table(s) for s in lengths}
        try:
            pool.grow({sequence: max(tokens, lengths[sequence])})
        except CimError as error:
            assert error.diagnostics[0].code == "E0607"
            assert before == {s: pool.table(s) for s in lengths}
        else:
            lengths[sequence] = max(tokens, lengths[sequence])
            assert pool.table(sequence)[: len(before[sequence])] == before[sequence]
        owned = [page for s in lengths for page in pool.table(s)]
        assert len(owned) == len(set(owned)) == LIMITS.pages - pool.free
        assert all(len(pool.table(s)) == LIMITS.pages_for(n) for s, n in lengths.items())
        assert pool.use.tokens == sum(lengths.values())


def test_a_step_by_itself_gets_pages_of_its_own() -> None:
    step = with_pages(LIMITS, [Segment(1, 40, 1, 1), Segment(8, 0, 0, 3), Segment(2, 8, 0, 3)])
    assert [segment.pages for segment in step] == [(0, 1, 2), (3,), (3,)]
    check_segments(LIMITS, step)
    assert with_pages(replace(LIMITS, pages=0), [Segment(1, 40, 1, 1)]) == (Segment(1, 40, 1, 1),)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([Segment(1, 16, 0, pages=(3,))], "sequence 0 has 1 pages; 17 tokens take 2"),
        ([Segment(1, 0, 0)], "sequence 0 has 0 pages; 1 tokens take 1"),
        ([Segment(1, 0, 0, pages=(6,))], "sequence 0 has page 6; there are 6"),
        ([Segment(1, 0, 0, pages=(1, 1))], "page 1 is given out twice: to sequence 0 and 0"),
        ([Segment(1, 0, 0, pages=(1,)), Segment(1, 0, 0, 2, pages=(1,))], "twice: to sequence 0 and 2"),
        ([Segment(1, 0, 0, pages=(1,)), Segment(1, 1, 0, pages=(2,))], "of sequence 0 have different pages"),
    ],
)
def test_wrong_pages_of_a_step(segments: list[Segment], message: str) -> None:
    with pytest.raises(CimError, match=message) as error:
        check_pages(LIMITS, segments)
    assert error.value.diagnostics[0].code == "E0608"


def test_a_program_without_pages_takes_none() -> None:
    with pytest.raises(CimError, match="E0608"):
        check_segments(Limits(64, 8), [Segment(1, 0, 0, pages=(0,))])
    with pytest.raises(CimError, match="E0608"):
        check_pages(replace(LIMITS, max_source=8), [Segment(1, 0, 0, is_source=True, pages=(0,))])


def test_sequences_keep_their_pages_until_another_has_them() -> None:
    tables = PageTables(LIMITS)
    tables.take([Segment(8, 0, 0, pages=(4,)), Segment(8, 8, 0, pages=(4,))])
    tables.take([Segment(1, 16, 1, pages=(4, 2))])
    with pytest.raises(CimError, match=r"at position 17 with pages \[4, 3\]; its rows lie in \[4, 2\]"):
        tables.take([Segment(1, 17, 1, pages=(4, 3))])
    with pytest.raises(CimError, match=r"sequence 1 goes on at position 1 .* lie in \[\]"):
        tables.take([Segment(1, 1, 1, 1, pages=(0,))])
    tables.take([Segment(1, 0, 1, 1, pages=(2,))])
    assert tables.table(0) == (4,)
    tables.take([Segment(1, 16, 1, pages=(4, 3))])  # rows of the page that it has kept, and new ones
    tables.take([Segment(1, 0, 1, pages=(5,))])  # it begins anew
