"""Host partitions of a decoder, step by step: rows from tokens before the chip, logits from rows after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.interface import Use
from isa.program import HostPart, Moment, Program, Segment

from .borders import CACHED, interface_of, is_cross
from .host import Border, HostModel, loaded
from .within import parts_around

Array = NDArray[Any]

_PROBE = 3  # rows on which a part behind the chip is tried


class HostSide:
    """The partitions of `program`, for a sequence that grows.

    Raises `CimError` E0601 for one whose partitions do not work token by token.
    """

    def __init__(self, program: Program) -> None:
        self._parts = [(part, _model(program, part)) for part in parts_around(program)]
        inputs = interface_of(program).inputs
        # Of keys and values of a source nothing is known here.
        self._uses = {value.name: value.use for value in inputs if not is_cross(program, value)}
        for part, model in self._of(Moment.BEFORE):
            made = {name for other in program.hosts for name in other.outputs}
            for border in model.inputs:
                if border.name not in made and not self._is_told(border):
                    message = (
                        f"the program is not a decoder of tokens: it reads {border.name!r} ({part.name})"
                    )
                    raise fail("E0601", message)
        sources = {stream.name for stream in program.streams if stream.source}
        for part, model in self._of(Moment.AFTER):
            if sources & {*part.inputs}:
                message = f"the program is not a decoder of tokens: the host works on rows of the source ({part.name})"
                raise fail("E0601", message)
            _check_by_token(part, model)

    def _is_told(self, border: Border) -> bool:
        """Whether what a decoder knows (tokens, position) says what an input holds."""
        told = (Use.IDS, Use.POSITIONS, Use.MASK, Use.TOKEN_TYPES, *CACHED)
        return self._uses.get(border.name) in told or "past" in (border.axes or ())

    def _of(self, moment: Moment) -> Iterator[tuple[HostPart, HostModel]]:
        return ((part, model) for part, model in self._parts if part.moment is moment)

    def rows(self, segments: Sequence[Segment], ids: Array) -> dict[str, Array]:
        """What the partitions before the chip make of the tokens of a step: rows by name."""
        made: dict[str, list[Array]] = {}
        first = 0
        for segment in segments:
            some = ids[first : first + segment.tokens]
            first += segment.tokens
            known: dict[str, Array] = {}
            for _, model in self._of(Moment.BEFORE):
                feeds = {
                    b.name: _told(b, self._uses.get(b.name), some, segment.position)
                    for b in model.inputs
                    if b.name not in known
                }
                known |= model.run(feeds | known)
            for name, rows in known.items():
                made.setdefault(name, []).append(rows.reshape(-1, rows.shape[-1]))
        return {name: np.concatenate(rows) for name, rows in made.items()}

    def results(self, rows: Mapping[str, Array]) -> dict[str, Array]:
        """What the partitions after the chip make of its rows: [rows, features] each, by name."""
        known = dict(rows)
        for part, model in self._of(Moment.AFTER):
            made = [
                model.run({name: known[name][at : at + 1] for name in part.inputs})
                for at in range(len(known[part.inputs[0]]))
            ]
            for name in part.outputs:
                known[name] = np.concatenate([_row(one[name]) for one in made]) if made else np.zeros((0, 1))
        return known

    def width(self, result: str) -> int:
        """Features of a result of a partition after the chip."""
        for part, model in self._of(Moment.AFTER):
            if result in part.outputs:
                return int(model.run(_random(model, 1))[result].shape[-1])
        raise fail("E0601", f"no partition of the host makes {result!r}")


def _model(program: Program, part: HostPart) -> HostModel:
    if program.data is None:
        raise fail("E0603", "the program carries no weights", help="compile without --shapes-only")
    return loaded(np.asarray(program.data[part.model]).tobytes())


def _row(value: Array) -> Array:
    return value.reshape(1, -1)


def _told(border: Border, use: Use | None, ids: Array, position: int) -> Array:
    """What an input holds for tokens `ids` [n] at a position: ids, positions, no padding, or a cache of that size.

    Of a cache a partition may only read the shape; the compiler sees to that.
    """
    axes = border.axes or (1, len(ids))
    if use in CACHED or "past" in axes:
        past = axes.index("past") if "past" in axes else len(axes) - 2
        free = [position if at == past else 1 for at in range(len(axes))]
        return np.zeros([e if isinstance(e, int) else free[at] for at, e in enumerate(axes)], border.dtype)
    shape = (1,) * (len(axes) - 1)
    match use:
        case Use.MASK:
            return np.ones((*shape, position + len(ids)), border.dtype)
        case Use.POSITIONS:
            return np.arange(position, position + len(ids), dtype=border.dtype).reshape(*shape, -1)
        case Use.TOKEN_TYPES:
            return np.zeros((*shape, len(ids)), border.dtype)
        case _:
            return ids.reshape(*shape, -1)


def _random(model: HostModel, rows: int) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {
        b.name: generator.standard_normal((rows, (b.axes or (0,))[-1])).astype(np.float32)  # type: ignore[arg-type]
        for b in model.inputs
    }


def _check_by_token(part: HostPart, model: HostModel) -> None:
    """The result for a token must not depend on the tokens before it: tried on random rows."""
    rows = _random(model, _PROBE)
    whole, last = model.run(rows), model.run({name: value[-1:] for name, value in rows.items()})
    for name in part.outputs:
        features = last[name].size
        if not np.allclose(whole[name].reshape(-1)[-features:], last[name].reshape(-1), rtol=1e-4, atol=1e-5):
            message = (
                f"the program is not a decoder of tokens: {name} ({part.name}) depends on the whole sequence"
            )
            raise fail("E0601", message)
