"""Generate a standard model of any size, with random weights or with shapes only.

    python -m models.make llama-2-7b --shapes-only -o llama.onnx
    python -m models.make gpt2-tiny --seed 7 -o tiny.onnx
    python -m models.make opt-6.7b --layers 2 -o two_layers.onnx
    python -m models.make opt-6.7b --shapes-only --dtype float16 --positions 8192 -o long.onnx

The graphs follow the conventions of Hugging Face Optimum's ONNX export: the same inputs and
outputs, names and node patterns. `--shapes-only` declares the weights but writes none.
`--positions` makes a table of learned positions longer than the published model's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from models import bert, gpt2, llama, opt
from models.configs import CONFIGS, BertConfig, Config, Gpt2Config, LlamaConfig, with_layers, with_positions
from models.graph import Architecture
from models.half import halved
from models.save import Saved, save
from models.weights import RandomWeights


def architecture(config: Config, *, with_cache: bool = True) -> Architecture:
    """The graph for a configuration. An encoder has no cache either way."""
    if isinstance(config, LlamaConfig):
        return llama.build(config, with_cache=with_cache)
    if isinstance(config, Gpt2Config):
        return gpt2.build(config, with_cache=with_cache)
    if isinstance(config, BertConfig):
        return bert.build(config)
    return opt.build(config, with_cache=with_cache)


def make(
    name: str,
    path: Path,
    *,
    layers: int | None = None,
    seed: int = 0,
    with_cache: bool = True,
    shapes_only: bool = False,
    external: bool | None = None,
    positions: int | None = None,
    half: bool = False,
) -> Saved:
    """Write the model `name` (a key of `CONFIGS`) to `path`.

    `layers` overrides their number, `positions` is how many there are at least, `half` is for float16.
    """
    config = CONFIGS[name]
    if layers is not None:
        config = with_layers(config, layers)
    if positions is not None:
        config = with_positions(config, positions)
    facts = {"cim.model": name} if shapes_only else {"cim.model": name, "cim.seed": str(seed)}
    weights = None if shapes_only else RandomWeights(seed)
    graph = architecture(config, with_cache=with_cache)
    return save(halved(graph) if half else graph, path, weights, metadata=facts, external=external)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 0, 1 (cannot write) or 2 (usage)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.no_cache and isinstance(CONFIGS[options.name], BertConfig):
        parser.error(f"{options.name} is an encoder and has no cache to leave out")
    began = time.monotonic()
    try:
        saved = make(
            options.name,
            options.output,
            layers=options.layers,
            seed=options.seed,
            with_cache=not options.no_cache,
            shapes_only=options.shapes_only,
            external=True if options.external_data else None,
            positions=options.positions,
            half=options.dtype == "float16",
        )
    except OSError as error:
        print(f"error: cannot write {options.output}: {error.strerror or error}", file=sys.stderr)
        return 1
    files = ", ".join(f"{p} ({p.stat().st_size:,} bytes)" for p in (saved.model, saved.data) if p)
    seconds = time.monotonic() - began
    print(f"{options.name}: {saved.parameters:,} weights, {files}, {seconds:.1f} s", file=sys.stderr)
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.make", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", choices=sorted(CONFIGS), metavar="NAME", help=", ".join(sorted(CONFIGS)))
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="F.onnx", help="file to write")
    parser.add_argument("--shapes-only", action="store_true", help="declare the weights, write none")
    parser.add_argument(
        "--layers", type=_positive, metavar="N", help="number of layers (default: the model's)"
    )
    parser.add_argument(
        "--seed", type=_natural, default=0, metavar="S", help="of the random weights (default 0)"
    )
    parser.add_argument(
        "--positions", type=_positive, metavar="N", help="at least so many (default: the model's)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="default: %(default)s"
    )
    parser.add_argument("--no-cache", action="store_true", help="without past_key_values and present")
    parser.add_argument("--external-data", action="store_true", help="weights in a file next to the model")
    return parser


if __name__ == "__main__":
    sys.exit(main())
