"""The differentiable NumPy, in which the rules themselves are written: the same functions on arrays and tensors.

On arrays a function gives what NumPy gives; on tensors it gives a tensor, recorded when one of them requires a
gradient. Names, arguments and meanings are NumPy's, where not said otherwise, without `out`, `where`, `order` and
`initial`. Whatever is not defined here (constants,
dtypes, `zeros`, `arange`, `random`, ...) is NumPy's own, and refuses tensors.
"""

from typing import Any

import numpy as _numpy

from . import attach as _attach
from .elementwise import *  # noqa: F403
from .products import *  # noqa: F403
from .reductions import *  # noqa: F403
from .shaping import *  # noqa: F403

_attach.attach()


def __getattr__(name: str) -> Any:
    return getattr(_numpy, name)
