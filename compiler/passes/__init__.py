"""The passes, one file each, and the graph-level pipeline."""

from compiler.passes.drop_broadcasts import DropBroadcasts
from compiler.passes.expand_native import ExpandNative
from compiler.passes.expand_pooling import ExpandPooling
from compiler.passes.expand_quantised import ExpandQuantised
from compiler.passes.flatten_rows import FlattenRows
from compiler.passes.fold_constants import FoldConstants
from compiler.passes.import_model import ImportModel
from compiler.passes.join_branches import JoinBranches
from compiler.passes.legalise import Legalise
from compiler.passes.measure_shapes import MeasureShapes
from compiler.passes.pair_quantisation import PairQuantisation
from compiler.passes.partition_host import PartitionHost
from compiler.passes.partition_stem import PartitionStem
from compiler.passes.recognise_activations import RecogniseActivations
from compiler.passes.recognise_attention import RecogniseAttention
from compiler.passes.recognise_elementwise import RecogniseElementwise
from compiler.passes.recognise_embeddings import RecogniseEmbeddings
from compiler.passes.recognise_linear import RecogniseLinear
from compiler.passes.recognise_norms import RecogniseNorms
from compiler.passes.recognise_rotary import RecogniseRotary
from compiler.passes.restore_quantisation import RestoreQuantisation
from compiler.passes.set_aside_quantisation import SetAsideQuantisation
from compiler.passes.turn_rows import TurnRows
from compiler.pipeline import Pass

RECOGNITION: tuple[Pass, ...] = (
    FoldConstants(),
    MeasureShapes(),
    ExpandPooling(),
    PartitionStem(),
    ExpandQuantised(),
    PairQuantisation(),
    SetAsideQuantisation(),
    ExpandNative(),
    DropBroadcasts(),
    RecogniseLinear(),
    RecogniseNorms(),
    RecogniseEmbeddings(),
    RecogniseRotary(),
    RecogniseAttention(),
    RecogniseActivations(),
    RecogniseElementwise(),
    TurnRows(),
    FlattenRows(),
)
"""From a graph of ONNX operators to rows and canonical operators."""

GRAPH_PIPELINE: tuple[Pass, ...] = (
    ImportModel(),
    *RECOGNITION,
    JoinBranches(RECOGNITION),
    PartitionHost(),
    Legalise(),
    RestoreQuantisation(),
)
"""From the ONNX file to a canonical graph. Rotations come before attention, which sees them as
rows; activations after it, because a soft cap of scores is a tanh too. A stem of convolutions is cut off
before all that, so that what follows is seen as layers on rows. Roundings of activations
in a quantised file are set aside meanwhile: recognition sees the float model."""

__all__ = ["GRAPH_PIPELINE"]
