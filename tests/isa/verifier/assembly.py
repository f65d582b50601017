"""Texts of roles from nested lists: loops and branches take their bodies, labels follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from isa import instructions as t
from isa.hardware import Hardware, load_target
from isa.instruction import Inst
from isa.operands import Addr, Reg


@dataclass(frozen=True)
class Loop:
    """`loop register, count` around a body."""

    register: int
    count: Reg | int
    body: Sequence[Item]


@dataclass(frozen=True)
class Unless:
    """A branch over a body: the body is skipped if the branch is taken."""

    branch: type[Any]
    a: Reg
    b: Reg | int
    body: Sequence[Item]


Item = Inst | Loop | Unless


def flatten(items: Sequence[Item], base: int = 0) -> list[Inst]:
    """The instructions of nested items, the first of which has index `base`."""
    code: list[Inst] = []
    for item in items:
        at = base + len(code)
        if isinstance(item, Loop):
            body = flatten(item.body, at + 1)
            code += [t.Loop(Reg(item.register), item.count, at + 1 + len(body)), *body]
        elif isinstance(item, Unless):
            body = flatten(item.body, at + 1)
            code += [item.branch(item.a, item.b, at + 1 + len(body)), *body]
        else:
            code.append(item)
    return code


@cache
def tiny() -> Hardware:
    """The teaching target."""
    return load_target("tiny")


def at(offset: int, base: int = 0, *, step: bool = False) -> Addr:
    """A buffer address."""
    return Addr(Reg(base), offset, step)
