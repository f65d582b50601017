"""Put roundings of activations back between canonical operators."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.expansion.quant_writing import rename
from compiler.explain import Heading, Note
from compiler.ir.graph import FakeQuant, Linear, Node, Value
from compiler.ir.rewrite import Editor
from compiler.ir.roundings import Roundings
from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class RestoreQuantisation(Pass):
    """Put back the roundings that `SetAsideQuantisation` noted, where their values still exist.

    Those inside what became one operator (between the products of an attention, in a GELU written out) stay out:
    there the chip computes in float32, which is nearer to the model that was quantised.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`, clears `c.roundings`."""
        if c.roundings is None:
            return False
        editor, noted = Editor(c.require_graph()), c.roundings
        c.roundings = None
        work = _Restoring(editor, noted)
        for node in list(editor.nodes()):
            current = editor.producer(node.output.name)
            if current is not None and isinstance(current.op, Linear):
                work.round_input(current)
        for value in [*(i.value for i in editor.inputs), *(n.output for n in editor.nodes())]:
            work.round_value(value)
        c.graph = editor.finish()
        c.notes.append(Note(Heading.NEEDS, _note(c.graph.nodes, noted)))
        return True


def _note(nodes: tuple[Node, ...], noted: Roundings) -> str:
    kept = sum(isinstance(n.op, FakeQuant) for n in nodes)
    said = f"quantisation: the file rounds activations in {noted.count} places"
    if kept >= noted.count:
        return said
    return (
        f"{said}; {kept} of them stand between operators, the others are inside operators that the chip computes "
        "in float32"
    )


@dataclass(slots=True)
class _Restoring:
    editor: Editor
    noted: Roundings

    def round_value(self, value: Value) -> None:
        """Round a value for all its users."""
        op = self.noted.values.get(value.name)
        users = self.editor.users(value.name)
        if op is None or (users and all(u.op == op for u in users)):
            return
        node = self.editor.producer(value.name)
        sources = () if node is None else node.sources[-1:]
        exact = value
        if value.name in self.editor.outputs and node is not None:
            exact = replace(value, name=self.editor.fresh(f"{value.name}.exact"))
            self.editor.reserve(exact)
            rounded = value
            rename(self.editor, value.name, exact.name)
            self.editor.outputs = [value.name if o == exact.name else o for o in self.editor.outputs]
        else:
            rounded = replace(value, name=self.editor.fresh(f"{value.name}.rounded"))
        for user in self.editor.users(exact.name):
            inputs = tuple(rounded.name if i == exact.name else i for i in user.inputs)
            self.editor.replace(user, user if user.op == op else replace(user, inputs=inputs))
        self._insert(op, exact.name, rounded, sources)

    def round_input(self, linear: Node) -> None:
        """Round what one linear layer reads."""
        op = next((self.noted.inputs[s] for s in linear.sources if s in self.noted.inputs), None)
        if op is None:
            return
        x = linear.inputs[0]
        if self.noted.values.get(x) == op:
            return
        made = next((u.output for u in self.editor.users(x) if u.op == op), None)
        if made is None:
            value = self.editor.value(x)
            assert value is not None
            made = replace(value, name=self.editor.fresh(f"{x}.rounded"))
            self._insert(op, x, made, linear.sources[:1])
        self.editor.replace(linear, replace(linear, inputs=(made.name, *linear.inputs[1:])))

    def _insert(self, op: FakeQuant, x: str, output: Value, sources: tuple[str, ...]) -> None:
        node = self.editor.producer(x)
        rank = -1.0 if node is None else self.editor.rank(node)
        self.editor.place(Node(op, (x,), (output,), sources), rank + 1e-7)
