"""The awkward cases of convolution and pooling: one table that drives every test of their values and gradients.

Shapes are small, so that slow references can be compared, and odd: channel counts that fill no vector, strides that
skip part of the kernel, padding on one side or negative, kernels as large as the padded input, empty dimensions.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class ConvCase(NamedTuple):
    """Arguments of one convolution, with PyTorch's names and shapes."""

    id: str
    x_shape: tuple[int, int, int, int]
    weight_shape: tuple[int, int, int, int]
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


class PoolCase(NamedTuple):
    """Arguments of one pooling, with PyTorch's names and shapes."""

    id: str
    x_shape: tuple[int, int, int, int]
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False


CONV_CASES = [
    ConvCase("3x3", (2, 3, 8, 7), (4, 3, 3, 3), padding=1),
    ConvCase("one-of-everything", (1, 1, 1, 1), (1, 1, 1, 1)),
    ConvCase("1x1", (2, 17, 5, 6), (9, 17, 1, 1)),
    ConvCase("1x1-strided", (2, 7, 5, 6), (3, 7, 1, 1), stride=2),
    ConvCase("one-channel", (3, 1, 9, 8), (7, 1, 5, 5), padding=2),
    ConvCase("odd-channels", (2, 9, 7, 7), (17, 9, 3, 3), padding=1),
    ConvCase("many-columns", (1, 5, 6, 6), (70, 5, 3, 3), padding=1),
    ConvCase("many-channels", (1, 70, 5, 4), (33, 70, 3, 3), padding=1),
    ConvCase("one-tile", (1, 20, 4, 4), (33, 20, 3, 3)),
    ConvCase("many-pixels", (2, 9, 17, 19), (10, 9, 3, 3)),
    ConvCase("few-results", (2, 19, 6, 9), (3, 19, 2, 3), stride=(1, 2)),
    ConvCase("stride-2", (2, 3, 9, 8), (5, 3, 3, 3), stride=2, padding=1),
    ConvCase("stride-beyond-kernel", (1, 3, 11, 10), (4, 3, 2, 2), stride=(3, 4)),
    ConvCase("stride-beyond-input", (2, 9, 3, 4), (3, 9, 2, 3), stride=9),
    ConvCase("k5-s3-p1", (1, 9, 32, 32), (3, 9, 5, 5), stride=3, padding=1),
    ConvCase("dilation", (2, 3, 9, 11), (4, 3, 3, 2), dilation=(2, 3), padding=2),
    ConvCase("dilation-with-stride", (1, 9, 13, 12), (3, 9, 3, 3), stride=2, dilation=2, padding=2),
    ConvCase("dilation-coprime-to-stride", (1, 3, 13, 12), (5, 3, 3, 4), stride=(3, 2), dilation=(2, 3), padding=3),
    ConvCase("dilation-with-groups", (2, 6, 10, 9), (4, 3, 3, 3), dilation=2, padding=1, groups=2),
    ConvCase("groups", (2, 9, 6, 6), (6, 3, 3, 3), padding=1, groups=3),
    ConvCase("wide-groups", (1, 34, 5, 5), (36, 17, 3, 3), padding=1, groups=2),
    ConvCase("depthwise", (2, 7, 8, 9), (7, 1, 3, 3), padding=1, groups=7),
    ConvCase("depthwise-wide", (1, 70, 6, 5), (70, 1, 3, 3), stride=2, padding=1, groups=70),
    ConvCase("depthwise-multiplier", (2, 5, 7, 6), (15, 1, 3, 2), padding=1, groups=5),
    ConvCase("depthwise-dilated", (1, 17, 9, 9), (34, 1, 3, 3), stride=2, dilation=2, padding=2, groups=17),
    ConvCase("depthwise-5x5", (1, 18, 7, 19), (18, 1, 5, 5), padding=2, groups=18),
    ConvCase("depthwise-5x5-strided", (2, 33, 12, 21), (33, 1, 5, 5), stride=2, padding=2, groups=33),
    ConvCase("depthwise-one-line", (1, 18, 5, 20), (18, 1, 1, 3), padding=(0, 2), groups=18),
    ConvCase("depthwise-stride-3", (1, 17, 11, 20), (17, 1, 3, 4), stride=3, padding=1, groups=17),
    ConvCase("depthwise-cropping", (2, 33, 9, 21), (33, 1, 3, 3), padding=((-1, 2), (1, -2)), groups=33),
    ConvCase("narrow-groups", (2, 20, 9, 19), (20, 4, 3, 3), padding=1, groups=5),
    ConvCase("narrow-groups-strided", (1, 36, 9, 8), (24, 3, 3, 2), stride=2, padding=1, groups=12),
    ConvCase("narrow-groups-dilated", (1, 32, 12, 9), (16, 2, 3, 3), stride=(1, 2), dilation=2, padding=2, groups=16),
    ConvCase("two-groups-in-turns", (2, 32, 9, 7), (32, 8, 3, 3), padding=1, groups=4),
    ConvCase("four-groups-in-turns", (1, 24, 11, 9), (32, 3, 3, 2), stride=(2, 1), padding=1, groups=8),
    ConvCase("groups-no-height", (1, 32, 0, 5), (32, 8, 3, 3), padding=2, groups=4),
    ConvCase("groups-in-turns-cropping", (2, 16, 9, 8), (16, 4, 2, 3), padding=((-1, 2), (1, -2)), groups=4),
    ConvCase("whole-input", (2, 3, 5, 7), (4, 3, 5, 7)),
    ConvCase("whole-padded-input", (1, 9, 4, 3), (3, 9, 6, 7), padding=(1, 2)),
    ConvCase("tall", (1, 2, 19, 1), (3, 2, 4, 1), stride=(2, 1)),
    ConvCase("wide", (1, 2, 1, 23), (3, 2, 1, 5), padding=(0, 2)),
    ConvCase("asymmetric", (2, 3, 6, 7), (4, 3, 3, 3), padding=((0, 2), (1, 0))),
    ConvCase("cropping", (2, 3, 8, 9), (4, 3, 3, 2), padding=((-1, 2), (-2, -1))),
    ConvCase("same", (1, 3, 8, 7), (4, 3, 4, 3), padding="same"),
    ConvCase("same-strided", (2, 3, 8, 7), (4, 3, 4, 3), stride=(3, 2), dilation=(1, 2), padding="same"),
    ConvCase("valid", (1, 3, 6, 6), (2, 3, 3, 3), padding="valid"),
    ConvCase("padding-alone", (1, 3, 1, 2), (2, 3, 3, 3), padding=4),
    ConvCase("empty-batch", (0, 3, 6, 6), (4, 3, 3, 3), padding=1),
    ConvCase("no-input-channels", (2, 0, 6, 6), (4, 0, 3, 3)),
    ConvCase("no-output-channels", (2, 3, 6, 6), (0, 3, 3, 3)),
    ConvCase("no-height", (2, 3, 0, 6), (4, 3, 3, 3), padding=2),
]

