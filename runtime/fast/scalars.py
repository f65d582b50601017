"""Scalar instructions (isa/scalars.py, isa/timing/decode.py): registers, branches, loops, facts of the step."""

from __future__ import annotations

from .jit import Words, compiled
from .layout import (
    ADD,
    AND,
    BEQ,
    BLT,
    BNE,
    C_A,
    C_B,
    C_CONSTANT,
    C_INDEX,
    C_KIND,
    C_RD,
    C_TARGET,
    DIV,
    G_END,
    G_IS_SOURCE,
    G_OUTPUTS,
    G_PAGE_COUNT,
    G_PAGES,
    G_POSITION,
    G_SEQUENCE,
    G_SOURCE,
    G_TOKENS,
    G_WORDS,
    HALT,
    JUMP,
    LDP,
    LI,
    LOOP,
    LOOP_COUNT,
    LOOP_END,
    LOOP_INDEX,
    LOOP_REGISTER,
    LOOP_SIZE,
    LOOP_START,
    MAX,
    MAX_LOOPS,
    MIN,
    MOD,
    MUL,
    OR,
    PAGE,
    SHL,
    SHR,
    SSEG,
    SUB,
    SYS,
    T_LOOPS,
    T_LOOPS_LEN,
    T_PARAM_COUNT,
    T_PARAMS,
    T_REGISTERS,
    T_SEGMENT,
    T_SHARE,
    Y_COUNT,
    Y_SEGMENTS,
    Y_SOURCES,
)

HALTED = -1
TRAPPED = -2  # an operand that the definition excludes, or too many loops: the reference says which
MAX_SHIFT = 31
SYS_SEGMENTS, SYS_TOKENS, SYS_POSITION, SYS_OUTPUTS, SYS_SEQUENCE, SYS_END, SYS_SOURCES, SYS_SOURCE = range(8)


@compiled
def is_trap(kind: int, b: int) -> bool:
    """Whether an arithmetic instruction excludes its second operand."""
    if kind in (DIV, MOD):
        return b == 0
    return kind in (SHL, SHR) and not 0 <= b <= MAX_SHIFT


@compiled
def arithmetic(kind: int, a: int, b: int) -> int:
    """What a three-operand instruction computes, modulo 2**64."""
    if kind == ADD:
        return a + b
    if kind == SUB:
        return a - b
    if kind == MUL:
        return a * b
    if kind == MIN:
        return min(a, b)
    if kind == MAX:
        return max(a, b)
    return less_usual(kind, a, b)


@compiled
def less_usual(kind: int, a: int, b: int) -> int:
    """See `arithmetic`; division by -1 apart, as its one overflow stops some processors."""
    if kind == DIV:
        return -a if b == -1 else a // b
    if kind == MOD:
        return 0 if b == -1 else a % b
    if kind == SHL:
        return a << b
    if kind == SHR:
        return a >> b
    if kind == AND:
        return a & b
    return a | b if kind == OR else a ^ b


@compiled
def is_taken(kind: int, a: int, b: int) -> bool:
    """Whether a conditional branch is taken."""
    if kind == BEQ:
        return a == b
    if kind == BNE:
        return a != b
    return a < b if kind == BLT else a >= b


@compiled
def next_pass(m: Words, tile: int, at: int) -> int:
    """Where to go on when `at` may be the end of the innermost loop."""
    while m[tile + T_LOOPS_LEN]:
        loop = tile + T_LOOPS + LOOP_SIZE * (m[tile + T_LOOPS_LEN] - 1)
        if m[loop + LOOP_END] != at:
            return at
        m[loop + LOOP_INDEX] += 1
        if m[loop + LOOP_INDEX] < m[loop + LOOP_COUNT]:
            m[tile + T_REGISTERS + m[loop + LOOP_REGISTER]] = m[loop + LOOP_INDEX]
            return m[loop + LOOP_START]
        m[tile + T_LOOPS_LEN] -= 1
    return at


@compiled
def enter_loop(m: Words, k: Words, tile: int, code: int, passes: int) -> int:
    """Begin a loop, unless it has no passes."""
    if passes <= 0:
        return k[code + C_TARGET]
    if m[tile + T_LOOPS_LEN] == MAX_LOOPS:
        return TRAPPED
    loop = tile + T_LOOPS + LOOP_SIZE * m[tile + T_LOOPS_LEN]
    m[tile + T_LOOPS_LEN] += 1
    m[loop + LOOP_START] = k[code + C_INDEX] + 1
    m[loop + LOOP_END] = k[code + C_TARGET]
    m[loop + LOOP_REGISTER] = k[code + C_RD]
    m[loop + LOOP_COUNT] = passes
    m[loop + LOOP_INDEX] = 0
    m[tile + T_REGISTERS + k[code + C_RD]] = 0
    return k[code + C_INDEX] + 1


