"""Reading the text form of a `Graph`. See `graph_text`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from compiler.ir.dims import Extent, Shape, parse_extent
from compiler.ir.graph import (
    CANONICAL,
    AttributeValue,
    Cache,
    Function,
    Graph,
    Input,
    Node,
    NormKind,
    Onnx,
    Operator,
    Partition,
    Role,
    Value,
)
from compiler.ir.tensor import (
    Centred,
    Declared,
    Dequantised,
    DType,
    Inline,
    Reshaped,
    Sliced,
    Stored,
    Symbolic,
    Tensor,
    Transposed,
)
from isa.diagnostics import FilePlace, fail
from isa.program import Moment

if TYPE_CHECKING:
    from lark import Lark, Token, Tree


@dataclass(frozen=True, slots=True)
class _Word:
    """A bare word: `true`, `none`, the name of an enum's member."""

    text: str


T = TypeVar("T")
E = TypeVar("E", Role, NormKind, Function, Moment)

Scalar = int | float | str | _Word
Literal = Scalar | Tensor | tuple[Scalar, ...]


def parse_graph(text: str, path: str = "<graph>") -> Graph:
    """The graph that `print_graph` wrote as `text`. A diagnostic with line and column if it is none."""
    from lark.exceptions import UnexpectedInput

    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        line, column = max(1, error.line), max(1, error.column)
        shown = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
        place = FilePlace(path, line, column, shown)
        raise fail("E0204", "this is not what the printer of graphs writes", place) from None
    return _Builder(path, text).graph(tree)


