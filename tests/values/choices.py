"""The choices of the compiler, and how far what they give agrees with the reference form.

The reference form of a program has a KV head on one tile, its rows resident, all layers on the chip, one sequence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import product
from typing import Any

from compiler.ir.mapping import Arithmetic
from compiler.mapping.policies import KvChoice
from compiler.optimisations import Optimisation
from compiler.placement import Placement
from isa.hardware import Hardware, load_target
from isa.interface import KvPolicy
from tests.compiler.building import ONE_TILE, Choices, with_quantity

CONTEXT, BLOCK = 64, 16


class Agreement(Enum):
    """How values agree with those of the reference form."""

    BIT = "to the bit"
    SUMS = "float sums in another order"
    SCALES = "sums in another order, quantised with other scales"
    HOST = "the host computes in float32 what arrays compute in int8"


TOLERANCE = {Agreement.BIT: 0.0, Agreement.SUMS: 1e-5, Agreement.SCALES: 1e-5, Agreement.HOST: 1e-5}
"""Largest difference over the largest logit, in ideal arithmetic."""

TOLERANCE_INT8 = {Agreement.BIT: 0.0, Agreement.SUMS: 0.03, Agreement.SCALES: 0.03, Agreement.HOST: 0.04}
"""The same in int8: where a sum in another order falls on the other side of a rounding, that is a step of a scale."""


@dataclass(frozen=True)
class Choice:
    """One choice: what it changes of the reference form, how its values agree with it and why."""

    name: str
    agreement: Agreement
    why: str
    changes: dict[str, Any] = field(default_factory=dict)

    def of(self, base: Choices) -> Choices:
        """The choices with this one made."""
        return replace(base, **self.changes)


REFERENCE = Choices(CONTEXT, hub_width=256, block=BLOCK, without=ONE_TILE)
EVERY: frozenset[Optimisation] = frozenset()

_SAME_WORK = "the same instructions on the same numbers, at other places or times"
_HUB = "sums of squares are added up over other pieces of a row"
_PARTS = "parts of a row's sum over its blocks are added by the network, probabilities are quantised block by block"

_COPIES = "the query heads' rows of the output projection have a scale each, and are added up by the network"

STREAMED = KvChoice(KvPolicy.STREAMED)
CHOICES = (
    Choice("--kv tiered", Agreement.BIT, _SAME_WORK, {"kv": KvChoice(KvPolicy.TIERED, BLOCK)}),
    Choice("--kv streamed", Agreement.BIT, _SAME_WORK, {"kv": STREAMED}),
    Choice("segments of 2 tokens", Agreement.BIT, _SAME_WORK, {"chunk": 2}),
    Choice("3 sequences", Agreement.BIT, _SAME_WORK, {"sequences": 3}),
    Choice("3 sequences that share pages", Agreement.BIT, _SAME_WORK, {"sequences": 3, "kv_tokens": 144}),
    Choice(
        "3 sequences, --kv tiered",
        Agreement.BIT,
        _SAME_WORK,
        {"sequences": 3, "kv": KvChoice(KvPolicy.TIERED, BLOCK)},
    ),
    Choice(
        "heads over 2 tiles, an output projection for 2 heads",
        Agreement.SCALES,
        "the heads' rows of the projection have one scale, and are added up by the array",
        {"ways": 2, "kv_block": 16, "together": 2, "without": EVERY},
    ),
    Choice(
        "heads on a tile each, an output projection for 2 heads",
        Agreement.SCALES,
        "the heads' rows of the projection have one scale, and are added up by the array",
        {"ways": 1, "together": 2, "without": EVERY},
    ),
    Choice(
        "heads on a tile each, which share an output projection for 2 heads by columns",
        Agreement.SCALES,
        "the heads' rows of the projection have one scale, and are added up by the array",
        {"ways": 1, "together": 2, "own_outputs": True, "without": EVERY},
    ),
    Choice(
        "heads over 2 tiles, output projections on few tiles",
        Agreement.SCALES,
        _PARTS,
        {"ways": 2, "kv_block": 16, "few_outputs": True, "without": EVERY},
    ),
    Choice(
        "heads over 2 tiles, an output projection for each head",
        Agreement.SCALES,
        _PARTS,
        {"ways": 2, "kv_block": 16, "together": 1, "without": EVERY},
    ),
    Choice("heads over 2 tiles", Agreement.SCALES, _PARTS, {"ways": 2, "kv_block": 16, "without": EVERY}),
    Choice("heads over 3 tiles", Agreement.SCALES, _PARTS, {"ways": 3, "kv_block": 16, "without": EVERY}),
    Choice(
        "heads over 2 tiles, 3 sequences",
        Agreement.SCALES,
        _PARTS,
        {"ways": 2, "kv_block": 16, "sequences": 3, "without": EVERY},
    ),
    Choice(
        "heads over 2 tiles, 3 sequences that share pages",
        Agreement.SCALES,
        _PARTS,
        {"ways": 2, "kv_block": 16, "sequences": 3, "kv_tokens": 144, "without": EVERY},
    ),
    Choice("hub tiles of 32 columns", Agreement.SUMS, _HUB, {"hub_width": 32}),
    Choice("hub tiles of 128 columns", Agreement.SUMS, _HUB, {"hub_width": 128}),
    Choice(
        "--place attention",
        Agreement.HOST,
        "linear layers run on the host, with the weights as they are in the file",
        {"place": Placement.ATTENTION},
    ),
    Choice(
        "--place attention+ffn",
        Agreement.HOST,
        "projections run on the host, with the weights as they are in the file",
        {"place": Placement.ATTENTION_FFN},
    ),
    Choice(
        "streamed weights",
        Agreement.SCALES,
        "layers are cut by rows into the pieces that are loaded, each with its own scale",
        {"stream": True},
    ),
    Choice(
        "streamed weights, 3 sequences",
        Agreement.SCALES,
        "the same",
        {"stream": True, "sequences": 3},
    ),
    Choice(
        "streamed weights, --kv streamed",
        Agreement.SCALES,
        "the same",
        {"stream": True, "kv": STREAMED},
    ),
    Choice(
        "an output layer whose weights pass",
        Agreement.BIT,
        "each column is one product with the same weights and the same scale, whenever they come",
        {"passing": 1},
    ),
)

DEFAULT = Choices(CONTEXT, hub_width=0, block=BLOCK)
_SHARED = {"sequences": 3, "kv_tokens": 144}
_ORDER = "instructions and tiles are the same, in another order or elsewhere"
_NOTHING = "what it leaves out would have added exactly nothing"

LEFT_OUT = {
    Optimisation.DOUBLE_BUFFER: Choice("double-buffer", Agreement.BIT, _ORDER),
    Optimisation.PLACEMENT: Choice("placement", Agreement.BIT, _ORDER),
    Optimisation.COPY_ARRAYS: Choice(
        "copy-arrays", Agreement.BIT, "vectors go through other copies of the same rows"
    ),
    Optimisation.GATHER: Choice("gather", Agreement.BIT, "rows are looked up elsewhere", {"hub_width": 64}),
    Optimisation.PREFETCH_KV: Choice("prefetch-kv", Agreement.BIT, _ORDER, {"kv": STREAMED}),
    Optimisation.WANTED_ROWS: Choice("wanted-rows", Agreement.BIT, "rows that nobody reads are not made"),
    Optimisation.KEEP_ANGLES: Choice("keep-angles", Agreement.BIT, "the same angles lie elsewhere"),
    Optimisation.SHARE_ANGLES: Choice(
        "share-angles",
        Agreement.BIT,
        "the same angles, looked up by another tile",
        {"without": frozenset({Optimisation.KEEP_ANGLES})},
    ),
    Optimisation.SKIP_WINDOW: Choice("skip-window", Agreement.BIT, _NOTHING, {"ways": 1}),
    Optimisation.RING: Choice("ring", Agreement.BIT, "rows lie elsewhere", {"ways": 1}),
    Optimisation.PAGING: Choice("paging", Agreement.BIT, "rows lie elsewhere", {**_SHARED, "ways": 2}),
    Optimisation.SPLIT_CONTEXT: Choice("split-context", Agreement.SCALES, _PARTS),
    Optimisation.GROUP_HEADS: Choice(
        "group-heads", Agreement.SCALES, "the heads' rows of the output projection have a scale each"
    ),
    Optimisation.COPY_HEADS: Choice("copy-heads", Agreement.SCALES, _COPIES, {"ways": 1}),
    Optimisation.JOIN_HEADS: Choice("join-heads", Agreement.BIT, _ORDER, {"ways": 1}),
    Optimisation.EARLY_BIAS: Choice(
        "early-bias", Agreement.SUMS, "a bias is added before the sum it belongs to, not behind it"
    ),
    Optimisation.CENTRE: Choice(
        "centre", Agreement.SUMS, "means are taken out of weights before they are quantised, not out of sums"
    ),
    Optimisation.FOLD_GAINS: Choice(
        "fold-gains", Agreement.SCALES, "gains are in the weights when these are quantised"
    ),
    Optimisation.HUB: Choice("hub", Agreement.SUMS, _HUB),
    Optimisation.NORM_EXCHANGE: Choice(
        "norm-exchange", Agreement.SUMS, "a norm is quantised in one operation, which rounds once"
    ),
    Optimisation.FFN_GRID: Choice(
        "ffn-grid", Agreement.SCALES, "tiles share other groups of the last layer's rows, with a scale each"
    ),
}
"""Agreement of programs with and without an optimisation; in ideal arithmetic they may agree better."""

NEED_BIASES = {Optimisation.EARLY_BIAS, Optimisation.CENTRE, Optimisation.JOIN_HEADS}
"""They change nothing of the trained model, which has no biases (tests/compiler/test_early_bias.py), no LayerNorms
(tests/compiler/test_centring.py), and rotary embedding between projections and attention
(tests/compiler/test_joined.py)."""

ELSEWHERE = {
    Optimisation.SEGMENTS: "segments of 2 tokens",
    Optimisation.KEEP_LAYERS: "an output layer whose weights pass",
}
"""Optimisations that are choices of the other table."""

COMBINING = {Optimisation.SEARCH, Optimisation.REPLICAS}
"""Optimisations that take some of these choices and change no value otherwise: copies of a program give what one of
them does (tests/values/test_replicas.py)."""


def target(chips: int = 2) -> Hardware:
    """dcim22 with macros of few rows, chips x chips chips, narrow vector units, and a global buffer too small for
    tables: short texts take several blocks, rows are cut over tiles, and rows of embeddings come from DRAM."""
    hardware = load_target("dcim22")
    changes = [
        ("macro", "rows", 16),
        ("tile", "macros", 1024),
        ("system", "chips_x", chips),
        ("system", "chips_y", chips),
        ("vector", "lanes", 16),
        ("gbuf", "capacity", 1),
    ]
    for part, name, value in changes:
        hardware = with_quantity(hardware, part, name, value)
    return hardware


DEEP = {
    "--kv tiered",
    "--kv streamed",
    "3 sequences that share pages",
    "heads over 2 tiles",
    "hub tiles of 128 columns",
    "--place attention",
    "--place attention+ffn",
    "streamed weights",
}
"""Names of the choices that gpt2 is compiled with."""

TOLERANCE_DEEP = 0.05
"""Largest difference over the largest logit where sums differ in int8, in gpt2: its twelve layers add up roundings."""


def combinations() -> Iterator[Choices]:
    """Every combination of a form of the cache, a cut of the hub, a cut of feed-forward layers, a batch, a placement
    and an arithmetic that there is."""
    caches: list[dict[str, Any]] = [
        {"kv": KvChoice(KvPolicy.RESIDENT), "ways": 1},
        {"kv": KvChoice(KvPolicy.TIERED, BLOCK)},
        {"kv": STREAMED},
        {"ways": 2, "kv_block": BLOCK, "together": 1},
        {"ways": 3, "kv_block": BLOCK, "together": 2},
    ]
    cuts = [{"hub_width": 256, "without": frozenset({Optimisation.FFN_GRID})}, {"hub_width": 32}]
    batches: list[dict[str, Any]] = [{}, {"sequences": 3}, _SHARED]
    placed = [place for place in Placement if place is not Placement.HOST]  # which has no values
    for cache, cut, batch, place, arithmetic in product(caches, cuts, batches, placed, Arithmetic):
        if "kv" in cache and cache["kv"].policy is not KvPolicy.RESIDENT and "kv_tokens" in batch:
            continue  # pages lie in arrays
        yield replace(DEFAULT, **cache, **cut, **batch, place=place, arithmetic=arithmetic)


def table() -> str:
    """Both tables in Markdown."""
    rows = ["| choice | agreement | because |", "|---|---|---|"]
    rows += [f"| {c.name} | {c.agreement.value} | {c.why} |" for c in CHOICES]
    rows += ["", "| without | agreement | because |", "|---|---|---|"]
    rows += [f"| `{o.value}` | {c.agreement.value} | {c.why} |" for o, c in LEFT_OUT.items()]
    return "\n".join(rows) + "\n"
