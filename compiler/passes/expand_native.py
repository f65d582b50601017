"""Spell out fused operators: whole attentions, norms with their sums, tables with their norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compiler.expansion import attention_forms, fused_forms, standard_attention
from compiler.expansion.attention_forms import FormError
from compiler.expansion.einsum_forms import einsum
from compiler.expansion.writing import Writer
from compiler.ir.graph import Node, Onnx
from compiler.ir.rewrite import Editor
from compiler.ops.registry import MICROSOFT
from compiler.passes.fold_constants import FoldConstants
from compiler.pipeline import Compilation, Finding, Pass

HELP = "export the model with the operator's plain form, or without fusing it"

FORMS: Mapping[tuple[str, str], Callable[[Writer], list[str] | None]] = {
    ("", "Attention"): standard_attention.standard,
    ("", "TensorScatter"): standard_attention.scattered,
    ("", "Einsum"): einsum,
    ("", "RotaryEmbedding"): fused_forms.rotary_rows,
    ("", "ReduceL2"): fused_forms.length,
    (MICROSOFT, "Attention"): attention_forms.fused,
    (MICROSOFT, "MultiHeadAttention"): attention_forms.multi_head,
    (MICROSOFT, "GroupQueryAttention"): attention_forms.grouped,
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): attention_forms.masked,
    (MICROSOFT, "SkipLayerNormalization"): fused_forms.skip_layer_norm,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): fused_forms.skip_rms_norm,
    (MICROSOFT, "EmbedLayerNormalization"): fused_forms.embed_layer_norm,
    (MICROSOFT, "Gelu"): fused_forms.gelu,
    (MICROSOFT, "BiasGelu"): fused_forms.gelu,
    (MICROSOFT, "FastGelu"): fused_forms.fast_gelu,
    (MICROSOFT, "QuickGelu"): fused_forms.quick_gelu,
    (MICROSOFT, "GemmFastGelu"): fused_forms.gemm_fast_gelu,
    (MICROSOFT, "RotaryEmbedding"): fused_forms.rotary,
    (MICROSOFT, "RelativePositionBias"): fused_forms.relative_bias,
}
"""What each fused operator is made of; gives the values of its outputs, "" for one that is not made,
or None if the node is plain already."""


@dataclass(frozen=True)
class ExpandNative(Pass):
    """Write fused operators out, so that one matcher sees every attention, norm and activation there is.

    Attention(Q, K, V, mask) == softmax(mask(cap(s Q K^T))) V, with heads split, repeated and joined again
    SkipLayerNormalization(x, skip) == LayerNormalization(x + skip);   and so on
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            problem = expand(editor, node)
            if problem:
                c.findings.append(Finding(node.sources[0], problem, HELP))
        if editor.changed:
            c.graph = editor.finish()
            FoldConstants().run(c)
        return editor.changed


def expand(editor: Editor, node: Node) -> str:
    """Replace `node` by what it is made of; why not, if it is fused and cannot be."""
    form = FORMS.get((node.op.domain, node.op.kind)) if isinstance(node.op, Onnx) else None
    if form is None:
        return ""
    writer = Writer(editor, node)
    try:
        results = form(writer)
    except FormError as problem:
        return str(problem)
    if results is None:
        return ""
    missing = _missing(editor, node, results)
    if missing:
        return f"its output {missing!r} is used, which is made for training (a mean, a deviation) or for debugging"
    writer.finish(results)
    return ""


def _missing(editor: Editor, node: Node, results: list[str]) -> str:
    """The first output of `node` that is used and that `results` does not have; "" if there is none."""
    made = [*results, *[""] * len(node.outputs)]
    used = [
        v.name if v.name and (editor.users(v.name) or v.name in editor.outputs) else "" for v in node.outputs
    ]
    return next((name for name, result in zip(used, made, strict=False) if name and not result), "")
