"""Attention of one KV head on a tile whose rows lie in memory, all of them or all but the last."""

from __future__ import annotations

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import AttendStreamed, Format
from compiler.optimisations import Optimisation
from isa.interface import KvCache, memory_planes, plane_bytes

from .builder import TileBuilder
from .core import bias_of
from .parts import PartBuilder
from .policies import skips
from .sections import Domain

TABLE = "cache"
"""The parameter that says where a head's rows lie in memory."""


def attend_streamed(
    parts: PartBuilder, tile: TileBuilder, node: Node, values: dict[str, str], head: int, scale: float
) -> str:
    """Append k and v of `values`, and attend with its q, still to be scaled, on `tile`; returns the output's name."""
    op = node.op
    assert isinstance(op, Attention)
    plan, group, geometry = parts.plans[node.output.name], op.heads // op.kv_heads, parts.geometry
    staged = _arrays(parts, tile, op, plan.staged, ("key_block", "value_block"))
    hot = _arrays(parts, tile, op, plan.kept, ("keys", "values")) if plan.hot else ("", "")
    region = _region(parts, tile, op, plan.rows, f"kv{len(parts.builder.reserved)}")
    if op.cache is not None:
        cache = KvCache(op.cache, (), ring=plan.ring, rows=plan.rows, hot=plan.hot)
        parts.builder.cache_head(cache, tile, *(hot if plan.hot else staged), memory=region)
    bias, reach = bias_of(parts, tile, node, group, head)
    block = AttendStreamed(
        tile.value("attended", Format.F32, group * op.v_head_dim),
        values["q"],
        values["k"],
        values["v"],
        *staged,
        TABLE,
        plan.rows,
        group,
        op.head_dim,
        op.v_head_dim,
        scale,
        geometry.block(Domain.TOKENS),
        *hot,
        plan.hot,
        op.window or 0,
        op.softcap or 0.0,
        bias,
        reach,
        skip=skips(geometry, op),
        early=geometry.does(Optimisation.PREFETCH_KV),
    )
    tile.add(block, "attention", [node])
    return block.out


def _arrays(
    parts: PartBuilder, tile: TileBuilder, op: Attention, rows: int, names: tuple[str, str]
) -> tuple[str, str]:
    widths = zip(names, (op.head_dim, op.v_head_dim), strict=True)
    specs = (parts.kv_array(name, rows, cols) for name, cols in widths)
    keys, values = (tile.array(spec, None) for spec in specs)
    return keys, values


def _region(parts: PartBuilder, tile: TileBuilder, op: Attention, rows: int, name: str) -> int:
    """Reserve the memory of a head; returns its number."""
    total = rows * parts.geometry.limits.sequences
    planes = memory_planes(total, op.head_dim, op.v_head_dim, parts.builder.arithmetic.dtype)
    return parts.builder.reserve(tile, TABLE, name, plane_bytes(total, planes))
