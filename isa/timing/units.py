"""The units of a tile at work, and the memories of its chip."""

from __future__ import annotations

from isa.events import Resource

from .agenda import Agenda
from .ledger import Ledger
from .memory import Memories
from .operation import Operation


class Units:
    """Starts operations of the arrays, the vector unit and the DMA engine."""

    def __init__(self, memories: Memories, agenda: Agenda, ledger: Ledger) -> None:
        self._agenda, self._ledger = agenda, ledger
        self.memories = memories

    def cim(self, operation: Operation) -> None:
        """The port is free before the macro rows are, and those before the results are there."""
        tile, cost, start, record = operation.tile, operation.cost, operation.start, operation.started
        if operation.port is not None:
            self._agenda.resolve(operation.port, start + cost.port, record)
        if operation.cells is not None:
            assert cost.cells is not None
            self._agenda.resolve(operation.cells, start + cost.busy, record)
            self._ledger.busy[Resource.MACROS] += cost.cells.macros * cost.busy
        end = start + cost.done
        self._ledger.busy[Resource.CIM] += max(0, end - max(start, tile.cim_until))
        tile.cim_until = max(tile.cim_until, end)
        self._agenda.finish(operation, end, record)

    def vector(self, operation: Operation) -> None:
        """The vector unit is a pipeline: what comes next can enter it before the results are there."""
        cost, start, record = operation.cost, operation.start, operation.started
        self._ledger.busy[Resource.VECTOR] += cost.busy
        if operation.port is not None:
            self._agenda.resolve(operation.port, start + cost.port, record)
        self._agenda.finish(operation, start + cost.done, record)

    def copy(self, operation: Operation) -> None:
        """The DMA engine copies within the buffer."""
        self._ledger.busy[Resource.DMA] += operation.cost.done
        self._agenda.finish(operation, operation.start + operation.cost.done, operation.started)

    def memory(self, operation: Operation) -> None:
        """The DMA engine asks for a transfer, which takes its turn; it is free for the next one when what it asked for
        is on its way."""
        self._agenda.push(
            operation.start, operation.tile.index, operation.sequence, lambda: self._transfer(operation)
        )

    def _transfer(self, operation: Operation) -> None:
        cost, start, latency = operation.cost, operation.start, self.memories.latency(operation)
        end, decides = self.memories.transfer(operation, self._ledger.records)
        assert operation.port is not None
        asked = max(end - latency, start + cost.busy)
        end = max(end, start + cost.busy)
        self._agenda.resolve(operation.port, asked, decides)
        self._ledger.busy[Resource.DMA] += end - start
        self._agenda.finish(operation, end, decides)
