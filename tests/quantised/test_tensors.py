"""Constants of integers with scales: their real values, and their integers through views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compiler.ir.quantised import IntegerWeight, dequantised, fits_int8, has_offset, integers, row_block
from compiler.ir.tensor import Declared, DType, Tensor, tensor

ROWS, COLS = 96, 40
rng = np.random.default_rng(3)


def by_hand(weight: IntegerWeight) -> NDArray[np.float32]:
    """The real values of a weight as arrays hold it."""
    group = np.arange(len(weight.values)) // (weight.block or len(weight.values))
    real: NDArray[np.float32] = weight.values.astype(np.float32) * weight.scales[group]
    return real


def some(kind: str, axis: int | None, block: int) -> Tensor:
    """A constant [ROWS, COLS] with scales everywhere, by index along an axis, or by block along it."""
    low, high = {"int8": (-128, 127), "uint8": (28, 255), "int4": (-8, 7), "uint4": (0, 15)}[kind]
    values = rng.integers(low, high + 1, (ROWS, COLS)).astype(DType(kind).numpy)
    shape: tuple[int, ...] = ()
    if axis is not None:
        extents = [ROWS, COLS]
        extents[axis] = -(-extents[axis] // block) if block else extents[axis]
        shape = tuple(extents) if block else (extents[axis],)
    scales = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    middle = {"uint8": 155, "uint4": 8}.get(kind)
    zeros = None if middle is None else tensor(np.full(shape, middle, DType(kind).numpy))
    return dequantised(tensor(values), tensor(scales), zeros, axis, block)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int4", "uint4"])
@pytest.mark.parametrize(("axis", "block"), [(None, 0), (1, 0), (0, 32), (0, 16)])
def test_integers_stand_for_the_same_numbers(kind: str, axis: int | None, block: int) -> None:
    weight = some(kind, axis, block)
    found = integers(weight)
    assert found is not None and found.values.dtype == np.int8
    assert found.scales.shape == (ROWS // block if block else 1, COLS)
    assert by_hand(found).tolist() == weight.data().tolist()


@given(
    st.sampled_from([(None, 0), (1, 0), (0, 16), (0, 32)]),
    st.lists(st.sampled_from(["rows", "columns", "twice", "flat"]), max_size=3),
    st.integers(0, 5),
)
def test_views_keep_the_integers(form: tuple[int | None, int], steps: list[str], start: int) -> None:
    weight = some("int8", *form)
    for step in steps:
        rows, cols = weight.shape
        match step:
            case "rows":
                weight = weight.slice(0, min(8 * start, rows - 8), rows)
            case "columns":
                weight = weight.slice(1, start, cols)
            case "twice":
                weight = weight.transpose((1, 0)).transpose((1, 0))
            case "flat":
                weight = weight.reshape((1, rows, cols)).reshape((rows, cols))
    found = integers(weight)
    assert found is not None
    assert by_hand(found).tolist() == weight.data().tolist()


def test_a_transposed_weight_takes_the_scales_of_its_rows_as_those_of_columns() -> None:
    weight = some("int8", 0, 0)
    assert row_block(weight) is None and integers(weight) is None
    turned = weight.transpose((1, 0))
    found = integers(turned)
    assert found is not None and found.block == 0
    assert by_hand(found).tolist() == turned.data().tolist()


def test_integers_that_do_not_fit_int8_come_with_offsets() -> None:
    values = tensor(np.arange(256, dtype=np.uint8).reshape(16, 16))
    off_centre = dequantised(values, tensor(np.float32(0.5)), tensor(np.uint8(3)))
    assert not fits_int8(off_centre) and has_offset(off_centre)
    found = integers(off_centre)
    assert found is not None and found.offsets is not None
    assert found.values.tolist() == (values.data().astype(int) - 128).tolist()
    assert (by_hand(found) + found.offsets).tolist() == off_centre.data().tolist()
    narrow = dequantised(tensor(values.data() // 2), tensor(np.float32(0.5)), tensor(np.uint8(3)))
    assert fits_int8(narrow) and integers(narrow) is not None
    between = dequantised(values, tensor(np.float32(0.5)), tensor(np.float32(127.5)))
    assert not fits_int8(between) and not has_offset(between), "no integer zero point, no integers"
    by_block = dequantised(
        values, tensor(np.full((2, 16), 0.5, np.float32)), tensor(np.full((2, 16), 3, np.uint8)), 0, 8
    )
    assert row_block(by_block) == 8 and integers(by_block) is None, "offsets go with one group of rows alone"


def test_without_data_the_structure_is_still_known() -> None:
    scales = Tensor(DType.FLOAT32, (4, 40), Declared("s"))
    weight = dequantised(Tensor(DType.INT4, (128, 40), Declared("w")), scales, None, 0, 32)
    assert not weight.has_data
    assert row_block(weight) == 32 and fits_int8(weight) and integers(weight) is None
    assert row_block(weight.slice(0, 16, 80)) == 16
    assert row_block(weight.slice(0, 32, 64)) == 0
