"""Refuse what is left that the chip cannot do, all of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compiler.explain import Heading, Note
from compiler.ir.dims import axes_of
from compiler.ir.graph import Attention, Graph, Input, Node, Onnx, Role, op_name
from compiler.ir.rewrite import Editor
from compiler.ops.hosting import host_refusal
from compiler.ops.registry import MICROSOFT, OFF_CHIP, Fate, entry_of
from compiler.pipeline import Compilation, Finding, Pass
from compiler.recognition.regions import Survey, is_onnx
from isa.diagnostics import CimError, Diagnostic, NodePlace


@dataclass(frozen=True)
class Legalise(Pass):
    """Check that only canonical operators are left; refuse the others by node, operator and reason."""

    def run(self, c: Compilation) -> bool:
        """Raises `CimError` with a diagnostic for every node that stands in the way."""
        graph = c.require_graph()
        refusals = refused(graph, tuple(c.findings))
        if refusals:
            raise CimError(dict.fromkeys(_diagnostic(r, c.operators) for r in refusals))
        c.notes += _summary(graph)
        return False


def _diagnostic(refusal: Refusal, operators: Mapping[str, str]) -> Diagnostic:
    """The refusal of a node, with the operator that the file has there (it may have been written out)."""
    place = replace(refusal.place, op=operators.get(refusal.place.node, refusal.place.op))
    return Diagnostic("E0203", refusal.message, place, refusal.help)


def _summary(graph: Graph) -> list[Note]:
    """What was recognised, and what is taken for granted, for `--explain`."""
    counts = Counter(op_name(node.op) for node in graph.nodes)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    assumed = "no padding (a mask of ones), positions counted from the start of each sequence"
    said = f"Recognised: {listed}.", f"Taken for granted: {assumed}."
    return [Note(Heading.NEEDS, text) for text in said]


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
    if any(_is_hopeless(node) or (_is_off_chip(node) and not is_onnx(node, "If")) for node in left):
        elsewhere = [node for node in left if _is_hopeless(node) or _is_off_chip(node)]
        return [_refusal(graph, node, {}) for node in sorted(elsewhere, key=_how_hopeless)]
    unbound = [_unbound(graph, i) for i in graph.inputs if i.role is Role.WEIGHT]
    unbound += [_shapeless(graph, i) for i in graph.inputs if left and _is_shapeless(i)]
    explained = {f.node for f in findings} & {s for n in left for s in n.sources}
    if not explained and not any(is_onnx(n, "Softmax") for n in left):
        unbound += [_unread(graph, i) for i in graph.inputs if i.role is Role.PAST]
    if unbound:
        return unbound
    survey = Survey(Editor(graph))
    data = [n for n in left if any(survey.is_data(v.name) for v in n.outputs)]
    # Of several findings the first counts: later passes stumble over what earlier ones left.
    why = {f.node: f for f in reversed(findings)}
    found = [_refusal(graph, node, why) for node in data or left]
    blamed = (
        [r for r in found if r.place.node in why] or [r for r in found if not _is_bystander(r, left)] or found
    )
    return blamed + _strange_inputs(graph, bool(left))


def _is_hopeless(node: Node) -> bool:
    """Whether nothing can be done about a node: nobody knows it, or it cannot be scheduled."""
    entry = entry_of(node.op) if isinstance(node.op, Onnx) else None
    return entry is None or entry.fate is Fate.REFUSED


def _is_off_chip(node: Node) -> bool:
    entry = entry_of(node.op) if isinstance(node.op, Onnx) else None
    return entry is not None and entry.fate in OFF_CHIP


def _how_hopeless(node: Node) -> int:
    """What can never be compiled comes first, then what nobody knows, then what is only missing here."""
    op = node.op
    assert isinstance(op, Onnx)
    entry = entry_of(op)
    if entry is None:
        return 1 if op.domain not in ("", MICROSOFT) else 2
    return 0 if entry.fate is Fate.REFUSED else 3


def _refusal(graph: Graph, node: Node, why: dict[str, Finding]) -> Refusal:
    assert isinstance(node.op, Onnx)
    place = NodePlace(graph.model, node.sources[0] if node.sources else node.output.name, op_name(node.op))
    finding = next((why[s] for s in node.sources if s in why), None)
    if finding is not None:
        return Refusal(place, finding.reason, finding.help)
    entry = entry_of(node.op)
    if entry is None:
        return Refusal(place, _unknown(graph, node.op), _unknown_help(node.op))
    if entry.fate in OFF_CHIP:
        return Refusal(place, entry.note, entry.help or None)
    forms = f" (supported {entry.note})" if entry.note else ""
    return Refusal(place, f"this use of {entry.kind} is none that can be compiled{forms}", None)


def _unknown(graph: Graph, op: Onnx) -> str:
    if op.domain or host_refusal(op.domain, op.kind) is not None:
        return f"operator {op.kind} of {op.domain or 'ai.onnx'} is not known"
    layered = any(isinstance(n.op, Attention) or is_onnx(n, "Softmax") for n in graph.nodes)
    where = (
        "and stands between layers" if layered else "and the model has no attention for the chip to compute"
    )
    return f"operator {op.kind} has no place on the chip, {where}"


def _unknown_help(op: Onnx) -> str:
    if op.domain not in ("", MICROSOFT):
        return "custom operators have no meaning here; export the model without them"
    return "`cim ops` lists the operators that can be compiled"


def _is_bystander(refusal: Refusal, left: list[Node]) -> bool:
    """Whether a node is only stuck behind others: known, usable, but its neighbours were not recognised."""
    node = next(n for n in left if refusal.place.node in n.sources or refusal.place.node == n.output.name)
    return not _is_hopeless(node) and not _is_off_chip(node)


def _unbound(graph: Graph, given: Input) -> Refusal:
    return Refusal(
        NodePlace(graph.model, given.name, "input"),
        f"the weight {given.name!r} is an input of the model, and has no value",
        "give its value with --bind FILE.npz, or make it a constant of the file",
    )


def _is_shapeless(given: Input) -> bool:
    """Whether an input is rows of a number of features that is not known."""
    shape = given.value.shape or ()
    by_token = bool(shape) and axes_of(shape[-1]) <= {"sequence", "past", "source"}
    free = bool(shape) and ((not isinstance(shape[-1], int) and not by_token) or len(shape) > 4)
    return free and given.role in (Role.OTHER, Role.WEIGHT) and given.value.dtype.is_float


def _shapeless(graph: Graph, given: Input) -> Refusal:
    shape = given.value.shape or ()
    if len(shape) > 4:
        return Refusal(
            NodePlace(graph.model, given.name, "input"),
            f"the input {given.name!r} has {len(shape)} axes: rows have [batch, tokens, features]",
            None,
        )
    return Refusal(
        NodePlace(graph.model, given.name, "input"),
        f"how many features the rows of {given.name!r} have is not known: its last axis is {shape[-1]}",
        f"fix it with --dim {shape[-1]}=N",
    )


def _unread(graph: Graph, given: Input) -> Refusal:
    """What is kept from step to step, but not for an attention: all of those have been found."""
    if len(given.value.shape or ()) > 3:
        message = f"keys or values are kept in {given.name!r} that no attention reads"
    else:
        message = f"the state {given.name!r} is no keys or values of an attention"
    way_out = "only keys and values of attentions are kept from step to step"
    return Refusal(NodePlace(graph.model, given.name, "input"), message, way_out)


def _strange_inputs(graph: Graph, has_left: bool) -> list[Refusal]:
    """Inputs that are neither numbers nor rows by token cannot be fed."""
    if has_left:
        return []
    return [
        Refusal(
            NodePlace(graph.model, i.name, "input"),
            "the model reads an input that is neither token ids, positions, token types nor rows of tokens",
            "rows are floats [batch, tokens, features] with a fixed number of features",
        )
        for i in graph.inputs
        if not _is_known(i)
    ]


def _is_known(given: Input) -> bool:
    if given.role in (Role.IDS, Role.POSITIONS, Role.TOKEN_TYPES, Role.MASK, Role.SOURCE, Role.SOURCE_IDS):
        return True
    shape = given.value.shape or ()
    return (
        given.role is Role.OTHER
        and given.value.dtype.is_float
        and len(shape) == 2
        and isinstance(shape[1], int)
    )
