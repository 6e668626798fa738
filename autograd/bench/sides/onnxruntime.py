"""onnxruntime: a model of one Conv node, forward only. The `onnx` package writes the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime

version = f"onnxruntime {onnxruntime.__version__}"

_options = onnxruntime.SessionOptions()


def use_threads(n: int) -> None:
    """For the work inside of a node."""
    _options.intra_op_num_threads = n
    _options.inter_op_num_threads = 1


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: None) -> Callable[[], Any]:
    """The filters are a constant of the model, as in a trained network: they may be rearranged once."""
    x, weight = (np.load(path) for path in operands)
    (top, bottom), (left, right) = geometry["padding"]
    node = onnx.helper.make_node(
        "Conv",
        ["x", "weight"],
        ["y"],
        kernel_shape=geometry["kernel"],
        strides=geometry["stride"],
        pads=[top, left, bottom, right],
        dilations=geometry["dilation"],
        group=geometry["groups"],
    )
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = onnx.helper.make_graph(
        [node],
        "conv",
        [onnx.helper.make_tensor_value_info("x", kind, x.shape)],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), _options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes."""
    return run()
