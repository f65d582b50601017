"""Names of tensors in which the columns of several weights lie side by side, head by head: `q:64x12+k:64x12+v:64x12`
has, for each of 12 heads, 64 columns of q, 64 of k and 64 of v."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

JOIN = "+"


@dataclass(frozen=True, slots=True)
class Part:
    """A weight of such a tensor, of which each head has `cols` columns, `first` behind the head's first."""

    weight: str
    cols: int
    heads: int
    first: int = 0


def name_of(parts: Sequence[Part]) -> str:
    """The tensor's name."""
    return JOIN.join(f"{part.weight}:{part.cols}x{part.heads}" for part in parts)


def parts_of(name: str) -> tuple[Part, ...]:
    """The weights in a tensor of this name; none if it is a single weight's."""
    parts, first = [], 0
    for text in name.split(JOIN):
        found = re.fullmatch(r"(.+):(\d+)x(\d+)", text)
        if found is None:
            return ()
        parts.append(Part(found[1], int(found[2]), int(found[3]), first))
        first += parts[-1].cols
    return tuple(parts)
