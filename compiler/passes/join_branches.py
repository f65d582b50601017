"""A merged decoder holds a graph with and a graph without past: show that both are one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.ir.graph import Attention, Cache, Graph, Node, Operator, Role
from compiler.ir.tensor import Tensor
from compiler.passes.import_model import ImportModel
from compiler.pipeline import Compilation, Pass, run_pipeline
from isa.diagnostics import NamedPlace, fail

EXACT_LIMIT = 1 << 16
"""Constants up to this many elements may be equal by value; larger ones must be the same weight."""


@dataclass(frozen=True)
class JoinBranches(Pass):
    """Make one graph of the two behind `If(use_cache_branch)`: that without past, with the other's caches.

    If(use_cache, with_past(x, past), without(x)) == step(x; past), where no past is a past of length 0
    The branch with past is compiled as well, by the passes in `before`. Each of its nodes must be there in the other,
    with the same operands and weights; only keys and values of a source may be missing, which it has from the cache.
    """

    before: tuple[Pass, ...] = field(default=(), repr=False)

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`. Raises `CimError` E0203 if the branches are different models."""
        graph = c.require_graph()
        switch = graph.input(Role.SWITCH)
        if switch is None:
            return False
        c.graph = replace(graph, inputs=tuple(i for i in graph.inputs if i.role is not Role.SWITCH))
        if not graph.is_canonical:
            return True
        other = Compilation(c.model, c.options)
        run_pipeline([ImportModel(branch=True), *self.before], other)
        joined = _joined(c.graph, other.require_graph())
        if joined is None:
            message = (
                f"the two graphs that {switch.name!r} chooses between are not one model with and without past"
            )
            raise fail("E0203", message, NamedPlace(str(c.model)), "compile the two as files of their own")
        c.graph = joined
        return True


def _joined(without: Graph, with_past: Graph) -> Graph | None:
    """`without` past, with the cache inputs of `with_past`; None if they are not the same."""
    if not with_past.is_canonical:
        return None
    pairs = _paired(without, with_past)
    # What the branch with past gives in the place of the source's keys and values is a constant.
    made = [o for o in with_past.outputs if o not in with_past.constants]
    if pairs is None or [pairs.values.get(o) for o in made] != list(without.outputs):
        return None
    caches = list(without.caches)
    for at, other in pairs.caches.items():
        past = with_past.caches[other]
        if _kind(caches[at]) != _kind(past):
            return None
        caches[at] = replace(caches[at], past_key=past.past_key, past_value=past.past_value)
    return replace(without, caches=tuple(caches))


def _kind(cache: Cache) -> tuple[object, ...]:
    return (cache.kv_heads, cache.head_dim, cache.v_head_dim, cache.cross)


@dataclass(slots=True)
class _Pairs:
    """Which value, and which cache, of one graph is which of the other."""

    values: dict[str, str] = field(default_factory=dict)
    caches: dict[int, int] = field(default_factory=dict)


def _paired(without: Graph, with_past: Graph) -> _Pairs | None:
    pairs = _Pairs({i.name: i.name for i in without.inputs})
    free = list(without.nodes)
    for node in with_past.nodes:
        partner = next(_partners(node, free, pairs, without, with_past), None)
        if partner is None:
            return None
        free.remove(partner)
        pairs.values[node.output.name] = partner.output.name
        if isinstance(node.op, Attention) and isinstance(partner.op, Attention) and node.op.cache is not None:
            assert partner.op.cache is not None
            pairs.caches[partner.op.cache] = node.op.cache
    return pairs


def _partners(
    node: Node, free: list[Node], pairs: _Pairs, without: Graph, with_past: Graph
) -> Iterator[Node]:
    for other in free:
        if _without_cache(other.op) == _without_cache(node.op) and len(other.inputs) == len(node.inputs):
            operands = zip(node.inputs, other.inputs, strict=True)
            if all(_is_same(a, b, pairs, without, with_past, _may_lack(node)) for a, b in operands):
                yield other


def _may_lack(node: Node) -> bool:
    return isinstance(node.op, Attention) and node.op.cross


def _without_cache(op: Operator) -> Operator:
    if not isinstance(op, Attention):
        return op
    return replace(op, cache=None if op.cache is None else 0, scale=round(op.scale, 6))


def _is_same(mine: str, theirs: str, pairs: _Pairs, without: Graph, with_past: Graph, may_lack: bool) -> bool:
    """Whether an operand of the branch with past is that of the other."""
    if not mine:
        return may_lack or not theirs
    if mine in with_past.constants:
        other = without.constants.get(theirs)
        return other is not None and _is_equal(with_past.constants[mine], other)
    return pairs.values.get(mine) == theirs


def _is_equal(a: Tensor, b: Tensor) -> bool:
    if a == b:
        return True
    if (
        a.shape != b.shape
        or a.dtype is not b.dtype
        or a.count > EXACT_LIMIT
        or not (a.has_data and b.has_data)
    ):
        return False
    return bool(np.allclose(a.data(), b.data(), rtol=1e-5, atol=1e-7))
