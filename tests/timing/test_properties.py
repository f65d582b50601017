"""What must hold for any program: determinism, monotonicity, times and counts that add up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.events import Bound
from isa.instruction import DType, Inst
from isa.operands import Mem, Space, Special
from isa.program import HOST, ArrayKind, Direction, Program, Segment, Stream, StreamPart
from runtime.timing import StepCost, simulate

from .programs import (
    A0,
    A1,
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
    single,
    tiny,
)

BLOCK = 64  # rows of the KV arrays that one pass of the attention loop works on

_N = R(1)
_PLACES = st.integers(0, 15).map(lambda i: at(1024 * i))
_OPS = st.one_of(
    st.builds(lambda a, d, s: t.Mvm(a, d, s, _N, R(0), 64), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(lambda a, d, s: t.Mvmt(a, d, s, _N, R(0), 100), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(lambda a, s: t.Wrow(a, s, at(0), _N, R(0)), st.sampled_from([A0, A1]), _PLACES),
    st.builds(lambda d, s: t.Vexp(d, s, _N, 48), _PLACES, _PLACES),
    st.builds(lambda d, a, b: t.Vadd(d, a, b, _N, 48), _PLACES, _PLACES, _PLACES),
    st.builds(lambda d, s: t.Copy(d, s, _N, 32), _PLACES, _PLACES),
    st.builds(lambda d, space: t.Load(d, Mem(space), _N, 64), _PLACES, st.sampled_from(Space)),
    st.builds(lambda d: t.Vfill(d, _N, 20, 1.0), _PLACES),
)

_SLOWER = st.sampled_from(
    [
        {"macro__mvm_latency": 17.0},
        {"macro__row_write_latency": 9.0},
        {"macro__transpose_latency_factor": 1.5},
        {"cim__adder_latency": 5},
        {"cim__port_width": 8},
        {"vector__lanes": 3},
        {"vector__sfu_lanes": 1},
        {"vector__startup": 9},
        {"buffer__port_width": 12},
        {"tile__granule": 256},
        {"dram__latency": 333},
        {"gbuf__bandwidth": 3},
    ]
)


def run(code: Sequence[Inst], **constants: float) -> StepCost:
    arrays = (array("a", 128, 32, ArrayKind.KV), array("b", 128, 48, ArrayKind.KV))
    return simulate(single(t.Li(_N, 3), *code, arrays=arrays, target=changed(tiny(), **constants)), ONE_TOKEN)


@settings(max_examples=60)
@given(st.lists(_OPS, min_size=1, max_size=12), _SLOWER)
def test_a_slower_tile_is_never_faster(code: list[Inst], slower: dict[str, float]) -> None:
    assert run(code, **slower).cycles >= run(code).cycles


@settings(max_examples=60)
@given(st.lists(_OPS, min_size=1, max_size=12), st.integers(0, 11))
def test_more_work_is_never_faster(code: list[Inst], where: int) -> None:
    assert run([*code, code[where % len(code)]]).cycles >= run(code).cycles


@settings(max_examples=40)
@given(st.lists(_OPS, min_size=1, max_size=12))
def test_the_critical_path_is_as_long_as_the_step(code: list[Inst]) -> None:
    result = run(code)
    assert sum(result.critical.values()) == sum(result.critical_nodes.values()) == result.cycles
    assert all(cycles > 0 for cycles in result.critical.values())


def attention() -> Program:
    """A decode step as a compiler would write it: append K and V, scores and weighted sums by blocks, merge."""
    q, kv, scores, ml = at(0), at(1024), at(4096), at(16384)
    setup = (
        t.Li(_N, 1),
        t.Vfill(kv, _N, 320, 0.0),
        t.Vfill(scores, _N, 1024, 0.0),
        t.Sys(R(3), Special.SEGMENTS),
        t.Loop(R(4), R(3), 21),
        t.Seg(R(4)),
        t.Sys(_N, Special.TOKENS),
        t.Sys(R(5), Special.POSITION),
        t.Recv(P0, q, _N, 16),
        t.Wrow(A0, kv, at(2048), _N, R(5)),
        t.Wrow(A1, kv, at(2048), _N, R(5)),
        t.Add(R(6), R(5), _N),
        t.Add(R(7), R(6), BLOCK - 1),
        t.Div(R(7), R(7), BLOCK),
    )
    block = (
        t.Mul(R(9), R(8), BLOCK),
        t.Sub(R(10), R(6), R(9)),
        t.Min(R(10), R(10), BLOCK),
        t.Mvmt(A0, scores, q, _N, R(9), R(10)),
        t.Smx(scores, scores, ml, _N, R(10), R(10), R(0), 1),
    )
    code = (*setup, t.Loop(R(8), R(7), 20), *block, t.Send(P1, scores, _N, 16))
    attend = role(
        "attend", code, [array("k", 512, 64, ArrayKind.KV), array("v", 512, 64, ArrayKind.KV)], "io"
    )
    streams = (
        Stream("x", Direction.IN, DType.F32, 16, (StreamPart(0, 0, 16),)),
        Stream("y", Direction.OUT, DType.F32, 16, (StreamPart(2, 0, 16),)),
    )
    channels = [channel([(HOST, 0)], [(0, 0)]), channel([(0, 1)], [(1, 0)]), channel([(1, 1)], [(HOST, 0)])]
    return program([attend] * 2, [(1, 1), (4, 3)], channels, streams=streams)


@cache
def decode(position: int) -> StepCost:
    return simulate(attention(), (Segment(1, position, 1),))


@pytest.mark.parametrize("position", range(0, 510, 30))
def test_a_longer_context_is_never_cheaper(position: int) -> None:
    here, later = decode(position), decode(position + 1)
    assert later.cycles >= here.cycles
    assert all(later.events.get(key, 0) >= count for key, count in here.events.items())


def test_more_tokens_take_longer_but_less_each() -> None:
    one = simulate(attention(), (Segment(1, 0, 1),))
    four = simulate(attention(), (Segment(4, 0, 4),))
    assert one.cycles < four.cycles < 4 * one.cycles


def test_segments_are_pipelined_over_tiles() -> None:
    single_segment = simulate(attention(), (Segment(4, 0, 4),)).cycles
    segments = tuple(Segment(4, 4 * i, 4) for i in range(8))
    assert simulate(attention(), segments).cycles < 8 * single_segment


def grid(target_link: float) -> Program:
    """Nine tiles that all send to their transposed place at once: links are shared."""
    target = changed(tiny(), network__link_width=target_link)
    code = (
        t.Li(_N, 4),
        t.Recv(P1, at(8192), _N, 100),
        t.Send(P0, at(0), _N, 100),
        t.Vrelu(at(0), at(8192), _N, 100),
    )
    tile = role("x", code, ports="oi")
    places = [(x, y) for y in range(3) for x in range(3)]
    channels = [channel([(i, 0)], [(x * 3 + y, 1)]) for i, (x, y) in enumerate(places)]
    return program([tile] * 9, places, channels, target=target)


@pytest.mark.parametrize(("narrow", "wide"), [(1, 2), (2, 3), (4, 8), (8, 16), (16, 64)])
def test_a_wider_link_is_never_slower(narrow: float, wide: float) -> None:
    assert simulate(grid(wide), ONE_TOKEN).cycles <= simulate(grid(narrow), ONE_TOKEN).cycles


@pytest.mark.parametrize("width", [1, 3, 8])
def test_the_critical_path_covers_contention(width: float) -> None:
    result = simulate(grid(width), ONE_TOKEN)
    assert sum(result.critical.values()) == sum(result.critical_nodes.values()) == result.cycles
    assert result.critical[Bound.NETWORK] > result.cycles / 2


def test_repeated_simulations_are_equal() -> None:
    a, b = Listener(), Listener()
    assert simulate(grid(8), ONE_TOKEN, sink=a) == simulate(grid(8), ONE_TOKEN, sink=b)
    assert a.ops == b.ops
    assert a.messages == b.messages


def test_a_sink_changes_nothing() -> None:
    assert simulate(attention(), (Segment(4, 0, 4),), sink=Listener()) == simulate(
        attention(), (Segment(4, 0, 4),)
    )
