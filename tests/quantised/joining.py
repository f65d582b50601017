"""Tensors of a program in which the columns of several weights lie side by side, taken apart again."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray


def apart(name: str, whole: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """The weights, by name, in a tensor `a:8x4+b:8x4.int8`: for each of 4 heads 8 columns of `a`, then 8 of `b`. A
    tensor of one weight is itself."""
    if "+" not in name:
        return {name: whole}
    parts = [_part(part) for part in name.removesuffix(".int8").split("+")]
    heads = whole.reshape(len(whole), parts[0][2], -1)
    firsts = np.cumsum([0, *(cols for _, cols, _ in parts)])
    return {
        f"{weight}.int8": heads[:, :, first : first + cols].reshape(len(whole), -1)
        for (weight, cols, _), first in zip(parts, firsts[:-1], strict=True)
    }


def _part(text: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"(.+):(\d+)x(\d+)", text)
    assert found is not None, text
    return found[1], int(found[2]), int(found[3])
