"""Writing new ONNX nodes in the place of an old one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from compiler.ir.graph import AttributeValue, Node, Onnx, Value
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import DType, Tensor

VERSION = 21
"""The operator set that written nodes belong to: quantisation by block came with it."""


@dataclass(slots=True)
class Writer:
    """Collects nodes that together compute what `node` does; `done` puts them in its place."""

    editor: Editor
    node: Node
    made: list[Node] = field(default_factory=list)

    def op(
        self,
        kind: str,
        inputs: Iterable[str],
        attributes: Sequence[tuple[str, AttributeValue]] = (),
        *,
        output: Value | None = None,
        domain: str = "",
        version: int = VERSION,
    ) -> str:
        """A node with one output; returns the output's name."""
        if output is None:
            output = Value(self.editor.fresh(f"{self.node.output.name}.{kind}"), DType.OTHER, None)
            self.editor.reserve(output)
        op = Onnx(domain, kind, version, tuple(attributes))
        self.made.append(Node(op, tuple(inputs), (output,), self.node.sources))
        return output.name

    def nodes(self, kind: str, inputs: Iterable[str], suffixes: Sequence[str]) -> tuple[str, ...]:
        """A node with several outputs; returns their names."""
        stem = self.node.output.name
        outputs = tuple(Value(self.editor.fresh(f"{stem}.{s}"), DType.OTHER, None) for s in suffixes)
        for value in outputs:
            self.editor.reserve(value)
        self.made.append(Node(Onnx("", kind, VERSION), tuple(inputs), outputs, self.node.sources))
        return tuple(value.name for value in outputs)

    def constant(self, name: str, value: Tensor) -> str:
        """A constant."""
        return self.editor.add_constant(name, value)

    def data(self, index: int) -> Tensor | None:
        """Input `index` of the node, if it is a constant with data."""
        name = self.input(index)
        constant = self.editor.constant(name) if name else None
        return constant if constant is not None and constant.has_data else None

    def input(self, index: int) -> str:
        """The name of input `index` of the node, "" if it is omitted."""
        return self.node.inputs[index] if index < len(self.node.inputs) else ""

    def done(self, result: str) -> None:
        """Replace the node; `result`, made last, takes over the name of its output."""
        *first, last = self.made
        assert last.output.name == result
        rank = self.editor.rank(self.node)
        final = replace(last, outputs=(self.node.output, *last.outputs[1:]))
        self.editor.remove(self.node)
        for step, made in enumerate([*first, final]):
            self.editor.place(made, rank + step * 1e-6)


def rename(editor: Editor, name: str, new: str) -> None:
    """Give the value `name`, which a node makes, the name `new`, wherever it is used."""
    node = editor.producer(name)
    assert node is not None
    outputs = tuple(replace(v, name=new) if v.name == name else v for v in node.outputs)
    users = editor.users(name)
    editor.replace(node, replace(node, outputs=outputs))
    for user in users:
        editor.replace(user, replace(user, inputs=tuple(new if i == name else i for i in user.inputs)))
    editor.outputs = [new if o == name else o for o in editor.outputs]


def supplant(editor: Editor, node: Node, by: str) -> str:
    """Let the value `by` stand for the only output of `node`, which goes. Names of graph outputs stay: then
    it is `by` that takes the other's name. Returns the name it has now."""
    old = node.output.name
    wanted = old in editor.outputs
    if not wanted:
        editor.redirect(old, by)
        editor.remove(node)
        return by
    if editor.producer(by) is None or by in editor.outputs:
        editor.replace(node, Node(Onnx("", "Identity", VERSION), (by,), node.outputs, node.sources))
        return by
    users = editor.users(old)
    editor.remove(node)
    for user in users:
        editor.replace(user, replace(user, inputs=tuple(by if i == old else i for i in user.inputs)))
    rename(editor, by, old)
    return old
