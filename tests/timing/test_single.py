"""Closed forms of docs/timing.md for one instruction on one tile of `tiny`.

tiny: macros of 64 x 16, 10 cycles an MVM, row write and read 2 cycles, array port 32 bytes a cycle, adder 1 cycle a
level; vector 8 lanes, 2 special-function lanes, start-up 4; buffer port 32 bytes a cycle.
Each program begins with `li` instructions of one cycle each, so an instruction behind k of them starts at cycle k.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from isa import instructions as t
from isa.events import Event, Resource
from isa.instruction import Inst
from isa.operands import Addr, ArrayRef, Mem, Space
from isa.program import ArrayKind, ArraySpec, Program
from runtime.timing import StepCost, simulate

from .programs import A0, ONE_TOKEN, R, array, at, changed, single, tiny


def cost(*code: Inst, arrays: tuple[ArraySpec, ...] = (), **constants: float) -> StepCost:
    return simulate(single(*code, arrays=arrays, target=changed(tiny(), **constants)), ONE_TOKEN)


def test_scalars_take_a_cycle_each() -> None:
    assert cost(t.Li(R(1), 5), t.Add(R(2), R(1), 3)).cycles == 3  # and the halt


def test_loops_repeat_without_a_cycle_of_their_own() -> None:
    code = (t.Li(R(1), 4), t.Loop(R(2), R(1), 4), t.Add(R(3), R(3), R(2)), t.Add(R(3), R(3), 1))
    result = cost(*code)
    assert result.issued == 1 + 1 + 4 * 2 + 1
    assert result.cycles == result.issued


def test_a_loop_of_no_passes_is_skipped() -> None:
    assert cost(t.Loop(R(2), 0, 2), t.Li(R(1), 1)).cycles == 2


def test_nested_loops_that_end_together() -> None:
    code = (t.Loop(R(1), 3, 3), t.Loop(R(2), 2, 3), t.Add(R(3), R(3), 1))
    assert cost(*code).issued == 1 + 3 * (1 + 2) + 1


def test_branches_skip() -> None:
    code = (t.Li(R(1), 1), t.Beq(R(1), 1, 3), t.Li(R(2), 2), t.Bne(R(1), 1, 5), t.Li(R(2), 3), t.Jump(7))
    assert cost(*code, t.Li(R(2), 1)).issued == 6


def test_mvm_one_macro() -> None:
    result = cost(t.Li(R(1), 3), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64), arrays=(array("w", 64, 16),))
    assert result.cycles == 1 + 3 * 10
    assert result.count(Event.ARRAY_MAC) == result.macs == 3 * 64 * 16
    assert result.count(Event.BUFFER_READ_BYTE) == 3 * 64
    assert result.count(Event.BUFFER_WRITE_BYTE) == 3 * 16 * 4
    assert result.count(Event.ADDER_ADD) == 0
    assert result.busy[Resource.CIM] == result.busy[Resource.MACROS] == 30


def test_mvm_of_stacked_macros_pays_the_adder_tree() -> None:
    # 3 macro rows: 2 levels of adders; output port 48 * 4 / 32 = 6 cycles, less than the MVM's 10
    result = cost(t.Li(R(1), 1), t.Mvm(A0, at(1024), at(0), R(1), R(0), 192), arrays=(array("w", 192, 48),))
    assert result.cycles == 1 + 10 + 2
    assert result.count(Event.ADDER_ADD) == 2 * 48
    assert result.busy[Resource.MACROS] == 10 * 3 * 3


def test_vectors_are_dealt_over_copies_of_an_array() -> None:
    def mvm(vectors: int, copies: int) -> StepCost:
        spec = replace(array("w", 64, 16), copies=copies)
        return cost(t.Li(R(1), vectors), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64), arrays=(spec,))

    assert [mvm(4, copies).cycles for copies in (1, 2, 3, 4)] == [1 + 40, 1 + 20, 1 + 20, 1 + 10]
    assert mvm(1, 4).cycles == 1 + 10
    assert mvm(4, 4).count(Event.ARRAY_MAC) == mvm(4, 1).count(Event.ARRAY_MAC)
    assert mvm(1, 4).busy[Resource.MACROS] == 10


def test_rows_are_written_to_all_copies() -> None:
    def written(copies: int) -> StepCost:
        spec = replace(array("kv", 64, 16, ArrayKind.KV), copies=copies)
        return cost(t.Li(R(1), 2), t.Wrow(A0, at(0), at(512), R(1), R(0)), arrays=(spec,))

    assert written(3).cycles == written(1).cycles
    assert written(3).count(Event.ARRAY_WRITE_BYTE) == 3 * written(1).count(Event.ARRAY_WRITE_BYTE)


def test_mvm_bound_by_the_port() -> None:
    # 8 vectors of 128 sums: 8 * 128 * 4 / 32 = 128 cycles of port against 80 of MVM
    result = cost(t.Li(R(1), 8), t.Mvm(A0, at(1024), at(0), R(1), R(0), 16), arrays=(array("w", 64, 128),))
    assert result.cycles == 1 + 128


def test_acc_reads_the_sums_and_adds_once_more() -> None:
    plain = (t.Li(R(1), 1), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64))
    acc = (t.Li(R(1), 1), t.Mvm(A0, at(1024), at(0), R(1), R(0), 64, True))
    a, b = cost(*plain, arrays=(array("w", 64, 16),)), cost(*acc, arrays=(array("w", 64, 16),))
    assert b.count(Event.BUFFER_READ_BYTE) - a.count(Event.BUFFER_READ_BYTE) == 64
    assert b.count(Event.ADDER_ADD) - a.count(Event.ADDER_ADD) == 16


def test_mvmt_sums_over_stacked_columns() -> None:
    kv = array("k", 128, 32, ArrayKind.KV)
    code = (t.Li(R(1), 2), t.Li(R(2), 100), t.Mvmt(A0, at(4096), at(0), R(1), R(0), R(2)))
    result = cost(*code, arrays=(kv,))
    # 2 vectors x 100 sums x 4 bytes / 32 = 25 cycles of port; two macros of 16 columns: one adder level
    assert result.cycles == 2 + 25 + 1
    assert result.count(Event.ARRAY_MAC_TRANSPOSED) == 2 * 100 * 32
    assert result.count(Event.ADDER_ADD) == 2 * 100
    slower = cost(*code, arrays=(kv,), macro__transpose_latency_factor=1.5)
    assert slower.cycles == 2 + 2 * 15 + 1


def test_wrow_takes_a_write_time_a_row() -> None:
    code = (t.Li(R(1), 3), t.Li(R(2), 62), t.Wrow(A0, at(0), at(1024), R(1), R(2)))
    result = cost(*code, arrays=(array("k", 128, 16, ArrayKind.KV),))
    assert result.cycles == 2 + 3 * 2
    assert result.count(Event.ARRAY_WRITE_BYTE) == 3 * (16 + 4)


def test_wide_rows_are_bound_by_the_port() -> None:
    result = cost(t.Li(R(1), 1), t.Wrow(A0, at(0), at(4096), R(1), R(0)), arrays=(array("k", 64, 256),))
    assert result.cycles == 1 + 9  # 256 + 4 bytes over 32


def test_rrow_and_wscale() -> None:
    read = cost(t.Li(R(1), 3), t.Rrow(A0, at(0), at(1024), R(1), R(0)), arrays=(array("k", 64, 16),))
    assert read.cycles == 1 + 3 * 2
    assert read.count(Event.ARRAY_READ_BYTE) == 3 * 20
    write = cost(t.Li(R(1), 3), t.Wscale(A0, at(0)), arrays=(array("w", 64, 16),))
    assert write.cycles == 1 + 2
    assert write.count(Event.ARRAY_WRITE_BYTE) == 64


def test_ideal_arithmetic_costs_the_same() -> None:
    arrays = (array("w", 64, 48),)
    int8 = (
        t.Li(R(1), 2),
        t.Mvm(A0, at(8192), at(0), R(1), R(0), 64),
        t.Wrow(A0, at(0), at(4096), R(1), R(0)),
    )
    ideal = (t.Li(R(1), 2), t.Mvmf(A0, at(8192), at(0), R(1), R(0), 64), t.Wrowf(A0, at(0), R(1), R(0)))
    a, b = cost(*int8, arrays=arrays), cost(*ideal, arrays=arrays)
    assert a.cycles == b.cycles
    assert a.events == b.events


@pytest.mark.parametrize(
    ("inst", "cycles"),
    [
        # 3 x 20 elements = 60: ALU ceil(60/8) = 8; port (60*4*3)/32 = 22.5 -> 23
        (t.Vadd(at(0), at(1024), at(2048), R(1), 20), 23),
        # 60 special functions on 2 lanes = 30
        (t.Vexp(at(0), at(1024), R(1), 20), 30),
        # 1 special function and 4 ALU: the longer counts
        (t.Vgelu(at(0), at(1024), R(1), 20), 30),
        # one operation an element, 60/8 -> 8; three rows in a tree of 16, 8, 4, 2, 1: 6 + 3 + 2 + 1 + 1
        (t.Vsum(at(0), at(1024), R(1), 20), 21),
        # port: 60 * 4 / 32
        (t.Vfill(at(0), R(1), 20, 1.0), 8),
        (t.Quant(at(0), at(512), at(1024), R(1), 20), 36),  # (180 + 3)/8 -> 23, and the tree
        (t.Rope(at(0), at(1024), at(2048), R(1), 20, 10, 10), 23),  # ALU 180 / 8; port (240*2 + 120)/32
        (t.Smxd(at(0), at(1024), at(2048), R(1), 20), 16),  # port (240*2 + 24)/32
    ],
)
def test_vector(inst: Inst, cycles: int) -> None:
    assert cost(t.Li(R(1), 3), inst).cycles == 1 + 4 + cycles


def test_vector_events() -> None:
    result = cost(t.Li(R(1), 3), t.Vsilu(at(0), at(1024), R(1), 20))
    assert result.count(Event.VECTOR_SFU) == 2 * 60
    assert result.count(Event.VECTOR_ALU) == 2 * 60
    assert result.count(Event.BUFFER_READ_BYTE) == result.count(Event.BUFFER_WRITE_BYTE) == 240


def test_scales_read_from_an_array_are_counted() -> None:
    code = (t.Li(R(1), 2), t.Deqc(A0, at(0), at(1024), at(2048), R(1)))
    assert cost(*code, arrays=(array("w", 64, 16),)).count(Event.ARRAY_READ_BYTE) == 64


def test_copy_takes_its_bytes_over_the_port() -> None:
    result = cost(t.Li(R(1), 5), t.Copy(at(0), at(4096), R(1), 10, 0, 32))
    assert result.cycles == 1 + 13  # 200 bytes read, 200 written, 32 a cycle
    assert result.count(Event.BUFFER_READ_BYTE) == 200


@pytest.mark.parametrize(("space", "latency", "width"), [(Space.DRAM, 100, 8), (Space.GBUF, 5, 64)])
def test_memory(space: Space, latency: int, width: int) -> None:
    # one block of 256 bytes lies in one channel; the buffer port needs 8 cycles
    code = (t.Li(R(1), 1), t.Load(at(0), Mem(space, R(0), 512), R(1), 64))
    assert cost(*code).cycles == 1 + latency + max(256 // width, 0)


def test_a_large_transfer_uses_all_channels() -> None:
    code = (t.Li(R(1), 4), t.Store(Mem(Space.DRAM), at(0), R(1), 256))
    result = cost(*code)
    assert result.cycles == 1 + 100 + 4096 // (2 * 8)
    assert result.busy[Resource.DRAM] == 4096 // 8
    assert result.count(Event.DRAM_WRITE_BYTE) == 4096


def test_pitched_rows_may_share_a_channel() -> None:
    # rows of 256 bytes, 512 apart: all in channel 0
    code = (t.Li(R(1), 4), t.Load(at(0), Mem(Space.DRAM), R(1), 64, 512))
    assert cost(*code).cycles == 1 + 100 + 4 * 32


def test_gather_counts_rows() -> None:
    code = (t.Li(R(1), 2), t.Gather(at(0), at(4096), Mem(Space.DRAM), R(1), 64, R(1)))
    result = cost(*code)
    assert result.cycles == 1 + 100 + 32
    assert result.count(Event.DRAM_READ_BYTE) == 512
    assert result.count(Event.BUFFER_READ_BYTE) == 8


def test_zero_lengths_do_nothing_but_issue() -> None:
    code: list[Inst] = [
        t.Mvm(A0, at(1024), at(0), R(1), R(0), 64),
        t.Mvm(A0, at(1024), at(0), R(2), R(0), 0),
        t.Wrow(A0, at(0), at(1024), R(1), R(0)),
        t.Vadd(at(0), at(1024), at(2048), R(1), 20),
        t.Load(at(0), Mem(Space.DRAM), R(1), 64),
        t.Copy(at(0), at(4096), R(1), 10),
    ]
    result = cost(t.Li(R(2), 1), *code, arrays=(array("w", 64, 16),))
    assert result.cycles == 1 + len(code) + 1
    assert {event for event, _ in result.events} == {Event.ISSUE}


def test_post_increment_moves_by_the_span() -> None:
    # the second access starts where the first ended; had it not moved, it would wait for the first
    code = (
        t.Li(R(1), 2),
        t.Copy(at(0, 3, step=True), at(8192), R(1), 16),
        t.Vfill(at(0, 3), R(1), 16, 0.0),
    )
    # copy: 128 + 128 bytes over 32 = 8 cycles from cycle 1 on; fill: cycle 2, 4 + 4 cycles
    assert cost(*code).cycles == 2 + 8


def test_addresses_of_arrays_and_parameters_come_from_registers() -> None:
    arrays = (array("a", 64, 16), array("b", 64, 16))
    code = (
        t.Li(R(1), 1),
        t.Li(R(2), 1),
        t.Mvm(ArrayRef(0, R(2)), Addr(offset=1024), at(0), R(1), R(0), 64),
    )
    assert cost(*code, arrays=arrays).cycles == 2 + 10


def test_timing_needs_no_data() -> None:
    shapes_only: Program = single(t.Li(R(1), 1), t.Vfill(at(0), R(1), 8, 0.0))
    assert shapes_only.data is None
    assert simulate(shapes_only, ONE_TOKEN).cycles == 1 + 4 + 1
