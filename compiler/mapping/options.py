"""Which of the command line's choices the mapper has."""

from __future__ import annotations

from compiler.ir.graph import Attention, Embed, Graph, Role
from compiler.ir.mapping import Arithmetic
from compiler.ir.quantised import LEAST_BLOCK
from isa.diagnostics import fail
from isa.interface import KvPolicy
from isa.operands import WORD_BYTES

from .cutting import domains_of
from .policies import KvChoice
from .rounding import WEIGHT_BITS
from .sections import Domain


def arithmetic_of(weights: str) -> Arithmetic:
    """The arithmetic that `--weights` asks for. Weights of 4 bits lie in cells of 8."""
    return Arithmetic.INT8 if weights == "int4" else Arithmetic(weights)


def weight_bits(weights: str) -> int:
    """Bits that float weights are quantised to in int8 arithmetic."""
    return 4 if weights == "int4" else 8


def check_numbers(weights: str, group: int | None, kv_bits: int) -> None:
    """Refuse (E0305) formats of numbers that do not go together, or that no product takes."""
    if group is not None and weights != "int4":
        message = f"--group {group}: weights of --weights {weights} have one scale a column"
        raise fail("E0305", message, help="--weights int4, or leave --group out")
    if group and (group < LEAST_BLOCK or group % WORD_BYTES):
        message = f"--group {group}: products take groups of {LEAST_BLOCK} rows or more, in whole words of {WORD_BYTES}"
        raise fail("E0305", message, help="--group 32, 64 or 128; 0 for one scale a column")
    if kv_bits != WEIGHT_BITS and arithmetic_of(weights) is Arithmetic.FLOAT32:
        message = f"--kv-bits {kv_bits}: in ideal arithmetic keys and values are not rounded"
        raise fail("E0305", message, help="leave --kv-bits out, or --weights int8")


def learned_positions(graph: Graph, domain: Domain = Domain.TOKENS) -> int | None:
    """How many positions the model has learned embeddings for, of tokens or of the source; None if it computes them."""
    given = {i.name for i in graph.inputs if i.role is Role.POSITIONS}
    domains = domains_of(graph) if given else {}
    rows = [
        int(graph.constants[node.inputs[1]].shape[0]) - node.op.offset
        for node in graph.nodes
        if isinstance(node.op, Embed) and node.inputs[0] in given and domains[node.output.name] is domain
    ]
    return min(rows, default=None)


def source_rows(graph: Graph, asked: int | None, context: int) -> int:
    """Rows of the source that a program is for: 0 without cross-attention, else what was asked for, what the file
    fixes, or as many as the context, or as the source has learned positions.

    Refused (E0305) is a number of them for a model that looks at no source.
    """
    if not any(isinstance(node.op, Attention) and node.op.cross for node in graph.nodes):
        if asked:
            raise fail(
                "E0305",
                f"--max-source {asked}: the model has no cross-attention, so there are no rows of a source",
                help="leave --max-source out",
            )
        return 0
    if asked:
        return asked
    given = graph.input(Role.SOURCE)
    shape = given.value.shape if given is not None else None
    if shape and isinstance(shape[0], int):
        return shape[0]
    return min(context, learned_positions(graph, Domain.SOURCE) or context)


def kv_choice(policy: str) -> KvChoice:
    """What `--kv` asks of the caches."""
    return KvChoice(None if policy == "auto" else KvPolicy(policy))


def keeps_nothing(graph: Graph) -> bool:
    """Whether sequences leave nothing behind: all attention sees later tokens, so a step takes a whole sequence, and
    none has a cache. Then sequences of a batch take turns, a step each, through the same tiles."""
    attentions = [node.op for node in graph.nodes if isinstance(node.op, Attention)]
    return bool(attentions) and all(not op.causal and not op.cross and op.cache is None for op in attentions)


def check_positions(graph: Graph, context: int, source: int) -> None:
    """Refuse (E0308) sequences longer than the positions that the host looks up."""
    for domain, longest, option in (
        (Domain.TOKENS, context, "--max-context"),
        (Domain.SOURCE, source, "--max-source"),
    ):
        have = learned_positions(graph, domain)
        if have is not None and have < longest:
            what = "context" if domain is Domain.TOKENS else "source"
            message = f"the model has learned {have:,} positions, the {what} is {longest:,}"
            raise fail("E0308", message, help=f"{option} {have}")
