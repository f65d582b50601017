"""Say in the program what keys and values were divided by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compiler.pipeline import Compilation, Pass


@dataclass(frozen=True)
class AttachFactors(Pass):
    """Let the program carry the factors of its caches, for those who take rows out or put them in."""

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.program`: `key_factors` and `value_factors` of its caches, and the tensors that these name."""
        from compiler.backend.build import LazyData
        from isa.instruction import DType
        from isa.program import TensorInfo

        program = c.require_program()
        infos, caches = list(program.tensors), list(program.caches)
        made: dict[str, NDArray[np.float32]] = {}
        for number, cache in enumerate(program.caches):
            found = c.factors.get(cache.layer)
            if found is None:
                continue
            names = []
            for side, rows in (("keys", found.keys), ("values", found.values)):
                names.append(f"cache{cache.layer}.{side}.factors")
                infos.append(TensorInfo(names[-1], DType.F32, rows.shape))
                made[names[-1]] = rows
            caches[number] = replace(cache, key_factors=names[0], value_factors=names[1])
        if not made:
            return False
        assert isinstance(program.data, LazyData), "factors follow from values, so there are some"
        data = program.data.extended(made)
        c.program = replace(program, tensors=tuple(infos), caches=tuple(caches), data=data)
        return True
