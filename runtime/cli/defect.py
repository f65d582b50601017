"""What happens when we are wrong: a short message, a file with everything, a command that reproduces it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .console import Console


def report_defect(error: Exception, words: Sequence[str], console: Console) -> Path | None:
    """Save the traceback, tell the user where; the file, or None where none could be written."""
    command = shlex.join(["cim", *words])
    saved = _save(_details(error, command))
    console.say(f"cim: internal error: {type(error).__name__}: {str(error) or '(no message)'}")
    console.say("This is a defect in cim, not in your input.")
    console.say(f"  to reproduce: {command}")
    console.say(f"  traceback:    {saved or 'could not be saved'}")
    console.say("Please report it with these two and, if you can, the input.")
    console.data({"internal_error": {"command": command, "traceback": str(saved) if saved else None}})
    return saved


def _details(error: Exception, command: str) -> str:
    head = [
        f"command: {command}",
        f"folder: {Path.cwd()}",
        f"cim-toolchain {_version('cim-toolchain')}, Python {sys.version.split()[0]}, {platform.platform()}",
        *(f"{name} {_version(name)}" for name in ("numpy", "onnx", "onnxruntime", "lark", "pydantic")),
        "",
    ]
    return "\n".join(head) + "\n" + "".join(traceback.format_exception(error))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _save(text: str) -> Path | None:
    try:
        handle, name = tempfile.mkstemp(prefix="cim-defect-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            file.write(text)
    except OSError:
        return None
    return Path(name)
