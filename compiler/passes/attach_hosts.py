"""Put the host's partitions into the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.explain import Heading, Note
from compiler.ir.graph import Graph, Partition
from compiler.ir.hosted import parts_within
from compiler.mapping.cutting import domains_of, widths_of
from compiler.mapping.sections import Domain
from compiler.pipeline import Compilation, Pass
from compiler.placement import ids_name
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
        c.program = attached(c.require_program(), graph, c.require_graph())
        c.notes += [
            Note(Heading.PLACES, _note(part)) for part in graph.hosts if part.moment is not Moment.WITHIN
        ]
        c.notes += [Note(Heading.PLACES, text) for text in _notes_within(parts_within(graph))]
        return True


def attached(program: Program, graph: Graph, whole: Graph) -> Program:
    """`program` with the partitions of `graph`, the chip's part of the graph `whole`."""
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
    streams = (*program.streams, *_streams(whole, graph, program))
    results = graph.results or (whole.outputs if parts_within(graph) else ())
    return replace(program, hosts=parts, results=results, tensors=tensors, data=data, streams=streams)


def _streams(graph: Graph, chip: Graph, program: Program) -> Iterator[Stream]:
    """What parts within the step take from the caller, and make for him: streams that do not reach the chip."""
    known = {stream.name for stream in program.streams}
    parts = parts_within(chip)
    domain, widths = (domains_of(graph), widths_of(graph)) if parts else ({}, {})
    read = {name for part in parts for name in part.inputs if name != part.positions}
    ids = ids_name(graph)
    for given in graph.inputs:
        name = ids[1] if ids is not None and given.name == ids[0] else given.name
        if name in read - known:
            is_rows = given.value.dtype.is_float
            columns = widths[given.name] if is_rows else 1
            dtype = DType.F32 if is_rows else DType.I32
            is_source = domain[given.name] is Domain.SOURCE
            yield Stream(name, Direction.IN, dtype, columns, (), is_source)
    made = {name for part in parts for name in part.outputs}
    for value in graph.values():
        if value.name in graph.outputs and value.name in made - known:
            is_source = domain[value.name] is Domain.SOURCE
            yield Stream(value.name, Direction.OUT, DType.F32, widths[value.name], (), is_source)


def _tensor(part: Partition) -> str:
    return f"host.{part.name}"


def _note(part: Partition) -> str:
    where = f"{part.moment.value} the chip"
    return f"Host: {part.name} runs {where}: {len(part.sources)} nodes ({', '.join(part.sources[:4])}...)"


def _notes_within(parts: Sequence[Partition]) -> Iterator[str]:
    """One line for all parts within the step: there are some for each layer."""
    if parts:
        nodes = sum(len(part.sources) for part in parts)
        yield (
            f"Host: {len(parts)} parts run within each step, one after another, on all its rows at once: {nodes:,} "
            f"nodes, from {parts[0].sources[0] if parts[0].sources else parts[0].name} on"
        )


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
