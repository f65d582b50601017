"""Tiles that meet: messages, multicast, reduction, barriers, the host; and that their order never shows."""

from __future__ import annotations

import numpy as np
import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.instruction import DType, Inst
from isa.operands import Addr, PortRef, Reg, Special
from isa.program import (
    HOST,
    BarrierGroup,
    Channel,
    Direction,
    Endpoint,
    Port,
    Program,
    Reduce,
    Segment,
    Stream,
    StreamPart,
)
from runtime.engine.network import reduce_tree
from runtime.engine.state import TileState
from runtime.machine import Machine
from tests.values.bench import ONE, mesh, same_bits, shuffled

IN, OUT, BARRIER = Direction.IN, Direction.OUT, Direction.BARRIER
N, TMP = Reg(1), Reg(2)
P0, P1 = PortRef(0), PortRef(1)
HERE, THERE = Addr(offset=0), Addr(offset=1024)


def _port(name: str, direction: Direction) -> Port:
    return Port(name, direction)


def _fan(reduce: Reduce, senders: int, cols: int) -> Program:
    """The host's columns go to `senders` tiles, one slice each; what they send is reduced and goes back to it."""
    send: list[Inst] = [
        t.Li(N, 1),
        t.Recv(P0, HERE, N, cols),
        t.Vmuli(HERE, HERE, N, cols, 0.5),
        t.Send(P1, HERE, N, cols),
    ]
    ports = (_port("x", IN), _port("y", OUT))
    roles = [(f"s{i}", send, ports) for i in range(senders)]
    to = [Channel(f"x{i}", (Endpoint(HOST, 0),), (Endpoint(i, 0),)) for i in range(senders)]
    back = Channel("y", tuple(Endpoint(i, 1) for i in range(senders)), (Endpoint(HOST, 0),), reduce)
    parts = tuple(StreamPart(i, i * cols, cols) for i in range(senders))
    streams = (
        Stream("x", IN, DType.F32, senders * cols, parts),
        Stream("y", OUT, DType.F32, cols, (StreamPart(senders, 0, cols),)),
    )
    return mesh(roles, channels=(*to, back), streams=streams)


