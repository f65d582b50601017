"""Refuse what is left that the chip cannot do, all of it at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from compiler.ir.graph import Graph, Node, Onnx, Role, op_name
from compiler.ir.rewrite import Editor
from compiler.ops.registry import MICROSOFT, Fate, entry_of
from compiler.passes.regions import Survey
from compiler.pipeline import Compilation, Finding, Pass
from isa.diagnostics import CimError, Diagnostic, NodePlace


@dataclass(frozen=True)
class Legalise(Pass):
    """Check that only canonical operators are left; refuse the others by node, operator and reason."""

    def run(self, c: Compilation) -> bool:
        """Raises `CimError` with a diagnostic for every node that stands in the way."""
        graph = c.require_graph()
        refusals = refused(graph, tuple(c.findings))
        if refusals:
            raise CimError(Diagnostic("E0203", r.message, r.place, r.help) for r in refusals)
        c.notes += _summary(graph)
        return False


def _summary(graph: Graph) -> list[str]:
    """What was recognised, and what is taken for granted, for `--explain`."""
    counts = Counter(op_name(node.op) for node in graph.nodes)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    assumed = "no padding (a mask of ones), positions counted from the start of each sequence"
    return [f"graph: {listed}", f"graph: taken for granted: {assumed}"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that cannot be compiled, and why."""

    place: NodePlace
    message: str
    help: str | None


def refused(graph: Graph, findings: tuple[Finding, ...]) -> list[Refusal]:
    """Why each ONNX node that is left stands in the way.

    Masks, positions and shapes are left only where their user is; they are not reported as long as
    something else is.
    """
    left = [node for node in graph.nodes if isinstance(node.op, Onnx)]
    survey = Survey(Editor(graph))
    data = [n for n in left if any(survey.is_data(v.name) for v in n.outputs)]
    why = {f.node: f for f in findings}
    found = [_refusal(graph, node, why) for node in data or left]
    blamed = (
        [r for r in found if r.place.node in why] or [r for r in found if not _is_bystander(r, left)] or found
    )
    return blamed + _strange_inputs(graph, bool(left))


def _refusal(graph: Graph, node: Node, why: dict[str, Finding]) -> Refusal:
    assert isinstance(node.op, Onnx)
    place = NodePlace(graph.model, node.sources[0] if node.sources else node.output.name, op_name(node.op))
    finding = next((why[s] for s in node.sources if s in why), None)
    if finding is not None:
        return Refusal(place, finding.reason, finding.help)
    entry = entry_of(node.op)
    if entry is None:
        known = "ai.onnx" if not node.op.domain else node.op.domain
        return Refusal(place, f"operator {node.op.kind} of {known} is not known", _unknown_help(node.op))
    if entry.fate is Fate.REFUSED:
        return Refusal(place, entry.note, entry.help or None)
    forms = f" (supported {entry.note})" if entry.note else ""
    return Refusal(place, f"this use of {entry.kind} is none that can be compiled{forms}", None)


def _unknown_help(op: Onnx) -> str:
    if op.domain not in ("", MICROSOFT):
        return "custom operators have no meaning here; export the model without them"
    return "`cim ops` lists the operators that can be compiled"


def _is_bystander(refusal: Refusal, left: list[Node]) -> bool:
    """Whether a node is only stuck behind others: known, usable, but its neighbours were not recognised."""
    node = next(n for n in left if refusal.place.node in n.sources or refusal.place.node == n.output.name)
    entry = entry_of(node.op) if isinstance(node.op, Onnx) else None
    return entry is not None and entry.fate is not Fate.REFUSED


def _strange_inputs(graph: Graph, has_left: bool) -> list[Refusal]:
    """Inputs that are neither ids, positions nor token types cannot be fed."""
    known = (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES, Role.MASK)
    strange = [i for i in graph.inputs if i.role not in known]
    if has_left:
        return []
    return [
        Refusal(
            NodePlace(graph.model, i.name, "input"),
            "the model reads an input that is neither token ids, positions nor token types",
            "models that start from embeddings or images are not supported yet",
        )
        for i in strange
    ]
