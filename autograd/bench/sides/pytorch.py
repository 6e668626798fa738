"""PyTorch, in either memory format; a gradient is `convolution_backward` with the output mask of that map alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

version = f"PyTorch {torch.__version__}"
torch.set_grad_enabled(False)


def use_threads(n: int) -> None:
    """For the work inside of an operation; there is only one at a time."""
    torch.set_num_threads(n)


def workload(
    map_name: str, geometry: dict[str, Any], operands: list[str], variant: dict[str, str]
) -> Callable[[], Any]:
    """variant: 'layout' ('contiguous' or 'channels_last', for all operands) and 'dtype' ('' keeps the operands')."""
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[variant["layout"]]
    first, second = (torch.from_numpy(np.load(path)) for path in operands)
    if variant["dtype"]:
        first, second = (operand.to(getattr(torch, variant["dtype"])) for operand in (first, second))
    first, second = (operand.to(memory_format=layout) for operand in (first, second))
    g = geometry
    padding = [before for before, _ in g["padding"]]
    if map_name == "conv2d":
        return lambda: torch.conv2d(first, second, None, g["stride"], padding, g["dilation"], g["groups"])
    # What is not differentiated with respect to counts for its shape alone, but must be there, in the same layout.
    if map_name == "conv2d_input":
        y, weight = first, second
        x = torch.empty((g["batch"], g["in_channels"], *g["input"]), dtype=y.dtype, memory_format=layout)
    else:
        x, y = first, second
        filters = (g["out_channels"], g["in_channels"] // g["groups"], *g["kernel"])
        weight = torch.empty(filters, dtype=y.dtype, memory_format=layout)
    mask = [map_name == "conv2d_input", map_name == "conv2d_weight", False]
    return lambda: torch.ops.aten.convolution_backward(
        y, x, weight, None, g["stride"], padding, g["dilation"], False, [0, 0], g["groups"], mask
    )[mask.index(True)]


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes; bfloat16 becomes float32, which holds it exactly."""
    tensor = run()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
