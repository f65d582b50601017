"""What an instruction raises when it does what the machine does not allow."""

from __future__ import annotations


class TrapError(Exception):
    """The machine does not allow this. The engine turns it into diagnostic E0604 with the instruction's place.

    `index` names another instruction than the one being executed: a `recv` whose message came later.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.index = index
