"""Every step that a test of this room runs on the reference engine runs on the fast one, too, and must come out equal.

Outputs, buffers, what was written of them, arrays and scales are compared to the bit (a NaN is a NaN); a step that
fails must fail with the same words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isa.diagnostics import CimError
from isa.program import Segment
from runtime.machine import Machine
from runtime.values import EngineKind

_STEP, _RESET, _WRITE = Machine.step, Machine.reset, Machine.write_cache


def _is_shadowed(machine: Machine) -> bool:
    return machine.reason is not None and machine.program.data is not None


def _shadow(machine: Machine) -> Machine:
    """The fast machine that does what a machine of the reference does."""
    found = machine.__dict__.get("_shadow")
    if found is None:
        found = machine.__dict__["_shadow"] = Machine(
            machine.program, engine=EngineKind.FAST, analog=machine.analog
        )
        found.pages = machine.pages
    assert isinstance(found, Machine)
    return found


def _outcome(machine: Machine, segments: Sequence[Segment], inputs: Mapping[str, NDArray[Any]]) -> Any:
    try:
        return _STEP(machine, segments, inputs)
    except CimError as error:
        return error


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether words are equal to the bit, or both NaN."""
    if a.dtype.itemsize != 4:
        return a.tobytes() == b.tobytes()
    x, y = np.ascontiguousarray(a).view(np.float32), np.ascontiguousarray(b).view(np.float32)
    return bool(((x.view(np.int32) == y.view(np.int32)) | (np.isnan(x) & np.isnan(y))).all())


def assert_same_state(a: Machine, b: Machine) -> None:
    """Buffers, arrays and memories of two machines are the same."""
    for x, y in zip(a.tiles, b.tiles, strict=True):
        assert x._written == y._written
        assert _same(x._words, y._words)
        for one, other in zip(x.arrays, y.arrays, strict=True):
            assert _same(one.cells, other.cells)
            assert _same(one.row_scales, other.row_scales)
            assert _same(one.column_scales, other.column_scales)
        for space, memory in x._memories.items():
            for first, second in zip(memory._regions, y._memories[space]._regions, strict=True):
                assert first.data.tobytes() == second.data.tobytes()


def step_both(
    machine: Machine, segments: Sequence[Segment], inputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """A step on both engines."""
    if not _is_shadowed(machine):
        return _STEP(machine, segments, inputs)
    shadow = _shadow(machine)
    found, other = _outcome(machine, segments, inputs), _outcome(shadow, segments, inputs)
    if isinstance(found, CimError):
        assert isinstance(other, CimError), f"only the reference says: {found}"
        if machine._pick(2) == 0:  # with another order, another tile may be the first to go wrong
            assert str(found) == str(other)
        raise found
    assert not isinstance(other, CimError), f"only the fast engine says: {other}"
    assert found.keys() == other.keys()
    assert all(_same(found[name], other[name]) for name in found)
    assert_same_state(machine, shadow)
    result: dict[str, NDArray[Any]] = found
    return result


def _reset_both(machine: Machine) -> None:
    machine.__dict__.pop("_shadow", None)
    _RESET(machine)


def _write_both(machine: Machine, *args: Any, **named: Any) -> None:
    _WRITE(machine, *args, **named)
    if _is_shadowed(machine):
        _WRITE(_shadow(machine), *args, **named)


@pytest.fixture(autouse=True)
def both_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Steps, caches that are written and resets happen on both engines."""
    monkeypatch.setattr(Machine, "step", step_both)
    monkeypatch.setattr(Machine, "write_cache", _write_both)
    monkeypatch.setattr(Machine, "reset", _reset_both)
    yield
