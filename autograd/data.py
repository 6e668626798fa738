"""Real images: Fashion-MNIST (a subset inside the package, the full set when it can be found), and batches of arrays.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; MIT licence, Zalando SE) is 70,000 grey images of 28x28
pixels in ten classes of clothing, published as four files in MNIST's IDX format: a big-endian header (a magic number
whose last byte counts the dimensions, then each size), then one byte a value.

The subset in `autograd/fashion_mnist/` is the first 500 training and the first 100 test images of each class, in
upstream order, so anyone who has the full set can select it again. The full set is looked for in `$AUTOGRAD_DATA`, in
the folder of Debian's package `dataset-fashion-mnist` and in the user's cache, and is otherwise downloaded into the
cache. Every file, wherever it comes from and compressed or not, must have the SHA-256 recorded here for its raw IDX
content: gzip files of the same content differ from one compressor to the next, the content does not.
"""

import gzip
import hashlib
import io
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import flag, generator, integer, number

__all__ = ["CLASS_NAMES", "DataError", "ImageDataset", "batches", "fashion_mnist", "find_fashion_mnist", "normalise"]

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

MEAN, STD = 0.28604, 0.35302
"""Mean and standard deviation of all pixels of the 60,000 training images, on the scale where 255 is 1."""

UPSTREAM = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
EMBEDDED = Path(__file__).parent / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


class DataError(ValueError):
    """A data file is missing, unreachable, damaged, or not the file that it should be."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images in two parts, one to learn from and one held out.

    Images are uint8 (N, C, H, W), 0 to 255; labels are int64 (N,), indices into `class_names`. `source` tells a reader
    where the data was found. The arrays of `fashion_mnist()` are read-only.
    """

    train_images: NDArray[np.uint8] = field(repr=False)
    train_labels: NDArray[np.int64] = field(repr=False)
    test_images: NDArray[np.uint8] = field(repr=False)
    test_labels: NDArray[np.int64] = field(repr=False)
    class_names: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class _IdxFile:
    """What one IDX file of unsigned bytes must be: its name, the array in it, and the SHA-256 of its raw content."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """0, 0, 8 (the code of unsigned bytes), the number of dimensions, then each size in four bytes."""
        return struct.pack(f">4B{len(self.shape)}I", 0, 0, 8, len(self.shape), *self.shape)


def _four_files(train: int, test: int, *checksums: str) -> tuple[_IdxFile, ...]:
    """The files of a set with that many images in each part, in the order of ImageDataset's arrays."""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    shapes = ((train, 28, 28), (train,), (test, 28, 28), (test,))
    return tuple(map(_IdxFile, names, shapes, checksums))


