"""KV arrays and attention of one KV head on a tile."""

from __future__ import annotations

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import Append, Attend, Format, Rows
from isa.interface import KvCache

from .builder import TileBuilder
from .parts import PartBuilder
from .policies import KvPlan, skips
from .sections import Domain, refuse

MOST_BIASES = 4095
"""Entries of a bias by distance: the operand of `vrel` has 12 bits."""


def check_attention(parts: PartBuilder, node: Node, op: Attention) -> None:
    """Refuse (E0306) attention that has no form here."""
    if op.cross and not parts.geometry.limits.max_source:
        raise refuse(
            parts.graph, node, "no rows are set aside for the source of cross-attention", "--max-source N"
        )
    entries = op.heads // op.kv_heads * (2 * _reach(parts, node) + 1)
    if entries > MOST_BIASES:
        raise refuse(
            parts.graph,
            node,
            f"the query heads of a KV head have {entries:,} biases by distance; an instruction takes up to "
            f"{MOST_BIASES:,}",
            f"a shorter sequence: --max-context {MOST_BIASES * op.kv_heads // op.heads // 2}",
        )


def append(parts: PartBuilder, tile: TileBuilder, node: Node, key: str, value: str) -> None:
    """Append the rows of k and v to the KV arrays of `tile`."""
    keys, values = _arrays(parts, tile, node)
    ring = _plan(parts, node).ring
    tile.add(Append(keys, key, ring=ring), "append_k", [node])
    tile.add(Append(values, value, ring=ring), "append_v", [node])


def attend(
    parts: PartBuilder, tile: TileBuilder, node: Node, rows_of: Domain, query: str, head: int, copies: int = 1
) -> str:
    """Attention of one KV head on `tile`; returns the name of its output. `copies`: tiles that share its query heads,
    each with rows of its own; `head` counts them."""
    op = _attention(node)
    keys, values = _arrays(parts, tile, node)
    ring = _plan(parts, node).ring
    if op.cache is not None:
        parts.builder.cache_head(
            KvCache(op.cache, (), op.cross, ring=ring, copies=copies), tile, keys, values
        )
    if not op.causal and not op.cross:  # all keys and values first
        tile.keep(query)
        tile.phase = 1
    group = op.heads // (op.kv_heads * copies)
    bias, reach = bias_of(parts, tile, node, group, head)
    block = Attend(
        tile.value("attended", Format.F32, group * op.v_head_dim, answered(tile, query)),
        query,
        keys,
        values,
        group,
        op.head_dim,
        op.v_head_dim,
        op.scale,
        parts.geometry.block(rows_of),
        op.window or 0 if not op.cross else 0,
        op.softcap or 0.0,
        op.causal and not op.cross,
        op.cross,
        bias,
        reach,
        skip=skips(parts.geometry, op),
        ring=ring,
    )
    tile.add(block, "attention", [node])
    return block.out


def answered(tile: TileBuilder, query: str) -> Rows:
    """The rows of a segment for which a tile has answers: those of its queries, which it may keep for longer."""
    return Rows.OUTPUTS if tile.values[query].rows is Rows.OUTPUTS else Rows.TOKENS


def _attention(node: Node) -> Attention:
    assert isinstance(node.op, Attention)
    return node.op


def _plan(parts: PartBuilder, node: Node) -> KvPlan:
    return parts.plans[node.output.name]


def _arrays(parts: PartBuilder, tile: TileBuilder, node: Node) -> tuple[str, str]:
    """The KV arrays of `tile`, keys and values."""
    op = _attention(node)
    rows = _plan(parts, node).kept
    keys = tile.array(parts.kv_array("keys", rows, op.head_dim), None)
    return keys, tile.array(parts.kv_array("values", rows, op.v_head_dim), None)


def _reach(parts: PartBuilder, node: Node) -> int:
    """How far a bias by distance has entries: no further than the longest sequence. 0 for slopes, or no bias."""
    name = node.inputs[3] if len(node.inputs) > 3 else ""
    shape = parts.graph.constants[name].shape if name else ()
    longest = max(map(parts.geometry.longest, Domain))
    return min(int(shape[1]) // 2, max(longest - 1, 1)) if len(shape) > 1 else 0


def bias_of(parts: PartBuilder, tile: TileBuilder, node: Node, group: int, head: int) -> tuple[str, int]:
    """The constant with the biases of KV head `head`'s queries, laid flat, and how far it reaches (0: slopes)."""
    if len(node.inputs) < 4 or not node.inputs[3]:
        return "", 0
    reach = _reach(parts, node)
    content = parts.weights.biases(node.inputs[3], reach, head * group)
    return tile.constant("distance", group * (2 * reach + 1), content), reach
