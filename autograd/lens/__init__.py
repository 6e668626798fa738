"""The lens: what learns in a convolution, in numbers that add up.

Each file is one idea and can be used alone on any model of this library:

    ledger          every term of one weight's gradient, and the positions where they arose
    dense           the convolution written out as a dense layer with tied weights
    numeric         central differences beside the gradient: their error, and their time
    loss_slice      the loss over one weight, its tangent, and the step that SGD takes
    film            what every step of an optimiser changed, and of which parts the change was made
    activation      what an activation does to maps and gradients, and that it does nothing to filters
    saturation      dead, sparse and saturated filters, over a set of images
    pooling         the cells to which max-pooling sends the gradient
    chain           the rules on the way from the loss to a filter, and the composite form of the convolution

A `loss` is a function without arguments that runs the model and returns the loss, such as
`lambda: cross_entropy(model(images), labels)`; layers are given as the module objects themselves. Everything shown is
taken from the engine's own computation, and a sum that does not come out is not shown: it raises `LensError`.
"""

from .activation import ActivationStep, activation_step
from .chain import Comparison, CompositeDifference, Kept, Link, chain_path, composite_difference
from .checks import LensError
from .dense import DenseTie, dense_tie
from .film import Film, Reel
from .ledger import TapLedger, tap_ledger
from .loss_slice import LossSlice, loss_slice
from .numeric import ErrorCurve, NumericGradient, error_curve, numeric_gradient
from .observe import convolutions
from .pooling import PoolingRoutes, pooling_routes
from .saturation import Saturation, saturation

# fmt: off
__all__ = [
    "ActivationStep", "Comparison", "CompositeDifference", "DenseTie", "ErrorCurve", "Film", "Kept", "LensError",
    "Link", "LossSlice", "NumericGradient", "PoolingRoutes", "Reel", "Saturation", "TapLedger", "activation_step",
    "chain_path", "composite_difference", "convolutions", "dense_tie", "error_curve", "loss_slice",
    "numeric_gradient", "pooling_routes", "saturation", "tap_ledger",
]
# fmt: on