POOL_CASES = [
    PoolCase("2x2", (2, 3, 6, 8), 2),
    PoolCase("one-of-everything", (1, 1, 1, 1), 1),
    PoolCase("overlapping", (2, 9, 9, 8), 3, stride=2, padding=1),
    PoolCase("stride-1", (1, 7, 5, 6), (3, 2), stride=1),
    PoolCase("gaps", (2, 17, 9, 10), 2, stride=3),
    PoolCase("gaps-cut-short", (1, 9, 6, 13), 2, stride=(3, 5), padding=1),
    PoolCase("ceil", (1, 5, 7, 8), 3, stride=2, ceil_mode=True),
    PoolCase("ceil-with-padding", (2, 3, 8, 5), (3, 2), stride=(2, 3), padding=1, ceil_mode=True),
    PoolCase("ceil-drops-window", (1, 3, 4, 4), 2, stride=3, padding=1, ceil_mode=True),
    PoolCase("many-channels", (1, 70, 4, 5), 2, stride=1, padding=1),
    PoolCase("whole-block", (1, 64, 4, 4), 2),
    PoolCase("whole-input", (2, 3, 5, 7), (5, 7)),
    PoolCase("wide-offsets", (1, 2, 18, 17), 17, stride=5, padding=8),
    PoolCase("dilation", (2, 9, 9, 10), 3, stride=2, padding=1, dilation=2),
    PoolCase("dilation-ceil", (1, 3, 10, 9), (2, 3), stride=2, padding=(1, 0), dilation=(3, 2), ceil_mode=True),
    PoolCase("empty-batch", (0, 3, 6, 6), 2),
    PoolCase("no-channels", (2, 0, 6, 6), 2),
]
