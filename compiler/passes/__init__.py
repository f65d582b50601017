"""The passes, one file each, and the graph-level pipeline."""

from compiler.passes.expand_native import ExpandNative
from compiler.passes.flatten_rows import FlattenRows
from compiler.passes.fold_constants import FoldConstants
from compiler.passes.import_model import ImportModel
from compiler.passes.legalise import Legalise
from compiler.passes.recognise_activations import RecogniseActivations
from compiler.passes.recognise_attention import RecogniseAttention
from compiler.passes.recognise_elementwise import RecogniseElementwise
from compiler.passes.recognise_embeddings import RecogniseEmbeddings
from compiler.passes.recognise_linear import RecogniseLinear
from compiler.passes.recognise_norms import RecogniseNorms
from compiler.passes.recognise_rotary import RecogniseRotary
from compiler.pipeline import Pass

GRAPH_PIPELINE: tuple[Pass, ...] = (
    ImportModel(),
    FoldConstants(),
    ExpandNative(),
    RecogniseNorms(),
    RecogniseLinear(),
    RecogniseEmbeddings(),
    RecogniseRotary(),
    RecogniseAttention(),
    RecogniseActivations(),
    RecogniseElementwise(),
    FlattenRows(),
    Legalise(),
)
"""From the ONNX file to a canonical graph. Rotations come before attention, which sees them as
rows; activations after it, because a soft cap of scores is a tanh too."""

__all__ = ["GRAPH_PIPELINE"]
