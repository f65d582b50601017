"""Rendezvous, routes, contention, reduction, host, barriers.

tiny: links of 8 bytes a cycle, 1 cycle a hop, adders in routers 4 cycles; host link 55 bytes a cycle, 90 cycles.
"""

from __future__ import annotations

import pytest

from isa import instructions as t
from isa.diagnostics import CimError
from isa.events import Bound, Event, Resource
from isa.instruction import DType, Inst, Unit
from isa.operands import ArrayRef, Mem, PortRef, Space, Special
from isa.program import HOST, BarrierGroup, Direction, Endpoint, Program, Segment, Stream, StreamPart
from runtime.timing import Simulator, simulate
from runtime.timing.links import Link

from .programs import (
    ONE_TOKEN,
    P0,
    P1,
    Listener,
    R,
    array,
    at,
    changed,
    channel,
    program,
    role,
    tiny,
)

N = t.Li(R(1), 1)


def wait(cycles: int) -> tuple[Inst, ...]:
    return tuple(t.Li(R(9), 0) for _ in range(cycles))


def send(words: int = 64, port: PortRef = P0) -> Inst:
    return t.Send(port, at(0), R(1), words)


def recv(words: int = 64, port: PortRef = P0, to: int = 0) -> Inst:
    return t.Recv(port, at(to), R(1), words)


def pair(sender: tuple[Inst, ...], receiver: tuple[Inst, ...], place: tuple[int, int] = (3, 2)) -> Program:
    roles = [role("s", sender, ports="o"), role("r", receiver, ports="i")]
    return program(roles, [(0, 0), place], [channel([(0, 0)], [(1, 0)])])


def messages(p: Program) -> list[tuple[int, int]]:
    listener = Listener()
    simulate(p, ONE_TOKEN, sink=listener)
    return [(start, end) for _, start, end, _ in listener.messages]


def test_head_takes_hops_and_the_tail_follows() -> None:
    # 5 hops; 256 bytes over 8 a cycle
    assert messages(pair((N, send()), (N, recv()))) == [(1, 1 + 5 + 32)]


def test_rendezvous_waits_for_both() -> None:
    assert messages(pair((N, send()), (N, *wait(50), recv()))) == [(51, 51 + 37)]
    assert messages(pair((N, *wait(50), send()), (N, recv()))) == [(51, 51 + 37)]


def test_a_message_without_rows_costs_the_head_only() -> None:
    p = pair((N, t.Send(P0, at(0), R(0), 64)), (N, t.Recv(P0, at(0), R(0), 64)))
    assert messages(p) == [(1, 1 + 5)]
    result = simulate(p, ONE_TOKEN)
    assert (result.messages, result.message_bytes, result.count(Event.HOP_BYTE)) == (1, 0, 0)


def test_events_of_a_message() -> None:
    result = simulate(pair((N, send()), (N, recv())), ONE_TOKEN)
    assert result.count(Event.HOP_BYTE) == 5 * 256
    assert result.count(Event.BUFFER_READ_BYTE) == result.count(Event.BUFFER_WRITE_BYTE) == 256
    assert result.busy[Resource.LINKS] == 5 * 32


def test_sends_of_a_tile_go_one_after_another() -> None:
    assert messages(pair((N, send(), send()), (N, recv(), recv()))) == [(1, 38), (38, 75)]


def test_compute_goes_on_while_a_message_is_awaited() -> None:
    receiver = (N, recv(to=0), t.Vfill(at(4096), R(1), 64, 0.0), t.Vrelu(at(8192), at(0), R(1), 64))
    listener = Listener()
    simulate(pair((N, send()), receiver), ONE_TOKEN, sink=listener)
    assert listener.times(Unit.VECTOR) == [(2, 2 + 4 + 8), (38, 38 + 4 + 16)]


def test_a_sent_range_is_not_overwritten_before_it_is_gone() -> None:
    sender = (N, send(), t.Vfill(at(0), R(1), 8, 0.0))
    listener = Listener()
    simulate(pair(sender, (N, *wait(20), recv())), ONE_TOKEN, sink=listener)
    assert listener.times(Unit.VECTOR)[0][0] == 21 + 32  # it has left; the receiver has it 5 hops later


