"""Let rows that only LayerNorms read have a mean of zero, so that these need not take it away."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.graph import Add, Embed, Linear, Node, Norm, NormKind
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import Centred, Tensor
from compiler.optimisations import Optimisation
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class CentreRows(Pass):
    """Centre what the residual stream is made of, where LayerNorms alone read it; then they are RMS norms.

    LayerNorm(x) == LayerNorm(x - mean(x)), and x - mean(x) is linear in x: where x is a sum of rows of tables and of
    results of linear layers, it is the sum of the same with tables, weights and biases less their means over a row.
    And LayerNorm(x) == RMSNorm(x) * gamma + beta where mean(x) == 0.

    Integers of a quantised file stay as they are, so that nothing is centred that they make.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        if not c.options.does(Optimisation.CENTRE):
            return False
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            if editor.holds(node) and _takes_means(node):
                stream = _stream(editor, node.inputs[0])
                if stream is not None:
                    _centre(editor, stream)
        c.graph = editor.finish()
        return editor.changed


@dataclass(frozen=True, slots=True)
class _Stream:
    """Rows that can be centred together: the nodes that make them of other things, and the norms that read them."""

    makers: tuple[Node, ...]
    norms: tuple[Node, ...]


def _takes_means(node: Node) -> bool:
    return isinstance(node.op, Norm) and node.op.kind is NormKind.LAYER and node.op.groups == 1


def _stream(editor: Editor, start: str) -> _Stream | None:
    """All rows that are centred if `start` is: what it is a sum of, and the sums that it is part of. None if they
    cannot be: something else makes them or reads them."""
    todo, seen = [start], {start}
    makers: dict[str, Node] = {}
    norms: dict[str, Node] = {}
    while todo:
        name = todo.pop()
        maker, users = editor.producer(name), editor.users(name)
        readers = [node for node in users if _takes_means(node) and node.inputs[0] == name]
        sums = [node for node in (maker, *users) if node is not None and isinstance(node.op, Add)]
        if (
            maker is None
            or name in editor.outputs
            or len(users) > len(readers) + sum(u in sums for u in users)
        ):
            return None
        norms |= {node.output.name: node for node in readers}
        if maker not in sums:
            makers[name] = maker
        found = {value for node in sums for value in (node.output.name, *node.inputs)} - seen
        seen |= found
        todo += found
    is_possible = all(_can_centre(editor, node) for node in makers.values())
    return _Stream(tuple(makers.values()), tuple(norms.values())) if is_possible else None


def _can_centre(editor: Editor, node: Node) -> bool:
    """Whether a node makes rows of constants that can be centred: a table, or a weight and a bias."""
    tensors = [editor.constant(name) for name in node.inputs[1:]]
    is_maker = isinstance(node.op, Embed | Linear)
    return is_maker and all(t is not None and t.dtype.is_float and not t.is_quantised for t in tensors)


def _centre(editor: Editor, stream: _Stream) -> None:
    for node in stream.makers:
        inputs = [node.inputs[0], *(_centred(editor, name) for name in node.inputs[1:])]
        editor.replace(node, replace(node, inputs=tuple(inputs)))
    for norm in stream.norms:
        assert isinstance(norm.op, Norm)
        editor.replace(norm, replace(norm, op=replace(norm.op, kind=NormKind.RMS)))


def _centred(editor: Editor, name: str) -> str:
    tensor = editor.constants[name]
    return editor.add_constant(f"{name}.centred", Tensor(tensor.dtype, tensor.shape, Centred(tensor)))
