"""The inputs of an ONNX file, sequence by sequence: rows for each stream, what is in the caches, where padding is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isa.diagnostics import fail
from isa.interface import Interface, ModelValue, Use
from isa.program import Direction, Program, Stream

from .borders import CACHED, interface_of, is_cross, is_numbers, streams_of
from .padding import Flags, Places, check_ids, check_positions, places_of

Array = NDArray[Any]


_BATCHED = (Use.MASK, Use.SOURCE_MASK, Use.POSITIONS, *CACHED)
"""Uses of inputs whose first axis is the batch, if they have more than one (of stacked caches it is the second)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values that a cache has before the step: [heads, rows, d] each."""

    keys: Array
    values: Array


@dataclass(frozen=True, slots=True)
class Given:
    """What one sequence of a batch is given.

    `rows` of each stream are those of its tokens, padding left out; `source` likewise. `source_places` says which rows
    of the source are real, `kept` what its caches hold. `before` is what stays of the caches as they are fed, padding
    included; after the step they have `size` places in the file.
    """

    rows: Mapping[str, Array]
    places: Places
    source: Mapping[str, Array] = field(default_factory=dict)
    source_places: Flags = field(default_factory=lambda: np.zeros(0, bool))
    kept: Mapping[int, Kept] = field(default_factory=dict)
    before: Mapping[int, Kept] = field(default_factory=dict)
    size: int = 0


class Reader:
    """Reads the inputs of one call: `known` are the file's, and what host partitions have made of them.

    Raises `CimError` E0601 for inputs that do not fit.
    """

    def __init__(self, program: Program, known: Mapping[str, Array]) -> None:
        self.program = program
        self.interface: Interface = interface_of(program)
        self._known = {name: np.asarray(value) for name, value in known.items()}
        self._streams = {s.name: s for s in streams_of(program, Direction.IN)}
        self._tokens = {s.name: self._token_feed(s) for s in self._streams.values() if not s.source}
        if not self._tokens:
            raise fail("E0601", "the program takes no inputs: it is not one that was compiled from a model")
        self._uses_cache = self._switched()
        self.single = all(a.ndim == _rank(self._streams[n]) for n, a in self._tokens.items())
        self.batch = 1 if self.single else self._batch()
        self.new = self._new_tokens()
        self._check_batches()

    def sequence(self, at: int) -> Given:
        """What sequence number `at` of the batch is given."""
        past = self._caches(at, cross=False)
        total = max((k.keys.shape[1] for k in past.values()), default=0)
        filled = self._filled(at, total)
        places = self._places(at, total, filled)
        self._check_positions(at, places)
        self._check_masks(at)
        rows = {name: self._one(name, array, at)[places.new] for name, array in self._tokens.items()}
        source, seen, cross = self._source(at)
        self._check_ids(rows | source)
        kept = {
            n: Kept(k.keys[:, :filled][:, places.old], k.values[:, :filled][:, places.old])
            for n, k in past.items()
        }
        kept |= {n: Kept(k.keys[:, seen], k.values[:, seen]) for n, k in cross.items()}
        written = self._value(Use.START) is not None  # tokens are written into the buffer that is fed
        size = total if written else max(total, filled + self.new)
        before = (
            past if written else {n: Kept(k.keys[:, :filled], k.values[:, :filled]) for n, k in past.items()}
        )
        return Given(rows, places, source, seen, kept, before, size)

    def _check_ids(self, rows: Mapping[str, Array]) -> None:
        for value in self.interface.inputs:
            if value.use in (Use.IDS, Use.SOURCE) and value.stream in rows:
                ids = rows[value.stream]
                check_ids(
                    ids if is_numbers(self._streams[value.stream]) else np.zeros(0), self.interface.padding
                )

    # ------------------------------------------------------------------------------------------------- by use

    def _value(self, use: Use) -> tuple[ModelValue, Array] | None:
        """The first input of this use that is given."""
        found = (v for v in self.interface.inputs if v.use is use and v.name in self._known)
        return next(((v, self._known[v.name]) for v in found), None)

    def _switched(self) -> bool:
        """Whether the caches count: a merged decoder may be told that there is nothing in them."""
        found = self._value(Use.SWITCH)
        return found is None or bool(np.all(found[1]))

    # ------------------------------------------------------------------------------------------------- tokens

    def _token_feed(self, stream: Stream) -> Array:
        """The array for a stream of tokens, with rows last but one: [(batch,) tokens(, columns)]."""
        value = next((v for v in self.interface.inputs if v.stream == stream.name), None)
        name = value.name if value is not None and value.name in self._known else stream.name
        if name not in self._known:
            if value is not None and value.use is Use.TOKEN_TYPES:
                return np.zeros((1, 1), np.int32)
            names = [v.name for v in self.interface.inputs if v.stream] or sorted(self._streams)
            raise fail(
                "E0601",
                f"input {value.name if value else name!r} is missing",
                help=f"the program takes {names}",
            )
        array = self._known[name]
        if value is not None and value.heads and array.ndim == 4:
            array = array.swapaxes(1, 2).reshape(array.shape[0], array.shape[2], -1)
        _check_fit(stream, name, array)
        return array

    def _batch(self) -> int:
        return max(int(a.shape[0]) for n, a in self._tokens.items() if a.ndim > _rank(self._streams[n]))

    def _check_batches(self) -> None:
        """Whatever has a batch axis must be for as many sequences, or one for all of them."""
        found = [(n, a, 0) for n, a in self._tokens.items() if a.ndim > _rank(self._streams[n])]
        for stream in self._streams.values():
            array = self._known.get(stream.name)
            if stream.source and array is not None and array.ndim > _rank(stream):
                found.append((stream.name, array, 0))
        for value in self.interface.inputs:
            array = self._known.get(value.name)
            if (
                array is not None
                and value.use in _BATCHED
                and array.ndim > 1
                and not _hides_nothing(value, array)
            ):
                found.append((value.name, array, 1 if value.use is Use.KEYS_VALUES else 0))
        for name, array, axis in found:
            if array.shape[axis] not in (1, self.batch) and array.size:
                message = f"{name} is for {array.shape[axis]} sequences, {self.batch} are given"
                raise fail("E0601", message, help="one for each sequence, or one for all of them")

    def _new_tokens(self) -> int:
        """How many tokens, padding included, each sequence has."""
        counts = {self._one(name, array, 0).shape[0] for name, array in self._tokens.items()} - {1}
        if len(counts) > 1:
            raise fail("E0601", f"the inputs have different numbers of tokens: {sorted(counts)}")
        return counts.pop() if counts else 1

    def _one(self, name: str, array: Array, at: int) -> Array:
        """The rows of one sequence: [tokens] or [tokens, columns]."""
        stream = self._streams[name]
        rows = array if array.ndim == _rank(stream) else _of(array, at)
        rows = rows.reshape(-1) if is_numbers(stream) else rows.reshape(-1, stream.columns)
        new = getattr(self, "new", rows.shape[0])
        return np.broadcast_to(rows, (new, *rows.shape[1:])) if rows.shape[0] == 1 else rows

    # ------------------------------------------------------------------------------------- padding, positions

    def _filled(self, at: int, total: int) -> int:
        """How many places of the cache hold something: all, unless the file says how far a buffer has been filled."""
        start = self._value(Use.START)
        if start is not None:
            return int(_of(start[1].reshape(-1), at))
        mask = self._value(Use.MASK)
        if mask is not None and mask[1].ndim == 2 and self.new <= mask[1].shape[1] < total + self.new:
            return int(mask[1].shape[1]) - self.new
        return total

    def _places(self, at: int, total: int, filled: int) -> Places:
        mask = self._value(Use.MASK)
        if mask is None:
            return places_of(None, "", total, filled, self.new)
        name, array = mask[0].name, mask[1]
        whole = self.single and array.ndim == 1 and array.size == filled + self.new
        places = places_of(array if whole else _of(array, at), name, total, filled, self.new)
        if places.leads and self._value(Use.POSITIONS) is None:
            message = f"{name} has padding before the first token, and no positions are given"
            raise fail(
                "E0601", message, help="pad at the end, or give positions that count from the first token"
            )
        return places

    def _check_positions(self, at: int, places: Places) -> None:
        found = self._value(Use.POSITIONS)
        if found is None:
            return
        array = found[1]
        one = _of(array, at) if array.ndim > 1 else array
        check_positions(one, found[0].name, places)

    def _check_masks(self, at: int) -> None:
        """Of several masks of the tokens all but the first must ask for nothing."""
        masks = [v for v in self.interface.inputs if v.use is Use.MASK and v.name in self._known][1:]
        for value in masks:
            array = self._known[value.name]
            if array.ndim > 1 and not (array == 1).all():
                raise fail("E0601", f"{value.name} is a second mask; only one may hide something")

    # ------------------------------------------------------------------------------------------------- caches

    def _caches(self, at: int, *, cross: bool) -> dict[int, Kept]:
        """What the caches are given, of tokens or of the source: by number, [heads, places, d]."""
        if not self._uses_cache:
            return {}
        given = [v for v in self.interface.inputs if v.use in CACHED and v.name in self._known]
        for value in given:
            if value.cache < 0:
                self._check_empty(value)
        wanted = [v for v in given if v.cache >= 0 and is_cross(self.program, v) is cross]
        return caches_of(self.program, {v: self._known[v.name] for v in wanted}, at)

    def _check_empty(self, value: ModelValue) -> None:
        if self._known[value.name].size:
            raise fail(
                "E0601", f"{value.name} holds tokens, but the program has no cache that could take them"
            )

    # ------------------------------------------------------------------------------------------------- source

    def _source(self, at: int) -> tuple[dict[str, Array], Flags, dict[int, Kept]]:
        """Rows of the source by stream, which of its places are real, and what caches already have of it."""
        cross = {n: k for n, k in self._caches(at, cross=True).items() if k.keys.shape[1]}
        if cross:
            count = next(iter(cross.values())).keys.shape[1]
            return {}, self._seen(at, count), cross
        rows = {s.name: self._source_rows(s, at) for s in self._streams.values() if s.source}
        count = len(next(iter(rows.values()))) if rows else 0
        if not count and self.program.limits.max_source:
            names = [
                v.name for v in self.interface.inputs if v.use is Use.SOURCE or is_cross(self.program, v)
            ]
            raise fail("E0601", "nothing of a source is given", help=f"give {', '.join(names)}")
        seen = self._seen(at, count)
        if not seen[: int(seen.sum())].all() and any(is_numbers(self._streams[name]) for name in rows):
            # Numbers become rows by their positions, which count from the first.
            raise fail("E0601", "of a source only the end may be padding", help="move padding to the end")
        return {name: array[seen] for name, array in rows.items()}, seen, {}

    def _source_rows(self, stream: Stream, at: int) -> Array:
        """The rows of one sequence's source: an input of the file, or what a host partition made."""
        value = next((v for v in self.interface.inputs if v.stream == stream.name), None)
        name = value.name if value is not None else stream.name
        if name not in self._known:
            raise fail("E0601", f"input {name!r} is missing")
        array = self._known[name]
        _check_fit(stream, name, array, empty=True)
        rows = _of(array, at) if array.ndim > _rank(stream) else array
        return rows.reshape(-1) if is_numbers(stream) else rows

    def _seen(self, at: int, count: int) -> Flags:
        mask = self._value(Use.SOURCE_MASK)
        if mask is None or not count:
            return np.ones(count, bool)
        whole = self.single and mask[1].ndim == 1
        one = mask[1] if whole else _of(mask[1], at).reshape(-1)
        if one.size != count or not np.isin(one, (0, 1)).all():
            raise fail("E0601", f"{mask[0].name} is no mask of ones and zeros for {count} rows of the source")
        return np.asarray(one == 1)


