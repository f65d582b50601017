"""Options that several commands share."""

from __future__ import annotations

import argparse

from runtime.arguments import natural, positive

DEFAULT_TARGET = "dcim22"
AUTO = "auto"


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """`--engine auto|fast|reference`."""
    parser.add_argument(
        "--engine",
        choices=(AUTO, "fast", "reference"),
        default=AUTO,
        help="which engine computes values: both find the same; auto takes the fast one for all but little work",
    )


def binding(text: str) -> tuple[str, int]:
    """NAME=VALUE, for a dynamic axis."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, positive(value)


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    """What bounds sequences."""
    group.add_argument(
        "--max-context",
        type=positive,
        metavar="N",
        help="longest sequence in tokens (default: 512, or as many positions as the model has learned, if fewer)",
    )
    group.add_argument(
        "--max-source",
        type=positive,
        metavar="N",
        help="rows of the source that cross-attention looks at (default: what the file fixes, else as many as tokens)",
    )
    group.add_argument(
        "--batch",
        type=positive,
        default=1,
        metavar="B",
        help="sequences that the chip keeps at the same time (default: %(default)s)",
    )
    group.add_argument(
        "--chunk",
        type=positive,
        metavar="N",
        help="longest segment in tokens, up to 16 (default: by rule, as the tile buffers allow)",
    )
    group.add_argument(
        "--prefill",
        type=positive,
        metavar="N",
        help="tokens of a sequence in the prompts that mappings are chosen for (default: 64; 128 for encoders)",
    )
    group.add_argument(
        "--kv-tokens",
        type=positive,
        metavar="N",
        help="tokens of all sequences together that KV arrays have room for, in pages (default: the longest for each)",
    )


def _add_numbers(group: argparse._ArgumentGroup) -> None:
    """How weights, keys and values are rounded."""
    group.add_argument(
        "--weights",
        choices=("int8", "int4", "float32"),
        default="int8",
        help="what float weights are rounded to (a quantised file keeps its own integers); float32 is ideal "
        "arithmetic, to tell mapping from quantisation (default: %(default)s)",
    )
    group.add_argument(
        "--group",
        type=natural,
        metavar="N",
        help="with --weights int4: rows that share a scale in each column; 0: all of them (default: 128)",
    )
    group.add_argument(
        "--kv-bits",
        type=int,
        choices=range(2, 9),
        default=8,
        metavar="B",
        help="bits of keys and values, 2 to 8, each row of a head with a scale of its own (default: %(default)s)",
    )
    group.add_argument(
        "--smooth",
        choices=("auto", "all", "none"),
        default="auto",
        help="even out channels before they are rounded, by factors in the weights; auto: where there are outliers, "
        "or fewer than 8 bits (default: %(default)s)",
    )


def compile_defaults() -> dict[str, object]:
    """What the options of `add_compile_options` are where they are not given, by their names in the arguments."""
    parser = argparse.ArgumentParser(add_help=False)
    add_compile_options(parser)
    return vars(parser.parse_args([]))


def flag(name: str) -> str:
    """The option that an argument's name stands for: `--max-context` for `max_context`."""
    return "--" + name.replace("_", "-")


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """What decides how a model is compiled: the same words in `compile`, `generate` and `check`."""
    group = parser.add_argument_group("compilation")
    group.add_argument(
        "--target", default=DEFAULT_TARGET, metavar="NAME|FILE.toml", help="hardware (default: %(default)s)"
    )
    _add_sizes(group)
    group.add_argument(
        "--kv",
        choices=("auto", "resident", "tiered", "streamed"),
        default="auto",
        help="where the KV cache lies: in arrays; its last rows there, the others in DRAM; or in DRAM. auto: the first "
        "of these that fits, layer by layer (default: %(default)s)",
    )
    group.add_argument(
        "--place",
        choices=("auto", "all", "attention", "attention+ffn", "host"),
        default="auto",
        help="what runs on the chip, the rest of each layer on the host; auto: as much as fits; host: nothing, to see "
        "what the host alone would cost (default: %(default)s)",
    )
    _add_numbers(group)
    group.add_argument(
        "--bind", metavar="FILE.npz", help="values of weights that the model file declares as inputs"
    )
    group.add_argument(
        "--dim",
        type=binding,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="size of a dynamic axis (repeatable)",
    )
    group.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="OPTIMISATION",
        help="an optimisation to leave out (repeatable; `cim passes` lists them)",
    )
