"""Units beside the sequencer: queues, their depth and order, and what a waiting instruction holds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa import instructions as t
from isa.diagnostics import CimError
from isa.events import Bound
from isa.instruction import Inst, Mode, Unit
from isa.operands import PortRef
from isa.program import BarrierGroup, Endpoint, Program
from isa.timing.costs import Cost, cost_of, operands_at
from isa.timing.rates import rates_of
from runtime.timing import simulate

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

W64 = (array("a", 64, 16), array("b", 64, 16))
N = t.Li(R(1), 1)


def relu(to: int, source: int) -> Inst:
    return t.Vrelu(at(to), at(source), R(1), 16)  # the unit 4 cycles, done 4 later


def fill(to: int) -> Inst:
    return t.Vfill(at(to), R(1), 8, 0.0)  # the unit 1 cycle, done 4 later


def mvm(which: int, to: int) -> Inst:
    return t.Mvm((A0, A1)[which], at(to), at(0), R(1), R(0), 64)  # 10 cycles, the port 2


def times(unit: Unit, *code: Inst, queue: int = 8) -> list[tuple[int, int]]:
    listener = Listener()
    simulate(single(*code, arrays=W64, target=changed(tiny(), tile__queue=queue)), ONE_TOKEN, sink=listener)
    return sorted(listener.times(unit))


def test_a_full_queue_holds_up_the_sequencer() -> None:
    # the vector unit gets relu (waits for the array until 11) and two fills; then the other array its mvm
    code = (N, mvm(0, 1024), relu(4096, 1024), fill(2048), fill(2560), mvm(1, 3072))
    assert times(Unit.CIM, *code, queue=3) == [(1, 11), (5, 15)]
    # two places: the second fill comes when relu starts; one place: the second when the first fill starts
    assert times(Unit.CIM, *code, queue=2) == [(1, 11), (12, 22)]
    assert times(Unit.CIM, *code, queue=1) == [(1, 11), (16, 26)]
    for queue in (1, 2, 3):
        assert times(Unit.VECTOR, *code, queue=queue) == [(11, 19), (15, 20), (16, 21)]


def test_a_queue_keeps_its_order() -> None:
    # the fill could start at 3, but the relu before it waits for the sums
    assert times(Unit.VECTOR, N, mvm(0, 1024), relu(4096, 1024), fill(2048)) == [(11, 19), (15, 20)]


def test_a_waiting_instruction_keeps_its_ranges() -> None:
    # the copy overwrites what the waiting relu reads: it starts after it, although nothing runs on [1024] at 13
    copy = t.Copy(at(1024), at(8192), R(1), 16)
    assert times(Unit.DMA, N, mvm(0, 1024), relu(4096, 1024), copy) == [(19, 23)]
    # and one that reads what the waiting relu will write waits for it, too
    reader = t.Copy(at(8192), at(4096), R(1), 16)
    assert times(Unit.DMA, N, mvm(0, 1024), relu(4096, 1024), reader) == [(19, 23)]


@pytest.mark.parametrize(
    ("column", "words", "start"),
    [(64, 16, 3), (48, 16, 29), (128, 16, 29), (64, 17, 29)],
    ids=["beside", "overlapping", "the-same-column-a-row-on", "around-the-end-of-a-row"],
)
def test_columns_of_one_pitch_do_not_meet(column: int, words: int, start: int) -> None:
    # the copy writes the first 16 words of rows that are 32 words apart; it waits for the array until 21
    two, copy = t.Li(R(1), 2), t.Copy(at(4096), at(1024), R(1), 16, 32, 0)  # 2 x 128 bytes: 8 cycles
    sender = (two, mvm(0, 1024), copy, t.Send(P0, at(4096 + column), R(1), words, 32))
    receiver = (two, t.Recv(P0, at(0), R(1), words))
    roles = [role("s", sender, arrays=W64, ports="o"), role("r", receiver, ports="i")]
    listener = Listener()
    simulate(program(roles, [(0, 0), (1, 0)], [channel([(0, 0)], [(1, 0)])]), ONE_TOKEN, sink=listener)
    assert [begin for _, begin, _, _ in listener.messages] == [start]


def test_lengths_and_addresses_are_read_at_dispatch() -> None:
    # R1 and R2 change while the vector instructions wait
    code = (
        N,
        t.Li(R(2), 1024),
        mvm(0, 1024),
        t.Vrelu(at(4096), at(0, 2), R(1), 16),
        t.Li(R(1), 64),
        t.Li(R(2), 2048),
        t.Vrelu(at(8192), at(0, 2), R(1), 16),
    )
    assert times(Unit.VECTOR, *code) == [(12, 20), (20, 20 + 4 + 256)]


def test_each_receiving_port_has_a_queue() -> None:
    # nothing comes to port 0 before 61; what comes to port 1 is received meanwhile
    later = tuple(t.Li(R(9), 0) for _ in range(60))
    late = role("late", (N, *later, *[t.Send(P0, at(0), R(1), 64)] * 2), ports="o")
    prompt = role("prompt", (N, t.Send(P0, at(0), R(1), 64)), ports="o")
    receiver = (
        N,
        t.Recv(PortRef(0), at(0), R(1), 64),
        t.Recv(PortRef(0), at(512), R(1), 64),
        t.Recv(PortRef(1), at(1024), R(1), 64),
    )
    roles = [late, prompt, role("r", receiver, ports="ii")]
    channels = [channel([(0, 0)], [(2, 0)]), channel([(1, 0)], [(2, 1)])]

    def starts(queue: int) -> list[tuple[int, int]]:
        p = program(roles, [(0, 0), (2, 0), (1, 0)], channels, target=changed(tiny(), tile__queue=queue))
        listener = Listener()
        simulate(p, ONE_TOKEN, sink=listener)
        return [(number, start) for number, start, _, _ in listener.messages]

    assert starts(2) == [(1, 3), (0, 61), (0, 61 + 32)]  # posted ahead: comes right behind
    assert starts(1) == [(1, 3), (0, 61), (0, 61 + 33)]


def pipeline(segments: int, copies: int, queue: int = 8) -> int:
    """Cycles of a middle tile that receives, computes and sends, in `copies` buffers taken in turn."""
    size, cols = 2048, 512
    outer = [t.Li(R(1), 1), t.Li(R(2), segments), t.Li(R(5), 0), t.Loop(R(3), R(2), 9)]
    turn = [t.And(R(4), R(3), copies - 1), t.Mul(R(5), R(4), 3 * size)]

    def loop(*body: Inst) -> tuple[Inst, ...]:
        code = [*outer, *turn, *body]
        return tuple(replace(i, end=len(code)) if isinstance(i, t.Loop) else i for i in code)

    middle = loop(
        t.Recv(P0, at(0, 5), R(1), cols),
        t.Vrelu(at(size, 5), at(0, 5), R(1), cols),
        t.Send(P1, at(size, 5), R(1), cols),
    )
    roles = [
        role("s", loop(t.Send(P0, at(0, 5), R(1), cols)), ports="o"),
        role("m", middle, ports="io"),
        role("r", loop(t.Recv(P0, at(0, 5), R(1), cols)), ports="i"),
    ]
    channels = [channel([(0, 0)], [(1, 0)]), channel([(1, 1)], [(2, 0)])]
    target = changed(tiny(), tile__queue=queue)
    return simulate(program(roles, [(0, 0), (1, 0), (2, 0)], channels, target=target), ONE_TOKEN).cycles


def test_units_work_side_by_side_on_consecutive_segments() -> None:
    # a message takes 256 cycles, and 1 on its way; the vector instruction 4 + 128
    message, vector = 256, 132

    def each(copies: int, queue: int = 8) -> int:
        return (pipeline(40, copies, queue) - pipeline(20, copies, queue)) // 20

    assert each(2) == message
    # one copy: the next segment comes when this one has been read, and is sent meanwhile
    assert each(1) == message + 1 + vector
    assert each(2, queue=2) == message


def test_a_barrier_waits_for_what_waits() -> None:
    work = (N, mvm(0, 1024), relu(4096, 1024), t.Barrier(P0))
    roles = [role("w", work, W64, "b"), role("i", (N, t.Barrier(P0), fill(0)), ports="b")]
    group = BarrierGroup("all", (Endpoint(0, 0), Endpoint(1, 0)))
    listener = Listener()
    simulate(program(roles, [(0, 0), (1, 0)], barriers=[group]), ONE_TOKEN, sink=listener)
    assert [start for tile, unit, start, _, _ in listener.ops if unit is Unit.VECTOR and tile] == [19 + 2]


def test_what_waits_for_ever_is_a_deadlock_although_all_have_halted() -> None:
    roles = [role("a", (N, t.Recv(P0, at(0), R(1), 8), t.Send(P1, at(0), R(1), 8)), ports="io")]
    p = program(roles * 2, [(0, 0), (1, 0)], [channel([(0, 1)], [(1, 0)]), channel([(1, 1)], [(0, 0)])])
    with pytest.raises(CimError) as caught:
        simulate(p, ONE_TOKEN)
    problem = caught.value.diagnostics[0]
    assert problem.code == "E0406"
    assert ["send" in note for note in problem.notes] == [True, True]


def test_the_critical_path_goes_through_queues() -> None:
    # the second relu comes when the first has started (11), the mvm when the second has (19)
    code = (N, mvm(0, 1024), relu(4096, 1024), relu(8192, 4096), fill(2048), mvm(1, 3072), mvm(1, 2560))
    cost = simulate(single(*code, arrays=W64, target=changed(tiny(), tile__queue=1)), ONE_TOKEN)
    assert cost.cycles == 40
    assert cost.critical == {Bound.SEQUENCER: 2, Bound.CIM: 30, Bound.VECTOR: 8}


# ------------------------------------------------------------------------------------- any program, by definition

_PLACES = st.integers(0, 7).map(lambda i: at(512 * i))
_OPS = st.one_of(
    st.builds(lambda a, d, s: t.Mvm(a, d, s, R(1), R(0), 64), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(lambda a, s: t.Wrow(a, s, at(0), R(1), R(0)), st.sampled_from([A0, A1]), _PLACES),
    st.builds(lambda a, d, s: t.Deqr(a, d, s, at(0), R(1), R(0), 20), st.sampled_from([A0, A1]), _PLACES, _PLACES),
    st.builds(lambda d, a, b: t.Vadd(d, a, b, R(1), 48), _PLACES, _PLACES, _PLACES),
    st.builds(lambda d, s: t.Copy(d, s, R(1), 32), _PLACES, _PLACES),
    st.builds(lambda d: t.Vfill(d, R(1), 20, 1.0), _PLACES),
)  # fmt: skip
ARRAYS = (array("a", 128, 32), array("b", 128, 48))


def meets(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def conflicts(p: Program, earlier: tuple[Inst, Cost], later: tuple[Inst, Cost]) -> tuple[bool, bool]:
    """Whether two instructions meet in results (buffer, scales), and whether in macro rows."""

    def ranges(inst: Inst, cost: Cost) -> list[tuple[tuple[int, int], bool]]:
        found = []
        for field, span in zip([f for f in inst.layout if f.access], cost.spans, strict=True):
            start = getattr(inst, field.name).offset
            assert field.access is not None
            found.append(((start // 64, (start + span - 1) // 64 + 1), field.access.mode is not Mode.READ))
        return found

    values = any(
        meets(a, b) and (write_a or write_b)
        for a, write_a in ranges(*earlier)
        for b, write_b in ranges(*later)
    )
    scales = any(
        (a.array, a.columns) == (b.array, b.columns)
        and meets((a.low, a.high), (b.low, b.high))
        and (a.writes or b.writes)
        for a in earlier[1].scales
        for b in later[1].scales
    )
    one, other = earlier[1].cells, later[1].cells
    cells = one and other and one.array == other.array and meets((one.low, one.high), (other.low, other.high))
    return values or scales, bool(cells)


def starts_by_definition(code: Sequence[Inst], queue: int) -> list[int]:
    """Starts of instructions after one scalar instruction, each compared with all before it."""
    p = single(N, *code, arrays=ARRAYS)
    rates = rates_of(p.target)
    costs = [cost_of(operands_at(p.roles[0], 1 + i, {0: 0, 1: 1}), rates) for i in range(len(code))]
    starts: list[int] = []
    dispatched = 0
    for i, (inst, cost) in enumerate(zip(code, costs, strict=True)):
        before = [j for j in range(i) if code[j].unit is inst.unit]
        dispatched = max(dispatched + 1, starts[before[-queue]] if len(before) >= queue else 0)
        start = dispatched
        for j in range(i):
            values, cells = conflicts(p, (code[j], costs[j]), (inst, cost))
            if j in before:
                start = max(start, starts[j] + (costs[j].done if inst.unit is Unit.DMA else costs[j].port))
            if values:
                start = max(start, starts[j] + costs[j].done)
            if cells:
                start = max(start, starts[j] + costs[j].busy)
        starts.append(start)
    return starts


@settings(max_examples=80)
@given(st.lists(_OPS, min_size=1, max_size=14), st.sampled_from([1, 2, 3, 8]))
def test_starts_are_those_of_the_definition(code: list[Inst], queue: int) -> None:
    listener = Listener()
    simulate(
        single(N, *code, arrays=ARRAYS, target=changed(tiny(), tile__queue=queue)), ONE_TOKEN, sink=listener
    )
    found = {index - 1: start for _, unit, start, _, index in listener.ops if unit is not Unit.SCALAR}
    assert [found[i] for i in range(len(code))] == starts_by_definition(code, queue)


@settings(max_examples=30)
@given(st.lists(_OPS, min_size=1, max_size=14), st.integers(1, 8))
def test_a_deeper_queue_is_never_slower(code: list[Inst], queue: int) -> None:
    def cycles(depth: int) -> int:
        target = changed(tiny(), tile__queue=depth)
        return simulate(single(N, *code, arrays=ARRAYS, target=target), ONE_TOKEN).cycles

    assert cycles(queue + 1) <= cycles(queue)


# ------------------------------------------------------------------------------------------- queues with a window


def window_times(unit: Unit, *code: Inst, window: int, queue: int = 8) -> list[tuple[int, int, int]]:
    """(index, start, end) of a unit's instructions."""
    listener = Listener()
    target = changed(tiny(), tile__queue=queue, tile__window=window)
    simulate(single(*code, arrays=W64, target=target), ONE_TOKEN, sink=listener)
    return [
        (index, start, end)
        for _, u, start, end, index in sorted(listener.ops, key=lambda o: o[4])
        if u is unit
    ]


