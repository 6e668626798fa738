"""NumPy's own random numbers, for `import autograd.numpy.random as npr`; what they give is constant in a graph."""

from numpy.random import *  # noqa: F403
