"""The commands: name, module, and the line that `cim --help` shows.

The table is all that the top-level parser needs, so `cim --help` imports no command.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from .console import Console


class Module(Protocol):
    """What the module of a command provides."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, options: argparse.Namespace, console: Console) -> int:
        """Do it; the exit code. Raises `CimError` when the input is wrong."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, its module in this package, what it does in a few words."""

    name: str
    module: str
    summary: str

    def load(self) -> Module:
        """Import the module."""
        return cast(Module, import_module(f"{__package__}.{self.module}"))


COMMANDS = (
    Command("compile", "compile", "compile an ONNX model to a program"),
    Command("run", "run", "simulate a step of a program: values, cycles, energy"),
    Command("generate", "generate", "continue a prompt, token by token, on the simulated chip"),
    Command("check", "check", "compare a compiled model's values with ONNX Runtime's"),
    Command("report", "report", "show statistics that `run` or `generate` saved; compare two of them"),
    Command("bench", "bench", "run a benchmark of the toolchain; without a name, list them"),
    Command(
        "validate", "validate", "published results beside predictions: errors, assumptions, what is missing"
    ),
    Command("asm", "asm", "assemble a text to a program"),
    Command("dis", "dis", "print a program's listing"),
    Command("verify", "verify", "prove that a program cannot trap or deadlock"),
    Command("ops", "ops", "which operators compile; with a model: what becomes of each node"),
    Command("targets", "targets", "the hardware descriptions, with the source of each number"),
    Command("passes", "passes", "the compiler's passes, in order"),
    Command("isa", "isa", "the instructions, or one of them in full"),
    Command("explain", "explain", "what a diagnostic code means"),
)
