"""The graph of a model in float16, as exporters write it: weights, values, inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from models.graph import Architecture


def halved(architecture: Architecture) -> Architecture:
    """The same graph with float16 wherever it has float32. Numbers beyond its range become its largest."""
    return Architecture(
        tuple(_node(node) for node in architecture.nodes),
        tuple(_infos(architecture.inputs)),
        tuple(_infos(architecture.outputs)),
        tuple(replace(parameter, half=True) for parameter in architecture.parameters),
    )


def _node(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    for attribute in made.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            limits = np.finfo(np.float16)
            value = np.clip(numpy_helper.to_array(attribute.t), limits.min, limits.max).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(value, attribute.t.name))
    return made


def _infos(infos: Iterable[onnx.ValueInfoProto]) -> Iterable[onnx.ValueInfoProto]:
    for info in infos:
        made = onnx.ValueInfoProto()
        made.CopyFrom(info)
        if made.type.tensor_type.elem_type == TensorProto.FLOAT:
            made.type.tensor_type.elem_type = TensorProto.FLOAT16
        yield made
