"""The text of a mapping: what is printed reads back equal, whatever it holds."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.mapping import Arithmetic, Block, ConstantSlot, Mapping, MapTile, MapValue, Part, Template
from compiler.ir.mapping_text import parse_mapping, print_mapping
from compiler.ir.operations import Operation
from isa.diagnostics import CimError
from isa.interface import KvCache
from isa.program import (
    ArraySpec,
    BarrierGroup,
    Channel,
    Limits,
    MemoryRegion,
    Port,
    Stream,
    TensorInfo,
)

from .heads import Head, mapping

NAMES = st.text(max_size=8) | st.sampled_from(
    ["x", "none", "a b", 'say "@x"', "end\\", "; no comment", "{", "pass=1"]
)
NUMBERS = st.integers(-9, 4096)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of the type that a field declares."""
    match hint:
        case _ if hint is str:
            return NAMES
        case _ if hint is int:
            return NUMBERS
        case _ if hint is float:
            return st.floats(allow_nan=False)
        case _ if hint == tuple[Part, ...]:
            return st.lists(st.tuples(NAMES, NUMBERS, NUMBERS), max_size=2).map(tuple)
        case _ if getattr(hint, "__origin__", None) is tuple and get_args(hint)[-1] is ...:
            return st.lists(_values(get_args(hint)[0]), max_size=2).map(tuple)
        case _ if type(None) in get_args(hint):
            return st.none() | _values(next(kind for kind in get_args(hint) if kind is not type(None)))
        case _ if hasattr(hint, "__dataclass_fields__"):
            return _records(hint)
        case _:
            return st.from_type(hint)


def _records(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Records of a class, every field anything of its type."""
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: _values(hints[f.name]) for f in fields(cls)})


def _many(cls: type[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(_records(cls), max_size=2).map(tuple)


OPERATIONS = st.one_of(*map(_records, get_args(Operation)))
BLOCKS = st.builds(Block, OPERATIONS, NAMES, st.integers(0, 3))
TEMPLATES = st.builds(
    Template,
    NAMES,
    st.lists(BLOCKS, max_size=4).map(tuple),
    _many(MapValue),
    _many(ArraySpec),
    _many(Port),
    _many(ConstantSlot),
    st.lists(NAMES, max_size=2).map(tuple),
    st.integers(0, 2),
)
MAPPINGS = st.builds(
    Mapping,
    NAMES,
    NAMES,
    st.sampled_from(Arithmetic),
    _records(Limits),
    st.lists(TEMPLATES, max_size=2).map(tuple),
    *map(_many, (MapTile, Channel, BarrierGroup, TensorInfo, MemoryRegion, Stream, KvCache)),
)


@settings(max_examples=60)
@given(MAPPINGS)
def test_what_is_printed_reads_back_equal(printed: Mapping) -> None:
    assert parse_mapping(print_mapping(printed)) == printed


def test_comments_and_spaces_change_nothing() -> None:
    made = mapping(Head(cross=True, causal=False, source=16))
    lines = print_mapping(made).splitlines()
    assert parse_mapping("\n\n".join(f" {line}  ; as it was" for line in lines)) == made


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("template(name=t, colour=1) {", "template_head has no field colour"),
        ("template(source_phases=1) {", "template_head lacks its field name"),
        ("templet(name=t) {", "only template"),
        ("template(name=t) {\ntemplate(name=u) {", "not inside another"),
        ("template(name=t, source_phases=x) {", "x is not a int"),
        ("kv_cache(layer=0, heads=[cache_head(tile=0, keys=1)])", "cache_head lacks its field values"),
        ("stream(name=s, direction=in, dtype=int32, columns=1, parts=[], source=1)", "1 is not a bool"),
    ],
)
def test_mistakes_are_placed(line: str, message: str) -> None:
    with pytest.raises(CimError) as error:
        parse_mapping(f"; a comment\n{line}\n", "m.mapping")
    assert message in str(error.value)
    assert str(error.value).startswith(f"m.mapping:{2 + line.count(chr(10))}:")
