"""Who may import what, read from the sources (imports inside functions count too)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.house.source import PACKAGES, Import, files, imports

# Our packages: the longest prefix that matches a module says which of our packages it may import.
OURS = {
    "isa": {"isa"},
    "compiler": {"compiler", "isa"},
    "runtime": {"runtime", "isa"},
    # The top of `runtime` sees both sides; nothing below it may import it (see TOPS).
    "runtime.session": {"runtime", "isa", "compiler"},
    "runtime.onnx_backend": {"runtime", "isa", "compiler"},
    "runtime.check": {"runtime", "isa", "compiler", "models"},
    "runtime.cli": {"runtime", "isa", "compiler", "models", "benchmarks"},
    "models": {"models"},
    "benchmarks": {"benchmarks", "runtime", "isa", "compiler", "models"},  # they measure everything
}

# A module of `runtime` that imports the compiler may be imported by these only.
TOPS = {
    "runtime.session": ("runtime.session", "runtime.batching", "runtime.check", "runtime.cli", "benchmarks"),
    "runtime.onnx_backend": ("runtime.onnx_backend", "runtime.cli", "benchmarks"),
    "runtime.check": ("runtime.check", "runtime.cli", "benchmarks"),
    "runtime.cli": ("runtime.cli",),
}

# Libraries: where each may be used, and so what runs without it.
LIBRARIES = {
    "numpy": ("isa", "compiler", "runtime", "models", "benchmarks"),
    "ml_dtypes": ("compiler", "models"),
    "onnx": (  # the rest of the compiler sees our Graph; the host runs ONNX models and counts their work
        *("compiler.frontend", "models", "runtime.host", "isa.hostcount", "runtime.onnx_backend"),
        "benchmarks",
    ),
    # oracle and host, never the chip
    "onnxruntime": ("runtime.check.oracle", "runtime.host", "models", "benchmarks"),
    "networkx": ("compiler",),
    "numba": ("runtime.fast.jit", "runtime.values.jit", "runtime.values.vnni"),
    "llvmlite": ("runtime.fast.jit", "runtime.values.vnni"),
    "lark": ("isa", "compiler.ir"),  # texts: assembly, Graph, Mapping
    "google": ("compiler.frontend",),  # protobuf's errors
    "pydantic": (  # at the border only
        "isa.hardware",
        "isa.macro",
        "isa.quantities",
        "isa.target_errors",
        "runtime.sinks.computed",
        "runtime.sinks.fields",
        "runtime.sinks.schema",
        "runtime.sinks.statistics",
        "runtime.cli.targets",
    ),
    "safetensors": ("isa.binary", "models"),
    "rich": ("runtime.report", "runtime.cli"),
    "pygments": ("isa.lexer",),
    "torch": ("models.train",),
}


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _allowed(module: str) -> set[str]:
    prefixes = [prefix for prefix in OURS if _within(module, prefix)]
    return OURS[max(prefixes, key=len)]


def wrong_package(found: Import) -> bool:
    """Whether an import crosses a border between our packages that it must not."""
    top = found.name.partition(".")[0]
    if top in PACKAGES and top not in _allowed(found.module):
        return True
    return any(
        _within(found.name, name) and not any(_within(found.module, user) for user in users)
        for name, users in TOPS.items()
    )


def wrong_library(found: Import) -> bool:
    """Whether a library is used outside the rooms it has, or is not on the list at all."""
    top = found.name.partition(".")[0]
    if top in PACKAGES or top in sys.stdlib_module_names:
        return False
    return not any(_within(found.module, room) for room in LIBRARIES.get(top, ()))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_keep_to_their_side(package: str) -> None:
    assert [str(i) for path in files(package) for i in imports(path) if wrong_package(i)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_libraries_stay_in_their_rooms(package: str) -> None:
    assert [str(i) for path in files(package) for i in imports(path) if wrong_library(i)] == []


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("compiler.driver", "runtime.machine", True),
        ("runtime.machine", "compiler.driver", True),
        ("runtime.machine", "runtime.session", True),
        ("runtime.cli.run", "runtime.session", False),
        ("runtime.cli.compile", "compiler.driver", False),
        ("isa.verifier", "compiler.ir", True),
        ("compiler.passes.place", "isa.hardware", False),
    ],
)
def test_the_rule_itself(module: str, name: str, wrong: bool) -> None:
    assert wrong_package(Import(module, name, 1)) is wrong


def test_imports_are_read_as_absolute_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.house.source.ROOT", tmp_path)
    source = tmp_path / "runtime" / "cli" / "x.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "import numpy as np\nfrom .console import Console\ndef f():\n    from ..session import Session\n"
    )
    names = {found.name for found in imports(source)}
    assert names == {"numpy", "runtime.cli.console.Console", "runtime.session.Session"}
