"""The other opinion: ONNX Runtime, in float32, on the model file itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compiler.frontend.importer import import_model
from compiler.ir.evaluate import default_feed
from compiler.ir.graph import Role
from isa.diagnostics import NamedPlace, fail

Logits = NDArray[np.float32]


class Oracle:
    """ONNX Runtime on the model file: whole sequences in, the logits after each token out.

    The graph, as imported, says which input is what. Raises `CimError` E0601 if the file does not run there.
    """

    def __init__(self, model: Path, threads: int = 1) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 4
        self._graph, self._model = import_model(model), model
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001  (its exceptions have no common class of their own)
            raise self._refusal(error) from None

    def _refusal(
        self, error: Exception, way_out: str = "without it there is nothing to compare with"
    ) -> Exception:
        message = f"ONNX Runtime does not run the model: {str(error)[:300]}"
        return fail("E0601", message, NamedPlace(str(self._model)), way_out)

    def outputs(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs of the file, by name, for its inputs. Raises `CimError` E0601 if they do not fit."""
        wanted = {i.name for i in self._session.get_inputs()}
        names = [o.name for o in self._session.get_outputs()]
        try:
            made = self._session.run(names, {n: f for n, f in feeds.items() if n in wanted})
        except Exception as error:  # noqa: BLE001  (as above)
            way_out = "fix the sizes that the file leaves open: --dim NAME=VALUE"
            raise self._refusal(error, way_out) from None
        return {n: np.asarray(v) for n, v in zip(names, made, strict=True)}

    def logits(self, ids: Sequence[int]) -> Logits:
        """The logits after each of `ids`: [len(ids), vocabulary]."""
        feeds = {i.name: self._feed(i, np.array([ids], np.int64)) for i in self._session.get_inputs()}
        try:
            (out,) = self._session.run([self._graph.outputs[0]], feeds)
        except Exception as error:  # noqa: BLE001  (as above)
            raise self._refusal(error) from None
        return np.asarray(out, np.float32).reshape(len(ids), -1)

    def _feed(self, given: Any, ids: NDArray[np.int64]) -> NDArray[Any]:
        """What an input of the file holds when `ids` [1, tokens] are the whole sequence."""
        sizes = {"batch": 1, "sequence": ids.shape[1], "tokens": ids.shape[1], "past": 0}
        known = next((i for i in self._graph.inputs if i.name == given.name), None)
        if known is not None and known.role is Role.IDS:
            return ids.astype(known.value.dtype.numpy)
        feed = default_feed(known, sizes) if known is not None else None
        if feed is not None:
            return feed
        if known is None or known.role is Role.PAST:
            return np.zeros(_empty_cache(given.shape), np.float32)
        raise fail("E0601", f"nothing is known to feed to input {given.name!r}", NamedPlace(str(self._model)))


def _empty_cache(shape: Sequence[int | str]) -> tuple[int, ...]:
    """A cache without tokens: [batch, heads, past, size], of which batch and past are free."""
    return tuple(
        extent if isinstance(extent, int) else 1 if axis == 0 else 0 for axis, extent in enumerate(shape)
    )
