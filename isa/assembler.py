"""Assembly text to `Program`. Every mistake in a file is reported, each with its line and a way out.

What a line refers to is declared above it: tensors before the tiles they fill, roles before tiles, tiles before
channels, channels before streams. The order of `isa/asm_print.py` is one such order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from lark import Token

from .asm_hosts import Hosts
from .asm_interface import Interfaces
from .asm_lines import LineError, Source, Statement, misfit
from .asm_roles import ROLE_RULES, RoleBuilder, member_of, name_of, natural, unique
from .asm_streams import Streams
from .asm_tensors import Tensors
from .asm_text import integer, nearest, numbered, split_endpoint
from .asm_tiles import TILE_RULES, TileBuilder, pair_of
from .asm_work import Work
from .diagnostics import CimError, Diagnostic, FilePlace, NamedPlace, fail
from .hardware import Hardware, load_target
from .instruction import Inst
from .operands import OperandError, Space
from .program import (
    HOST,
    BarrierGroup,
    Channel,
    Endpoint,
    Limits,
    MemoryRegion,
    Origin,
    Program,
    Reduce,
    Role,
    Tile,
)

_LIMITS = {
    "context": "max_context",
    "chunk": "chunk",
    "segments": "segments",
    "sequences": "sequences",
    "source": "max_source",
    "pages": "pages",
    "page": "page_rows",
    "ways": "page_ways",
}
_ORIGIN = {"tool": "tool", "model": "model", "hash": "model_hash"}


def assemble_file(path: Path, target: Hardware | None = None) -> Program:
    """The program in an assembly file. Raises `CimError` (E0001 if it cannot be read, else as `assemble`)."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise fail("E0001", f"cannot read {path}: {error.strerror}", NamedPlace(str(path))) from None
    except UnicodeDecodeError:
        help_text = "an assembly file is UTF-8 text; `cim dis` turns a .cim file into one"
        raise fail("E0101", "this is not a text file", NamedPlace(str(path)), help_text) from None
    return assemble(text, str(path), target)


def assemble(text: str, path: str = "<text>", target: Hardware | None = None) -> Program:
    """The program that `text` describes, for `target` or for the one that the text names.

    Raises `CimError` with all diagnostics (E0101 to E0108, E0501, E0502) in the order of their lines.
    """
    return _Assembly(Source(text, path), target).run()


def parse_instruction(text: str) -> Inst:
    """One instruction, its labels given as instruction indices. Raises `CimError`."""
    source = Source(text, "<text>")
    role = RoleBuilder(source, None, 1)
    try:
        role.take(source.parse(1))
        code = role.finish().code
        if not source.diagnostics and len(code) == 1:
            return code[0]
        raise LineError("E0101", "this is not one instruction")
    except LineError as mistake:
        if not source.diagnostics:
            source.report(mistake, 1)
    raise CimError(source.diagnostics)


