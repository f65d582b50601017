"""Names of ONNX nodes, made short: which layer a group of nodes belongs to, and which part of it.

Exporters name nodes by path (`/model/layers.3/self_attn/q_proj/MatMul`). What stands behind an instruction is one
node or several, separated by spaces; the path that they have in common says where they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBERED = re.compile(r"^(?:[A-Za-z]\w*?[._])?(\d+)$")  # `layers.3`, `h.0`, `layer_11`, `3`


@dataclass(frozen=True, slots=True)
class NodeName:
    """`layer` is the number of the repeated block (None outside); `part` is the path within it, or the whole path."""

    layer: int | None
    part: str


def _path(name: str) -> list[str]:
    """The components of a name without the last one, which is the operator's."""
    return [component for component in name.split("/") if component][:-1]


def _common_path(names: list[str]) -> list[str]:
    """The leading components that all names share; those of the first name if they share none."""
    common: list[str] = []
    for components in zip(*map(_path, names), strict=False):
        if len(set(components)) > 1:
            break
        common.append(components[0])
    return common or _path(names[0])


def short_name(nodes: str) -> NodeName:
    """Where the nodes of a space-separated list are; names in brackets, which are no nodes, stay as they are."""
    if not nodes or nodes.startswith("("):
        return NodeName(None, nodes or "(unknown)")
    names = nodes.split()
    path = _common_path(names)
    for at, component in enumerate(path):
        match = _NUMBERED.match(component)
        if match:
            return NodeName(int(match[1]), "/".join(path[at + 1 :]) or "(whole layer)")
    return NodeName(None, "/".join(path) or names[0].strip("/"))
