"""Tiles of one role that differ by their parameters, loops around messages, and very many tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isa import instructions as t
from isa.hardware import load_target
from isa.instruction import Inst
from isa.operands import PortRef, Reg, Special
from isa.program import Channel, Direction, Endpoint, Limits, Port, Program, Role, Tile
from isa.verifier import findings

from .assembly import Item, Loop, Unless, at, flatten, tiny

R = Reg
ONE, TOKENS, PARAM, SIZE, I, J = R(1), R(3), R(10), R(11), R(20), R(21)
LIMITS = Limits(64, 8)


def each_segment(*items: Item) -> tuple[Inst, ...]:
    """Items in a loop over the segments, behind some words to send."""
    code: list[Item] = [
        t.Li(ONE, 1),
        t.Ldp(PARAM, 0),
        t.Vfill(at(0), ONE, 64, 1.0),
        t.Sys(R(9), Special.SEGMENTS),
        Loop(2, R(9), [t.Seg(R(2)), t.Sys(TOKENS, Special.TOKENS), *items]),
        t.Halt(),
    ]
    return tuple(flatten(code))


def ports(out: int, inward: int) -> tuple[Port, ...]:
    """Ports out, then in."""
    return tuple(Port(f"p{n}", Direction.OUT if n < out else Direction.IN) for n in range(out + inward))


def role(name: str, code: tuple[Inst, ...], out: int, inward: int) -> Role:
    """A role with one parameter."""
    return Role(name, code, ("part",), ports=ports(out, inward))


def joined(roles: list[Role], fill: list[tuple[str, int]], wires: list[tuple[int, int, int, int]]) -> Program:
    """Tiles that fill roles with a parameter, joined by (tile, port, tile, port)."""
    return Program(
        tiny(),
        LIMITS,
        tuple(roles),
        tuple(Tile(f"t{n}", name, n % 6, n // 6, (part,)) for n, (name, part) in enumerate(fill)),
        tuple(Channel(f"c{n}", (Endpoint(a, p),), (Endpoint(b, q),)) for n, (a, p, b, q) in enumerate(wires)),
    )


def codes(program: Program) -> list[str]:
    """The codes of what is found."""
    return [finding.code for finding in findings(program)]


def test_a_branch_on_a_parameter_takes_tiles_apart() -> None:
    """The first tile of a chain only sends, the last only receives."""
    code = each_segment(
        Unless(t.Beq, PARAM, 0, [t.Recv(PortRef(1), at(64), TOKENS, 1)]),
        Unless(t.Beq, PARAM, 2, [t.Send(PortRef(0), at(64), TOKENS, 1)]),
    )
    fill = [("link", n) for n in range(3)]
    start = Role("link", code, ("part",), ports=ports(1, 1))
    spare = [(2, 0, 0, 1)]
    program = joined([start], fill, [(0, 0, 1, 1), (1, 0, 2, 1), *spare])
    assert codes(program) == []
    assert codes(
        joined([start], [("link", 0), ("link", 1), ("link", 1)], [(0, 0, 1, 1), (1, 0, 2, 1), *spare])
    ) == ["E0405"]


def test_the_port_comes_from_a_parameter() -> None:
    """Tile n sends on its port n; the receiver takes from both."""
    sender = role("sender", each_segment(t.Send(PortRef(0, PARAM), at(0), TOKENS, 1)), 2, 0)
    takes = [t.Recv(PortRef(n), at(64 * n), TOKENS, 1) for n in range(2)]
    taker = role("taker", each_segment(*takes), 0, 4)
    wires = [(0, 0, 2, 0), (1, 1, 2, 1), (0, 1, 2, 2), (1, 0, 2, 3)]
    good = joined([sender, taker], [("sender", 0), ("sender", 1), ("taker", 0)], wires)
    assert codes(good) == []
    assert codes(
        replace(good, tiles=(good.tiles[0], replace(good.tiles[1], params=(0,)), good.tiles[2]))
    ) == [
        "E0405",
        "E0405",
    ]
    assert codes(
        replace(good, tiles=(good.tiles[0], replace(good.tiles[1], params=(2,)), good.tiles[2]))
    ) == ["E0401"]


@pytest.mark.parametrize(("second", "expected"), [(3, []), (4, ["E0405"])])
def test_sizes_come_from_parameters(second: int, expected: list[str]) -> None:
    """Rows = min(max(tokens - part, 0), 5): the same in both tiles if the parameters are."""
    rows = [t.Sub(SIZE, TOKENS, PARAM), t.Max(SIZE, SIZE, 0), t.Min(SIZE, SIZE, 5)]
    sender = role("sender", each_segment(*rows, t.Send(PortRef(0), at(0), SIZE, 1)), 1, 0)
    taker = role("taker", each_segment(*rows, t.Recv(PortRef(0), at(0), SIZE, 1)), 0, 1)
    other = [("sender", 1), ("taker", 1)]
    fill = [("sender", 3), ("taker", second), *other]
    assert codes(joined([sender, taker], fill, [(0, 0, 1, 0), (2, 0, 3, 0)])) == expected


def test_loops_around_messages() -> None:
    """A count from a parameter, ports and addresses from the counter; the other side has them one by one."""
    body: list[Item] = [t.Shl(J, I, 5), t.Send(PortRef(0, I), at(0, J.index), TOKENS, 1)]
    sender = role("sender", each_segment(Loop(I.index, PARAM, body)), 3, 0)
    taker = role("taker", each_segment(t.Recv(PortRef(0), at(0), TOKENS, 1)), 0, 1)
    fill = [("sender", 3), ("taker", 0), ("taker", 0), ("taker", 0), ("sender", 1), ("taker", 0)]
    idle = role("idle", each_segment(t.Add(I, I, 0)), 0, 2)
    wires = [(0, 0, 1, 0), (0, 1, 2, 0), (0, 2, 3, 0), (4, 0, 5, 0), (4, 1, 6, 0), (4, 2, 6, 1)]
    assert codes(joined([sender, taker, idle], [*fill, ("idle", 0)], wires)) == []


def test_messages_of_a_loop_go_to_one_port_in_order() -> None:
    sends: list[Item] = [Loop(I.index, 4, [t.Shl(J, I, 5), t.Send(PortRef(0), at(0, J.index), TOKENS, 2)])]
    takes: list[Item] = [t.Recv(PortRef(0), at(64 * n), TOKENS, 2) for n in range(4)]
    sender, taker = role("s", each_segment(*sends), 1, 0), role("t", each_segment(*takes), 0, 1)
    assert codes(joined([sender, taker], [("s", 0), ("t", 0)], [(0, 0, 1, 0)])) == []
    short = role("t", each_segment(*takes[:3]), 0, 1)
    assert codes(joined([sender, short], [("s", 0), ("t", 0)], [(0, 0, 1, 0)])) == ["E0405"]


def test_receives_posted_ahead_break_a_circle() -> None:
    """Two tiles that both send first wait for each other; if both post their receive before, none does."""
    receive, send = t.Recv(PortRef(1), at(512), TOKENS, 1), t.Send(PortRef(0), at(0), TOKENS, 1)
    wires = [(0, 0, 1, 1), (1, 0, 0, 1)]
    for items, expected in (((receive, send), []), ((send, receive), [])):
        swap = role("swap", each_segment(*items), 1, 1)
        assert codes(joined([swap], [("swap", 0), ("swap", 1)], wires)) == expected
    over = role("swap", each_segment(send, t.Recv(PortRef(1), at(32), TOKENS, 1)), 1, 1)
    assert codes(joined([over], [("swap", 0), ("swap", 1)], wires)) == [
        "E0406"
    ]  # into the granule being sent
    used = role("swap", each_segment(receive, t.Vexp(at(64), at(512), ONE, 1), send), 1, 1)
    assert codes(joined([used], [("swap", 0), ("swap", 1)], wires)) == ["E0406"]


@pytest.mark.parametrize(
    ("distance", "target", "expected"),
    [
        (128, 64, []),  # two places of two granules: what is sent is apart from what comes back
        (128, 32, ["E0406"]),  # into the granule being sent
        (96, 64, ["E0406"]),  # the second place begins within a granule: ranges are compared as wholes
    ],
)
def test_offsets_behind_the_same_place_are_compared(distance: int, target: int, expected: list[str]) -> None:
    place: list[Item] = [t.And(I, R(2), 1), t.Mul(I, I, distance)]
    send = t.Send(PortRef(0), at(0, I.index), ONE, 8)
    receive = t.Recv(PortRef(1), at(target, I.index), ONE, 8)
    swap = role("swap", each_segment(*place, send, receive), 1, 1)
    program = joined([swap], [("swap", 0), ("swap", 1)], [(0, 0, 1, 1), (1, 0, 0, 1)])
    assert codes(program) == expected


COUNT = 5000


def _many(roles: list[Role], names: list[str], channels: list[Channel]) -> Program:
    """A tile for each name, all over a mesh with room for them."""
    target = load_target("dcim22-system")
    width = target.mesh_x
    tiles = tuple(Tile(f"t{n}", name, n % width, n // width, (n,)) for n, name in enumerate(names))
    return Program(target, LIMITS, tuple(roles), tiles, tuple(channels))


def _work() -> list[Item]:
    """Take, use and pass on, eight times."""
    take, use = t.Recv(PortRef(1), at(512), TOKENS, 1), t.Vexp(at(0), at(512), TOKENS, 1)
    return [take, use, t.Send(PortRef(0), at(0), TOKENS, 1)] * 8


def test_a_pipeline_of_thousands_of_tiles() -> None:
    sends = [item for item in _work() if isinstance(item, t.Send)]
    takes = [t.Recv(PortRef(0), at(512), TOKENS, 1)] * len(sends)
    roles = [
        role("first", each_segment(*sends), 1, 0),
        role("link", each_segment(*_work()), 1, 1),
        role("last", each_segment(*takes), 0, 1),
    ]
    channels = [
        Channel(f"c{n}", (Endpoint(n, 0),), (Endpoint(n + 1, 0 if n == COUNT - 2 else 1),))
        for n in range(COUNT - 1)
    ]
    assert findings(_many(roles, ["first", *["link"] * (COUNT - 2), "last"], channels)) == ()


def test_a_ring_of_thousands_of_tiles() -> None:
    channels = [Channel(f"c{n}", (Endpoint(n, 0),), (Endpoint((n + 1) % COUNT, 1),)) for n in range(COUNT)]
    (finding,) = findings(_many([role("link", each_segment(*_work()), 1, 1)], ["link"] * COUNT, channels))
    assert finding.code == "E0406"
    assert finding.message.startswith(
        "t0 waits to receive on c4999 from t4999; t4999 waits to receive on c4998"
    )
    assert finding.message.endswith("(4988 more)")
