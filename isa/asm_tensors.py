"""Tensors from text: declarations, and values for programs small enough to be written by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lark import Token

from .asm_lines import LineError, Source, Statement, misfit
from .asm_roles import name_of, typed, unique
from .asm_text import integer
from .instruction import DType
from .operands import FloatKind, IntKind, OperandError
from .program import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALF_MAX = 65504.0


class Tensors:
    """The tensors of a file. Either all of them have values, or none (a shapes-only program)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.declared: dict[str, TensorInfo] = {}
        self.values: dict[str, list[int | float]] = {}
        self.lines: dict[str, int] = {}
        self.wrong: set[str] = set()  # tensors with a wrong value, so that missing ones are not counted

    def declare(self, s: Statement) -> None:
        """`.tensor NAME f32[2,2] = 1 2 3 4`"""
        name = unique(name_of(s.token(0)), self.declared, s.token(0), "tensor")
        dtype, shape = typed(s.token(1))
        self.declared[name] = TensorInfo(name, dtype, shape)
        self.lines[name] = s.line
        self._add(name, s.list(2))

    def more(self, s: Statement) -> None:
        """`.values 5 6 7`: more values of the tensor declared last."""
        if not self.declared:
            raise LineError("E0101", ".values stands behind a .tensor", None, "declare the tensor first")
        self._add(next(reversed(self.declared)), s.list(0))

    def _add(self, name: str, tokens: tuple[Token, ...]) -> None:
        dtype = self.declared[name].dtype
        for token in tokens:
            try:
                self.values.setdefault(name, []).append(_value(token, dtype))
            except OperandError as error:
                self.wrong.add(name)
                raise misfit(error, token) from None

    def finish(self) -> dict[str, NDArray[Any]] | None:
        """The values by tensor name; None if tensors are declared but none has values."""
        if self.declared and not self.values:
            return None
        for name, info in self.declared.items():
            given, takes = len(self.values.get(name, ())), math.prod(info.shape)
            if given not in (1, takes) and name not in self.wrong:
                message = f"tensor {name} takes {takes} values, not {given}"
                help_text = "give all values, or one for all; or give no tensor of the file any"
                self.source.report(LineError("E0104", message, None, help_text), self.lines[name])
        return None if self.source.diagnostics else {name: self._array(name) for name in self.declared}

    def _array(self, name: str) -> NDArray[Any]:
        import numpy as np

        info, values = self.declared[name], self.values.get(name, [])
        if len(values) == 1:
            return np.full(info.shape, values[0], dtype=info.dtype.value)
        return np.array(values, dtype=info.dtype.value).reshape(info.shape)


def _value(token: Token, dtype: DType) -> int | float:
    """The value of a token as an element of this type. Raises `OperandError`."""
    if dtype in (DType.I8, DType.I32):
        if token.type != "INTEGER":
            raise OperandError(
                f"{token} is not a whole number", f"a whole number, as the tensor is {dtype.value}"
            )
        return IntKind(8 * dtype.bytes, signed=True).check(integer(token))
    value = float(token) if token.type == "FLOAT" else float(integer(token))
    if math.isnan(value):
        return value
    if dtype is DType.F16 and _HALF_MAX < abs(value) < math.inf:
        raise OperandError(f"{token} is beyond float16", f"a number within {_HALF_MAX:.0f}, or inf")
    return FloatKind().check(value)
