"""Tiles from text: the lines behind `.tile`."""

from __future__ import annotations

from collections.abc import Callable

from lark import Token

from .asm_lines import LineError, Statement, misfit
from .asm_text import integer, nearest, numbered, split_pair, split_slice
from .operands import OperandError
from .program import ArrayData, Role, Slice, Tile


def pair_of(token: Token) -> tuple[str, str]:
    """Key and value of `key=value`."""
    try:
        return split_pair(token)
    except OperandError as error:
        raise misfit(error, token, "E0101") from None


def _index(name: str, names: tuple[str, ...], token: Token, what: str) -> int:
    if name not in names:
        raise LineError("E0105", f"the role has no {what} {name!r}", token, nearest(name, names, what))
    return names.index(name)


class TileBuilder:
    """Collects the lines of one tile. Without a role (its line was wrong) they are not looked at.

    `know_tensor` raises `LineError` if there is no tensor of a name.
    """

    def __init__(
        self,
        line: int,
        place: tuple[str, int, int],
        role: Role | None,
        know_tensor: Callable[[str, Token], object],
    ) -> None:
        self.line, self.role, self.know_tensor = line, role, know_tensor
        self.name, self.x, self.y = place
        self.complete = True  # False once a line was wrong, so what it gave is not missed
        self.params: dict[int, int] = {}
        self.arrays: dict[int, ArrayData] = {}
        self.constants: dict[int, Slice] = {}
        self.nodes: dict[int, str] = {}

    def take(self, statement: Statement) -> None:
        """Add a line. Raises `LineError`."""
        if self.role is not None:
            _HANDLERS[statement.rule](self, self.role, statement)

    def _params(self, role: Role, s: Statement) -> None:
        for token in s.all():
            name, value = pair_of(token)
            index = _index(name, role.params, token, "parameter")
            if index in self.params:
                raise LineError("E0106", f"parameter {name!r} is given twice", token, "remove one")
            try:
                self.params[index] = integer(value)
            except OperandError as error:
                raise misfit(error, token, "E0104") from None

    def _nodes(self, role: Role, s: Statement) -> None:
        for token in s.all():
            name, node = pair_of(token)
            self.nodes[_index(name, role.sites, token, "site")] = node

    def _bind(self, role: Role, s: Statement) -> None:
        token, scales = s.token(0), s.option(2)
        number = int(token[1:].partition("+")[0])
        if token.type == "ARRAY":
            self._declared(token, number, len(role.arrays), "array")
            values = self._slice(s.token(1))
            self.arrays[number] = ArrayData(values, self._slice(scales) if scales is not None else None)
            return
        self._declared(token, number, len(role.constants), "constant")
        if scales is not None:
            raise LineError("E0104", "a constant has no scales", scales, "only arrays have scales")
        self.constants[number] = self._slice(s.token(1))

    def _declared(self, token: Token, number: int, count: int, what: str) -> None:
        letter = token[0]
        if number >= count or "+" in token:
            assert self.role is not None
            help_text = f"role {self.role.name} has {numbered(count, letter, what)}"
            raise LineError("E0103", f"{what} {token} is not declared", token, help_text)

    def _slice(self, token: Token) -> Slice:
        try:
            part = split_slice(token)
        except OperandError as error:
            raise misfit(error, token, "E0104") from None
        self.know_tensor(part.tensor, token)
        return part

    def finish(self, role: Role) -> Tile:
        """The tile. Raises `LineError` if a parameter or constant of the role has no value."""
        for names, given, what in (
            (role.params, self.params, "value for parameter"),
            ([c.name for c in role.constants], self.constants, ".bind for constant"),
        ):
            missing = [name for index, name in enumerate(names) if index not in given]
            if missing:
                raise LineError(
                    "E0104", f"tile {self.name} has no {what} {missing[0]!r}", None, "add it below `.tile`"
                )
        return Tile(
            self.name,
            role.name,
            self.x,
            self.y,
            tuple(self.params[i] for i in range(len(role.params))),
            tuple(self.arrays.get(i) for i in range(len(role.arrays))),
            tuple(self.constants[i] for i in range(len(role.constants))),
            tuple(self.nodes.get(i, "") for i in range(max(self.nodes, default=-1) + 1)),
        )


_HANDLERS: dict[str, Callable[[TileBuilder, Role, Statement], None]] = {
    "params": TileBuilder._params,
    "nodes": TileBuilder._nodes,
    "bind": TileBuilder._bind,
}
TILE_RULES = frozenset(_HANDLERS)
