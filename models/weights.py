"""Values for declared weights: random ones from a seed, or those of a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.graph import Init, Parameter

Array = NDArray[np.float32]

STANDARD_DEVIATION = 0.02
"""Of random matrices and embeddings, as in the published initialisations of these models."""


class Weights(Protocol):
    """Gives the value of each parameter, one at a time, so that no model is ever held whole."""

    def value(self, parameter: Parameter) -> Array:
        """A float32 array of the parameter's shape."""
        ...


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """N(0, 0.02) matrices, norms 1, biases 0.

    Each source tensor has its own generator, seeded by `seed` and its name: the value does not
    depend on the order of parameters or on the number of layers, and tied weights agree.
    """

    seed: int = 0

    def value(self, parameter: Parameter) -> Array:
        """See `Weights.value`."""
        if parameter.init is Init.ONES:
            return np.ones(parameter.shape, np.float32)
        if parameter.init is Init.ZEROS:
            return np.zeros(parameter.shape, np.float32)
        digest = hashlib.sha256(parameter.source.encode()).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(digest[:8], "big")])
        shape = parameter.shape[::-1] if parameter.transposed else parameter.shape
        values = rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(STANDARD_DEVIATION)
        return np.ascontiguousarray(values.T) if parameter.transposed else values


@dataclass(frozen=True, slots=True)
class GivenWeights:
    """The tensors of a checkpoint, by Hugging Face name and orientation."""

    tensors: Mapping[str, NDArray[np.generic]]

    def value(self, parameter: Parameter) -> Array:
        """See `Weights.value`; ValueError for a missing tensor or a wrong shape."""
        found = self.tensors.get(parameter.source)
        if found is None:
            raise ValueError(f"the checkpoint has no tensor {parameter.source}")
        array = found.T if parameter.transposed else found
        if array.shape != parameter.shape:
            raise ValueError(f"{parameter.source} has shape {array.shape}, needed {parameter.shape}")
        return np.ascontiguousarray(array, dtype=np.float32)
