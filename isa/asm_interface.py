"""Caches and the interface of a program from text: `.cache` with its `.heads`, `.input`, `.output`, `.padding`, and
`.replica`: what each of its copies has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lark import Token

from .asm_lines import LineError, Statement, misfit
from .asm_roles import member_of, name_of, natural, unique
from .asm_text import nearest, numbered, split_heads
from .interface import CacheHead, Interface, KvCache, ModelValue, Use
from .operands import OperandError
from .program import ArrayKind, MemoryRegion, Replica, Role

Known = Callable[
    [str, str, Token], bool
]  # what, name, where: complains if there is none; False if that is not sure


class Interfaces:
    """The caches, the values of the model's file and the replicas read so far.

    `tiles` gives each tile's number and role (None if something is wrong with it), `memory` are the regions. `known`
    complains about a tile or
    stream that is not declared.
    """

    def __init__(
        self, tiles: Mapping[str, tuple[int, Role | None]], memory: Sequence[MemoryRegion], known: Known
    ) -> None:
        self._tiles, self._memory, self._known = tiles, memory, known
        self.caches: list[KvCache] = []
        self.replicas: list[Replica] = []
        self._values: dict[str, dict[str, ModelValue]] = {"input": {}, "output": {}}
        self._padding: tuple[int, ...] = ()

    def take(self, s: Statement) -> None:
        """One of the lines."""
        if s.rule == "cache":
            self.caches.append(
                _options(s, KvCache(natural(s.token(0), "layer"), (), s.option(1) is not None))
            )
        elif s.rule == "heads":
            self._heads(s)
        elif s.rule == "regions":
            self._regions(s)
        elif s.rule == "padding":
            self._padding += tuple(natural(token, "token id") for token in s.all())
        elif s.rule == "replica":
            self.replicas.append(Replica(natural(s.token(0), "x"), natural(s.token(1), "y")))
        else:
            known = self._values[s.rule]
            name = unique(name_of(s.token(0)), known, s.token(0), s.rule)
            known[name] = self._value(name, s)

    @property
    def interface(self) -> Interface:
        """All inputs and outputs, in the order of their lines."""
        inputs, outputs = (tuple(self._values[way].values()) for way in ("input", "output"))
        return Interface(inputs, outputs, self._padding)

    def _heads(self, s: Statement) -> None:
        if not self.caches:
            raise LineError(
                "E0101", ".heads stands behind a .cache line", s.token(0), "declare the cache first"
            )
        heads = tuple(head for token in s.all() if (head := self._head(token)) is not None)
        last = self.caches[-1]
        self.caches[-1] = replace(last, heads=(*last.heads, *heads))

    def _head(self, token: Token) -> CacheHead | None:
        try:
            name, keys, values = split_heads(token)
        except OperandError as error:
            raise misfit(error, token, "E0101") from None
        if not self._known("tile", name, token):
            return None
        number, role = self._tiles[name]
        if role is not None:
            _check_array(name, role, keys, token)
            _check_array(name, role, values, token)
        return CacheHead(number, keys, values)

    def _regions(self, s: Statement) -> None:
        """The regions of the heads of the last cache, in their order."""
        last = self.caches[-1] if self.caches else KvCache(-1, ())
        names = [name_of(token) for token in s.all()]
        if len(names) != len(last.heads):
            message = f".regions names {len(names)} regions for {len(last.heads)} heads"
            raise LineError(
                "E0101", message, s.token(0), "one for each head of the .cache and .heads lines above"
            )
        known = {region.name: number for number, region in enumerate(self._memory)}
        for name, token in zip(names, s.all(), strict=True):
            if name not in known:
                raise LineError(
                    "E0105", f"there is no memory {name!r}", token, nearest(name, known, "memory")
                )
        heads = tuple(replace(h, memory=known[n]) for h, n in zip(last.heads, names, strict=True))
        self.caches[-1] = replace(last, heads=heads)

    def _value(self, name: str, s: Statement) -> ModelValue:
        use = member_of(Use, s.token(1), "a use of a value")
        stream = "" if s.option(2) is None else name_of(s.token(2))
        if stream:
            self._known("stream", stream, s.token(2))
        cache = -1 if s.option(3) is None else self._cache(s.token(3))
        heads = 0 if s.option(5) is None else natural(s.token(5), "heads")
        return ModelValue(name, use, stream, cache, s.option(4) is not None, heads)

    def _cache(self, token: Token) -> int:
        number = natural(token, "cache")
        if number >= len(self.caches):
            help_text = f"{len(self.caches)} declared above, numbered from 0"
            raise LineError("E0105", f"there is no cache {number}", token, help_text)
        return number


def _options(s: Statement, cache: KvCache) -> KvCache:
    """The cache with what its line says beyond layer and `cross`."""

    def number(at: int, what: str, default: int) -> int:
        return default if s.option(at) is None else natural(s.token(at), what)

    return replace(
        cache,
        ways=number(2, "ways", 1),
        blocks=number(3, "blocks", 0),
        block=number(4, "rows", 0),
        ring=number(5, "rows of a ring", 0),
        rows=number(6, "rows in memory", 0),
        hot=number(7, "rows in arrays alone", 0),
        copies=number(8, "copies", 1),
        key_factors="" if s.option(9) is None else name_of(s.token(9)),
        value_factors="" if s.option(10) is None else name_of(s.token(10)),
    )


def _check_array(tile: str, role: Role, array: int, token: Token) -> None:
    if array >= len(role.arrays):
        help_text = f"role {role.name} has {numbered(len(role.arrays), 'a', 'array')}"
        raise LineError("E0105", f"tile {tile} has no array a{array}", token, help_text)
    spec = role.arrays[array]
    if spec.kind is not ArrayKind.KV:
        message = f"array a{array} of tile {tile} is a {spec.kind.value} array"
        raise LineError("E0104", message, token, "keys and values lie in kv arrays")
