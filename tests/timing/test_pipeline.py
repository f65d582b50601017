"""What overlaps in a tile and what waits: units, ranges of the buffer, macro rows, scales."""

from __future__ import annotations

from isa import instructions as t
from isa.events import Bound, Resource
from isa.instruction import Inst, Unit
from isa.operands import ArrayRef, Mem, Space
from isa.program import ArrayKind, ArraySpec
from runtime.timing import StepCost, simulate

from .programs import A0, A1, ONE_TOKEN, Listener, R, array, at, single

W64 = (array("a", 64, 16), array("b", 64, 16))
N = t.Li(R(1), 1)


def run(*code: Inst, arrays: tuple[ArraySpec, ...] = W64) -> tuple[StepCost, Listener]:
    listener = Listener()
    return simulate(single(*code, arrays=arrays), ONE_TOKEN, sink=listener), listener


def mvm(which: ArrayRef, dst: int, src: int = 0, row: int = 0, rows: int = 64) -> Inst:
    return t.Mvm(which, at(dst), at(src), R(1), R(row), rows)


def test_two_arrays_work_in_parallel() -> None:
    # the port is taken for 64 / 32 = 2 cycles, then the second array starts
    result, listener = run(N, mvm(A0, 1024), mvm(A1, 2048))
    assert listener.times(Unit.CIM) == [(1, 11), (3, 13)]
    assert result.busy[Resource.CIM] == 12
    assert result.busy[Resource.MACROS] == 20


def test_one_array_works_on_one_thing_at_a_time() -> None:
    _, listener = run(N, mvm(A0, 1024), mvm(A0, 2048))
    assert listener.times(Unit.CIM) == [(1, 11), (11, 21)]


def test_macro_rows_of_one_array_work_in_parallel() -> None:
    tall = (array("k", 192, 16, ArrayKind.KV),)
    code = (N, t.Li(R(2), 128), mvm(A0, 1024, rows=64), mvm(A0, 2048, row=2, rows=64), mvm(A0, 3072, rows=70))
    _, listener = run(*code, arrays=tall)
    assert listener.times(Unit.CIM)[:2] == [(2, 12), (4, 14)]
    assert listener.times(Unit.CIM)[2] == (12, 23)  # rows 0..69 need the first macro row; one adder level


def test_a_result_is_waited_for() -> None:
    _, listener = run(
        N, mvm(A0, 1024), t.Vfill(at(4096), R(1), 8, 0.0), t.Vrelu(at(4096), at(1024), R(1), 16)
    )
    assert listener.times(Unit.VECTOR) == [(2, 7), (11, 19)]  # the fill is independent; relu needs the sums


def test_write_after_read_waits_and_reads_share() -> None:
    result, listener = run(N, mvm(A0, 1024), mvm(A1, 2048), t.Vfill(at(0), R(1), 16, 0.0))
    assert listener.times(Unit.CIM) == [(1, 11), (3, 13)]  # both read [0]
    assert listener.times(Unit.VECTOR) == [(13, 19)]
    assert result.critical == {Bound.SEQUENCER: 1, Bound.CIM: 12, Bound.VECTOR: 6}


def test_write_after_write_waits() -> None:
    _, listener = run(N, mvm(A0, 1024), t.Vfill(at(1024), R(1), 8, 0.0))
    assert listener.times(Unit.VECTOR) == [(11, 16)]


def test_ranges_are_compared_in_granules() -> None:
    # 64 bytes a granule: [1088] is next to the 64 bytes of sums at [1024], [1084] is not
    _, apart = run(N, mvm(A0, 1024), t.Vfill(at(1088), R(1), 8, 0.0))
    _, shared = run(N, mvm(A0, 1024), t.Vfill(at(1084), R(1), 8, 0.0))
    assert apart.times(Unit.VECTOR) == [(2, 7)]
    assert shared.times(Unit.VECTOR) == [(11, 16)]


def test_what_waits_for_its_unit_holds_up_nothing_else() -> None:
    _, listener = run(N, mvm(A0, 1024), t.Vrelu(at(4096), at(1024), R(1), 16), mvm(A1, 2048))
    assert listener.times(Unit.CIM) == [(1, 11), (3, 13)]
    assert listener.times(Unit.VECTOR) == [(11, 19)]


def test_dma_runs_under_compute() -> None:
    load = t.Load(at(8192), Mem(Space.DRAM), R(1), 64)
    result, listener = run(N, load, mvm(A0, 1024), mvm(A0, 2048))
    assert listener.times(Unit.DMA) == [(1, 1 + 100 + 32)]
    assert listener.times(Unit.CIM) == [(2, 12), (12, 22)]
    assert result.cycles == 133
    assert result.bound_by is Bound.DRAM


def test_dma_goes_on_while_what_it_asked_for_is_on_its_way() -> None:
    # a channel gives 256 bytes in 32 cycles, which come 100 cycles later
    load = t.Load(at(8192), Mem(Space.DRAM), R(1), 64)
    _, listener = run(N, load, t.Copy(at(0), at(512), R(1), 16))
    assert listener.times(Unit.DMA) == [(1, 133), (33, 37)]
    _, listener = run(N, load, t.Load(at(4096), Mem(Space.DRAM), R(1), 64))
    assert listener.times(Unit.DMA) == [(1, 133), (33, 165)]


def test_an_appended_row_is_there_before_it_is_used() -> None:
    kv = (array("k", 128, 16, ArrayKind.KV),)
    append = t.Wrow(A0, at(0), at(64), R(1), R(0))
    use = t.Mvmt(A0, at(1024), at(128), R(1), R(0), 1)
    scale = t.Deqr(A0, at(2048), at(4096), at(8192), R(1), R(0), 1)
    _, listener = run(N, append, use, arrays=kv)
    assert listener.times(Unit.CIM) == [(1, 3), (3, 13)]
    _, scaled = run(N, append, scale, arrays=kv)
    assert scaled.times(Unit.VECTOR)[0][0] == 3  # the row's scale is being written
    _, elsewhere = run(
        N, t.Li(R(2), 5), append, t.Deqr(A0, at(2048), at(4096), at(8192), R(1), R(2), 1), arrays=kv
    )
    assert elsewhere.times(Unit.VECTOR)[0][0] == 3  # another row: right after the append has issued


def test_column_scales_are_apart_from_row_scales() -> None:
    scale = t.Deqc(A0, at(2048), at(4096), at(8192), R(1))
    _, after_rows = run(N, t.Wrow(A0, at(0), at(64), R(1), R(0)), scale)
    _, after_scales = run(N, t.Wscale(A0, at(0)), scale)
    assert after_rows.times(Unit.VECTOR)[0][0] == 2
    assert after_scales.times(Unit.VECTOR)[0][0] == 3


def test_critical_path_covers_every_cycle() -> None:
    code = (
        N,
        mvm(A0, 1024),
        t.Vrelu(at(1024), at(1024), R(1), 16),
        t.Copy(at(0), at(1024), R(1), 16),
        mvm(A1, 2048),
    )
    result, _ = run(*code)
    assert sum(result.critical.values()) == result.cycles
    assert result.critical == {Bound.SEQUENCER: 1, Bound.CIM: 20, Bound.VECTOR: 8, Bound.DMA: 4}