class _Assembly:
    """The state of one run over a text."""

    def __init__(self, source: Source, target: Hardware | None) -> None:
        self.source, self.given, self.target = source, target, target
        self.named = False
        self.limits: Limits | None = None
        self.origin: dict[str, str] = {}
        self.options: list[tuple[str, str]] = []
        self.tensors = Tensors(source)
        self.roles: dict[str, Role | None] = {}  # None: something is wrong with the role
        self.tiles: dict[str, tuple[int, Role | None]] = {}
        self.built: list[Tile] = []
        self.channels: dict[str, Channel] = {}
        self.numbers: dict[str, int] = {}  # of the channels
        self.barriers: list[BarrierGroup] = []
        self.memory: list[MemoryRegion] = []
        self.streams = Streams(self.numbers, lambda name, at: self._known("channel", name, self.channels, at))
        self.hosts = Hosts(self._know_tensor)
        self.interfaces = Interfaces(self.tiles, self.memory, self._know_value)
        self.work = Work()
        self.role: RoleBuilder | None = None
        self.tile: TileBuilder | None = None
        self.lost: set[str] = set()  # first words of wrong lines: what they declare is not known

    def run(self) -> Program:
        for line in range(1, len(self.source.lines) + 1):
            if not self.source.is_empty(line):
                self._line(line)
        self._close_tile()
        if self.role is not None:
            self._open_role_left(self.role)
        return self._finish()

    def _line(self, line: int) -> None:
        try:
            self._take(self.source.parse(line))
        except LineError as mistake:
            self._report(mistake, line)
        except OperandError as error:  # a number beyond what Python reads
            self._report(misfit(error, None), line)

    def _report(self, mistake: LineError, line: int) -> None:
        """Keep a mistake; what the line should have opened is open, so that the lines behind it are checked."""
        self.source.report(mistake, line)
        word = self.source.first_word(line)
        self.lost.add(word)
        if self.role is not None:
            self.role.sound = False
            self.role.complete &= not word.startswith(".")
        elif word == ".role":
            self._close_tile()
            self.role = RoleBuilder(self.source, None, line)
        elif word == ".tile":
            self._close_tile()
            self.tile = TileBuilder(line, ("", 0, 0), None, self._know_tensor)
        elif self.tile is not None:
            self.tile.complete = False

    def _known(self, what: str, name: str, known: Collection[str], token: Token) -> bool:
        """Whether `name` is declared. Raises `LineError` if not, unless a wrong line may have declared it."""
        if name in known:
            return True
        if f".{what}" in self.lost:
            return False
        raise LineError("E0105", f"there is no {what} {name!r}", token, nearest(name, known, what))

    def _know_tensor(self, name: str, token: Token) -> bool:
        return self._known("tensor", name, self.tensors.declared, token)

    def _take(self, s: Statement) -> None:
        if self.role is not None:
            self._take_in_role(self.role, s)
        elif s.labels:
            raise LineError(
                "E0101", "a label stands before an instruction of a role", s.labels[0], "begin with .role"
            )
        elif s.rule in TILE_RULES and self.tile is not None:
            self.tile.take(s)
        elif s.rule in _HANDLERS:
            _HANDLERS[s.rule](self, s)
        else:
            inside = "tile" if s.rule in TILE_RULES else "role"
            what = "an instruction" if s.rule == "instruction" else f".{s.rule}"
            raise LineError("E0101", f"{what} belongs inside a {inside}", None, f"begin one with .{inside}")

    def _take_in_role(self, role: RoleBuilder, s: Statement) -> None:
        if s.rule == "role":
            self._open_role_left(role)
            self._open_role(s)
        elif s.rule in ROLE_RULES or s.rule == "":
            role.take(s)
        elif s.rule == "end":
            role.take(s)
            self._close_role(role)
        else:
            raise LineError(
                "E0101", f".{s.rule} does not belong inside a role", None, f"end role {role.name} with .end"
            )

    def _open_role_left(self, role: RoleBuilder) -> None:
        role.sound = False
        self.source.report(
            LineError("E0101", f"role {role.name} has no .end", None, "add .end behind it"), role.line
        )
        self._close_role(role)

    def _open_role(self, s: Statement) -> None:
        self._close_tile()
        name = unique(name_of(s.token(0)), self.roles, s.token(0), "role")
        self.role = RoleBuilder(self.source, name, s.line)

    def _close_role(self, role: RoleBuilder) -> None:
        built = role.finish()
        if role.name is not None:
            self.roles[role.name] = built if role.sound else None
        self.role = None

    def _target(self, s: Statement) -> None:
        if self.named:
            raise LineError("E0106", ".target is given twice", None, "remove one")
        self.named = True
        name = name_of(s.token(0))
        if self.given is None:
            self.target = self._load(name, s)
        elif not name.endswith(".toml") and name != self.given.name:
            message = f"the text is for target {name}, not for {self.given.name}"
            raise LineError("E0108", message, s.token(0), "assemble it for the target that it names")
        token = s.option(1)
        if token is None or self.target is None:
            return
        key, digest = pair_of(token)
        if key != "hash":
            raise LineError("E0105", f".target has no {key!r}", token, "known: hash")
        if digest != self.target.hash:
            message = f"the text is for another {self.target.name}: this one has hash {self.target.hash}"
            raise LineError(
                "E0108", message, token, "give the target file it was made for, or remove the hash"
            )

    def _load(self, name: str, s: Statement) -> Hardware | None:
        beside = Path(self.source.path).parent / name
        try:
            return load_target(str(beside) if name.endswith(".toml") and beside.is_file() else name)
        except CimError as error:
            at = s.token(0)
            text = self.source.lines[s.line - 1].rstrip("\r").replace("\t", " ")
            place = FilePlace(self.source.path, s.line, at.column or 1, text, len(at))
            for d in error.diagnostics:
                notes = (*d.notes, f"found at {d.place}") if d.place is not None else d.notes
                self.source.diagnostics.append(Diagnostic(d.code, d.message, place, d.help, notes))
            return None

    def _limits(self, s: Statement) -> None:
        values: dict[str, int] = {}
        for token in s.all():
            key, text = pair_of(token)
            if key not in _LIMITS:
                raise LineError("E0105", f".limits has no {key!r}", token, nearest(key, _LIMITS, "limit"))
            try:
                value = integer(text)
            except OperandError as error:
                raise misfit(error, token, "E0104") from None
            least = int(key != "source")
            if value < least:
                raise LineError("E0103", f"{key} is {value}", token, f"expected a number of at least {least}")
            values[_LIMITS[key]] = value
        for key in ("context", "chunk"):
            if _LIMITS[key] not in values:
                raise LineError(
                    "E0104", f".limits needs {key}", None, "write, for example, .limits context=512 chunk=16"
                )
        self.limits = Limits(**values)

    def _origin(self, s: Statement) -> None:
        for token in s.all():
            key, text = pair_of(token)
            if key not in _ORIGIN:
                raise LineError("E0105", f".origin has no {key!r}", token, nearest(key, _ORIGIN, "key"))
            self.origin[_ORIGIN[key]] = text

    def _option(self, s: Statement) -> None:
        self.options.append(pair_of(s.token(0)))

    def _tile(self, s: Statement) -> None:
        self._close_tile()
        name = unique(name_of(s.token(0)), self.tiles, s.token(0), "tile")
        role_name = name_of(s.token(1))
        role = self.roles.get(role_name)
        self.tiles[name] = len(self.tiles), role
        self._known("role", role_name, self.roles, s.token(1))
        place = name, natural(s.token(2), "x"), natural(s.token(3), "y")
        self.tile = TileBuilder(s.line, place, role, self._know_tensor)

    def _close_tile(self) -> None:
        tile, self.tile = self.tile, None
        if tile is None or tile.role is None or not tile.complete:
            return
        try:
            self.built.append(tile.finish(tile.role))
        except LineError as mistake:
            self.source.report(mistake, tile.line)

    def _endpoints(self, tokens: tuple[Token, ...]) -> tuple[Endpoint, ...]:
        return tuple(self._endpoint(token) for token in tokens)

    def _endpoint(self, token: Token) -> Endpoint:
        try:
            tile, port = split_endpoint(token)
        except OperandError as error:
            raise misfit(error, token, "E0101") from None
        if tile is None:
            return Endpoint(HOST, port)
        if not self._known("tile", tile, self.tiles, token):
            return Endpoint(HOST, 0)
        index, role = self.tiles[tile]
        if role is not None and port >= len(role.ports):
            help_text = f"role {role.name} has {numbered(len(role.ports), 'p', 'port')}"
            raise LineError("E0105", f"tile {tile} has no port p{port}", token, help_text)
        return Endpoint(index, port)

    def _channel(self, s: Statement) -> None:
        name = unique(name_of(s.token(0)), self.channels, s.token(0), "channel")
        token = s.option(3)
        reduce = Reduce.NONE if token is None else member_of(Reduce, token, "a reduction")
        self.numbers[name] = len(self.numbers)
        # Declared even if an end is wrong, so that a stream that uses it is not complained about.
        self.channels[name] = Channel(name, (), (), reduce)
        self.channels[name] = Channel(name, self._endpoints(s.list(1)), self._endpoints(s.list(2)), reduce)

    def _barrier(self, s: Statement) -> None:
        self.barriers.append(BarrierGroup(name_of(s.token(0)), self._endpoints(s.list(1))))

    def _memory(self, s: Statement) -> None:
        spaces = {space.name.lower(): space for space in Space}
        if s.token(1) not in spaces:
            raise LineError(
                "E0104", f"there is no memory {str(s.token(1))!r}", s.token(1), f"known: {', '.join(spaces)}"
            )
        chip, offset, size = (
            natural(s.token(i), what) for i, what in ((2, "chip"), (3, "offset"), (4, "size"))
        )
        token = s.option(5)
        tensor = name_of(token) if token is not None else None
        if token is not None:
            self._know_tensor(name_of(token), token)
        space = spaces[str(s.token(1))]
        self.memory.append(MemoryRegion(name_of(s.token(0)), space, chip, offset, size, tensor))

    def _know_value(self, what: str, name: str, token: Token) -> bool:
        """Complain about a tile or stream that is not declared; host partitions carry values too."""
        if what == "tile":
            return self._known("tile", name, self.tiles, token)
        return self._known(what, name, [*self.streams.declared, *self.hosts.values()], token)

    def _finish(self) -> Program:
        if not self.named and self.given is None:
            self.source.report(
                LineError("E0101", "the file names no target", None, "begin it with .target NAME"), 1
            )
        if self.limits is None and ".limits" not in self.lost:
            help_text = "write, for example, .limits context=512 chunk=16"
            self.source.report(LineError("E0101", "the file has no .limits", None, help_text), 1)
        data = self.tensors.finish()
        found = self.source.diagnostics
        if found or self.target is None or self.limits is None:
            raise CimError(sorted(found, key=lambda d: d.place.line if isinstance(d.place, FilePlace) else 0))
        return Program(
            target=self.target,
            limits=self.limits,
            roles=tuple(role for role in self.roles.values() if role is not None),
            tiles=tuple(self.built),
            channels=tuple(self.channels.values()),
            barriers=tuple(self.barriers),
            tensors=tuple(self.tensors.declared.values()),
            memory=tuple(self.memory),
            streams=tuple(self.streams.declared.values()),
            origin=Origin(**self.origin, options=tuple(self.options)),
            hosts=tuple(self.hosts.parts),
            results=tuple(self.hosts.results),
            caches=tuple(self.interfaces.caches),
            interface=self.interfaces.interface,
            workload=self.work.workload,
            replicas=tuple(self.interfaces.replicas),
            data=data,
        )


_HANDLERS: dict[str, Callable[[_Assembly, Statement], None]] = {
    "target": _Assembly._target,
    "limits": _Assembly._limits,
    "origin": _Assembly._origin,
    "option": _Assembly._option,
    "tensor": lambda assembly, s: assembly.tensors.declare(s),
    "values": lambda assembly, s: assembly.tensors.more(s),
    "role": _Assembly._open_role,
    "tile": _Assembly._tile,
    "channel": _Assembly._channel,
    "barrier": _Assembly._barrier,
    "memory": _Assembly._memory,
    "stream": lambda assembly, s: assembly.streams.take(s),
    "work": lambda assembly, s: assembly.work.take(s),
    **dict.fromkeys(
        ("host", "reads", "makes", "runs", "positions", "result"), lambda assembly, s: assembly.hosts.take(s)
    ),
    **dict.fromkeys(
        ("cache", "heads", "regions", "input", "output", "padding", "replica"),
        lambda assembly, s: assembly.interfaces.take(s),
    ),
}
