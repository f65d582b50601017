"""What heads on tiles of their own have together: one array for a head's queries, keys and values, and an output
projection that the heads' tiles share by columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.ir.graph import Attention, Node
from compiler.ir.mapping import Format, Take
from compiler.optimisations import Optimisation
from isa.operands import WORD_BYTES

from .builder import TileBuilder
from .deals import Deal, last_columns
from .feeds import Shard, ranges
from .joined import Columns, JoinedWeights
from .lanes import Share
from .parts import LastLayer, PartBuilder, linear_shape
from .sections import Section
from .sharing import share_rows


def may_join(
    parts: PartBuilder, section: Section, op: Attention, shares: Sequence[Share], dealt: Deal | None
) -> bool:
    """Whether a head's queries, keys and values can be made by one array: of one input, in int8, with a scale a column,
    nothing between them and attention, in equal words, of the same rows. If rows are `dealt`, each of their tiles has
    such an array and needs room for it beside them."""
    linears = [share.lane.linear for share in shares]
    reads = {section.read(share.lane) for share in shares}
    dims, rows = {share.dim for share in shares}, {share.rows for share in shares}
    is_plain = (
        op.causal
        and not op.cross
        and len(shares) == len("qkv")
        and not any(share.lane.chain for share in shares)
    )
    return (
        is_plain
        and len(dims) == len(reads) == len(rows) == 1
        and parts.quantised
        and parts.geometry.does(Optimisation.JOIN_HEADS)
        and not any(dim % WORD_BYTES for dim in dims)
        and all(linear is not None and parts.weights.is_plain(linear) for linear in linears)
        and (dealt is None or _has_room(parts, op, shares, dealt))
    )


def _has_room(parts: PartBuilder, op: Attention, shares: Sequence[Share], dealt: Deal) -> bool:
    """Whether a tile has macros for a head's queries, keys and values in one array, beside the rows dealt to it."""
    geometry = parts.geometry
    (rows,) = {linear_shape(parts.weights, s.lane.linear)[0] for s in shares if s.lane.linear is not None}
    weights = geometry.macros(rows, sum(share.cols for share in shares))
    return geometry.hardware.fits_tile(weights, dealt.macros(geometry, op))


def joined_weights(
    parts: PartBuilder, shares: Sequence[Share], heads: int, first: Callable[[Share, int], int]
) -> JoinedWeights:
    """The weights of the heads' queries, keys and values; `first` says where a head's columns of a share begin."""
    columns = [
        Columns(share.lane.linear, share.cols, tuple(first(share, head) for head in range(heads)))
        for share in shares
        if share.lane.linear is not None
    ]
    return JoinedWeights(parts.weights, columns)


def make_joined(
    parts: PartBuilder,
    tile: TileBuilder,
    joined: JoinedWeights,
    at: tuple[str, int],
    shares: Sequence[Share],
    nodes: list[Node],
) -> None:
    """Make q, k and v of a head, quantised, under these names; `at` is the input's name and the head.

    All are quantised at once, to 8 bits; if keys and values have fewer, once more for them. In segments of one row the
    queries' columns are then left out of the one, keys' and values' of the other.
    """
    whole = parts.multiply_joined(tile, joined, *at)
    scales, bits = joined.cols // shares[0].dim, parts.geometry.kv_bits
    narrow = parts.quantise(tile, whole, joined.nodes, scales, bits=bits) if bits != 8 else ""
    made = parts.quantise(tile, whole, joined.nodes, scales)
    firsts = {share.name: sum(s.cols for s in shares[:index]) for index, share in enumerate(shares)}
    for share in sorted(shares, key=lambda share: "kqv".index(share.name)):  # keys are waited for first
        tile.value(share.name, Format.Q8, share.cols, scales=share.heads)
        source = made if share.name == "q" else narrow or made
        tile.add(Take(share.name, source, firsts[share.name]), "columns", nodes)


def on_own_tiles(
    parts: PartBuilder, made: list[Shard], nodes: tuple[Node, Node], first: int, last: LastLayer
) -> None:
    """The output projection of heads by columns on the heads' own tiles, which exchange what attention gave, quantised
    with one scale. `made` is that, from head `first` on; `nodes` are attention and projection."""
    (attention, output), each = nodes, made[0].cols
    rows, width = len(made) * each, linear_shape(parts.weights, output)[1]
    columns = list(ranges(width, last_columns(parts.geometry, width, rows, len(made))))
    tiles = [shard.tile for shard in made[: len(columns)]]
    x = share_rows(parts, made, tiles, "heads", [attention])
    for tile, (col, cols) in zip(tiles, columns, strict=True):
        y = parts.multiply(tile, output, x, "o", (first * each, col), (rows, cols), bias=False)
        last.add(tile, y, col, cols)
