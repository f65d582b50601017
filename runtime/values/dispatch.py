"""What each instruction of a unit does: its function, found by its kind."""

from __future__ import annotations

from . import layout as at
from .codes import (
    run_decode,
    run_decode_columns,
    run_decode_rows,
    run_from_half,
    run_quantise,
    run_quantise_weighted,
    run_to_half,
)
from .elements import run_binary, run_both, run_column, run_fill, run_immediate, run_row, run_unary
from .jit import inlined
from .messages import run_barrier, run_send
from .moves import run_copy, run_gather, run_load, run_store
from .places import run_relative, run_rope, run_slope
from .plan import OPCODE
from .products import (
    run_float_rows,
    run_ideal,
    run_product,
    run_read_rows,
    run_write_rows,
    run_write_scales,
)
from .receives import run_receive
from .reductions import run_deviation, run_reduction, run_sum_of_codes
from .softmax import run_block, run_block_of_sums, run_finish, run_merge, run_rescale
from .state import State

VADD, VADDR, VEXP, VSUM = OPCODE["vadd"], OPCODE["vaddr"], OPCODE["vexp"], OPCODE["vsum"]
LAST_CIM, LAST_BINARY, LAST_UNARY = OPCODE["rrowf"], OPCODE["vmin"], OPCODE["vneg"]
MVM, MVMT, MVMW, MVMF, MVMTF = (
    OPCODE["mvm"],
    OPCODE["mvmt"],
    OPCODE["mvmw"],
    OPCODE["mvmf"],
    OPCODE["mvmtf"],
)
WROW, WROWC, RROW, WROWF, WSCALE = (
    OPCODE["wrow"],
    OPCODE["wrowc"],
    OPCODE["rrow"],
    OPCODE["wrowf"],
    OPCODE["wscale"],
)
RROWF = OPCODE["rrowf"]
VMULR, VSUBC, VMULC, VSCALE, VOUTER = (
    OPCODE["vmulr"],
    OPCODE["vsubc"],
    OPCODE["vmulc"],
    OPCODE["vscale"],
    OPCODE["vouter"],
)
VADDI, VMULI = OPCODE["vaddi"], OPCODE["vmuli"]
VFILL, VMEAN, VRSTD, VRSTDM = OPCODE["vfill"], OPCODE["vmean"], OPCODE["vrstd"], OPCODE["vrstdm"]
VSUMQ, QUANT, QUANTX, QUANTM = OPCODE["vsumq"], OPCODE["quant"], OPCODE["quantx"], OPCODE["quantm"]
QUANTL = OPCODE["quantl"]
QUANTW, DEQR, DEQ, VF16, VF32 = (
    OPCODE["quantw"],
    OPCODE["deqr"],
    OPCODE["deq"],
    OPCODE["vf16"],
    OPCODE["vf32"],
)
DEQC, DEQB, DEQG = OPCODE["deqc"], OPCODE["deqb"], OPCODE["deqg"]
VREL, VSLOPE, ROPE = OPCODE["vrel"], OPCODE["vslope"], OPCODE["rope"]
SMX, SMXI, SMXM, SMXS, SMXD = (
    OPCODE["smx"],
    OPCODE["smxi"],
    OPCODE["smxm"],
    OPCODE["smxs"],
    OPCODE["smxd"],
)
COPY, LOAD, STORE, GATHER = OPCODE["copy"], OPCODE["load"], OPCODE["store"], OPCODE["gather"]
SEND, RECV, BARRIER = OPCODE["send"], OPCODE["recv"], OPCODE["barrier"]


@inlined
def execute(s: State, tile: int, code: int) -> int:
    """Execute an instruction of a unit: `DONE`, or why it cannot be; then nothing was changed."""
    kind = s.k[code + at.C_KIND]
    if kind >= COPY:
        return execute_outside(s, tile, code, kind)
    if kind <= LAST_CIM:
        return execute_cim(s, tile, code, kind)
    if kind <= LAST_BINARY:
        return run_binary(s, tile, code, kind)
    if VEXP <= kind <= LAST_UNARY:
        return run_unary(s, tile, code, kind)
    if kind < VEXP:
        return execute_broadcast(s, tile, code, kind)
    return execute_rows(s, tile, code, kind)


