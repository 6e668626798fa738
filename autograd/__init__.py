"""Reverse-mode automatic differentiation on NumPy; its convolutions get their filter gradients from the chain rule."""

from . import numpy
from .modes import debug, enable_grad, is_grad_enabled, no_grad
from .primitive import Primitive
from .tensor import Tensor

__all__ = ["Primitive", "Tensor", "debug", "enable_grad", "is_grad_enabled", "no_grad", "numpy"]
