"""Even out channels before they are rounded with one scale: what makes a channel large goes into what reads it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.optimisations import Optimisation
from compiler.pipeline import Compilation, Pass, Smoothing


@dataclass(frozen=True)
class SmoothChannels(Pass):
    """Fold factors into weights, so that channels that share a scale are of like size (docs/accuracy.md).

    For a channel j that `a` makes and `b` reads, and any s_j > 0: (x_j / s_j) * (s_j w_j) == x_j w_j. Such places are

        gains of a norm                 rows that linear layers read, where gains are not folded anyway
        columns of a linear layer       rows of the next, with a product or ReLU between them
        values                          rows of the output projection, through attention
        keys, in pairs that turn        queries, through their product

    s_j = sqrt(a_j / b_j), a_j and b_j the sizes that weights alone let expect, makes both sides sqrt(a_j b_j), however
    large one of them was (cross-layer equalisation: Nagel et al., ICCV 2019; with activations that were measured it is
    SmoothQuant: Xiao et al., ICML 2023). Float values stay as they are, but for the rounding of the products with s.

    Integers of a quantised file stay as they are. Keys and values lie in the cache divided by their factors, which the
    program carries for those who take rows out or put them in.
    """

    def run(self, c: Compilation) -> bool:
        """Rewrites `c.graph`, and says in `c.factors` what caches were divided by."""
        from compiler.ir.mapping import Arithmetic
        from compiler.mapping.options import arithmetic_of, weight_bits
        from compiler.mapping.rounding import WEIGHT_BITS
        from compiler.smoothing import Smoother

        options = c.options
        is_ideal = arithmetic_of(options.weights) is not Arithmetic.INT8
        if options.smooth is Smoothing.NONE or is_ideal or options.shapes_only:
            return False
        smoother = Smoother(
            c.require_graph(),
            every=options.smooth is Smoothing.ALL,
            is_narrow=options.kv_bits < WEIGHT_BITS,
            keeps_gains=weight_bits(options.weights) == WEIGHT_BITS and options.does(Optimisation.FOLD_GAINS),
        )
        smoother.run()
        c.graph = smoother.editor.finish()
        c.factors = smoother.factors
        c.notes += smoother.notes()
        return smoother.editor.changed
