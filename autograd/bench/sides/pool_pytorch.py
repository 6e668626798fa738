"""PyTorch's side of `bench pool`, in either memory format: the operations that its own pooling and gradients run."""

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


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: str) -> Callable[[], Any]:
    """operands: as our side's; variant: 'contiguous' or 'channels_last', for all of them."""
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[variant]
    first, *rest = (torch.from_numpy(np.load(path)).to(memory_format=layout) for path in operands)
    aten, g = torch.ops.aten, geometry
    window = (g["kernel"], g["stride"], g["padding"])
    if map_name == "max_pool2d":
        return lambda: aten.max_pool2d_with_indices(first, *window, g["dilation"], g["ceil_mode"])
    if map_name == "avg_pool2d":
        return lambda: aten.avg_pool2d(first, *window, g["ceil_mode"])
    x = rest[0]
    if map_name == "max_scatter2d":
        _, indices = aten.max_pool2d_with_indices(x, *window, g["dilation"], g["ceil_mode"])
        return lambda: aten.max_pool2d_with_indices_backward(first, x, *window, g["dilation"], g["ceil_mode"], indices)
    return lambda: aten.avg_pool2d_backward(first, x, *window, g["ceil_mode"], True, None)


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes, without the positions of maxima."""
    computed = run()
    return (computed[0] if isinstance(computed, tuple) else computed).numpy()
