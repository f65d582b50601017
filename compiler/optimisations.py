"""What the compiler does beyond what is needed for a right answer: each can be left out by name (`--without`).

`cim bench ablation` compiles small cases once with all of them and once without each: what one does to latency
and energy is measured, and one that does nothing does not stay.
"""

from __future__ import annotations

from enum import Enum

from isa.diagnostics import fail


class Optimisation(Enum):
    """An optimisation; its value is its name on the command line."""

    DOUBLE_BUFFER = "double-buffer"
    HUB = "hub"
    FFN_GRID = "ffn-grid"
    SKIP_WINDOW = "skip-window"
    RING = "ring"
    PREFETCH_KV = "prefetch-kv"
    PLACEMENT = "placement"
    PAGING = "paging"
    SPLIT_CONTEXT = "split-context"
    GROUP_HEADS = "group-heads"
    NORM_EXCHANGE = "norm-exchange"
    GATHER = "gather"
    COPY_HEADS = "copy-heads"
    EARLY_BIAS = "early-bias"
    SEGMENTS = "segments"
    CENTRE = "centre"
    FOLD_GAINS = "fold-gains"
    SEARCH = "search"
    COPY_ARRAYS = "copy-arrays"
    JOIN_HEADS = "join-heads"
    KEEP_LAYERS = "keep-layers"
    WANTED_ROWS = "wanted-rows"
    KEEP_ANGLES = "keep-angles"
    SHARE_ANGLES = "share-angles"
    REPLICAS = "replicas"

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return _SUMMARIES[self]


_SUMMARIES = {
    Optimisation.DOUBLE_BUFFER: "values of consecutive segments in several places of the buffer, taken in turn",
    Optimisation.HUB: "cut hub values by columns over as many tiles as pays, not over as few as fit",
    Optimisation.PLACEMENT: "lay tiles where messages travel least and the links of the mesh carry least",
    Optimisation.NORM_EXCHANGE: "quantise what a norm makes beside its sum of squares; only scales need the root",
    Optimisation.GATHER: "look up embeddings in the DRAM of several chips at the same time",
    Optimisation.COPY_HEADS: "query heads that share a KV head on tiles of their own, each with a copy of its rows",
    Optimisation.EARLY_BIAS: "add a section's bias to the residual while the section works, not to its result",
    Optimisation.COPY_ARRAYS: "copies of arrays on a tile's free macros, over which a segment's vectors are dealt",
    Optimisation.JOIN_HEADS: "queries, keys and values of a head made by one array on its tile, and quantised at once",
    Optimisation.CENTRE: "take means out of what makes rows, so that LayerNorm of their sums needs no mean",
    Optimisation.FOLD_GAINS: "take gains of norms into the weights behind them, before these are quantised",
    Optimisation.SEGMENTS: "segments so short that many layers work at once, not as long as fit",
    Optimisation.SEARCH: "try other cuts and segments of large models, and take what is predicted to be fastest",
    Optimisation.KEEP_LAYERS: "layers that fit without the output layer stay; of that, what does not fit is streamed",
    Optimisation.WANTED_ROWS: "behind the last attention's keys and values only rows whose outputs are wanted",
    Optimisation.KEEP_ANGLES: "rotary angles of all positions lie in the tile buffers that use them, if they fit",
    Optimisation.SHARE_ANGLES: "one tile looks up rotary angles for others of its section, and multicasts them",
    Optimisation.REPLICAS: "copies of the whole program share a batch's sequences, where weights fit several times",
    Optimisation.FFN_GRID: "cut feed-forward sections by estimated time, the last layer by rows that tiles share",
    Optimisation.SKIP_WINDOW: "attention with a window passes over blocks that lie wholly before it",
    Optimisation.SPLIT_CONTEXT: "deal a KV head's rows in blocks over several tiles, which attend side by side",
    Optimisation.GROUP_HEADS: "give the heads' output projection tiles that take the rows of several heads",
    Optimisation.RING: "KV arrays of attention with a window keep the rows that are in reach, and no more",
    Optimisation.PAGING: "sequences share KV arrays in pages where `--kv-tokens` is less than all of them could have",
    Optimisation.PREFETCH_KV: "keys and values in DRAM are loaded before the segment's own have been made and stored",
}


def optimisation(name: str) -> Optimisation:
    """The optimisation of this name. Raises `CimError` E0004 if there is none."""
    try:
        return Optimisation(name)
    except ValueError:
        known = ", ".join(o.value for o in Optimisation)
        raise fail(
            "E0004", f"there is no optimisation {name!r}", help=f"the optimisations: {known}"
        ) from None
