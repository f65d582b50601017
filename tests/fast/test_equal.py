"""The fast engine finds what the reference engine finds: whole step costs, of all kinds of programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.hardware import Hardware
from isa.instruction import Inst
from isa.operands import Addr, Mem, PortRef, Space, Special
from isa.program import ArrayKind, Channel, Endpoint, Program, Reduce, Replica, Segment
from runtime.fast.simulator import FastSimulator
from runtime.fast.steps import Step
from runtime.segments import source_segments_of
from runtime.timing import simulate
from tests.fast.calls import calls_of
from tests.timing.programs import A0, A1, ONE_TOKEN, R, array, at, changed, program, role, tiny
from tests.timing.test_messages import crossing as crossing_messages
from tests.timing.test_messages import hosted
from tests.timing.test_properties import attention, grid
from tests.values.crossing import crossing

_N = R(1)


def assert_equal(p: Program, *steps: Sequence[Segment]) -> None:
    """Both engines agree, and the fast one needs no help; a step leaves behind for the next how it passed, at most."""
    expected = [simulate(p, segments) for segments in steps]
    for reuse in (False, True):
        fast = FastSimulator(p, reuse=reuse)
        assert [fast.alone(segments) for segments in (*steps, *steps)] == [*expected, *expected]


def machine(queue: int, window: int, granule: int, width: float) -> Hardware:
    """A target with other queues, granules and links."""
    return changed(
        tiny(), tile__queue=queue, tile__window=window, tile__granule=granule, network__link_width=width
    )


_PLACES = st.builds(
    lambda block, base, step: Addr(R(base), 256 * block, step),
    st.integers(0, 40),
    st.integers(2, 3),
    st.booleans(),
)
_OPS = st.one_of(
    st.builds(lambda a, d, s: t.Mvm(a, d, s, _N, R(0), 64), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(lambda a, d, s: t.Mvmt(a, d, s, _N, R(0), 100), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(
        lambda a, s, r: t.Wrow(a, s, at(0), _N, R(r)), st.sampled_from([A0, A1]), _PLACES, st.integers(4, 5)
    ),
    st.builds(lambda d, s: t.Vexp(d, s, _N, 48), _PLACES, _PLACES),
    st.builds(lambda d, a, b: t.Vadd(d, a, b, _N, 48), _PLACES, _PLACES, _PLACES),
    st.builds(lambda d, s: t.Copy(d, s, _N, 32), _PLACES, _PLACES),
    st.builds(lambda d, space: t.Load(d, Mem(space), _N, 64), _PLACES, st.sampled_from(Space)),
    st.builds(lambda d: t.Vfill(d, _N, 20, 1.0), _PLACES),
    st.builds(lambda n: t.Li(_N, n), st.integers(0, 9)),
    st.builds(lambda n: t.Li(R(4), n), st.integers(0, 50)),
)
_SOME = st.lists(_OPS, min_size=1, max_size=10)
_MACHINES = st.builds(
    machine,
    st.sampled_from([1, 2, 5, 64]),
    st.sampled_from([1, 2, 16]),
    st.sampled_from([16, 64]),
    st.sampled_from([8, 55, 300]),
)


def _looped(code: Sequence[Inst], passes: int) -> tuple[Inst, ...]:
    """The code, so many times."""
    head = (t.Li(_N, 3), t.Li(R(4), 0), t.Loop(R(6), passes, 3 + len(code)))
    return (*head, *code, t.Li(R(2), 0))


_ARRAYS = (array("a", 128, 32, ArrayKind.KV), array("b", 128, 48, ArrayKind.KV))


@settings(max_examples=40)
@given(_SOME, st.integers(1, 5), _MACHINES)
def test_random_work_of_one_tile(code: list[Inst], passes: int, target: Hardware) -> None:
    assert_equal(program([role("main", _looped(code, passes), _ARRAYS)], target=target), ONE_TOKEN)


@st.composite
def _talks(draw: st.DrawFn) -> Program:
    """Tiles that work and exchange messages of random sizes along random ways, in the same order on all tiles."""
    count = draw(st.integers(2, 4))
    places = draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=count, max_size=count, unique=True)
    )
    codes: list[list[Inst]] = [[t.Li(_N, 2)] for _ in range(count)]
    ports, channels = [""] * count, []
    for _ in range(draw(st.integers(1, 4))):
        order = draw(st.permutations(range(count)))
        senders = order[: draw(st.integers(1, count - 1))]
        receivers = order[len(senders) : len(senders) + draw(st.integers(1, count - len(senders)))]
        words, repeats = draw(st.sampled_from([1, 16, 64, 700])), draw(st.integers(1, 20))
        ends: list[list[Endpoint]] = [[], []]
        for which, tiles in enumerate((senders, receivers)):
            for tile in tiles:
                port = PortRef(len(ports[tile]))
                ends[which].append(Endpoint(tile, port.index))
                ports[tile] += "oi"[which]
                place = at(4096 * draw(st.integers(0, 3)))
                inst = t.Recv(port, place, _N, words) if which else t.Send(port, place, _N, words)
                work = draw(_SOME.filter(lambda code: all(not isinstance(i, t.Li) for i in code)))
                codes[tile] += [
                    t.Loop(R(7), repeats, len(codes[tile]) + 2 + len(work)),
                    *work[:1],
                    inst,
                    *work[1:],
                ]
        reduce = Reduce.SUM if len(senders) > 1 else Reduce.NONE
        channels.append(Channel(f"c{len(channels)}", tuple(ends[0]), tuple(ends[1]), reduce))
    roles = [
        role(f"r{i}", code, _ARRAYS, ports=port)
        for i, (code, port) in enumerate(zip(codes, ports, strict=True))
    ]
    return program(roles, places, channels, target=draw(_MACHINES))


@settings(max_examples=30)
@given(_talks())
def test_random_messages(p: Program) -> None:
    assert_equal(p, ONE_TOKEN)


@settings(max_examples=15)
@given(_talks(), st.permutations(range(3)), st.integers(1, 3))
def test_copies_whose_messages_cross(p: Program, order: list[int], awake: int) -> None:
    wide = changed(p.target, chip__tiles_x=3 * p.target.mesh_x, chip__tiles_y=2 * p.target.mesh_y)
    corners = (Replica(p.target.mesh_x, 0), Replica(2 * p.target.mesh_x, p.target.mesh_y))
    step = [Segment(1, 0, 0, sequence) for sequence in order[:awake]]
    assert_equal(replace(p, target=wide, replicas=corners), step, [Segment(1, 0, 0, 2)])


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(Space),
            st.sampled_from([0, 64, 256, 768, 1024]),
            st.integers(0, 3000),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 3),
    st.sampled_from([2, 4]),
)
def test_transfers_that_begin_in_other_channels(
    loads: list[tuple[Space, int, int, int]], tiles: int, channels: int
) -> None:
    """Steps pass as earlier ones where all transfers begin as many channels further on, and not where some do."""
    target = changed(tiny(), dram__channels=channels, gbuf__channels=channels)
    roles = []
    for number in range(tiles):
        code: list[Inst] = [t.Li(R(9), 0), t.Seg(R(9)), t.Sys(R(7), Special.POSITION)]
        for which, (space, stride, offset, words) in enumerate(loads[number:] or loads):
            code += [t.Mul(R(8), R(7), stride), t.Li(_N, 32 * words)]
            code.append(t.Load(at(2048 * which), Mem(space, R(8), 4 * offset), _N, 1))
        roles.append(role(f"r{number}", code))
    p = program(roles, [(number, 0) for number in range(tiles)], target=target)
    assert_equal(p, *((Segment(1, position, 0),) for position in (0, 1, 2, 3, 4, 5, 8)))


@pytest.mark.parametrize(("strides", "gone_through"), [((256, 256), 1), ((256, 768), 1), ((256, 512), 2)])
def test_which_transfers_begin_as_far_apart(
    strides: tuple[int, int], gone_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two channels both tiles' transfers take the next one at each position, or one tile's alone does."""
    gone = calls_of(monkeypatch, Step, "run")
    head: list[Inst] = [t.Li(R(9), 0), t.Seg(R(9)), t.Sys(R(7), Special.POSITION), t.Li(_N, 64)]
    roles = [
        role(f"r{stride}", [*head, t.Mul(R(8), R(7), stride), t.Load(at(0), Mem(Space.DRAM, R(8)), _N, 1)])
        for stride in strides
    ]
    p = program(roles, [(0, 0), (1, 0)], target=changed(tiny(), dram__channels=2))
    fast = FastSimulator(p)
    for position in range(6):
        assert fast.alone([Segment(1, position, 0)]) == simulate(p, [Segment(1, position, 0)])
    assert len(gone) == gone_through


def test_segments_and_streams() -> None:
    assert_equal(attention(), (Segment(1, 130, 1),), (Segment(8, 0, 8), Segment(3, 8, 3)))
    assert_equal(hosted(), (Segment(4, 0, 0), Segment(1, 4, 1)))


@pytest.mark.parametrize("width", [2.0, 55.3, 1000.0])
def test_contention(width: float) -> None:
    assert_equal(grid(width), ONE_TOKEN)
    for late in (1, 40):
        assert_equal(crossing_messages(late, 64), ONE_TOKEN)


def test_sources() -> None:
    both = (*source_segments_of(5, 4), Segment(3, 0, 3, source=5))
    assert_equal(crossing(), both, (Segment(1, 3, 1, source=5),))