@inlined
def execute_outside(s: State, tile: int, code: int, kind: int) -> int:
    """Moves and messages."""
    if kind == RECV:
        return run_receive(s, tile, code)
    if kind == SEND:
        return run_send(s, tile, code)
    if kind == COPY:
        return run_copy(s, tile, code)
    if kind == LOAD:
        return run_load(s, tile, code)
    if kind == STORE:
        return run_store(s, tile, code)
    if kind == GATHER:
        return run_gather(s, tile, code)
    return run_barrier(s, tile, code) if kind == BARRIER else at.TROUBLE


@inlined
def execute_cim(s: State, tile: int, code: int, kind: int) -> int:
    """What arrays do."""
    if kind in (MVM, MVMT, MVMW):
        return run_product(s, tile, code, kind)
    if kind in (WROW, WROWC):
        return run_write_rows(s, tile, code, kind)
    if kind in (MVMF, MVMTF):
        return run_ideal(s, tile, code, kind)
    if kind in (WROWF, RROWF):
        return run_float_rows(s, tile, code, kind == RROWF)
    if kind == RROW:
        return run_read_rows(s, tile, code)
    return run_write_scales(s, tile, code) if kind == WSCALE else at.TROUBLE


@inlined
def execute_broadcast(s: State, tile: int, code: int, kind: int) -> int:
    """Blocks with rows, columns and constants."""
    if kind in (VADDR, VMULR):
        return run_row(s, tile, code, kind)
    if kind in (VSUBC, VMULC):
        return run_column(s, tile, code, kind)
    if kind in (VSCALE, VOUTER):
        return run_both(s, tile, code, kind)
    if kind == VFILL:
        return run_fill(s, tile, code)
    return run_immediate(s, tile, code, kind) if kind in (VADDI, VMULI) else at.TROUBLE


@inlined
def execute_rows(s: State, tile: int, code: int, kind: int) -> int:
    """What is done row by row: reductions, quantisation, softmax, rotary embedding."""
    if kind in (QUANT, QUANTL, QUANTX, QUANTM):
        return run_quantise(s, tile, code, kind)
    if kind in (DEQC, DEQB, DEQG):
        return run_decode_columns(s, tile, code, kind)
    if kind == QUANTW:
        return run_quantise_weighted(s, tile, code)
    if SMX <= kind <= SMXS:
        return execute_softmax(s, tile, code, kind)
    if VSUM <= kind <= VMEAN and kind != VSUMQ:
        return run_reduction(s, tile, code, kind)
    if kind in (VRSTD, VRSTDM):
        return run_deviation(s, tile, code, kind)
    return execute_rare(s, tile, code, kind)


@inlined
def execute_softmax(s: State, tile: int, code: int, kind: int) -> int:
    """Softmax, and biases that scores get before it."""
    if kind == SMXI:
        return run_block_of_sums(s, tile, code)
    if kind == SMX:
        return run_block(s, tile, code)
    if kind == SMXM:
        return run_merge(s, tile, code)
    if kind == SMXS:
        return run_rescale(s, tile, code)
    if kind == SMXD:
        return run_finish(s, tile, code)
    if kind == VREL:
        return run_relative(s, tile, code)
    return run_slope(s, tile, code) if kind == VSLOPE else at.TROUBLE


@inlined
def execute_rare(s: State, tile: int, code: int, kind: int) -> int:
    """The rest of what is done row by row."""
    if kind == VSUMQ:
        return run_sum_of_codes(s, tile, code)
    if kind == DEQR:
        return run_decode_rows(s, tile, code)
    if kind == DEQ:
        return run_decode(s, tile, code)
    if kind == VF16:
        return run_to_half(s, tile, code)
    if kind == VF32:
        return run_from_half(s, tile, code)
    return run_rope(s, tile, code) if kind == ROPE else at.TROUBLE