_FULL = _four_files(
    60_000,
    10_000,
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
_SUBSET = _four_files(
    5_000,
    1_000,
    "444ed5f7ce17397f236f5eba17dd507d3f6912f04edd3e4f1701cdf82f2cc0c5",
    "35d691216f65485d010cc635af5574a9dc04aa5060de9be64ab6e5cb5ead38e9",
    "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
    "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
)


def fashion_mnist(full: bool = False) -> ImageDataset:
    """Return Fashion-MNIST: the embedded subset (5,000 + 1,000 images), or the full set (60,000 + 10,000).

    Images are uint8 (N, 1, 28, 28). The full set is taken from the first place that has all four files, as `.gz` or
    raw IDX: `$AUTOGRAD_DATA`, `/usr/share/datasets/fashion-mnist`, the user's cache; else it is downloaded into
    that cache (30 MB), for which pooch is needed: `pip install 'convgrad[learn]'`.

    Raises DataError when a file fails its checksum (naming the file, the expected and the actual SHA-256), when
    `$AUTOGRAD_DATA` is set and is no folder, and when the full set is neither there nor downloadable.
    """
    flag("fashion_mnist", "full", full)
    if not full:
        return _load(EMBEDDED, _SUBSET, "subset embedded in the package")
    if (chosen := _chosen_folder()) and not os.path.isdir(chosen):
        raise DataError(f"fashion_mnist: $AUTOGRAD_DATA must name a folder, got {str(chosen)!r}")
    cache = _cache_folder()
    for folder in filter(None, (chosen, DEBIAN, cache)):
        if not _missing(folder):
            return _load(folder, _FULL, "full set")
    _download(cache)
    return _load(cache, _FULL, f"full set, downloaded from {UPSTREAM}")


def find_fashion_mnist() -> list[tuple[str, str]]:
    """Return (place, status) for every place where `fashion_mnist` looks, in its order; no file is read or verified."""
    places = [(str(EMBEDDED), "subset, part of the package")]
    chosen = _chosen_folder()
    if chosen is None:
        places.append(("$AUTOGRAD_DATA", "not set"))
    for folder in filter(None, (chosen, DEBIAN, _cache_folder())):
        missing = _missing(folder)
        if not os.path.isdir(folder):
            status = "no such folder"
        elif missing:
            status = f"incomplete: without {', '.join(missing)}"
        else:
            status = "full set"
        places.append((f"$AUTOGRAD_DATA = {folder}" if folder is chosen else str(folder), status))
    return places


def normalise(images: NDArray[np.uint8], mean: float | None = None, std: float | None = None) -> NDArray[np.float32]:
    """Return `(images / 255 - mean) / std` as float32, in the shape of `images`, a uint8 array of any shape.

    Without `mean` and `std` those of Fashion-MNIST's full training set are used (0.28604 and 0.35302), always the same
    two numbers, so training and held-out images, the subset and the full set, are all put on one scale.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise TypeError(f"normalise: images must be a uint8 array, got {_kind(images)}")
    mean = MEAN if mean is None else number("normalise", "mean", mean)
    std = STD if std is None else number("normalise", "std", std)
    if std <= 0:
        raise ValueError(f"normalise: std must be positive, got {std}")
    scaled = images.astype(np.float32)
    scaled -= 255 * mean
    scaled /= 255 * std
    return scaled


class batches:
    """Tuples of `batch_size` matching items of `arrays`; used like `range`, each `for` over it is one epoch.

        epochs = batches(images, labels, batch_size=64, rng=0)
        for epoch in range(10):
            for x, y in epochs: ...

    The arrays share their first axis. With `shuffle`, every epoch has a new order, drawn from `rng`: a NumPy Generator,
    or a seed for one (the same seed gives the same epochs), or None for an order that cannot be repeated. Shuffled
    batches are copies, batches in order are views. The last batch is short when `batch_size` does not divide the
    number of items, or left out with `drop_last`. `len()` is the number of batches in an epoch.

    Raises TypeError for arguments of the wrong kind, ValueError for 0-d arrays, unequal lengths, `batch_size` below 1
    and a negative seed.
    """

    def __init__(
        self,
        *arrays: NDArray[Any],
        batch_size: int,
        shuffle: bool = True,
        rng: np.random.Generator | int | None = None,
        drop_last: bool = False,
    ) -> None:
        if not arrays:
            raise TypeError("batches: at least one array is needed, got none")
        for position, array in enumerate(arrays):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"batches: arrays[{position}] must be a NumPy array, got {_kind(array)}")
            if array.ndim == 0:
                raise ValueError(f"batches: arrays[{position}] must have at least one axis, got shape ()")
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            raise ValueError(f"batches: arrays must have equal lengths, got {lengths}")
        self.arrays = arrays
        self.batch_size = integer("batches", "batch_size", batch_size, least=1)
        self.shuffle = flag("batches", "shuffle", shuffle)
        self.drop_last = flag("batches", "drop_last", drop_last)
        self.rng = generator("batches", rng)

    def __len__(self) -> int:
        count, rest = divmod(len(self.arrays[0]), self.batch_size)
        return count + 1 if rest and not self.drop_last else count

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        order = self.rng.permutation(len(self.arrays[0])) if self.shuffle else None
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            span = slice(start, start + self.batch_size)
            chosen = span if order is None else order[span]
            yield tuple(array[chosen] for array in self.arrays)


def _kind(value: object) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _chosen_folder() -> Path | None:
    """The folder that the user named in the environment."""
    value = os.environ.get("AUTOGRAD_DATA")
    return Path(value) if value else None


def _cache_folder() -> Path:
    """The user's cache where `pooch.os_cache` has it, but found without pooch: once filled, it serves without it."""
    home = Path.home()
    default = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "convgrad" / "fashion-mnist"


def _path(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, raw or else compressed."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if os.path.isfile(path)), None)


def _missing(folder: Path) -> list[str]:
    """The names of the full set that are not in `folder`."""
    return [file.name for file in _FULL if _path(folder, file.name) is None]


def _load(folder: Path, files: tuple[_IdxFile, ...], source: str) -> ImageDataset:
    arrays = []
    for file in files:
        path = _path(folder, file.name)
        if path is None:
            raise DataError(f"fashion_mnist: {folder / file.name}.gz is missing")
        arrays.append(_read(path, file, str(path)))
    train_images, train_labels, test_images, test_labels = arrays
    return ImageDataset(
        train_images[:, None],
        _as_labels(train_labels),
        test_images[:, None],
        _as_labels(test_labels),
        CLASS_NAMES,
        f"{source} ({folder})",
    )


def _as_labels(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    labels = values.astype(np.int64)
    labels.flags.writeable = False
    return labels


def _read(path: Path, file: _IdxFile, origin: str) -> NDArray[np.uint8]:
    """Return the array in the file at `path`; unless it is exactly `file`, raise DataError about `origin`."""
    raw, damage = _raw_content(path)
    actual = hashlib.sha256(raw).hexdigest()
    if damage or actual != file.sha256:
        raise DataError(
            f"fashion_mnist: {origin} is damaged or not the right file: {damage or _difference(raw, file)}; "
            f"SHA-256 of the raw content: expected {file.sha256}, actual {actual}"
        )
    return np.frombuffer(raw, np.uint8, offset=len(file.header)).reshape(file.shape)


def _raw_content(path: Path) -> tuple[bytes, str]:
    """Return the content of a file without its compression, as far as it can be read, and what went wrong, if anything.

    Compression is recognised by its first two bytes: some servers and browsers strip it and keep the name.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"fashion_mnist: cannot read {path}: {error.strerror}") from error
    if not content.startswith(b"\x1f\x8b"):
        return content, ""
    raw = bytearray()
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            # read1, unlike read, keeps what was decompressed before the damage.
            while chunk := stream.read1(1 << 20):
                raw += chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return bytes(raw), f"its gzip stream breaks after {len(raw)} bytes of content ({error})"
    return bytes(raw), ""


def _difference(raw: bytes, file: _IdxFile) -> str:
    """Say how `raw` differs from the content of `file`."""
    if raw[:4] != file.header[:4]:
        return f"its IDX magic number must be 0x{file.header[:4].hex()}, got 0x{raw[:4].hex()}"
    if raw[: len(file.header)] != file.header:
        sizes = raw[4 : len(file.header)]
        shape = struct.unpack(f">{len(sizes) // 4}I", sizes[: len(sizes) // 4 * 4])
        return f"its IDX header must give the shape {file.shape}, got {shape}"
    size = len(file.header) + math.prod(file.shape)
    if len(raw) != size:
        return f"its content must have {size} bytes, got {len(raw)}"
    return "its header is right, its values are not"


def _download(folder: Path) -> None:
    """Download into `folder` what it lacks of the full set; a file arrives there only complete and verified."""
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            "fashion_mnist: the full set was not found, and downloading it needs pooch: pip install 'convgrad[learn]'; "
            f"or put its files into a folder named by $AUTOGRAD_DATA ({UPSTREAM})"
        ) from error
    wanted = {f"{file.name}.gz": file for file in _FULL if _path(folder, file.name) is None}
    # No checksums for pooch: it would compare them with the compressed files.
    store = pooch.create(path=folder, base_url=UPSTREAM, registry=dict.fromkeys(wanted))
    http = pooch.HTTPDownloader()

    def get_verified(url: str, temporary: str, store: object) -> None:
        http(url, temporary, store)
        _read(Path(temporary), wanted[url.rpartition("/")[2]], url)

    for name in wanted:
        try:
            store.fetch(name, downloader=get_verified)
        except OSError as error:
            raise DataError(
                f"fashion_mnist: cannot download {UPSTREAM}{name} into {folder}: {error}; without a network, "
                "put the files of the full set into a folder named by $AUTOGRAD_DATA"
            ) from error
