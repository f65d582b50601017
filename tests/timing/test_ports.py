"""Ports: what they share, and in which order messages come."""

from __future__ import annotations

from dataclasses import replace

from isa import instructions as t
from isa.operands import PortRef
from runtime.timing import simulate

from .programs import (
    ONE_TOKEN,
    P0,
    P1,
    Listener,
    R,
    at,
    channel,
    program,
    role,
)

N = t.Li(R(1), 1)


def test_a_port_does_not_wait_for_the_others() -> None:
    # the receiver of port 0 comes at 61
    late = (*(t.Li(R(9), 0) for _ in range(60)), N, t.Recv(P0, at(0), R(1), 64))
    sender = (N, t.Send(P0, at(0), R(1), 64), t.Send(P1, at(0), R(1), 64))
    roles = [
        role("s", sender, ports="oo"),
        role("late", late, ports="i"),
        role("prompt", (N, t.Recv(P0, at(0), R(1), 64)), ports="i"),
    ]
    channels = [channel([(0, 0)], [(1, 0)]), channel([(0, 1)], [(2, 0)])]
    listener = Listener()
    simulate(program(roles, [(0, 0), (1, 0), (0, 1)], channels), ONE_TOKEN, sink=listener)
    assert [(number, start, end) for number, start, end, _ in listener.messages] == [(1, 2, 35), (0, 61, 94)]


def test_ports_share_the_way_into_the_router() -> None:
    # two messages of 256 bytes that leave in different directions
    sender = (N, t.Send(P0, at(0), R(1), 64), t.Send(P1, at(0), R(1), 64))
    receiver = role("r", (N, t.Recv(P0, at(0), R(1), 64)), ports="i")
    channels = [channel([(0, 0)], [(1, 0)]), channel([(0, 1)], [(2, 0)])]
    listener = Listener()
    roles = [role("s", sender, ports="oo"), receiver, replace(receiver, name="q")]
    simulate(program(roles, [(0, 0), (1, 0), (0, 1)], channels), ONE_TOKEN, sink=listener)
    assert [end for _, _, end, _ in listener.messages] == [1 + 1 + 32, 1 + 32 + 1 + 32]


def test_messages_of_a_channel_arrive_in_order() -> None:
    # the second is short, and would pass the first on the links
    sender = (N, t.Send(P0, at(0), R(1), 64), t.Send(P0, at(512), R(1), 1))
    receiver = (N, t.Recv(P0, at(0), R(1), 64), t.Recv(PortRef(0), at(512), R(1), 1))
    roles = [role("s", sender, ports="o"), role("r", receiver, ports="i")]
    listener = Listener()
    simulate(program(roles, [(0, 0), (3, 0)], [channel([(0, 0)], [(1, 0)])]), ONE_TOKEN, sink=listener)
    ends = [end for _, _, end, _ in listener.messages]
    assert ends == sorted(ends)
