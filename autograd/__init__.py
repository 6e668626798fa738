"""Reverse-mode automatic differentiation on NumPy; its convolutions get their filter gradients from the chain rule.

The distribution is called convgrad. Another distribution, called autograd, has a package of this name, too; one
environment can hold only one of them.
"""

import os as _os

__version__ = "0.1.0"

if _os.path.exists(_os.path.join(_os.path.dirname(__file__), "tracer.py")):
    raise ImportError(
        f"the distributions 'convgrad' and 'autograd' are both installed in {_os.path.dirname(__file__)}, and have "
        "overwritten each other; make a new environment for convgrad, or uninstall both and install convgrad again"
    )

from . import functional, memory, nn, numpy, optim, transforms
from .checking import GradientError, check_adjoint, check_grads
from .conv import conv2d_composite
from .functional import *  # noqa: F403
from .kernels import explain_conv, get_float32_precision, get_num_threads, set_float32_precision, set_num_threads
from .modes import debug, enable_grad, is_grad_enabled, no_grad
from .primitive import Primitive, primitive
from .tensor import Tensor
from .transforms import *  # noqa: F403

# fmt: off
__all__ = [
    "GradientError", "Primitive", "Tensor", "check_adjoint", "check_grads", "conv2d_composite", "debug", "enable_grad",
    "explain_conv", "functional", "get_float32_precision", "get_num_threads", "is_grad_enabled", "memory", "nn",
    "no_grad", "numpy", "optim", "primitive", "set_float32_precision", "set_num_threads", "transforms",
]
# fmt: on
__all__ += functional.__all__
__all__ += transforms.__all__
