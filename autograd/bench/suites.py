"""Suites: all convolutions of well-known networks, each distinct one once, with how often it occurs.

Batches are those of the publications where these fit into memory and patience (ResNet-20, DeepBench), else 8 images,
and 64 for LeNet-5, which was trained on one image at a time.

- resnet50: He et al. 2015 (arXiv:1512.03385), with the stride in the 3x3 convolutions, as torchvision has it.
- vgg16: Simonyan and Zisserman 2014 (arXiv:1409.1556), configuration D.
- mobilenetv2: Sandler et al. 2018 (arXiv:1801.04381).
- resnext50: Xie et al. 2016 (arXiv:1611.05431), 32x4d.
- lenet5: LeCun et al. 1998, with dense connections between the feature maps.
- resnet20: the CIFAR network of He et al., with projections where the size changes.
- deepbench: the training convolutions of Baidu's DeepBench (github.com/baidu-research/DeepBench), each at the smallest
  batch that it lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .problem import Problem

Layer = tuple[str, Problem]


@dataclass(frozen=True, slots=True)
class Case:
    """A problem of a suite; `layer` is the first of the `count` layers that it is."""

    suite: str
    layer: str
    count: int
    problem: Problem


def suite(name: str) -> list[Case]:
    """The distinct convolutions of a network, in order of appearance. Raises ValueError for an unknown name."""
    if name not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got {name!r}")
    return _distinct(name, SUITES[name]())


def read_suite(path: Path) -> list[Case]:
    """The problems of a text file, one descriptor a line; what follows # is a comment. Raises ValueError or OSError."""
    layers = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        if text:
            try:
                layers.append((f"line {number}", Problem.parse(text)))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    if not layers:
        raise ValueError(f"{path}: no problem in it")
    return _distinct(path.stem, layers)


def _distinct(name: str, layers: Iterable[Layer]) -> list[Case]:
    layers = list(layers)
    counts = Counter(problem for _, problem in layers)
    first: dict[Problem, str] = {}
    for layer, problem in layers:
        first.setdefault(problem, layer)
    return [Case(name, layer, counts[problem], problem) for problem, layer in first.items()]


def _conv(
    batch: int, c: int, size: int, k: int, kernel: int, stride: int = 1, padding: int | None = None, groups: int = 1
) -> Problem:
    """Square in everything, and padded to keep the size at stride 1 unless told otherwise."""
    padding = kernel // 2 if padding is None else padding
    return Problem(batch, c, (size, size), k, (kernel,) * 2, (stride,) * 2, (padding,) * 2, groups=groups)


def _bottlenecks(groups: int, group_width: int) -> Iterator[Layer]:
    """ResNet-50 and ResNeXt-50: four stages of blocks of 1x1, 3x3 and 1x1."""
    n = 8
    yield "conv1", _conv(n, 3, 224, 64, 7, 2)
    channels, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, out = groups * group_width << stage, 256 << stage
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and block == 0 else 1
            yield f"{name}.conv1", _conv(n, channels, size, width, 1)
            yield f"{name}.conv2", _conv(n, width, size, width, 3, stride, groups=groups)
            if block == 0:
                yield f"{name}.downsample", _conv(n, channels, size, out, 1, stride)
            size //= stride
            yield f"{name}.conv3", _conv(n, width, size, out, 1)
            channels = out


def _resnet50() -> Iterator[Layer]:
    return _bottlenecks(1, 64)


def _resnext50() -> Iterator[Layer]:
    return _bottlenecks(32, 4)


def _vgg16() -> Iterator[Layer]:
    channels, size = 3, 224
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for layer in range(1, depth + 1):
            yield f"conv{block}_{layer}", _conv(8, channels, size, width, 3)
            channels = width
        size //= 2


def _mobilenetv2() -> Iterator[Layer]:
    n = 8
    yield "conv1", _conv(n, 3, 224, 32, 3, 2)
    channels, size = 32, 112
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for stage, (expansion, out, blocks, first_stride) in enumerate(stages, 1):
        for block in range(blocks):
            name, stride, width = f"bottleneck{stage}.{block}", first_stride if block == 0 else 1, channels * expansion
            if expansion > 1:
                yield f"{name}.expand", _conv(n, channels, size, width, 1)
            yield f"{name}.depthwise", _conv(n, width, size, width, 3, stride, groups=width)
            size //= stride
            yield f"{name}.project", _conv(n, width, size, out, 1)
            channels = out
    yield "conv9", _conv(n, 320, 7, 1280, 1)


