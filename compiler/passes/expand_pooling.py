"""Write the pooling of rows, which is a mean of their features, as such."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compiler.ir.graph import Onnx
from compiler.ir.rewrite import Editor
from compiler.ir.tensor import tensor
from compiler.pipeline import Compilation, Pass
from compiler.recognition.regions import is_onnx


@dataclass(frozen=True)
class ExpandPooling(Pass):
    """Replace pooling over the features of rows by a mean: some exporters write every mean of a norm so.

    GlobalAveragePool(x[batch, tokens, features])           == ReduceMean(x, axis 2)
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`."""
        editor = Editor(c.require_graph())
        editor.changed = False
        for node in list(editor.nodes()):
            shape = editor.shape(node.inputs[0]) if is_onnx(node, "GlobalAveragePool") else None
            if shape is None or len(shape) != 3:
                continue
            axes = editor.shared_constant("pooled_axes", tensor(np.array([2], np.int64)))
            op = Onnx("", "ReduceMean", 18, (("keepdims", 1),))
            editor.replace(node, replace(node, op=op, inputs=(node.inputs[0], axes)))
        c.graph = editor.finish()
        return editor.changed
