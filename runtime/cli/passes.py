"""List the compiler's passes in the order in which they run, and the optimisations that can be left out."""

from __future__ import annotations

import argparse
import dataclasses

from .console import Console, columns


def configure(parser: argparse.ArgumentParser) -> None:
    """`cim passes`"""


def run(options: argparse.Namespace, console: Console) -> int:
    """Print name, options and purpose of each pass."""
    from compiler.driver import pipeline
    from compiler.optimisations import Optimisation

    steps = pipeline()
    purposes = [(type(step).__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ") for step in steps]
    settings = [{f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.repr} for step in steps]
    shown = [", ".join(f"{name}={value}" for name, value in s.items()) for s in settings]
    rows = [
        (f"{number}", step.name, purpose, setting)
        for number, (step, purpose, setting) in enumerate(zip(steps, purposes, shown, strict=True), 1)
    ]
    console.result(columns(("", "pass", "what it does", "options"), rows, right=(0,)))
    optional = [(o.value, o.summary) for o in Optimisation]
    console.result("\n" + columns(("optimisation", "what it does (--without leaves it out)"), optional))
    console.data(
        {
            "passes": [
                {"name": step.name, "purpose": purpose, "options": setting}
                for step, purpose, setting in zip(steps, purposes, settings, strict=True)
            ],
            "optimisations": [{"name": name, "purpose": purpose} for name, purpose in optional],
        }
    )
    return 0
