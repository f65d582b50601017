"""Put the host's partitions into the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.ir.graph import Graph, Partition
from compiler.pipeline import Compilation, Pass
from isa.instruction import DType
from isa.program import HostPart, Program, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class AttachHosts(Pass):
    """Let the program carry the ONNX models that the host runs: as tensors of bytes, and without weights for costs."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.program`."""
        graph = c.require_graph()
        if not graph.hosts:
            return False
        c.program = attached(c.require_program(), graph)
        c.notes += [_note(part) for part in graph.hosts]
        return True


def attached(program: Program, graph: Graph) -> Program:
    """`program` with the partitions of `graph`."""
    from compiler.frontend.submodel import definition

    parts = tuple(
        HostPart(p.name, p.moment, p.inputs, p.outputs, _tensor(p), definition(p.model), p.sources)
        for p in graph.hosts
    )
    infos = tuple(TensorInfo(_tensor(p), DType.I8, p.model.shape) for p in graph.hosts)
    data = None if program.data is None else _Joined(program.data, {_tensor(p): p for p in graph.hosts})
    tensors = (*program.tensors, *infos)
    return replace(program, hosts=parts, results=graph.results, tensors=tensors, data=data)


def _tensor(part: Partition) -> str:
    return f"host.{part.name}"


def _note(part: Partition) -> str:
    where = f"{part.moment.value} the chip"
    return f"host: {part.name} runs {where}: {len(part.sources)} nodes ({', '.join(part.sources[:4])}...)"


class _Joined(Mapping[str, "NDArray[Any]"]):
    """The contents of the program's tensors, and the bytes of the partitions."""

    def __init__(self, data: Mapping[str, NDArray[Any]], parts: Mapping[str, Partition]) -> None:
        self._data, self._parts = data, parts

    def __getitem__(self, name: str) -> NDArray[Any]:
        part = self._parts.get(name)
        return self._data[name] if part is None else part.model.data().view(np.int8)

    def __iter__(self) -> Iterator[str]:
        yield from self._data
        yield from self._parts

    def __len__(self) -> int:
        return len(self._data) + len(self._parts)