def _lenet5() -> Iterator[Layer]:
    n = 64
    yield "C1", _conv(n, 1, 32, 6, 5, padding=0)
    yield "C3", _conv(n, 6, 14, 16, 5, padding=0)
    yield "C5", _conv(n, 16, 5, 120, 5, padding=0)


def _resnet20() -> Iterator[Layer]:
    n = 128
    yield "conv1", _conv(n, 3, 32, 16, 3)
    channels, size = 16, 32
    for stage, width in enumerate((16, 32, 64), 1):
        for block in range(3):
            name, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            yield f"{name}.conv1", _conv(n, channels, size, width, 3, stride)
            if stride > 1:
                yield f"{name}.downsample", _conv(n, channels, size, width, 1, stride)
            size //= stride
            yield f"{name}.conv2", _conv(n, width, size, width, 3)
            channels = width


def _deepbench() -> Iterator[Layer]:
    for number, text in enumerate(_DEEPBENCH.strip().splitlines(), 1):
        yield str(number), Problem.parse(text)


_DEEPBENCH = """
n4c1h161w700 k32r5x20 s2 p0
n4c32h79w341 k32r5x10 s2 p0
n16c1h48w480 k16r3 s1 p1
n16c16h24w240 k32r3 s1 p1
n16c32h12w120 k64r3 s1 p1
n16c64h6w60 k128r3 s1 p1
n8c3h108w108 k64r3 s2 p1
n8c64h54w54 k64r3 s1 p1
n8c128h27w27 k128r3 s1 p1
n8c128h14w14 k256r3 s1 p1
n8c256h7w7 k512r3 s1 p1
n8c3h224w224 k64r3 s1 p1
n8c64h112w112 k128r3 s1 p1
n8c128h56w56 k256r3 s1 p1
n8c256h28w28 k512r3 s1 p1
n8c512h14w14 k512r3 s1 p1
n8c512h7w7 k512r3 s1 p1
n16c3h224w224 k64r7 s2 p3
n16c192h28w28 k32r5 s1 p2
n16c192h28w28 k64r1 s1 p0
n16c512h14w14 k48r5 s1 p2
n16c512h14w14 k192r1 s1 p0
n16c832h7w7 k256r1 s1 p0
n16c832h7w7 k128r5 s1 p2
n8c64h56w56 k64r3 s1 p1
n8c64h56w56 k256r1 s2 p0
n8c128h28w28 k128r3 s1 p1
n8c128h28w28 k512r1 s2 p0
n8c256h14w14 k256r1 s1 p0
n8c256h14w14 k256r3 s1 p1
n8c256h14w14 k1024r1 s2 p0
n8c512h7w7 k512r1 s1 p0
n8c2048h7w7 k512r1 s2 p3
n16c1h161w700 k64r5 s2 p1
n16c64h80w350 k64r3 s1 p1
n16c64h80w350 k128r5 s2 p1
n16c128h40w175 k128r3 s1 p1
n16c128h40w175 k256r5 s2 p1
n16c256h20w84 k256r3 s1 p1
n16c256h20w84 k512r5 s2 p1
n16c512h10w42 k512r3 s1 p1
n8c64h112w112 k64r1 s1 p0
n8c64h56w56 k256r1 s1 p0
n8c256h56w56 k64r1 s1 p0
n8c256h56w56 k128r1 s2 p0
n8c128h28w28 k512r1 s1 p0
n8c512h28w28 k128r1 s1 p0
n8c512h28w28 k256r1 s2 p0
n8c256h14w14 k1024r1 s1 p0
n8c512h28w28 k1024r1 s2 p0
n8c1024h14w14 k256r1 s1 p0
n8c1024h14w14 k512r1 s2 p0
n8c512h7w7 k2048r1 s1 p0
n8c1024h14w14 k2048r1 s2 p0
n8c2048h7w7 k512r1 s1 p0
"""

SUITES: dict[str, Callable[[], Iterator[Layer]]] = {
    "resnet50": _resnet50,
    "vgg16": _vgg16,
    "mobilenetv2": _mobilenetv2,
    "resnext50": _resnext50,
    "lenet5": _lenet5,
    "resnet20": _resnet20,
    "deepbench": _deepbench,
}
