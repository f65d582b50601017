"""Which output of the model is the cache of which attention: found by moving numbered elements, as layouts are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.ir.graph import Role
from compiler.recognition.layouts import Moved, Tags, follow
from compiler.recognition.regions import Prober, Survey


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cache holds after a step: [batch, heads, tokens, depth] of (number of the root, number of the element)."""

    roots: tuple[str, ...]
    which: Tags
    elements: Tags

    def flat(self) -> Kept:
        """The same with the heads side by side: [batch, tokens, heads*depth]."""
        batch, _, tokens, _ = self.which.shape
        which, elements = (x.swapaxes(1, 2).reshape(batch, tokens, -1) for x in (self.which, self.elements))
        return Kept(self.roots, which, elements)

    def equals(self, other: Kept) -> bool:
        """Whether both hold the same elements of the same values."""
        same = self.roots == other.roots and np.array_equal(self.which, other.which)
        return same and np.array_equal(self.elements, other.elements)


def kept_of(moved: Moved, tags: Tags) -> Kept:
    """`tags`, numbered as in `moved`, in a numbering that does not depend on the order of the roots."""
    used: list[str] = []
    which, elements = np.zeros_like(tags), np.zeros_like(tags)
    for root in sorted(moved.starts):
        start = moved.starts[root]
        mine = (tags >= start) & (tags < start + np.prod(moved.shapes[root], dtype=np.int64))
        if mine.any():
            which = np.where(mine, len(used), which)
            elements = np.where(mine, tags - start, elements)
            used.append(root)
    return Kept(tuple(used), which, elements)


@dataclass(slots=True)
class Presents:
    """The outputs of the model that could be caches; each is examined once."""

    survey: Survey
    prober: Prober
    _known: dict[str, tuple[Kept, ...]] = field(default_factory=dict)

    def find(self, kept: Kept | None, half: int) -> str:
        """The output that holds `kept`, alone or as half 0 or 1 of both keys and values; "" if none does."""
        if kept is None:
            return ""
        for name in self.survey.editor.outputs:
            halves = self._kept(name)
            if halves and halves[half % len(halves)].equals(
                kept if halves[0].which.ndim == 4 else kept.flat()
            ):
                return name
        return ""

    def _kept(self, name: str) -> tuple[Kept, ...]:
        if name not in self._known:
            self._known[name] = self._examined(name)
        return self._known[name]

    def _examined(self, name: str) -> tuple[Kept, ...]:
        shape = self.survey.editor.shape(name)
        if shape is None or len(shape) not in (3, 4, 5) or (len(shape) == 5 and shape[0] != 2):
            return ()
        past = 2 if any(i.role is Role.PAST for i in self.survey.editor.inputs) else 0
        moved = follow(self.survey, self.prober, self.prober.at(3, past, batch=2), name)
        if moved is None or moved.scale != 1.0:
            return ()
        halves = moved.tags if len(shape) == 5 else moved.tags[None]
        return tuple(kept_of(moved, half) for half in halves)