def cross_caches(program: Program, given: Mapping[str, Array], at: int = 0) -> dict[int, Kept]:
    """Keys and values of the source, as the file takes them: by the number of the cache.

    Raises `CimError` E0601 if an input is missing or does not fit.
    """
    values = [v for v in interface_of(program).inputs if v.use in CACHED and is_cross(program, v)]
    missing = [v.name for v in values if v.name not in given]
    if missing or not values:
        names = ", ".join(missing) or "the program takes no keys and values of a source"
        raise fail("E0601", f"not given: {names}" if missing else names)
    return caches_of(program, {v: np.asarray(given[v.name]) for v in values}, at)


def caches_of(program: Program, given: Mapping[ModelValue, Array], at: int) -> dict[int, Kept]:
    """What the caches of one sequence are given, by number. Raises `CimError` E0601 if something does not fit."""
    found: dict[int, dict[Use, Array]] = {}
    for value, array in given.items():
        halves = array if value.use is Use.KEYS_VALUES else (array,)
        uses = (Use.KEYS, Use.VALUES) if value.use is Use.KEYS_VALUES else (value.use,)
        for use, half in zip(uses, halves, strict=True):
            found.setdefault(value.cache, {})[use] = _by_head(program, value, _of(half, at))
    for number, parts in found.items():
        if len(parts) != 2 or parts[Use.KEYS].shape[:2] != parts[Use.VALUES].shape[:2]:
            raise fail("E0601", f"cache {number} takes keys and values for the same tokens")
    return {n: Kept(parts[Use.KEYS], parts[Use.VALUES]) for n, parts in found.items()}


