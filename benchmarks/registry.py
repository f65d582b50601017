"""The benchmarks that `cim bench` knows: name, what it measures, options, and where its function is.

A benchmark's function takes the parsed options and something that is told of progress, and returns a `Report`. Its
module is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from isa.diagnostics import NamedPlace, fail
from runtime.arguments import more_than_nothing, natural, positive

FOLDER = "CIM_SHARED"
"""The environment variable that names the folder in which a collection, `onnx`, lies."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found: text for people, the same as JSON values, and whether all is as it should be."""

    text: str
    data: object
    good: bool = True


Say = Callable[[str], None]
Run = Callable[[argparse.Namespace, Say], Report]


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help=f"files with reference values, listed in its MANIFEST.csv (default: onnx in ${FOLDER})",
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="files with this in their names")


def _arithmetic(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        choices=("float32", "int8", "both"),
        default="both",
        help="ideal arithmetic, the chip's own, or both (default: %(default)s)",
    )
    parser.add_argument("--target", default="dcim22", metavar="NAME|FILE.toml", help="default: %(default)s")


def _suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        default="",
        help="cases with this in their names; * stands for anything: '2048x*dcim22'",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        default=os.cpu_count() or 1,
        help="processes (default: %(default)s)",
    )


def _mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full", action="store_true", help="every case (hours) instead of a selection")
    parser.add_argument(
        "--no-predictions",
        action="store_true",
        help="measure only: neither what the compiler predicts, nor what would help where it is far from its bound",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="OLD.json",
        help="compare with what an earlier run printed with --json",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE.jsonl",
        help="keep results in this file as they come, and do not run what is in it already",
    )


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the result as a document")


def _over(*axes: str) -> Callable[[argparse.ArgumentParser], None]:
    """What curves are drawn over, the first of these unless said."""

    def declare(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--over", choices=axes, default=axes[0], help="the x axis (default: %(default)s)")

    return declare


def _layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers", type=positive, metavar="N", default=16, help="up to N (default: %(default)s)"
    )


def _speed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="gpt2", metavar="NAME", help="a decoder of `models.make` (default: gpt2)"
    )
    parser.add_argument("--layers", type=positive, metavar="N", help="so many instead of the model's")
    parser.add_argument(
        "--target", default="dcim22-system", metavar="NAME|FILE.toml", help="default: %(default)s"
    )
    parser.add_argument("--context", type=positive, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument("--prompt", type=positive, default=128, metavar="N", help="default: %(default)s")
    parser.add_argument("--repeat", type=positive, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--against", metavar="FILE.json", help="print what an earlier result says (of --json) beside it"
    )


def _headline_systems(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", default="dcim3-system", metavar="NAME|FILE.toml", help="all on CIM (default: %(default)s)"
    )
    parser.add_argument(
        "--hybrid",
        default="dcim3-hybrid",
        metavar="NAME|FILE.toml",
        help="CIM beside its host (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep programs there, and take them from there"
    )
    parser.add_argument(
        "--jobs", type=positive, metavar="N", default=2, help="processes (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.svg", help="write the drawing")


def _capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--capacity",
        type=natural,
        default=0,
        metavar="N",
        help="tokens of each sequence that systems have room for (default: the context, all of it in use)",
    )


def _headline_cells(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="this model's cells (may be repeated)"
    )
    parser.add_argument(
        "--context", action="append", type=positive, metavar="N", help="default: 512, 2048, 8192, 32768"
    )
    parser.add_argument("--batch", action="append", type=positive, metavar="N", help="default: 1, 8, 32")
    _capacity(parser)
    parser.add_argument("--scope", action="append", choices=_SCOPES, help="default: all")
    parser.add_argument("--way", action="append", choices=_WAYS, help="default: all")
    parser.add_argument("--full", action="store_true", help="the whole matrix (hours)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE.jsonl",
        help="keep results in this file, and do not run what is in it already",
    )
    parser.add_argument("--only-kept", action="store_true", help="show what is in that file, and run nothing")
    parser.add_argument("--brief", action="store_true", help="a line for each cell: ratios and verdicts only")
    parser.add_argument(
        "--no-measure", dest="measure", action="store_false", help="do not measure the CPU of this machine"
    )
    parser.add_argument(
        "--tdp",
        type=more_than_nothing,
        metavar="W",
        help="of this machine's CPU, where its energy cannot be read (default: for each of its threads, as many as for"
        " each of the ideal CPU's)",
    )


def _headline_cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="llama-2-7b", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--context", type=positive, default=2048, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="default: %(default)s")
    _capacity(parser)
    parser.add_argument("--scope", choices=_SCOPES, default="attention", help="default: %(default)s")
    parser.add_argument("--way", choices=_WAYS, default="all-cim", help="default: %(default)s")
    parser.add_argument(
        "--of", choices=("energy", "latency"), default="energy", help="what is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--most", type=positive, default=5, metavar="N", help="so many constants (default: %(default)s)"
    )