@pytest.mark.parametrize("senders", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("reduce", [Reduce.SUM, Reduce.MAX])
def test_reduction_in_the_network(senders: int, reduce: Reduce) -> None:
    x = np.random.default_rng(senders).standard_normal((1, senders * 4)).astype(np.float32)
    program = _fan(reduce, senders, 4)
    parts = list(x.reshape(senders, 4) * np.float32(0.5))

    def tree(level: list[np.ndarray]) -> np.ndarray:
        if len(level) == 1:
            return level[0]
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        combine = np.add if reduce is Reduce.SUM else np.maximum
        return tree([combine(*pair) if len(pair) == 2 else pair[0] for pair in pairs])

    segments = (Segment(1, 0, 1),)
    for seed in range(4):
        got = Machine(program, pick=shuffled(seed)).step(segments, {"x": x})["y"]
        assert same_bits(got[0], tree(parts))


def test_the_tree_is_over_neighbours() -> None:
    big, tiny = np.float32(2**24), np.float32(1)
    words = [np.array([v], np.float32).view(np.int32) for v in (big, tiny, tiny, -big)]
    expected = (big + tiny) + (tiny + -big)
    assert reduce_tree(words, Reduce.SUM).view(np.float32)[0] == expected != 2


def _relay() -> Program:
    """The host's rows go to a source tile; it multicasts to two, which double and square, and send on to the host."""

    def body(*work: Inst) -> list[Inst]:
        head: list[Inst] = [
            t.Sys(Reg(8), Special.SEGMENTS),
            t.Loop(Reg(9), Reg(8), 4 + len(work)),
            t.Seg(Reg(9)),
        ]
        return [*head, t.Sys(N, Special.TOKENS), *work]

    def worker(work: Inst) -> list[Inst]:
        return body(t.Recv(P0, HERE, N, 4, 6), t.Copy(THERE, HERE, N, 4, 0, 6), work, t.Send(P1, THERE, N, 4))

    source = body(t.Recv(P0, HERE, N, 4), t.Send(P1, HERE, N, 4))
    double = worker(t.Vadd(THERE, THERE, THERE, N, 4))
    square = worker(t.Vmul(THERE, THERE, THERE, N, 4))
    ports = (_port("x", IN), _port("y", OUT))
    channels = (
        Channel("in", (Endpoint(HOST, 0),), (Endpoint(0, 0),)),
        Channel("both", (Endpoint(0, 1),), (Endpoint(1, 0), Endpoint(2, 0))),
        Channel("left", (Endpoint(1, 1),), (Endpoint(HOST, 0),)),
        Channel("right", (Endpoint(2, 1),), (Endpoint(HOST, 0),)),
    )
    streams = (
        Stream("x", IN, DType.F32, 4, (StreamPart(0, 0, 4),)),
        Stream("y", OUT, DType.F32, 8, (StreamPart(3, 4, 4), StreamPart(2, 0, 4))),
    )
    roles = (("source", source, ports), ("double", double, ports), ("square", square, ports))
    return mesh(roles, channels=channels, streams=streams)


def test_multicast_pitches_and_segments_in_any_order() -> None:
    segments = (Segment(3, 0, 3), Segment(1, 3, 1), Segment(5, 4, 5))
    x = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    program = _relay()
    for seed in range(5):
        got = Machine(program, pick=shuffled(seed)).step(segments, {"x": x})["y"]
        assert same_bits(got, np.concatenate([x + x, x * x], axis=1))


def _pair(a: list[Inst], b: list[Inst], **more: object) -> Program:
    """Two tiles; port 0 of each receives what port 1 of the other sends."""
    ports = (_port("from", IN), _port("to", OUT), _port("wait", BARRIER))
    channels = (
        Channel("ab", (Endpoint(0, 1),), (Endpoint(1, 0),)),
        Channel("ba", (Endpoint(1, 1),), (Endpoint(0, 0),)),
    )
    barriers = (BarrierGroup("all", (Endpoint(0, 2), Endpoint(1, 2))),)
    return mesh((("a", a, ports), ("b", b, ports)), channels=channels, barriers=barriers)


def _fill(value: float) -> list[Inst]:
    return [t.Li(N, 1), t.Vfill(HERE, N, 4, value)]


def test_a_receive_does_not_stop_the_tile() -> None:
    """Both post a receive first and send afterwards: only an access to the words received waits."""
    swap: list[Inst] = [t.Recv(P0, THERE, N, 4), t.Send(P1, HERE, N, 4), t.Vadd(HERE, HERE, THERE, N, 4)]
    machine = Machine(_pair(_fill(1) + swap, _fill(2) + swap))
    machine.step(ONE, {})
    assert [tile.f32(HERE, 1, 4).tolist() for tile in machine.tiles] == [[[3.0] * 4]] * 2


def test_receives_into_the_same_words_keep_their_order() -> None:
    take = [t.Recv(P0, THERE, N, 4), t.Recv(P0, THERE, N, 4)]
    send = [t.Send(P1, HERE, N, 4), t.Vfill(HERE, N, 4, 7.0), t.Send(P1, HERE, N, 4)]
    for seed in range(3):
        machine = Machine(_pair(_fill(1) + take, _fill(2) + send), pick=shuffled(seed))
        machine.step(ONE, {})
        assert machine.tiles[0].f32(THERE, 1, 4).tolist() == [[7.0] * 4]


def test_a_wait_concerns_rows_not_gaps() -> None:
    """The gaps between received rows may be used while the message is on its way."""
    a = [
        t.Li(N, 2),
        t.Vfill(HERE, N, 8, 1.0),
        t.Recv(P0, HERE, N, 4, 8),
        t.Send(P1, Addr(offset=16), N, 4, 8),
    ]
    b = [t.Li(N, 2), t.Recv(P0, HERE, N, 4), t.Vmuli(HERE, HERE, N, 4, 5.0), t.Send(P1, HERE, N, 4)]
    machine = Machine(_pair(a, b))
    machine.step(ONE, {})
    assert machine.tiles[0].f32(HERE, 2, 8).tolist() == [[5.0] * 4 + [1.0] * 4] * 2


def test_messages_without_rows_synchronise() -> None:
    a = [t.Recv(P0, HERE, Reg(0), 4), t.Send(P1, HERE, Reg(0), 4)]
    b = [t.Send(P1, HERE, Reg(0), 4), t.Recv(P0, HERE, Reg(0), 4)]
    Machine(_pair(a, b)).step(ONE, {})


def test_barriers_order_what_goes_through_shared_memory() -> None:
    """Each tile comes to the barrier twice; a message crosses between."""
    rounds: list[Inst] = [
        t.Barrier(PortRef(2)),
        t.Send(P1, HERE, N, 4),
        t.Recv(P0, THERE, N, 4),
        t.Barrier(PortRef(2)),
    ]
    machine = Machine(_pair(_fill(1) + rounds * 2, _fill(2) + rounds * 2), pick=shuffled(1))
    machine.step(ONE, {})
    assert [tile.f32(THERE, 1, 1).tolist() for tile in machine.tiles] == [[[2.0]], [[1.0]]]


def _failure(program: Program) -> str:
    with pytest.raises(CimError) as caught:
        Machine(program).step(ONE, {})
    assert caught.value.diagnostics[0].code == "E0604"
    return str(caught.value)


def test_tiles_that_wait_for_each_other_are_named() -> None:
    wait: list[Inst] = [t.Recv(P0, HERE, N, 4), t.Send(P1, HERE, N, 4)]
    text = _failure(_pair([t.Li(N, 1), *wait], [t.Li(N, 1), *wait]))
    assert "tiles wait for each other: a, b" in text
    assert "role a, instruction 2" in text
    assert "a waits for port from (channel ba)" in text
    assert "b waits for port from (channel ab)" in text


def test_a_barrier_that_one_tile_never_reaches() -> None:
    text = _failure(_pair([t.Barrier(PortRef(2))], []))
    assert "a waits at barrier all" in text


def test_a_message_that_never_comes_holds_a_tile_at_its_end() -> None:
    assert "tiles wait for each other: a" in _failure(_pair([t.Li(N, 1), t.Recv(P0, HERE, N, 4)], []))


def test_a_message_that_no_one_takes() -> None:
    assert "no one took, on ab" in _failure(_pair([*_fill(1), t.Send(P1, HERE, N, 4)], []))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([t.Send(P0, HERE, Reg(0), 1)], "port p0 goes in, not out"),
        ([t.Recv(PortRef(3), HERE, Reg(0), 1)], "there is no port p3"),
        ([t.Li(TMP, -1), t.Barrier(PortRef(0, TMP))], "there is no port p-1"),
    ],
)
def test_bad_ports(code: list[Inst], message: str) -> None:
    assert message in _failure(_pair(code, []))


