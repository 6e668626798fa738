"""Reverse-mode automatic differentiation on NumPy; its convolutions get their filter gradients from the chain rule."""

from . import numpy
from .conv import conv2d, conv2d_composite, conv2d_input, conv2d_weight, conv_transpose2d
from .modes import debug, enable_grad, is_grad_enabled, no_grad
from .pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, lp_pool2d, max_pool2d, max_unpool2d
from .primitive import Primitive
from .tensor import Tensor
