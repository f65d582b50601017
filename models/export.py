"""Turn a checkpoint of `models.train` into ONNX.

    python -m models.export out/pytiny.npz -o models/pytiny.onnx

The record of the training run goes into the model's metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import llama
from models.configs import LlamaConfig
from models.save import Saved, save
from models.weights import GivenWeights

RECORDED = ("steps", "tokens", "minutes", "held_out_bits_per_byte", "python", "torch")
"""Facts of the training run that go into the model's metadata."""


def export(checkpoint: Path, path: Path, *, with_cache: bool = True) -> Saved:
    """Write the model of `checkpoint` to `path`. ValueError if it is no such checkpoint."""
    if not zipfile.is_zipfile(checkpoint):
        raise ValueError("not a checkpoint of models.train (no .npz file)")
    with np.load(checkpoint) as arrays:
        if "record" not in arrays:
            raise ValueError("not a checkpoint of models.train (no record of the training)")
        record = json.loads(bytes(arrays["record"]))
        tensors = {name: arrays[name] for name in arrays.files if name != "record"}
    config = LlamaConfig(**record["config"])
    facts = {"cim.model": path.stem}
    facts |= {f"cim.train.{key}": str(record[key]) for key in RECORDED if key in record}
    return save(llama.build(config, with_cache=with_cache), path, GivenWeights(tensors), metadata=facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 0, 1 (the checkpoint is wrong) or 2 (usage)."""
    parser = argparse.ArgumentParser(prog="python -m models.export", description="Checkpoint to ONNX.")
    parser.add_argument("checkpoint", type=Path, help="written by models.train")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="F.onnx", help="file to write")
    parser.add_argument("--no-cache", action="store_true", help="without past_key_values and present")
    options = parser.parse_args(arguments)
    try:
        saved = export(options.checkpoint, options.output, with_cache=not options.no_cache)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: cannot export {options.checkpoint}: {error}", file=sys.stderr)
        return 1
    size = saved.model.stat().st_size
    print(f"{saved.model}: {saved.parameters:,} weights, {size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