def crossing(late: int, words: int = 64) -> Program:
    """Two messages, the later of `words`, that share the links from (1, 0) to (2, 0) to (3, 0)."""
    roles = [
        role("s", (N, send()), ports="o"),
        role("late", (N, *wait(late), send(words)), ports="o"),
        role("r", (N, recv()), ports="i"),
        role("q", (N, recv(words)), ports="i"),
    ]
    places = [(0, 0), (1, 0), (3, 0), (3, 1)]
    return program(roles, places, [channel([(0, 0)], [(2, 0)]), channel([(1, 0)], [(3, 0)])])


def test_messages_that_share_a_link_wait_for_it() -> None:
    listener = Listener()
    simulate(crossing(late=5), ONE_TOKEN, sink=listener)
    # the first holds link (1,0)-(2,0) during 2..34; the second is ready at 6, its head goes on at 34
    assert [(start, end) for _, start, end, _ in listener.messages] == [(1, 1 + 3 + 32), (6, 34 + 3 + 32)]


def test_a_short_message_passes_a_long_one() -> None:
    # 8 bytes take a cycle: they do not wait until 34 for the first message to leave the link
    assert messages(crossing(late=5, words=2)) == [(1, 1 + 3 + 32), (6, 6 + 3 + 1)]
    assert messages(crossing(late=5, words=3)) == [(1, 1 + 3 + 32), (6, 34 + 3 + 2)]


def test_short_messages_wait_for_each_other_and_take_cycles_from_long_ones() -> None:
    link = Link(Bound.NETWORK, 1, 8.0)
    began = []
    for record, (ready, cycles) in enumerate([(0, 10), (3, 1), (3, 1), (4, 10)]):
        begin, taken, _ = link.take(ready, 8 * cycles)
        link.hold(begin, taken, 8 * cycles, record)
        began.append(begin)
    assert began == [0, 3, 4, 10 + 2]
    assert link.busy == 22


def test_a_short_message_takes_the_first_cycle_that_no_other_has() -> None:
    link = Link(Bound.NETWORK, 1, 8.0)

    def take(ready: int) -> int:
        begin, taken, _ = link.take(ready, 8)
        link.hold(begin, taken, 8, 0)
        return begin

    # one that comes late on its way does not keep those behind it from going before
    assert [take(ready) for ready in (100, 3, 99, 99, 3, 100)] == [100, 3, 99, 101, 4, 102]


def test_the_first_to_be_ready_gets_the_link() -> None:
    # now the second is ready at 1, before the head of the first is there at 2
    listener = Listener()
    simulate(crossing(late=0), ONE_TOKEN, sink=listener)
    ends = {number: end for number, _, end, _ in listener.messages}
    assert sorted(ends.values())[0] < sorted(ends.values())[1]
    assert max(ends.values()) >= 1 + 2 * 32


def test_a_sender_is_free_when_the_last_byte_has_left() -> None:
    # two messages of 256 bytes one after the other: the second follows the first at the link's 32 cycles
    roles = [role("s", (N, send(), send(port=P1)), ports="oo"), role("r", (N, recv()), ports="i")]
    channels = [channel([(0, 0)], [(1, 0)]), channel([(0, 1)], [(2, 0)])]
    p = program([roles[0], roles[1], roles[1]], [(0, 0), (2, 0), (2, 3)], channels)
    assert [end for _, end in messages(p)] == [1 + 2 + 32, 1 + 32 + 5 + 32]


def test_multicast_shares_the_common_path() -> None:
    roles = [role("s", (N, send()), ports="o"), role("r", (N, recv()), ports="i")]
    p = program(
        [roles[0], roles[1], roles[1]], [(0, 0), (2, 0), (2, 3)], [channel([(0, 0)], [(1, 0), (2, 0)])]
    )
    listener = Listener()
    result = simulate(p, ONE_TOKEN, sink=listener)
    ends = {tile: end for tile, unit, _, end, _ in listener.ops if unit is Unit.NETWORK}
    assert ends == {0: 1 + 32, 1: 1 + 2 + 32, 2: 1 + 5 + 32}
    assert result.count(Event.HOP_BYTE) == 5 * 256  # not 7


