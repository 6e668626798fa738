"""Convolution problems as short texts: "n8c64h56w56 k64r3 s1 p1" is a batch of 8 images, 64 channels to 64, 3x3.

    n  images in the batch (default 1)        k  output channels         s  stride (default 1)
    c  input channels                         r  kernel                  p  padding, on both sides (default 0)
    h  height                                 g  groups (default 1)      d  dilation (default 1)
    w  width (default: the height)

r, s, p and d take one number, or height x width: "r3x5", "s2x1". Fields come in any order; spaces are free, and `str`
writes the canonical form, which names n, c, h, w, k, r, s and p always, and d and g where they are not 1. The letters
are those of oneDNN's benchdnn and cuDNN, as far as these agree with each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

from ..geometry import Conv2dGeometry, Pair, conv2d_geometry

MAPS = ("conv2d", "conv2d_input", "conv2d_weight")
_DEFAULTS: dict[str, Pair] = dict.fromkeys("nsdg", (1, 1)) | {"p": (0, 0)}
_PAIRS = "rspd"
_FIELD = re.compile(r"([a-z])(\d+)(?:x(\d+))?")


@dataclass(frozen=True, slots=True)
class Problem:
    """A convolution of images with filters; pairs are (height, width), padding is the same on both sides."""

    batch: int
    in_channels: int
    input: Pair
    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @classmethod
    def parse(cls, text: str) -> Problem:
        """The problem that a descriptor names. Raises ValueError, which says what is wrong with the descriptor."""
        fields: dict[str, Pair] = {}
        rest = "".join(text.split()).lower()
        while rest:
            match = _FIELD.match(rest)
            name = rest[0]
            if match is None or name not in "nchwkrspdg":
                raise ValueError(f"problem {text!r}: expected a field such as n8, c64, h56, k64, r3 or p1 at {rest!r}")
            if name in fields:
                raise ValueError(f"problem {text!r}: {name} is given twice")
            if match[3] is not None and name not in _PAIRS:
                raise ValueError(f"problem {text!r}: {name} must be one number, got {match[0]!r}")
            fields[name] = (int(match[2]), int(match[3] or match[2]))
            rest = rest[match.end() :]
        fields = _DEFAULTS | fields
        fields.setdefault("w", fields.get("h", (1, 1)))
        missing = [name for name in "chkr" if name not in fields]
        if missing:
            raise ValueError(f"problem {text!r}: {' and '.join(missing)} must be given")
        (n, c, h, w, k, g), r, s, p, d = (fields[name][0] for name in "nchwkg"), *(fields[name] for name in "rspd")
        if min(n, c, h, w, k, g) < 1:
            raise ValueError(f"problem {text!r}: n, c, h, w, k and g must be positive")
        problem = cls(n, c, (h, w), k, r, s, p, d, g)
        try:
            _ = problem.geometry
        except (TypeError, ValueError) as error:
            raise ValueError(f"problem {text!r}: {str(error).removeprefix('conv2d: ')}") from None
        return problem

    def __str__(self) -> str:
        text = (
            f"n{self.batch}c{self.in_channels}h{self.input[0]}w{self.input[1]} k{self.out_channels}"
            f"r{_pair(self.kernel)} s{_pair(self.stride)} p{_pair(self.padding)}"
        )
        if self.dilation != (1, 1):
            text += f" d{_pair(self.dilation)}"
        return text + (f" g{self.groups}" if self.groups > 1 else "")

    @property
    def geometry(self) -> Conv2dGeometry:
        """Its sizes, as the kernels take them."""
        weight = (self.out_channels, self.in_channels // max(self.groups, 1), *self.kernel)
        x = (self.batch, self.in_channels, *self.input)
        return conv2d_geometry("conv2d", x, weight, self.stride, self.padding, self.dilation, self.groups)

    @property
    def flops(self) -> int:
        """Operations of any of the three maps in the direct form: two for each product, padding's included."""
        g = self.geometry
        return 2 * prod(g.y_shape) * prod(g.weight_shape[1:])

    def bytes(self, item_size: int) -> int:
        """Of both operands and the result, whichever the map."""
        g = self.geometry
        return item_size * (prod(g.x_shape) + prod(g.weight_shape) + prod(g.y_shape))


def shapes(map_name: str, geometry: Conv2dGeometry) -> tuple[Any, Any, Any]:
    """Shapes of the two operands and of the result of a map."""
    x, weight, y = geometry.x_shape, geometry.weight_shape, geometry.y_shape
    return {"conv2d": (x, weight, y), "conv2d_input": (y, weight, x), "conv2d_weight": (x, y, weight)}[map_name]


def _pair(pair: Pair) -> str:
    return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
