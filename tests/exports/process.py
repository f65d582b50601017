"""The process that exports: it imports the exporters once and forks for each export.

Exporters leave state behind, patch each other's modules and sometimes end the process; and their warnings are not ours.
`python -m tests.exports.process` reads a line of JSON for each export from its input and answers with one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tests.exports.registry import Export

LIMIT_S = 600
"""How long one export may take."""

NEEDED = ("torch", "transformers", "optimum", "onnxscript", "onnxruntime_genai")


def missing() -> list[str]:
    """The packages of the extra `exports` that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]


class ExportError(Exception):
    """An exporter failed: how."""


class Exporting:
    """A running exporting process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def make(self, export: Export, folder: Path) -> list[Path]:
        """Export into `folder`: the files, each with its reference beside it. Raises `ExportError`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"export": export.name, "folder": str(folder)}), file=self._process.stdin, flush=True
        )
        answer = self._process.stdout.readline()
        if not answer:
            raise ExportError("the exporting process has ended")
        said = json.loads(answer)
        if "error" in said:
            raise ExportError(said["error"])
        return [folder / name for name in said["files"]]


@contextmanager
def exporting() -> Iterator[Exporting]:
    """Start the exporting process; it ends with the context."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.exports.process"],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Exporting(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve(asked: IO[str], answers: IO[str]) -> None:
    from tests.exports.exporters import load_all

    load_all()
    for line in asked:
        job = json.loads(line)
        folder = Path(job["folder"])
        pid = os.fork()
        if not pid:
            _work(job["export"], folder)
        _, status = os.waitpid(pid, 0)
        result = folder / "result.json"
        ended = {"error": f"the exporter ended the process (status {status})"}
        said = json.loads(result.read_text()) if result.is_file() else ended
        print(json.dumps(said), file=answers, flush=True)


def _work(name: str, folder: Path) -> None:
    """What the forked process does; it never returns."""
    signal.alarm(LIMIT_S)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        said: dict[str, object] = {"files": [path.name for path in made(name, folder)]}
    except BaseException as problem:  # noqa: BLE001  (whatever an exporter raises is its verdict)
        traceback.print_exc()
        said = {"error": f"{type(problem).__name__}: {problem}"[:2000]}
    (folder / "result.json").write_text(json.dumps(said))
    sys.stdout.flush()
    os._exit(0)


def made(name: str, folder: Path) -> list[Path]:
    """The files of an export and of its rewrites, each with its reference (where ONNX Runtime can run it)."""
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotThere

    from tests.exports.exporters import EXPORTERS
    from tests.exports.feeds import write_reference
    from tests.exports.registry import EXPORTS
    from tests.exports.rewrites import REWRITES

    export = EXPORTS[name]
    files = EXPORTERS[export.exporter](export.family, folder, export.opsets)
    for rewrite in export.rewrites:
        for file in [f for f in files if "+" not in f.stem and "merged" not in f.stem]:
            files.append(file.with_stem(f"{file.stem}+{rewrite}"))
            REWRITES[rewrite](export.family, file, files[-1])
    for file in files:
        try:
            write_reference(file)
        except (NotThere, InvalidGraph):
            traceback.print_exc()
    return files


if __name__ == "__main__":
    _own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.stdin, _own)
