"""Leave to the chip what `--place` asks for; the host does the rest within each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compiler.explain import Heading, Note
from compiler.pipeline import Compilation, CompileOptions, Pass
from isa.diagnostics import CimError, Diagnostic, NamedPlace, fail

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.placement import Placement

AUTO = "auto"
TOO_LARGE = ("E0302", "E0303", "E0304", "E0309")
"""What says that a model does not fit the target."""


@dataclass(frozen=True)
class PartitionPlacement(Pass):
    """Cut the canonical graph into the chip's part and parts of the host, if `--place` says where.

    With `--place auto`, `PlaceBlocks` finds out what fits.
    """

    def run(self, c: Compilation) -> bool:
        """Sets `c.chip`."""
        from compiler.placement import Placement, split

        if c.options.place in (AUTO, Placement.ALL.value):
            return False
        placement = Placement(c.options.place)
        if placement is Placement.HOST:
            _check_host(c)
        c.chip = split(c.require_graph(), placement)
        where = "all on the host" if placement is Placement.HOST else f"{placement.value} on the chip"
        c.notes.append(Note(Heading.CHOICES, f"Placement: {where}, because --place says so."))
        return True


def _check_host(c: Compilation) -> None:
    """What the host does by itself is costed and not computed. Raises `CimError` E0305."""
    place = NamedPlace(str(c.model))
    if not c.options.shapes_only:
        why = "--place host says what a decoder costs on the host alone, and computes no values"
        raise fail(
            "E0305", why, place, "`cim compile` with --shapes-only; ONNX Runtime computes the model as it is"
        )
    if c.options.batch > 1:
        raise fail("E0305", "--place host takes one sequence", place, "leave out --batch")
    chips = _options_of_chips(c.options)
    if chips:
        why = f"--place host leaves nothing to the chip, and {chips} is about what the chip holds"
        raise fail("E0305", why, place, "leave it out: the host works in the number formats of the file")


def _options_of_chips(options: CompileOptions) -> str:
    """The options given that say how numbers lie in arrays, and where."""
    asked = {
        f"--weights {options.weights}": options.weights,
        f"--group {options.group}": options.group,
        f"--kv-bits {options.kv_bits}": options.kv_bits,
        f"--kv {options.kv}": options.kv,
        f"--kv-tokens {options.kv_tokens}": options.kv_tokens,
    }
    usual = CompileOptions()
    defaults = (usual.weights, usual.group, usual.kv_bits, usual.kv, usual.kv_tokens)
    return ", ".join(said for (said, value), d in zip(asked.items(), defaults, strict=True) if value != d)


def first_that_fits(c: Compilation, place: Callable[[Graph], None]) -> Placement | None:
    """Let `place` place the graph as `--place` asks (None); with auto, the first of `CANDIDATES` that fits the target,
    which is returned.

    Sets `c.chip`. If none fits, the diagnostic is that of the whole model on the chip.
    """
    from compiler.placement import CANDIDATES, split

    if c.options.place != AUTO:
        place(c.require_chip())
        return None
    refused: list[tuple[Placement, CimError]] = []
    for placement in CANDIDATES:
        try:
            chip = split(c.require_graph(), placement)
            place(chip)
        except CimError as error:
            if not refused and error.diagnostics[0].code not in TOO_LARGE:
                raise
            refused.append((placement, error))
            continue
        c.chip = None if chip is c.graph else chip
        c.notes.append(_weighed(refused, placement))
        return placement
    raise _nothing_fits(refused)


def _weighed(refused: list[tuple[Placement, CimError]], taken: Placement) -> Note:
    """What was tried and what was taken, for `--explain`."""
    said = [
        f"{placement.value} does not fit ({error.diagnostics[0].message})" for placement, error in refused
    ]
    why = (
        "it fits the target, and no rows cross the host link between layers"
        if not refused
        else "; ".join(said)
    )
    return Note(Heading.CHOICES, f"Placement: {taken.value} on the chip: {why}.")


def _nothing_fits(refused: list[tuple[Placement, CimError]]) -> CimError:
    first, *others = refused
    whole = first[1].diagnostics[0]
    tried = tuple(f"--place {p.value} does not fit either: {e.diagnostics[0].message}" for p, e in others)
    told: Diagnostic = replace(whole, notes=(*whole.notes, *tried))
    return CimError([told, *first[1].diagnostics[1:]])