def test_reduction_joins_in_a_tree_towards_the_first_receiver() -> None:
    roles = [role("s", (N, send()), ports="o"), role("r", (N, recv()), ports="i")]
    places = [(0, 0), (1, 0), (3, 0)]
    p = program([roles[0], roles[0], roles[1]], places, [channel([(0, 0), (1, 0)], [(2, 0)])])
    # 3 hops and one level of adders at (1, 0)
    assert messages(p) == [(1, 1 + 3 + 4 + 32)]
    result = simulate(p, ONE_TOKEN)
    assert result.count(Event.REDUCE_OP) == 64
    assert result.count(Event.HOP_BYTE) == 3 * 256


def test_reduction_to_several_receivers_spreads_from_the_first() -> None:
    roles = [role("s", (N, send()), ports="o"), role("r", (N, recv()), ports="i")]
    places = [(0, 0), (2, 0), (1, 0), (1, 2)]
    p = program(
        [roles[0], roles[0], roles[1], roles[1]], places, [channel([(0, 0), (1, 0)], [(2, 0), (3, 0)])]
    )
    listener = Listener()
    simulate(p, ONE_TOKEN, sink=listener)
    ends = {tile: end for tile, unit, _, end, index in listener.ops if unit is Unit.NETWORK}
    assert ends[2] == 1 + 1 + 4 + 32
    assert ends[3] == 1 + 1 + 4 + 2 + 32


def test_chip_links_are_slower() -> None:
    two = changed(tiny(), system__chips_x=2, chip_link__bandwidth=4)
    roles = [role("s", (N, send()), ports="o"), role("r", (N, recv()), ports="i")]
    p = program(roles, [(5, 0), (7, 0)], [channel([(0, 0)], [(1, 0)])], target=two)
    result = simulate(p, ONE_TOKEN)
    assert result.cycles == 1 + 20 + 1 + 64  # 256 bytes over 4 a cycle
    assert result.count(Event.CHIP_LINK_BYTE) == result.count(Event.HOP_BYTE) == 256
    assert result.bound_by is Bound.CHIP_LINKS


def hosted() -> Program:
    stay = (t.Sys(R(1), Special.TOKENS), t.Sys(R(2), Special.OUTPUTS))
    body = (t.Vfill(at(1024), R(2), 256, 0.0), t.Recv(P0, at(0), R(1), 1), t.Send(P1, at(1024), R(2), 256))
    code = (t.Sys(R(3), Special.SEGMENTS), t.Loop(R(4), R(3), 8), t.Seg(R(4)), *stay, *body)
    channels = [channel([(HOST, 0)], [(0, 0)]), channel([(0, 1)], [(HOST, 0)])]
    streams = [
        Stream("input_ids", Direction.IN, DType.I32, 1, (StreamPart(0, 0, 1),)),
        Stream("logits", Direction.OUT, DType.F32, 256, (StreamPart(1, 0, 256),)),
    ]
    return program([role("io", code, ports="io")], [(1, 0)], channels, streams=streams)


def test_host_messages_cross_the_host_link() -> None:
    listener = Listener()
    result = simulate(hosted(), (Segment(4, 0, 0), Segment(1, 4, 1)), sink=listener)
    ids, logits = 90 + 1 + 2, 1 + 90 + 128  # 16 bytes / 8 a cycle; 1024 bytes / 8 a cycle
    times = [(end - start, size) for _, start, end, size in listener.messages]
    assert sorted(times) == sorted([(ids, 16), (91, 0), (90 + 1 + 1, 4), (logits, 1024)])
    assert result.count(Event.HOST_LINK_BYTE) == 16 + 4 + 1024
    assert result.critical[Bound.HOST_LINK] > result.cycles * 0.8
    assert result.tokens == 5


