"""Prove, before anything runs, that a program cannot trap, read what was never written, or deadlock."""

from __future__ import annotations

import argparse

from .console import Console
from .loading import load_program


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim verify OUT.cim`"""
    parser.add_argument("program", metavar="OUT.cim", help="a program (`-`: standard input)")


def run(options: argparse.Namespace, console: Console) -> int:
    """Verify; exit code 1 with the findings where the proof fails."""
    from isa.verifier import verify

    program = load_program(options.program, console)
    with console.activity(f"verifying {options.program}"):
        verify(program)
    limits, channels = program.step_limits, len(program.channels) * len(program.corners)
    console.result(
        f"verified: {len(program.roles)} roles, {program.tile_count:,} tiles, {channels:,} channels; "
        f"context up to {limits.max_context:,} tokens, {limits.sequences} sequences, "
        f"segments of up to {limits.chunk} tokens"
    )
    console.data({"verified": True, "roles": len(program.roles), "tiles": program.tile_count})
    return 0
