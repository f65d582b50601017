"""Tensors of a program in which the columns of several weights lie side by side, taken apart again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.ir.side_by_side import parts_of


def apart(name: str, whole: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """The weights, by name, in a tensor of integers. A tensor of one weight is itself."""
    parts = parts_of(name.removesuffix(".int8"))
    if not parts:
        return {name: whole}
    heads = whole.reshape(len(whole), parts[0].heads, -1)
    return {
        f"{part.weight}.int8": heads[:, :, part.first : part.first + part.cols].reshape(len(whole), -1)
        for part in parts
    }
