"""Factors of scores that differ from head to head (learned temperatures), moved to the queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.graph import Mul, Node, Onnx, Value
from compiler.ir.tensor import Array, tensor
from compiler.recognition.regions import Survey, is_onnx

PRODUCT = Onnx("", "Mul", 18)


def move_to_queries(survey: Survey, product: Node) -> None:
    """t[h] * (q[h] k^T) == (t[h] * q[h]) k^T, for the factor behind a product of heads, if there is one."""
    editor, shape = survey.editor, product.output.shape
    if shape is None or len(shape) != 4 or len(survey.data_inputs(product)) != 2:
        return
    found = _behind(survey, product, shape[1])
    queries = editor.value(product.inputs[0])
    if found is None or queries is None:
        return
    node, factor = found
    name = editor.add_constant(f"{node.output.name}.by_head", tensor(factor.reshape(1, -1, 1, 1)))
    warm = Value(editor.fresh(f"{queries.name}.by_head"), queries.dtype, queries.shape)
    editor.insert(PRODUCT, (queries.name, name), warm, node.sources)
    survey.note(warm.name)
    editor.redirect(node.output.name, next(i for i in node.inputs if survey.is_data(i)))
    product = editor.producer(product.output.name) or product
    editor.replace(product, replace(product, inputs=(warm.name, product.inputs[1])))


def _behind(survey: Survey, product: Node, heads: object) -> tuple[Node, Array] | None:
    """The node that multiplies a product by numbers by head, perhaps behind other factors, and the numbers."""
    name = product.output.name
    while len(users := survey.editor.users(name)) == 1:
        (node,) = users
        constant = next((c for i in node.inputs if (c := survey.editor.constant(i)) is not None), None)
        if is_onnx(node, "Mul", "Div") and constant is not None and constant.has_data:
            if is_onnx(node, "Div") and node.inputs[0] != name:
                return None
            if constant.count == heads != 1 and constant.shape[-3:] == (heads, 1, 1):
                data = constant.data().astype(np.float64).reshape(-1)
                return node, (1 / data if is_onnx(node, "Div") else data).astype(np.float32)
            if constant.count != 1:
                return None
        elif not is_onnx(node, "Cast", "Identity"):
            return None
        name = node.output.name
    return None


def factor_of(survey: Survey, name: str) -> tuple[str, Array | None]:
    """Queries without the numbers by head that they are multiplied by, and the numbers."""
    node = survey.editor.producer(name)
    if node is None or node.op != PRODUCT:
        return name, None
    constant = survey.editor.constant(node.inputs[1])
    if constant is None or len(constant.shape) != 4 or constant.shape[1] != constant.count:
        return name, None
    return node.inputs[0], constant.data().reshape(-1)


def multiplied(survey: Survey, rows: str, factor: Array, depth: int, queries: str) -> str:
    """Rows of heads of this depth, each head multiplied by its number, as `queries` are."""
    editor, value = survey.editor, survey.editor.value(rows)
    assert value is not None
    row = editor.add_constant(f"{rows}.factor", tensor(np.repeat(factor, depth).astype(np.float32)))
    made = Value(editor.fresh(f"{rows}.by_head"), value.dtype, value.shape)
    editor.insert(
        Mul(), (rows, row), made, node.sources if (node := editor.producer(queries)) is not None else ()
    )
    survey.note(made.name)
    return made.name
