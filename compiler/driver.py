"""The compiler from end to end: the pipeline, read aloud, and the function that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compiler.collection import rare_collection
from compiler.passes.attach_factors import AttachFactors
from compiler.passes.attach_hosts import AttachHosts
from compiler.passes.attach_interface import AttachInterface
from compiler.passes.attach_workload import AttachWorkload
from compiler.passes.centre_rows import CentreRows
from compiler.passes.drop_roundings import DropRoundings
from compiler.passes.emit_program import EmitProgram
from compiler.passes.explain_program import ExplainProgram
from compiler.passes.partition_placement import PartitionPlacement
from compiler.passes.place_blocks import PlaceBlocks
from compiler.passes.smooth_channels import SmoothChannels
from compiler.passes.take_lengths import TakeLengths
from compiler.passes.verify_program import VerifyProgram
from compiler.pipeline import Callback, Compilation, CompileOptions, Pass, run_pipeline
from compiler.verify_each import VerifyEach

if TYPE_CHECKING:
    from isa.hardware import Hardware

BACKEND_PIPELINE: tuple[Pass, ...] = (
    DropRoundings(),
    TakeLengths(),
    CentreRows(),
    SmoothChannels(),
    PartitionPlacement(),
    PlaceBlocks(),
    EmitProgram(),
    AttachHosts(),
    AttachInterface(),
    AttachFactors(),
    AttachWorkload(),
    VerifyProgram(),
    ExplainProgram(),
)


def pipeline() -> tuple[Pass, ...]:
    """All passes in order: graph passes, then from mapping to verified program."""
    from compiler.passes import GRAPH_PIPELINE

    return (*GRAPH_PIPELINE, *BACKEND_PIPELINE)


def compile_model(
    path: str | Path, options: CompileOptions, target: Hardware, callback: Callback | None = None
) -> Compilation:
    """Compile an ONNX file for a target. Raises `CimError` if the model or the options are wrong.

    Every graph and mapping is verified after the pass that made it. `callback` is called before and after each pass and
    may stop the pipeline; the compilation then holds the levels
    reached so far.
    """
    compilation = Compilation(Path(path), options, target)
    with rare_collection():
        return run_pipeline(pipeline(), compilation, VerifyEach(callback))
