"""The table from instruction types to their meanings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from isa.instruction import Inst
from runtime.engine.state import TileState

I = TypeVar("I", bound=Inst)
Meaning = Callable[[TileState, Any], None]

MEANINGS: dict[type[Inst], Meaning] = {}  # filled by the modules of this package when they are imported


def semantics(*kinds: type[I]) -> Callable[[Callable[[TileState, I], None]], Callable[[TileState, I], None]]:
    """Declare a function to be the meaning of instructions of these types."""

    def declare(meaning: Callable[[TileState, I], None]) -> Callable[[TileState, I], None]:
        for kind in kinds:
            if kind in MEANINGS:
                raise TypeError(f"{kind.__name__} has two meanings")
            MEANINGS[kind] = meaning
        return meaning

    return declare


def meaning_of(inst: Inst) -> Meaning:
    """The meaning of an instruction."""
    return MEANINGS[type(inst)]