def _by_head(program: Program, value: ModelValue, rows: Array) -> Array:
    """[heads, places, d] of what the file has for one sequence."""
    heads = program.caches[value.cache].count
    if value.flat and rows.ndim == 2 and rows.shape[1] % heads == 0:
        return rows.reshape(rows.shape[0], heads, -1).swapaxes(0, 1)
    if value.flat or rows.ndim != 3 or rows.shape[0] != heads:
        raise fail("E0601", f"{value.name} is {list(rows.shape)} for a sequence; the cache has {heads} heads")
    return rows


def _of(array: Array, at: int) -> Array:
    """Of an array with a leading batch axis, the part of one sequence."""
    return array if array.ndim == 0 else np.asarray(array[at % array.shape[0]])


def _hides_nothing(value: ModelValue, array: Array) -> bool:
    """Whether an input is a mask of ones; such a one may have any axes, [queries, keys] too."""
    return value.use in (Use.MASK, Use.SOURCE_MASK) and bool((array == 1).all())


def _rank(stream: Stream) -> int:
    """Axes of a stream's rows: numbers have one, rows two."""
    return 1 if is_numbers(stream) else 2


def _check_fit(stream: Stream, name: str, array: Array, *, empty: bool = False) -> None:
    rank = _rank(stream)
    kind = "iu" if rank == 1 else "f"
    fits = array.dtype.kind in kind and array.ndim in (rank, rank + 1)
    if fits and rank == 2:
        fits = array.shape[-1] == stream.columns
    if not fits or not (array.size or empty):
        shape = "[tokens]" if rank == 1 else f"[tokens, {stream.columns}]"
        words = "integers" if rank == 1 else "float rows"
        message = f"{name} is {array.dtype} {list(array.shape)}; {words} {shape} fit, or a batch of them"
        raise fail("E0601", message)
