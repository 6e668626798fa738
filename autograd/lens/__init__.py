"""The lens: what learns in a convolution, in numbers that add up.

Each file is one idea and can be used alone on any model of this library:

    ledger          every term of one weight's gradient, and the positions where they arose
    film            what every step of an optimiser changed, and of which parts the change was made

A `loss` is a function without arguments that runs the model and returns the loss, such as
`lambda: cross_entropy(model(images), labels)`; layers are given as the module objects themselves. Everything shown is
taken from the engine's own computation, and a sum that does not come out is not shown: it raises `LensError`.
"""

from .checks import LensError
from .film import Film, Reel
from .ledger import TapLedger, tap_ledger
from .observe import convolutions

__all__ = ["Film", "LensError", "Reel", "TapLedger", "convolutions", "tap_ledger"]