def test_steps_do_not_depend_on_each_other() -> None:
    simulator = Simulator(hosted())
    first = simulator.step((Segment(2, 0, 2),))
    simulator.step((Segment(4, 0, 0), Segment(1, 4, 1)))
    assert simulator.step((Segment(2, 0, 2),)) == first


def test_dram_is_shared_by_the_tiles_of_a_chip() -> None:
    load = role("l", (N, t.Load(at(0), Mem(Space.DRAM), R(1), 128)))
    alone = simulate(program([load]), ONE_TOKEN)
    both = simulate(program([load, load], [(0, 0), (1, 0)]), ONE_TOKEN)
    assert alone.cycles == 1 + 100 + 32
    assert both.cycles == 1 + 100 + 64  # the second waits for 32 cycles; latencies overlap
    assert both.critical == {Bound.SEQUENCER: 1, Bound.DRAM: 164}


def test_barrier_waits_for_all_and_for_what_is_in_flight() -> None:
    work = (
        N,
        t.Mvm(ArrayRef(0), at(1024), at(0), R(1), R(0), 64),
        t.Barrier(P0),
        t.Vfill(at(0), R(1), 8, 0.0),
    )
    idle = (N, t.Barrier(P0), t.Vfill(at(0), R(1), 8, 0.0))
    roles = [role("w", work, [array("a", 64, 16)], "b"), role("i", idle, ports="b")]
    group = BarrierGroup("all", (Endpoint(0, 0), Endpoint(1, 0)))
    listener = Listener()
    result = simulate(program(roles, [(0, 0), (3, 0)], barriers=[group]), ONE_TOKEN, sink=listener)
    starts = {tile: start for tile, unit, start, _, _ in listener.ops if unit is Unit.VECTOR}
    assert starts == {0: 11 + 3, 1: 11 + 3 + 3}  # from the last arrival on: to the first member, and back
    assert result.messages == 0
    assert result.count(Event.HOP_BYTE) == 2 * 3 * 4


def test_deadlock_is_a_diagnostic() -> None:
    with pytest.raises(CimError) as caught:
        simulate(pair((N, send(), send()), (N, recv())), ONE_TOKEN)
    assert caught.value.diagnostics[0].code == "E0405"
    roles = [role("a", (N, recv(port=P0), t.Vrelu(at(0), at(0), R(1), 8), send(port=P1)), ports="io")]
    p = program(roles * 2, [(0, 0), (1, 0)], [channel([(0, 1)], [(1, 0)]), channel([(1, 1)], [(0, 0)])])
    with pytest.raises(CimError) as caught:
        simulate(p, ONE_TOKEN)
    problem = caught.value.diagnostics[0]
    assert problem.code == "E0406"
    assert len(problem.notes) == 2


def test_messages_of_different_size_are_a_diagnostic() -> None:
    with pytest.raises(CimError) as caught:
        simulate(pair((N, send(8)), (N, recv(9))), ONE_TOKEN)
    assert caught.value.diagnostics[0].code == "E0405"


def test_a_message_that_is_held_up_leaves_the_links_before_it_to_others() -> None:
    link = Link(Bound.NETWORK, 1, 8.0)

    def take(ready: int, cycles: int) -> int:
        begin, taken, _ = link.take(ready, 8 * cycles)
        link.hold(begin, taken, 8 * cycles, 0)
        return begin

    assert take(100, 10) == 100  # its head comes at 100
    assert take(20, 30) == 20
    assert take(20, 40) == 50
    assert take(20, 11) == 110  # 90..100 is too short
    assert take(20, 10) == 90
    assert take(20, 10) == 121
    assert link.busy == 111


def test_messages_that_follow_each_other_share_a_cycle() -> None:
    link = Link(Bound.HOST_LINK, 1, 55.0)

    def take(ready: int, size: int) -> tuple[int, int]:
        begin, cycles, _ = link.take(ready, size)
        link.hold(begin, cycles, size, 0)
        return begin, cycles

    # 512 bytes take 9.3 cycles: the first 10, of which the next ones use what is left
    assert [take(0, 512) for _ in range(4)] == [(0, 10), (10, 9), (19, 9), (28, 10)]
    assert take(100, 512) == (100, 10)
    assert link.busy == 48
