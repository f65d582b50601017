"""Put the host's partitions into the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.ir.graph import Graph, Partition, Role
from compiler.ir.hosted import parts_within
from compiler.mapping.cutting import domains_of
from compiler.mapping.sections import Domain
from compiler.pipeline import Compilation, Pass
from isa.instruction import DType
from isa.program import Direction, HostPart, Moment, Program, Stream, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class AttachHosts(Pass):
    """Let the program carry the ONNX models that the host runs: as tensors of bytes, and without weights for costs."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.program`."""
        graph = c.require_chip()
        if not graph.hosts:
            return False
        program = attached(c.require_program(), graph)
        c.program = replace(program, streams=(*program.streams, *_streams(c.require_graph(), graph, program)))
        c.notes += [_note(part) for part in graph.hosts]
        return True


def attached(program: Program, graph: Graph) -> Program:
    """`program` with the partitions of `graph`."""
    from compiler.frontend.submodel import definition

    parts = tuple(
        HostPart(
            p.name,
            p.moment,
            p.inputs,
            p.outputs,
            _tensor(p),
            p.definition or definition(p.model),
            p.sources,
            p.positions,
        )
        for p in graph.hosts
    )
    infos = tuple(TensorInfo(_tensor(p), DType.I8, p.model.shape) for p in graph.hosts)
    data = None if program.data is None else _Joined(program.data, {_tensor(p): p for p in graph.hosts})
    tensors = (*program.tensors, *infos)
    return replace(program, hosts=parts, results=graph.results, tensors=tensors, data=data)


def _streams(graph: Graph, chip: Graph, program: Program) -> Iterator[Stream]:
    """What parts within the step take from the caller, and make for him: streams that do not reach the chip."""
    known = {stream.name for stream in program.streams}
    parts = parts_within(chip)
    domain = domains_of(graph) if parts else {}
    read = {name for part in parts for name in part.inputs if name != part.positions}
    for given in graph.inputs:
        if given.name in read - known:
            shape = given.value.shape or ()
            is_rows = given.role in (Role.OTHER, Role.SOURCE)
            columns = shape[-1] if is_rows and shape and isinstance(shape[-1], int) else 1
            dtype = DType.F32 if is_rows else DType.I32
            is_source = domain[given.name] is Domain.SOURCE
            yield Stream(given.name, Direction.IN, dtype, columns, (), is_source)
    made = {name for part in parts for name in part.outputs}
    for value in graph.values():
        if value.name in graph.outputs and value.name in made - known:
            width = value.shape[-1] if value.shape else 0
            assert isinstance(width, int)
            is_source = domain[value.name] is Domain.SOURCE
            yield Stream(value.name, Direction.OUT, DType.F32, width, (), is_source)


def _tensor(part: Partition) -> str:
    return f"host.{part.name}"


def _note(part: Partition) -> str:
    where = "within the step" if part.moment is Moment.WITHIN else f"{part.moment.value} the chip"
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
