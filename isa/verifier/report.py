"""Findings: collected, each said once, with a limit on how many of a kind are listed."""

from __future__ import annotations

from isa.diagnostics import Diagnostic, InstructionPlace, NamedPlace
from isa.program import Role

MAX_OF_A_CODE = 20


class Report:
    """The findings about one program."""

    def __init__(self, program: str) -> None:
        self.program = program
        self._found: dict[tuple[str, object, str], Diagnostic] = {}

    def instruction(
        self,
        role: Role,
        index: int,
        code: str,
        message: str,
        hint: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Something is wrong with an instruction. Only the first message of a code on a place counts."""
        text = str(role.code[index]) if index < len(role.code) else ""
        place = InstructionPlace(self.program, role.name, index, text)
        self._found.setdefault((code, (role.name, index), ""), Diagnostic(code, message, place, hint, notes))

    def thing(self, name: str, code: str, message: str, hint: str | None = None) -> None:
        """Something is wrong with a tile, channel, tensor or other named thing."""
        place = NamedPlace(self.program, name)
        self._found.setdefault((code, name, message), Diagnostic(code, message, place, hint))

    def full(self, code: str) -> bool:
        """Whether there are so many findings of this code that more need not be looked for."""
        return sum(key[0] == code for key in self._found) > 2 * MAX_OF_A_CODE

    def __bool__(self) -> bool:
        return bool(self._found)

    def has(self, *codes: str) -> bool:
        """Whether there is a finding of one of these codes."""
        return any(key[0] in codes for key in self._found)

    def has_role(self, name: str) -> bool:
        """Whether there is a finding about an instruction of this role."""
        return any(isinstance(key[1], tuple) and key[1][0] == name for key in self._found)

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings in the order found; beyond a number of one code they are only counted."""
        shown: list[Diagnostic] = []
        counts: dict[str, int] = {}
        for diagnostic in self._found.values():
            counts[diagnostic.code] = counts.get(diagnostic.code, 0) + 1
            if counts[diagnostic.code] <= MAX_OF_A_CODE:
                shown.append(diagnostic)
        for code, count in counts.items():
            if count > MAX_OF_A_CODE:
                place = NamedPlace(self.program)
                shown.append(Diagnostic(code, f"{count - MAX_OF_A_CODE} more findings of this kind", place))
        return tuple(shown)