def test_in_a_window_what_is_ready_passes_what_waits() -> None:
    code = (N, mvm(0, 256), relu(512, 256), fill(1024), fill(1152))
    assert window_times(Unit.VECTOR, *code, window=1) == [(2, 11, 19), (3, 15, 20), (4, 16, 21)]
    assert window_times(Unit.VECTOR, *code, window=2) == [(2, 11, 19), (3, 3, 8), (4, 4, 9)]


def test_only_the_oldest_are_looked_at() -> None:
    waiting = (N, mvm(0, 256), relu(512, 256), relu(768, 512))
    assert window_times(Unit.VECTOR, *waiting, fill(1024), window=2)[-1] == (4, 15, 20)
    assert window_times(Unit.VECTOR, *waiting, fill(1024), window=3)[-1] == (4, 4, 9)


def test_of_what_is_ready_the_oldest_starts() -> None:
    code = (N, fill(0), relu(512, 0), fill(1024), fill(1152))
    assert window_times(Unit.VECTOR, *code, window=8) == [(1, 1, 6), (2, 6, 14), (3, 3, 8), (4, 4, 9)]


def test_the_vector_unit_is_a_pipeline() -> None:
    # the fill enters behind the passes of the relu, what reads the relu's results waits for the pipeline's depth
    code = (N, relu(512, 0), fill(1024), relu(2048, 512))
    for window in (1, 8):
        assert window_times(Unit.VECTOR, *code, window=window) == [(1, 1, 9), (2, 5, 10), (3, 9, 17)]


