"""Streams from text: what the host exchanges, on which channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lark import Token

from .asm_lines import Statement, misfit
from .asm_roles import member_of, name_of, natural, unique
from .asm_text import dtype_of, split_span
from .operands import OperandError
from .program import Direction, Stream, StreamPart


class Streams:
    """The streams read so far. `know_channel` complains about a channel that is not declared."""

    def __init__(self, numbers: Mapping[str, int], know_channel: Callable[[str, Token], object]) -> None:
        self._numbers, self._know_channel = numbers, know_channel
        self.declared: dict[str, Stream] = {}

    def take(self, s: Statement) -> None:
        """`.stream x in f32 columns 64 [source] [every] [via c[0:64]]`"""
        name = unique(name_of(s.token(0)), self.declared, s.token(0), "stream")
        direction = member_of(Direction, s.token(1), "a direction")
        try:
            dtype = dtype_of(s.token(2))
        except OperandError as error:
            raise misfit(error, s.token(2), "E0104") from None
        parts = tuple(self._part(token) for token in s.all() if token.type == "SPAN")
        columns = natural(s.token(3), "columns")
        self.declared[name] = Stream(
            name, direction, dtype, columns, parts, s.option(4) is not None, s.option(5) is not None
        )

    def _part(self, token: Token) -> StreamPart:
        try:
            channel, first, count = split_span(token)
        except OperandError as error:
            raise misfit(error, token, "E0104") from None
        self._know_channel(channel, token)
        return StreamPart(self._numbers.get(channel, 0), first, count)
