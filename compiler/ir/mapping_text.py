"""The text of a Mapping: printed and parsed.

    mapping(name=pytiny, target=dcim22, arithmetic=int8, limits=limits(max_context=512, chunk=16))
    template(name=attention) {
      array_spec(name=w_q, kind=weight, rows=256, cols=128, dtype=int8)
      port(name=x, direction=in)
      map_value(name=x, format=q8, cols=256)
      receive(out=x, parts=[[x, 0, 256]], scale=x_scale)  @input
      ...
    }
    map_tile(name=t1, template=attention, x=1, y=0, ...)
    channel(...)

One record a line; `;` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from isa.diagnostics import FilePlace, fail
from isa.interface import KvCache
from isa.program import (
    ArraySpec,
    BarrierGroup,
    Channel,
    Limits,
    MemoryRegion,
    Port,
    Replica,
    Stream,
    TensorInfo,
)

from .mapping import Arithmetic, Block, ConstantSlot, Mapping, MapTile, MapValue, Repeat, Template
from .operations import OPERATIONS
from .records import Record, build, kind_of, read, show


@dataclass(frozen=True, slots=True)
class Table:
    """A memory-table parameter of a template."""

    name: str


@dataclass(frozen=True, slots=True)
class MappingHead:
    """The first line of a mapping."""

    name: str
    target: str
    arithmetic: Arithmetic
    limits: Limits


@dataclass(frozen=True, slots=True)
class TemplateHead:
    """The line that opens a template."""

    name: str
    source_phases: int = 0
    repeats: tuple[Repeat, ...] = ()
    once: tuple[int, ...] = ()


_SLOTS: dict[type[Any], str] = {
    ArraySpec: "arrays",
    Port: "ports",
    ConstantSlot: "constants",
    Table: "tables",
    MapValue: "values",
}
_ITEMS: dict[type[Any], str] = {
    TensorInfo: "tensors",
    MemoryRegion: "memory",
    MapTile: "tiles",
    Channel: "channels",
    BarrierGroup: "barriers",
    Stream: "streams",
    KvCache: "caches",
    Replica: "replicas",
}


def print_mapping(mapping: Mapping) -> str:
    """The text of a mapping; `parse_mapping` reads it back equal (tensor contents are not part of it)."""
    return "\n".join(_lines(mapping)) + "\n"


def _lines(mapping: Mapping) -> Iterator[str]:
    head = show(MappingHead(mapping.name, mapping.target, mapping.arithmetic, mapping.limits))
    yield "mapping" + head.removeprefix(kind_of(MappingHead))
    for template in mapping.templates:
        head = show(TemplateHead(template.name, template.source_phases, template.repeats, template.once))
        yield f"template{head.removeprefix(kind_of(TemplateHead))} {{"
        yield from (f"  {line}" for line in _template(template))
        yield "}"
    for attribute in _ITEMS.values():
        yield from (show(item) for item in getattr(mapping, attribute))


def _template(template: Template) -> Iterator[str]:
    for attribute in _SLOTS.values():
        items = getattr(template, attribute)
        yield from (show(Table(item) if attribute == "tables" else item) for item in items)
    for block in template.blocks:
        again = f"  pass={block.phase}" if block.phase else ""
        yield f"{show(block.op)}  @{show(block.site)}{again}"


@dataclass(slots=True)
class _Reader:
    path: str
    head: MappingHead | None = None
    template: Template | None = None
    templates: list[Template] = field(default_factory=list)
    items: dict[str, list[Any]] = field(default_factory=dict)

    def line(self, number: int, text: str) -> None:
        code = _split(text, ";")[0].strip()
        if not code:
            return
        place = FilePlace(self.path, number, 1, text.rstrip(), len(text.rstrip()))
        try:
            self._statement(code, number)
        except ValueError as error:
            raise fail("E0307", str(error), place) from None

    def _statement(self, code: str, number: int) -> None:
        if code == "}":
            if self.template is None:
                raise ValueError("this brace closes nothing")
            self.templates.append(self.template)
            self.template = None
            return
        opens = code.endswith("{")
        text, site = _split(code.removesuffix("{"), "@")
        record = read(text.strip(), self.path, number, "E0307")
        if not isinstance(record, Record):
            raise ValueError("expected a record such as channel(...)")
        if opens:
            self._open(record)
        elif self.template is not None:
            self._slot(record, *self._site(site, number))
        else:
            self._item(record)

    def _open(self, record: Record) -> None:
        if self.template is not None or record.kind != "template":
            raise ValueError("only template(...) opens a brace, and not inside another")
        head = build(TemplateHead, Record(kind_of(TemplateHead), record.fields))
        self.template = Template(
            head.name,
            (),
            (),
            source_phases=head.source_phases,
            repeats=head.repeats,
            once=head.once,
        )

    def _site(self, text: str, number: int) -> tuple[str, int]:
        """The site behind `@`, and the pass over the segments."""
        site, again = _split(text, " ")
        again = again.strip().removeprefix("pass=")
        phase = build(int, read(again, self.path, number, "E0307")) if again else 0
        return (build(str, read(site, self.path, number, "E0307")) if site else ""), phase

    def _slot(self, record: Record, site: str, phase: int) -> None:
        assert self.template is not None
        if record.kind in _KINDS_OF_OPERATIONS:
            op = build(_KINDS_OF_OPERATIONS[record.kind], record)
            self.template = replace(self.template, blocks=(*self.template.blocks, Block(op, site, phase)))
            return
        for cls, attribute in _SLOTS.items():
            if record.kind == kind_of(cls):
                item = build(cls, record)
                old = getattr(self.template, attribute)
                new = (*old, item.name if cls is Table else item)
                changed: dict[str, Any] = {attribute: new}
                self.template = replace(self.template, **changed)
                return
        raise ValueError(f"{record.kind} does not belong in a template")

    def _item(self, record: Record) -> None:
        if record.kind == "mapping":
            self.head = build(MappingHead, Record(kind_of(MappingHead), record.fields))
            return
        for cls, attribute in _ITEMS.items():
            if record.kind == kind_of(cls):
                self.items.setdefault(attribute, []).append(build(cls, record))
                return
        raise ValueError(f"{record.kind} does not belong in a mapping")


def _split(text: str, mark: str) -> tuple[str, str]:
    """What lies before and behind the first `mark`, a character, outside quotes ("" if there is none)."""
    start = re.match(rf'(?:"(?:\\.|[^"\\])*"|[^"{mark}])*', text)
    end = start.end() if start else 0
    return (text[:end], text[end + 1 :]) if text[end : end + 1] == mark else (text, "")


_KINDS_OF_OPERATIONS = {kind_of(cls): cls for cls in OPERATIONS.values()}


def parse_mapping(text: str, path: str = "<mapping>") -> Mapping:
    """Read a mapping's text. Raises `CimError` E0307 with the line at fault."""
    reader = _Reader(path)
    for number, line in enumerate(text.splitlines(), 1):
        reader.line(number, line)
    head = reader.head
    if head is None:
        raise fail("E0307", "the text has no line mapping(...)", FilePlace(path, 1, 1))
    items: dict[str, Any] = {"tiles": (), "channels": ()}
    items |= {name: tuple(values) for name, values in reader.items.items()}
    items |= {f.name: getattr(head, f.name) for f in fields(head)}
    return Mapping(templates=tuple(reader.templates), **items)