@cache
def _parser() -> Lark:
    from lark import Lark

    grammar = files("compiler.ir").joinpath("graph.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True)


class _Builder:
    """Turns a parse tree into a graph."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def graph(self, tree: Tree[Token]) -> Graph:
        """The whole."""
        inputs, outputs, nodes = list[Input](), list[str](), list[Node]()
        constants, caches = dict[str, Tensor](), list[Cache]()
        hosts, results, by_head = list[Partition](), list[str](), list[tuple[str, int]]()
        title, *items = tree.children
        for item in items:
            assert not isinstance(item, str)
            match item.data:
                case "input":
                    inputs.append(self._input(item))
                case "const":
                    constants[_name(_token(item, 0))] = self._tensor(_tree(item, 1))
                case "cache":
                    caches.append(self._listed(Cache, item))
                case "host":
                    hosts.append(self._listed(Partition, item))
                case "result":
                    results.append(_name(_token(item, 0)))
                case "node":
                    nodes.append(self._node(item))
                case _:
                    outputs.append(_name(_token(item, 0)))
                    by_head += [(outputs[-1], n) for n in _heads(item)]
        name = json.loads(str(title))
        lists = tuple(inputs), tuple(outputs), tuple(nodes)
        return Graph(
            name,
            *lists,
            constants,
            tuple(caches),
            hosts=tuple(hosts),
            results=tuple(results),
            by_head=tuple(by_head),
        )

    def _input(self, tree: Tree[Token]) -> Input:
        role = self._member(Role, _token(tree, 1))
        return Input(self._value(_tree(tree, 0)), role, *_heads(tree))

    def _node(self, tree: Tree[Token]) -> Node:
        outputs, inputs, sources = list[Value](), list[str](), tuple[str, ...]()
        pairs: dict[str, Literal] = {}
        operator: Token | None = None
        children: list[Token | Tree[Token] | None] = list(tree.children)
        for child in children:
            if child is None:
                continue
            if isinstance(child, str):
                operator = child
            elif child.data == "value":
                outputs.append(self._value(child))
            elif child.data == "operand":
                token = _token(child, 0)
                inputs.append("" if token.type == "NOTHING" else _name(token))
            elif child.data == "attributes":
                pairs = self._pairs(child)
            else:
                sources = tuple(json.loads(str(s)) for s in child.children)
        assert operator is not None
        return Node(self._operator(operator, pairs), tuple(inputs), tuple(outputs), sources)

    def _operator(self, token: Token, pairs: dict[str, Literal]) -> Operator:
        name, _, version = str(token).partition("@")
        if version:
            domain, _, kind = name.rpartition(".")
            attributes = tuple((key, _attribute(value)) for key, value in pairs.items())
            return Onnx("" if domain == "onnx" else domain, kind, int(version), attributes)
        if name not in CANONICAL:
            raise self._problem(token, f"{name!r} is no canonical operator")
        return self._record(CANONICAL[name], pairs, token)

    def _listed(self, kind: type[T], tree: Tree[Token]) -> T:
        """A cache or host partition."""
        first = next(iter(tree.scan_values(lambda _: True)))
        return self._record(kind, self._pairs(tree), first)

    def _record(self, kind: type[T], pairs: dict[str, Literal], at: Token) -> T:
        """A dataclass from its fields as text."""
        types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
        unknown = set(pairs) - set(types)
        if unknown:
            raise self._problem(at, f"{kind.__name__.lower()} has no {sorted(unknown)[0]!r}")
        values = {name: self._field(types[name], value, at) for name, value in pairs.items()}
        try:
            return kind(**values)
        except TypeError:
            missing = sorted(set(types) - set(pairs))
            raise self._problem(at, f"{kind.__name__.lower()} needs {', '.join(missing)}") from None

    def _field(self, declared: str, value: Literal, at: Token) -> object:
        if not isinstance(value, _Word):
            return value
        if value.text in ("true", "false", "none"):
            return {"true": True, "false": False, "none": None}[value.text]
        if declared == "NormKind":
            return self._member(NormKind, at, value.text)
        if declared == "Moment":
            return self._member(Moment, at, value.text)
        return self._member(Function, at, value.text)

    def _member(self, members: type[E], at: Token, text: str = "") -> E:
        try:
            return members(text or str(at))
        except ValueError:
            raise self._problem(at, f"{text or at!s} is none of {[m.value for m in members]}") from None

    def _pairs(self, tree: Tree[Token]) -> dict[str, Literal]:
        found: dict[str, Literal] = {}
        for pair in tree.children:
            if pair is not None:
                assert not isinstance(pair, str)
                found[str(_token(pair, 0))] = self._literal(pair.children[1])
        return found

    def _literal(self, item: Token | Tree[Token]) -> Literal:
        if isinstance(item, str):
            return _scalar(item)
        if item.data == "tensor_literal":
            return self._tensor(_tree(item, 0))
        return tuple(_scalar(t) for t in item.children if isinstance(t, str))

    def _value(self, tree: Tree[Token]) -> Value:
        return Value(_name(_token(tree, 0)), *self._type(_tree(tree, 1)))

    def _type(self, tree: Tree[Token]) -> tuple[DType, Shape | None]:
        word, shape = _token(tree, 0), str(_token(tree, 1))
        try:
            dtype = DType(str(word))
        except ValueError:
            raise self._problem(word, f"{word!s} is no element type") from None
        return dtype, None if shape == "[?]" else _extents(shape)

    def _tensor(self, tree: Tree[Token]) -> Tensor:
        dtype, shape = self._type(_tree(tree, 0))
        source = _tree(tree, 1)
        exact = tuple(e for e in shape or () if isinstance(e, int))
        match source.data:
            case "stored":
                return Tensor(dtype, exact, Stored(json.loads(str(_token(source, 0)))))
            case "declared":
                return Tensor(dtype, exact, Declared(json.loads(str(_token(source, 0)))))
            case "sizes":
                return Tensor(dtype, exact, Symbolic(_extents(str(_token(source, 0)))))
            case "transposed":
                perm = tuple(int(str(t)) for t in _tree(source, 1).children)
                return Tensor(dtype, exact, Transposed(self._tensor(_tree(source, 0)), perm))
            case "sliced":
                axis, start, stop = (int(_token(source, i)) for i in (1, 2, 3))
                return Tensor(dtype, exact, Sliced(self._tensor(_tree(source, 0)), axis, start, stop))
            case "reshaped":
                return Tensor(dtype, exact, Reshaped(self._tensor(_tree(source, 0))))
            case "centred":
                return Tensor(dtype, exact, Centred(self._tensor(_tree(source, 0))))
            case "dequantised":
                return Tensor(dtype, exact, self._dequantised(source))
            case _:
                numbers = [_scalar(t) for t in _tree(source, 0).children if isinstance(t, str)]
                return Tensor(dtype, exact, Inline(np.array(numbers).astype(dtype.numpy).tobytes()))

    def _dequantised(self, tree: Tree[Token]) -> Dequantised:
        values, scales = self._tensor(_tree(tree, 0)), self._tensor(_tree(tree, 1))
        zeros, along = _tree(tree, 2).children, _tree(tree, 3).children
        return Dequantised(
            values,
            scales,
            self._tensor(_tree(_tree(tree, 2), 0)) if zeros else None,
            int(_token(_tree(tree, 3), 0)) if along else None,
            int(_token(tree, 4)),
        )

    def _problem(self, token: Token, message: str) -> Exception:
        line = token.line or 1
        shown = self.lines[line - 1] if line <= len(self.lines) else ""
        return fail("E0204", message, FilePlace(self.path, line, token.column or 1, shown, len(token)))


def _heads(tree: Tree[Token]) -> list[int]:
    """The number of heads at the end of a line, if it has one."""
    from lark import Token as Leaf

    last = tree.children[-1]
    return [int(last)] if isinstance(last, Leaf) and last.type == "INT" else []


def _token(tree: Tree[Token], index: int) -> Token:
    child = tree.children[index]
    assert isinstance(child, str)
    return child


def _tree(tree: Tree[Token], index: int) -> Tree[Token]:
    child = tree.children[index]
    assert not isinstance(child, str)
    return child


def _name(token: str) -> str:
    return json.loads(token[1:]) if token.startswith('%"') else token[1:]


def _extents(text: str) -> tuple[Extent, ...]:
    inner = text[1:-1].strip()
    return tuple(parse_extent(part) for part in inner.split(",")) if inner else ()


def _scalar(token: Token) -> Scalar:
    match token.type:
        case "INT":
            return int(token)
        case "FLOAT":
            return float(token)
        case "STRING":
            return str(json.loads(str(token)))
        case _:
            return _Word(str(token))


def _attribute(value: Literal) -> AttributeValue:
    """An attribute of an ONNX node: words do not occur there."""
    if isinstance(value, _Word):
        return value.text
    if isinstance(value, tuple):
        return tuple(v.text if isinstance(v, _Word) else v for v in value)  # type: ignore[return-value]
    return value
