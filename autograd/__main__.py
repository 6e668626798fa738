"""The command line: `learn` trains on real images, `bench` measures, `info` says what is in use."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from . import __version__, kernels
from .bench.commands import add_commands
from .data import DataError, ImageDataset, fashion_mnist, find_fashion_mnist
from .images import load_images
from .learn import ACTIVATIONS, Epoch, train
from .page import check_page, write_page
from .page.story import tell


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, or 2 after a line that says what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if "threads" in options:
            kernels.set_num_threads(options.threads)
        code: int = options.run(options)
    except (DataError, ValueError, OSError) as error:
        print(f"autograd {options.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"autograd {options.command}: pip install 'convgrad[learn]' for {error.name}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nautograd {options.command}: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m autograd",
        description="Automatic differentiation that lets you see what a convolution learns.",
        epilog="Start with: python -m autograd learn",
    )
    parser.add_argument("--version", action="version", version=f"convgrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    learn = commands.add_parser(
        "learn",
        help="train a small convolutional network on real images and show what its filters learned",
        description="Trains a small convolutional network on images of clothes (Fashion-MNIST, 28 x 28 pixels, ten "
        "kinds), which come with the package, or on your own. Prints the accuracy on images that it was not trained "
        "on, and ends with a page to open in a browser: what every filter was, what its gradients added, what it "
        "became, and where each number comes from.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    learn.add_argument(
        "--data",
        default="embedded",
        metavar="PATH",
        help="your images: a folder with a folder for each class, or an .npz file; or 'embedded', the 6,000 images in "
        "the package; or 'full', all 70,000 of them: from $AUTOGRAD_DATA, this machine, or a 30 MB download",
    )
    learn.add_argument(
        "--image-size",
        type=_positive,
        default=argparse.SUPPRESS,
        help="scale the images of your folder to squares of so many pixels (default: as they are)",
    )
    learn.add_argument("--epochs", type=_positive, default=20, help="how often to go through all training images")
    learn.add_argument(
        "--steps", type=_positive, default=argparse.SUPPRESS, help="train for so many steps instead of epochs"
    )
    learn.add_argument("--batch-size", type=_positive, default=32, help="images per step")
    learn.add_argument(
        "--learning-rate", type=float, default=0.06, help="of the first epoch; it then falls to almost 0"
    )
    learn.add_argument("--activation", choices=tuple(ACTIVATIONS), default="relu", help="between the layers")
    learn.add_argument("--seed", type=_seed, default=0, help="fixes the first weights and the order of the images")
    learn.add_argument("--out", type=Path, default=Path("learned/report.html"), help="where to write the page")
    learn.set_defaults(run=_learn)

    says = "show versions, instruction set, threads, and where data was found"
    info = commands.add_parser("info", help=says, description=says.capitalize() + ".")
    info.set_defaults(run=_info)

    says = "measure, and compare with a peer if there is one"
    bench = commands.add_parser("bench", help=says, description=says.capitalize() + ".")
    add_commands(bench)
    for command in (learn, info):
        command.add_argument(
            "--threads", type=_positive, default=argparse.SUPPRESS, help="for convolution and pooling (default: all)"
        )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer that is not negative, got {text!r}")
    return int(text)


def _learn(options: argparse.Namespace) -> int:
    import jinja2  # noqa: F401 (found missing before the training, not after it)
    import plotly  # noqa: F401
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from threadpoolctl import threadpool_limits

    check_page(options.out)
    if not 0 < options.learning_rate < float("inf"):
        raise ValueError(f"--learning-rate must be positive, got {options.learning_rate}")
    console = Console(soft_wrap=True, highlight=False)
    data = _images(options)
    console.print(
        f"{len(data.train_images):,} training and {len(data.test_images):,} held-out images: {data.source}",
        markup=False,
    )
    steps_of_epoch = -(-len(data.train_images) // options.batch_size)
    steps = options.steps if "steps" in options else steps_of_epoch * options.epochs
    epochs = -(-steps // steps_of_epoch)
    start = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The dense layers are too small for threads of NumPy's BLAS, which spin while they wait: where other programs use a
    # core as well, they make the whole training several times slower.
    with threadpool_limits(1, "blas"), Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("training", total=steps)

        def on_step(epoch: int, loss: float) -> None:
            progress.update(bar, advance=1, description=f"epoch {epoch + 1:2}/{epochs}  loss {loss:.3f}")

        def on_epoch(epoch: int, result: Epoch) -> None:
            progress.console.print(
                f"epoch {epoch + 1:2}/{epochs}  training loss {result.loss:.3f}  "
                f"held-out accuracy {result.accuracy:.1%}  {result.seconds:.1f} s",
            )

        learned = train(
            data,
            options.activation,
            options.epochs,
            options.batch_size,
            options.learning_rate,
            options.seed,
            steps,
            on_step,
            on_epoch,
        )
        bar = progress.add_task("looking", total=None)
        story = tell(
            learned, data, on_section=lambda name: progress.update(bar, advance=1, description=f"looking at: {name}")
        )
    write_page(story, options.out)
    console.print(
        f"\n{time.perf_counter() - start:.0f} s in all. Held-out accuracy: {learned.epochs[-1].accuracy:.1%}.\n"
        f"Every weight of every filter is what it was, plus the sum over {steps:,} steps of -rate x gradient, to "
        f"within {story['film']['discrepancy']:.1e}: rounding."
    )
    console.print(f"The page that shows how, to be opened in a browser: {options.out}", markup=False)
    return 0


def _images(options: argparse.Namespace) -> ImageDataset:
    size = getattr(options, "image_size", None)
    if options.data not in ("embedded", "full"):
        return load_images(options.data, size)
    if size is not None:
        raise ValueError("--image-size is for a folder of your own images, --data PATH")
    return fashion_mnist(full=options.data == "full")


def _info(options: argparse.Namespace) -> int:
    lines = {
        "convgrad": __version__,
        "Python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "NumPy": np.__version__,
        "instruction set": f"{kernels.isa()} (of {', '.join(kernels.supported_isas())}; AUTOGRAD_ISA caps it)",
        "threads": f"{kernels.get_num_threads()} of {os.cpu_count()} processors (AUTOGRAD_NUM_THREADS sets it)",
    }
    for package in ("plotly", "rich", "pooch"):
        lines[package] = _version(package)
    lines |= {f"data: {place}": status for place, status in find_fashion_mnist()}
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")
    return 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