_SCOPES = ("attention", "attention+ffn", "end-to-end")
_WAYS = ("hybrid", "hybrid+ffn", "all-cim")


def _accuracy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--windows",
        type=positive,
        metavar="N",
        help="of 512 tokens of the held-out text (default: all of it)",
    )
    parser.add_argument("--target", default="dcim22", metavar="NAME|FILE.toml", help="default: %(default)s")


def _most(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--most", type=positive, metavar="N", help="up to so many layers, tokens, or heads")


def _analog(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        action="append",
        metavar="NAME|FILE.toml",
        help="with weights on analog macros (repeatable; default: isaac32 and hermes14-system)",
    )
    parser.add_argument(
        "--prompts", type=positive, metavar="N", default=4, help="windows of the text (default: %(default)s)"
    )


def _plain(parser: argparse.ArgumentParser) -> None:
    """No options."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark. `function` is `module:name`."""

    name: str
    summary: str
    function: str
    options: tuple[Callable[[argparse.ArgumentParser], None], ...] = (_plain,)

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare its options."""
        for declare in self.options:
            declare(parser)

    def load(self) -> Run:
        """Its function (imports its module)."""
        module, _, name = self.function.partition(":")
        run: Run = getattr(import_module(module), name)
        return run


BENCHMARKS = (
    Benchmark(
        "frontends",
        "files of other people's exporters: compiled, simulated, compared with their reference values",
        "benchmarks.chip:bench",
        (_folder, _arithmetic),
    ),
    Benchmark(
        "graphs",
        "the same files at the graph level: which are understood",
        "benchmarks.frontends:bench",
        (_folder,),
    ),
    Benchmark(
        "decoders",
        "decoders among these files, token by token: 16 generated tokens against ONNX Runtime on whole prefixes",
        "benchmarks.decoders:bench",
        (_folder,),
    ),
    Benchmark(
        "mapping",
        "standard shapes on several systems, each step beside its lower bound",
        "benchmarks.mapping.bench:bench",
        (_suite, _mapping),
    ),
    Benchmark(
        "ablation",
        "small cases with and without each optimisation",
        "benchmarks.mapping.ablation:bench",
        (_suite, _output),
    ),
    Benchmark(
        "kv",
        "decode latency of each KV policy over the context, the sequences of a batch, or query heads a KV head",
        "benchmarks.mapping.curves:kv",
        (_over("context", "batch", "group"), _output),
    ),
    Benchmark(
        "compile-time",
        "seconds to compile llama-2-7b over its layers",
        "benchmarks.mapping.curves:compile_time",
        (_layers, _output),
    ),
    Benchmark(
        "speed",
        "the simulator beside ONNX Runtime: seconds of a token and of a prompt, memory",
        "benchmarks.speed:bench",
        (_speed,),
    ),
    Benchmark(
        "speed-curves",
        "milliseconds to simulate a step, over layers, tokens or tiles",
        "benchmarks.speed_curves:bench",
        (_over("layers", "tokens", "tiles"), _most, _output),
    ),
    Benchmark(
        "headline",
        "attention, feed-forward layers and whole tokens on CIM systems beside CPUs and GPUs: ratios, pass or fail",
        "benchmarks.headline.bench:bench",
        (_headline_cells, _headline_systems),
    ),
    Benchmark(
        "sensitivity",
        "a cell of the headline with each constant at its least and its most: which move the ratios most",
        "benchmarks.headline.sensitivity:bench",
        (_headline_cell, _headline_systems),
    ),
    Benchmark(
        "analog",
        "perplexity of the trained model on analog macros, over ADC bits, read noise, programming error or drift",
        "benchmarks.analog:bench",
        (_over("adc-bits", "read-noise", "programming-error", "drift"), _analog, _output),
    ),
    Benchmark(
        "accuracy",
        "perplexity of the trained model with weights, keys and values of few bits, and with outlier channels",
        "benchmarks.accuracy:bench",
        (_suite, _accuracy, _output),
    ),
    Benchmark(
        "onnx-nodes", "the standard ONNX node tests through our backend", "benchmarks.onnx_nodes:bench"
    ),
)


COLLECTION = (
    "--folder DIR of ONNX files with a MANIFEST.csv (columns file, group), and beside each its values in NAME.io.npz"
    " (in:INPUT, out:OUTPUT); `cim check MODEL.onnx` measures a single file"
)


def folder_of(options: argparse.Namespace) -> Path:
    """The collection that the options name. Raises `CimError` E0001 if there is none."""
    folder = options.folder
    if folder is None:
        home = os.environ.get(FOLDER)
        if home is None:
            raise fail("E0001", "which collection of files is to be measured?", help=COLLECTION)
        folder = Path(home) / "onnx"
    if not (folder / "MANIFEST.csv").is_file():
        raise fail("E0001", "there is no MANIFEST.csv", NamedPlace(str(folder)), COLLECTION)
    return Path(folder)
