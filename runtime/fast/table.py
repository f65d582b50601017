"""Costs of instructions by their lengths: a table in the plan arena, filled as they are met."""

from __future__ import annotations

from .jit import Words, compiled, entry, pointer
from .layout import C_LENGTH, C_LENGTHS, K_CODE, K_KEY, T_REGISTERS, X_MASK, X_TABLE

FIRST_SLOTS = 64  # a power of two, as all numbers of slots
_FACTOR = 0x1E3779B97F4A7C15  # odd, with about as many ones as zeros
_SHIFT = 24  # the lower bits of a product depend on few of its factors' bits


@compiled
def mixed(key: int, value: int) -> int:
    """A number that depends on all bits of two."""
    product = (key ^ value) * _FACTOR
    return product ^ product >> _SHIFT


@compiled
def find_cost(m: Words, k: Words, tile: int, code: int) -> int:
    """The cost of an instruction with the registers as they are; 0 if it is not known yet."""
    lengths, first, registers = k[code + C_LENGTHS], code + C_LENGTH, tile + T_REGISTERS
    key = mixed(code, 0)
    for number in range(lengths):
        key = mixed(key, m[registers + k[first + number]])
    table, mask = k[X_TABLE], k[X_MASK]
    slot = key & mask
    while True:
        cost = k[table + slot]
        if cost == 0:
            return 0
        if k[cost + K_CODE] == code:
            for number in range(lengths):
                if k[cost + K_KEY + number] != m[registers + k[first + number]]:
                    break
            else:
                return cost
        slot = (slot + 1) & mask


@entry
def put_cost(plan: Words, cost: int) -> None:
    """Put a cost that is not in the table there."""
    k = pointer(plan)
    code = k[cost + K_CODE]
    key = mixed(code, 0)
    for number in range(k[code + C_LENGTHS]):
        key = mixed(key, k[cost + K_KEY + number])
    table, mask = k[X_TABLE], k[X_MASK]
    slot = key & mask
    while k[table + slot]:
        slot = (slot + 1) & mask
    k[table + slot] = cost