def test_a_window_holds_the_sequencer_up_until_anything_starts() -> None:
    code = (N, mvm(0, 256), relu(512, 256), fill(1024), mvm(1, 1280))
    assert window_times(Unit.CIM, *code, window=2, queue=1) == [(1, 1, 11), (4, 12, 22)]
    assert window_times(Unit.CIM, *code, window=2, queue=2) == [(1, 1, 11), (4, 4, 14)]


def is_ready(code: Sequence[Inst], costs: list[Cost], i: int, starts: dict[int, int], time: int) -> bool:
    """Whether nothing earlier is in the way of an instruction."""
    p = single(N, *code, arrays=ARRAYS)
    for j in range(i):
        values, cells = conflicts(p, (code[j], costs[j]), (code[i], costs[i]))
        ends = [costs[j].done] * values + [costs[j].busy] * cells
        if ends and (j not in starts or starts[j] + max(ends) > time):
            return False
    return True


def starts_in_windows(code: Sequence[Inst], queue: int, window: int) -> list[int]:
    """Starts of instructions after one scalar instruction, cycle by cycle: of the oldest few, the first ready."""
    p = single(N, *code, arrays=ARRAYS)
    rates = rates_of(p.target)
    costs = [cost_of(operands_at(p.roles[0], 1 + i, {0: 0, 1: 1}), rates) for i in range(len(code))]
    starts: dict[int, int] = {}
    dispatched, time = 0, 0

    def start(unit: Unit) -> None:
        free = [cost.done if unit is Unit.DMA else cost.port for cost in costs]
        if any(code[j].unit is unit and starts[j] + free[j] > time for j in starts):
            return
        waiting = [i for i in range(dispatched) if code[i].unit is unit and i not in starts]
        size = window if unit in (Unit.CIM, Unit.VECTOR) else 1
        for i in [i for i in waiting[:size] if is_ready(code, costs, i, starts, time)][:1]:
            starts[i] = time

    while len(starts) < len(code):
        time += 1
        for unit in (Unit.CIM, Unit.VECTOR, Unit.DMA):
            start(unit)
        if dispatched < len(code):
            unit = code[dispatched].unit
            if sum(code[i].unit is unit and i not in starts for i in range(dispatched)) < queue:
                dispatched += 1
                start(unit)
    return [starts[i] for i in range(len(code))]


@settings(max_examples=120)
@given(st.lists(_OPS, min_size=1, max_size=14), st.sampled_from([1, 2, 3, 8]), st.integers(1, 4))
def test_starts_in_windows_are_those_of_the_definition(code: list[Inst], queue: int, window: int) -> None:
    listener = Listener()
    target = changed(tiny(), tile__queue=queue, tile__window=window)
    cost = simulate(single(N, *code, arrays=ARRAYS, target=target), ONE_TOKEN, sink=listener)
    found = {index - 1: start for _, unit, start, _, index in listener.ops if unit is not Unit.SCALAR}
    assert [found[i] for i in range(len(code))] == starts_in_windows(code, queue, window)
    assert sum(cost.critical.values()) == cost.cycles
