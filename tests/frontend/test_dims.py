"""Arithmetic on sizes known only at run time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.ir.dims import Extent, UndecidedError, axis, divide, less, parse_extent, resolve

NAMES = ("batch", "sequence", "past")
SIZES = st.fixed_dictionaries({n: st.integers(0 if n == "past" else 1, 9) for n in NAMES})


def _extents() -> st.SearchStrategy[Extent]:
    leaves = st.one_of(st.integers(-5, 9), st.sampled_from([axis(n) for n in NAMES]))
    pairs = lambda inner: st.one_of(  # noqa: E731
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]), st.tuples(inner, inner).map(lambda p: p[0] * p[1])
    )
    return st.recursive(leaves, pairs, max_leaves=6)


@given(_extents(), _extents(), SIZES)
def test_arithmetic_commutes_with_numbers(a: Extent, b: Extent, sizes: dict[str, int]) -> None:
    x, y = resolve(a, sizes), resolve(b, sizes)
    assert resolve(a + b, sizes) == x + y
    assert resolve(a - b, sizes) == x - y
    assert resolve(a * b, sizes) == x * y


@given(_extents())
def test_text_round_trip(a: Extent) -> None:
    assert parse_extent(str(a)) == a


@given(_extents(), _extents())
def test_division_undoes_multiplication(a: Extent, b: Extent) -> None:
    if b != 0:
        assert divide(a * b, b) == a


@given(_extents(), _extents(), SIZES)
def test_less_holds_for_all_sizes(a: Extent, b: Extent, sizes: dict[str, int]) -> None:
    try:
        answer = less(a, b)
    except UndecidedError:
        return
    assert answer is (resolve(a, sizes) < resolve(b, sizes))


def test_what_depends_on_the_sizes_is_not_decided() -> None:
    with pytest.raises(UndecidedError):
        less(axis("past"), axis("sequence"))
    with pytest.raises(UndecidedError):
        divide(axis("past"), axis("sequence"))


def test_names_that_exporters_write() -> None:
    assert parse_extent("past_sequence_length + sequence_length") == axis("past_sequence_length") + axis(
        "sequence_length"
    )
