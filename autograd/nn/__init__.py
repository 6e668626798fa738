"""Networks as trees of modules: parameters and a forward, never a backward. Names and defaults are PyTorch's."""

from . import init
from .containers import ModuleList, Sequential
from .layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from .module import Buffer, Module, Parameter

__all__ = [
    "ELU",
    "GELU",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "init",
]
