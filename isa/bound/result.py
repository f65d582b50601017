"""What a lower bound is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Limit(Enum):
    """What a step waits for, or what is busy all the time."""

    ARRAYS = "arrays"
    VECTOR = "vector"
    NETWORK = "network"
    DRAM = "dram"
    HOST_LINK = "host_link"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Spent:
    """Cycles of a chain of operations that wait for each other, by what they wait for."""

    by: Mapping[Limit, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All cycles."""
        return sum(self.by.values())

    def __add__(self, other: Spent) -> Spent:
        both = {limit: self.by.get(limit, 0.0) + other.by.get(limit, 0.0) for limit in (*self.by, *other.by)}
        return Spent(both)

    def times(self, count: int) -> Spent:
        """The chain run `count` times, one after another."""
        return Spent({limit: count * cycles for limit, cycles in self.by.items()})


def spent(limit: Limit, cycles: float) -> Spent:
    """Cycles of one kind."""
    return Spent({limit: cycles})


def longest(chains: list[Spent]) -> Spent:
    """The longest of chains that run side by side; nothing if there are none."""
    return max(chains, key=lambda chain: chain.total, default=Spent())


@dataclass(frozen=True, slots=True)
class Term:
    """A lower bound by itself: `cycles`, of which `limit` says what most of them are."""

    name: str
    limit: Limit
    cycles: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The least cycles that a step can take on a target: the largest of the terms."""

    cycles: int
    terms: tuple[Term, ...]
    chain: Mapping[Limit, int]
    """What the first row's way through the model waits for."""

    @property
    def binding(self) -> Limit:
        """The resource that binds."""
        return max(self.terms, key=lambda term: term.cycles).limit if self.terms else Limit.ARRAYS
