"""Programs written by hand for the tests of time and energy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from isa import instructions as t
from isa.hardware import Hardware, load_target
from isa.instruction import Inst, Unit
from isa.operands import Addr, ArrayRef, PortRef, Reg
from isa.program import (
    ArrayKind,
    ArraySpec,
    BarrierGroup,
    Channel,
    Direction,
    Endpoint,
    Limits,
    Port,
    Program,
    Reduce,
    Role,
    Segment,
    Stream,
    Tile,
)

R = Reg
ONE_TOKEN = (Segment(1, 0, 0),)
A0, A1, A2 = ArrayRef(0), ArrayRef(1), ArrayRef(2)
P0, P1, P2, P3 = (PortRef(i) for i in range(4))


@cache
def tiny() -> Hardware:
    """The target the closed forms are written for."""
    return load_target("tiny")


def changed(target: Hardware, **values: float) -> Hardware:
    """`target` with other constants; `macro__mvm_latency=20.0` sets the value of `macro.mvm_latency`."""
    copy = target.model_dump(mode="json")
    for path, value in values.items():
        section, name = path.split("__")
        copy[section][name]["value"] = value
    return Hardware.model_validate(copy)


def at(offset: int, base: int = 0, step: bool = False) -> Addr:
    """A buffer address."""
    return Addr(R(base), offset, step)


def array(name: str, rows: int, cols: int, kind: ArrayKind = ArrayKind.WEIGHT) -> ArraySpec:
    """An array of int8."""
    return ArraySpec(name, kind, rows, cols)


def role(
    name: str,
    code: Sequence[Inst],
    arrays: Sequence[ArraySpec] = (),
    ports: str = "",
    params: int = 0,
    sites: Sequence[str] = (),
    lines: Sequence[int] = (),
) -> Role:
    """A role; `ports` is a letter for each: i(n), o(ut), b(arrier)."""
    directions = {"i": Direction.IN, "o": Direction.OUT, "b": Direction.BARRIER}
    return Role(
        name,
        (*code, t.Halt()),
        params=tuple(f"p{i}" for i in range(params)),
        arrays=tuple(arrays),
        ports=tuple(Port(f"port{i}", directions[c]) for i, c in enumerate(ports)),
        sites=tuple(sites),
        lines=tuple(lines),
    )


def program(
    roles: Sequence[Role],
    places: Sequence[tuple[int, int]] = ((0, 0),),
    channels: Sequence[Channel] = (),
    barriers: Sequence[BarrierGroup] = (),
    streams: Sequence[Stream] = (),
    target: Hardware | None = None,
    params: Sequence[tuple[int, ...]] = (),
    nodes: Sequence[tuple[str, ...]] = (),
) -> Program:
    """A program with one tile a role, in order, at these places."""
    tiles = tuple(
        Tile(
            f"t{i}",
            r.name,
            *places[i],
            params=params[i] if params else (),
            nodes=nodes[i] if nodes else (),
        )
        for i, r in enumerate(roles)
    )
    unique = {r.name: r for r in roles}
    return Program(
        target or tiny(),
        Limits(1024, 16),
        tuple(unique.values()),
        tiles,
        tuple(channels),
        tuple(barriers),
        streams=tuple(streams),
    )


def single(*code: Inst, arrays: Sequence[ArraySpec] = (), target: Hardware | None = None) -> Program:
    """A program of one tile."""
    return program([role("main", code, arrays)], target=target)


def channel(sources: Sequence[tuple[int, int]], dests: Sequence[tuple[int, int]]) -> Channel:
    """A channel between (tile, port) ends; sums if there are several senders."""
    reduce = Reduce.SUM if len(sources) > 1 else Reduce.NONE
    return Channel("c", tuple(Endpoint(*e) for e in sources), tuple(Endpoint(*e) for e in dests), reduce)


class Listener:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.ops: list[tuple[int, Unit, int, int, int]] = []
        self.messages: list[tuple[int, int, int, int]] = []
        self.steps: list[int] = []
        self.nodes: list[str] = []

    def on_op(self, tile: int, unit: Unit, start: int, end: int, role: str, index: int, node: str) -> None:
        self.ops.append((tile, unit, start, end, index))
        self.nodes.append(node)

    def on_message(self, channel: int, start: int, end: int, sources: Any, dests: Any, size: int) -> None:
        self.messages.append((channel, start, end, size))

    def on_step(self, cycles: int, tokens: int, source_rows: int) -> None:
        self.steps.append(cycles)

    def times(self, unit: Unit) -> list[tuple[int, int]]:
        """(start, end) of the operations of a unit, in the order of their ends."""
        return [(start, end) for _, u, start, end, _ in self.ops if u is unit]