@compiled
def set_fact(m: Words, tile: int, rd: int, what: int) -> bool:
    """Read a fact of the step, or of the current segment; False if none is current."""
    register, share = tile + T_REGISTERS + rd, m[tile + T_SHARE]
    if what == SYS_SOURCES:
        m[register] = m[share + Y_SOURCES]
        return True
    if what == SYS_SEGMENTS:
        m[register] = m[share + Y_COUNT] - m[share + Y_SOURCES]
        return True
    current = m[tile + T_SEGMENT]
    if not 0 <= current < m[share + Y_COUNT]:
        return False
    m[register] = fact_of(m, m[share + Y_SEGMENTS] + G_WORDS * current, what)
    return True


@compiled
def fact_of(m: Words, segment: int, what: int) -> int:
    """A fact of a segment."""
    if what == SYS_END or (what == SYS_SOURCE and m[segment + G_IS_SOURCE]):
        return m[segment + G_END]
    if what == SYS_TOKENS:
        return m[segment + G_TOKENS]
    if what == SYS_POSITION:
        return m[segment + G_POSITION]
    if what == SYS_OUTPUTS:
        return m[segment + G_OUTPUTS]
    if what == SYS_SEQUENCE:
        return m[segment + G_SEQUENCE]
    return m[segment + G_SOURCE]


@compiled
def set_page(m: Words, tile: int, rd: int, index: int) -> bool:
    """Read the current segment's table of pages; False if no segment of tokens is current."""
    current, share = m[tile + T_SEGMENT], m[tile + T_SHARE]
    if not 0 <= current < m[share + Y_COUNT]:
        return False
    segment = m[share + Y_SEGMENTS] + G_WORDS * current
    if m[segment + G_IS_SOURCE]:
        return False
    page = m[m[segment + G_PAGES] + index] if 0 <= index < m[segment + G_PAGE_COUNT] else 0
    m[tile + T_REGISTERS + rd] = page
    return True


@compiled
def set_segment(m: Words, tile: int, is_source: bool, number: int) -> bool:
    """Make a segment the current one; False if there is no such segment."""
    share = m[tile + T_SHARE]
    sources = m[share + Y_SOURCES]
    if not 0 <= number < (sources if is_source else m[share + Y_COUNT] - sources):
        return False
    m[tile + T_SEGMENT] = number if is_source else sources + number
    return True


@compiled
def set_parameter(m: Words, k: Words, tile: int, rd: int, index: int) -> bool:
    """Read a parameter of the tile; False if it does not exist."""
    if index >= m[tile + T_PARAM_COUNT]:
        return False
    m[tile + T_REGISTERS + rd] = k[m[tile + T_PARAMS] + index]
    return True


@compiled
def run_special(m: Words, k: Words, tile: int, code: int) -> bool:
    """Run an instruction that reads something beside registers; False if it traps."""
    kind, rd = k[code + C_KIND], k[code + C_RD]
    registers, constant = tile + T_REGISTERS, k[code + C_CONSTANT]
    if kind == LDP:
        return set_parameter(m, k, tile, rd, constant)
    if kind == SYS:
        return set_fact(m, tile, rd, constant)
    if kind == PAGE:
        return set_page(m, tile, rd, m[registers + k[code + C_B]] + constant)
    return set_segment(m, tile, kind == SSEG, m[registers + k[code + C_A]])


@compiled
def run_scalar(m: Words, k: Words, tile: int, code: int) -> int:
    """Run a scalar instruction; the index of the next one, or `HALTED`, or `TRAPPED`."""
    kind, following = k[code + C_KIND], k[code + C_INDEX] + 1
    registers = tile + T_REGISTERS
    if kind >= BEQ:
        taken = is_taken(
            kind, m[registers + k[code + C_A]], m[registers + k[code + C_B]] + k[code + C_CONSTANT]
        )
        return k[code + C_TARGET] if taken else following
    if kind >= ADD:
        b = m[registers + k[code + C_B]] + k[code + C_CONSTANT]
        if is_trap(kind, b):
            return TRAPPED
        m[registers + k[code + C_RD]] = arithmetic(kind, m[registers + k[code + C_A]], b)
        return following
    if kind == LI:
        m[registers + k[code + C_RD]] = k[code + C_CONSTANT]
        return following
    if kind == LOOP:
        return enter_loop(m, k, tile, code, m[registers + k[code + C_B]] + k[code + C_CONSTANT])
    if kind == JUMP:
        return k[code + C_TARGET]
    if kind == HALT:
        return HALTED
    return following if run_special(m, k, tile, code) else TRAPPED