def test_a_port_without_a_channel() -> None:
    program = mesh((("a", [t.Send(P0, HERE, Reg(0), 1)], (_port("out", OUT),)),))
    assert "port p0 is not connected" in _failure(program)


def test_messages_of_different_sizes() -> None:
    text = _failure(_pair([*_fill(1), t.Send(P1, HERE, N, 3)], [t.Li(N, 1), t.Recv(P0, HERE, N, 4)]))
    assert "channel ab brings 3 words, 4 were expected" in text
    assert "role b, instruction 1" in text


def test_a_receive_is_reported_when_its_message_is_in() -> None:
    seen = []

    def observer(tile: int, index: int, inst: Inst, state: TileState) -> None:
        if isinstance(inst, t.Recv):
            message = state.read(Addr(offset=512), DType.F32, 1, 4)
            seen.append((tile, index, message.tolist()))

    take = [
        t.Li(N, 1),
        t.Li(Reg(7), 512),
        t.Recv(P0, Addr(Reg(7), 0, True), N, 4),
        t.Vneg(THERE, Addr(offset=512), N, 4),
    ]
    send = [*_fill(2.0), t.Send(P1, HERE, N, 4)]
    Machine(_pair(take, send), observer=observer).step(ONE, {})
    assert seen == [(0, 2, [[2.0] * 4])]
