"""One copy of a program's tiles, run by the compiled engine; `runtime/copies.py` has the reference's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from numpy.typing import NDArray

from isa.operands import Space
from isa.program import Program, Segment
from runtime.copies import ArrayOptions, Copy
from runtime.engine.memory import MemoryState
from runtime.engine.reference import Decoded
from runtime.engine.state import ArrayState, TileState
from runtime.fast.shares import share_words
from runtime.hostend import HostEnd, HostStep, Words
from runtime.numerics import F32

from . import layout as at
from .handover import hand_over, set_contents, take_contents
from .kernel import run
from .network import Arenas, HostEnds
from .template import Template, cells_of, make_template, region_words, scales_of

_MESSAGES = 1 << 16  # words that there is room for at first


class FastTile:
    """What a tile holds from step to step, as those see it who look at KV caches."""

    def __init__(self, template: Template, number: int) -> None:
        source = template.program.tiles[number]
        self._chip = template.program.target.chip_of(source.x, source.y)
        self._regions = template.regions
        self.arrays = [
            ArrayState(
                place.spec, cast("F32", cells_of(template.memory, place)), *scales_of(template.memory, place)
            )
            for place in template.arrays[number]
        ]

    def memory(self, space: Space) -> MemoryState:
        """The tile's chip's memory of this space."""
        return MemoryState(space, self._regions[self._chip, space])


class FastCopy:
    """The tiles, channels and memories of one copy. Raises `CimError` E0410 if the program does not fit together.

    What the engine does not know, and what goes wrong, is the reference's from there on: `reference` is its copy then.
    `before` is a copy that has made steps already, on the reference engine.
    """

    def __init__(
        self, program: Program, host: HostEnd, arrays: ArrayOptions, before: Copy | None = None
    ) -> None:
        self.program = program
        self.reference: Copy | None = None
        self._host, self._options = host, arrays
        self._template = make_template(program, arrays)
        self._arenas = Arenas(self._template, _MESSAGES, arrays.meter)
        self._ends = HostEnds(self._arenas)
        for number, tile in enumerate(before.tiles if before is not None else ()):
            take_contents(self._template, number, tile)

    @property
    def tiles(self) -> Sequence[FastTile | TileState]:
        """The tiles, with their arrays and memories."""
        if self.reference is not None:
            return self.reference.tiles
        return [FastTile(self._template, number) for number in range(len(self.program.tiles))]

    def picture(self) -> list[TileState]:
        """The tiles as the reference would have them after the same steps (copies)."""
        if self.reference is not None:
            return self.reference.tiles
        tiles = Copy(self.program, self._host, None, lambda ready: 0, self._options).tiles
        for number, tile in enumerate(tiles):
            set_contents(self._template, number, tile)
        return tiles

    def step(
        self, code: Mapping[str, Sequence[Decoded]], segments: Sequence[Segment], words: Mapping[str, Words]
    ) -> dict[str, NDArray[Any]]:
        """The rows of all output streams for its segments. `code` is that of all roles, `words` the inputs' rows.

        Raises `CimError` E0604 (a trap, or tiles that wait for each other).
        """
        if self.reference is not None:
            return self.reference.step(code, segments, words)
        self._begin(segments)
        host = HostStep(self._host, self._ends, segments, words)
        if self._run(host):
            return host.outputs()
        self.reference = Copy(self.program, self._host, None, lambda ready: 0, self._options)
        tiles, network = self.reference.tiles, self.reference.network
        ready = hand_over(self._template, self._arenas.state, tiles, network, segments)
        host.move_to(network)
        return self.reference.go_on(code, host, ready)

    def _begin(self, segments: Sequence[Segment]) -> None:
        """Begin a step: registers are zero, no message is on its way; buffers and arrays stay."""
        words, share = share_words(segments, self._template.state.size)
        self._arenas.begin(words)
        state, tiles = self._arenas.state.m, self._template.tiles
        state[at.H_SEGMENTS] = len(segments)
        state[tiles + at.T_SHARE] = share
        state[tiles + at.T_SEGMENT] = state[share + 2]
        for place, region in self._template.region_rows.items():
            state[place : place + at.R_SIZE] = region_words(region)

    def _run(self, host: HostStep) -> bool:
        """Run to the end of the step; False if the reference has to go on."""
        while True:
            status = run(self._arenas.state)
            if status == at.DONE:
                return True
            if status == at.GROW:
                self._arenas.grow()
            elif status == at.MORE:
                self._arenas.grow_receives()
            elif status == at.OWN:
                place = int(self._arenas.state.m[at.H_REGION])
                region = self._template.region_rows[place]
                region.own()
                self._arenas.state.m[place : place + at.R_SIZE] = region_words(region)
            elif status == at.TROUBLE or not host.advance():
                return False
