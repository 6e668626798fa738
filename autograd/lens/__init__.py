"""The lens: what learns in a convolution, in numbers that add up.

Each file is one idea and can be used alone on any model of this library:

    ledger          every term of one weight's gradient, and the positions where they arose
    dense           the convolution written out as a dense layer with tied weights
    numeric         central differences beside the gradient: their error, and their time
    loss_slice      the loss over one weight, its tangent, and the step that SGD takes
    film            what every step of an optimiser changed, and of which parts the change was made
    activation      what an activation does to maps and gradients, and that it does nothing to filters
    lockstep        the same network under several activations, trained on the same batches
    saturation      dead, sparse and saturated filters, over a set of images
    specialisation  what excites a filter, which classes and angles it prefers, what is lost without it
    controls        filters that start equal, and filters that stay random
    pooling         the cells to which max-pooling sends the gradient
    chain           the rules on the way from the loss to a filter, and the composite form of the convolution

A `loss` is a function without arguments that runs the model and returns the loss, such as
`lambda: cross_entropy(model(images), labels)`; layers are given as the module objects themselves. Everything shown is
taken from the engine's own computation, and a sum that does not come out is not shown: it raises `LensError`.
"""

from .activation import ActivationStep, activation_step
from .chain import Comparison, CompositeDifference, Kept, Link, chain_path, composite_difference
from .checks import LensError
from .controls import FrozenFilters, Symmetry, frozen_filters, make_twins, symmetry
from .dense import DenseTie, dense_tie
from .film import Film, Reel
from .ledger import TapLedger, tap_ledger
from .lockstep import Lockstep, lockstep
from .loss_slice import LossSlice, loss_slice
from .numeric import ErrorCurve, NumericGradient, error_curve, numeric_gradient
from .observe import Loss, convolutions
from .pooling import PoolingRoutes, pooling_routes
from .saturation import Saturation, saturation
from .specialisation import (
    Ablation,
    ClassSelectivity,
    Distance,
    OrientationTuning,
    TopPatches,
    ablation,
    class_selectivity,
    distance_from_start,
    filter_similarity,
    orientation_tuning,
    top_patches,
)
from .training import evaluate, fit

# fmt: off
__all__ = [
    "Ablation",
    "ActivationStep",
    "ClassSelectivity",
    "Comparison",
    "CompositeDifference",
    "DenseTie",
    "Distance",
    "ErrorCurve",
    "Film",
    "FrozenFilters",
    "Kept",
    "LensError",
    "Link",
    "Lockstep",
    "Loss",
    "LossSlice",
    "NumericGradient",
    "OrientationTuning",
    "PoolingRoutes",
    "Reel",
    "Saturation",
    "Symmetry",
    "TapLedger",
    "TopPatches",
    "ablation",
    "activation_step",
    "chain_path",
    "class_selectivity",
    "composite_difference",
    "convolutions",
    "dense_tie",
    "distance_from_start",
    "error_curve",
    "evaluate",
    "filter_similarity",
    "fit",
    "frozen_filters",
    "lockstep",
    "loss_slice",
    "make_twins",
    "numeric_gradient",
    "orientation_tuning",
    "pooling_routes",
    "saturation",
    "symmetry",
    "tap_ledger",
    "top_patches",
]
# fmt: on
