"""What a KV head needs of the lanes of its section."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.graph import Attention
from compiler.ir.mapping import Rows

from .sections import Lane, Section


@dataclass(frozen=True, slots=True)
class Share:
    """What a KV head needs of a lane: `heads` heads of `dim` columns, of these `rows`."""

    name: str
    lane: Lane
    heads: int
    dim: int
    rows: Rows = Rows.TOKENS

    @property
    def cols(self) -> int:
        """Columns in all."""
        return self.heads * self.dim


def shares_of(section: Section, op: Attention, rows: Rows) -> tuple[Share, ...]:
    """The shares of a KV head: q, k, v, as far as the section computes them; `rows` are those of queries."""
    group = op.heads // op.kv_heads
    sizes = (group, op.head_dim), (1, op.head_dim), (1, op.v_head_dim)
    return tuple(
        Share(name, lane, *size, rows if name == "q" else Rows.TOKENS)
        for name, lane, size in zip("qkv", section.lanes, sizes, strict=True)
        if lane is not None
    )


def of_all_rows(shares: tuple[Share, ...]) -> tuple[Share, ...]:
    """The shares, of all rows that there are."""
    return tuple(replace(share, rows=Rows.TOKENS) for share in shares)
