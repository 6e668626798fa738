"""A user's own images: a folder with a folder for each class, or an .npz file, as the same `ImageDataset` as any other.

A folder of images is what cameras and downloads give:

    pictures/cat/1.png, pictures/cat/2.jpg, ..., pictures/dog/1.png, ...

or the same twice, in `pictures/train` and `pictures/test`. An `.npz` file has arrays of the names that published data
sets use: `x_train, y_train, x_test, y_test`, or `train_images, train_labels, test_images, test_labels`, or one pair
`images, labels`. Where there is no held-out part, every sixth image of each class, in order, becomes it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import integer
from .data import DataError, ImageDataset

__all__ = ["SUFFIXES", "load_images"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NAMES = (  # in an .npz file: images and labels to learn from, then those held out
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels"),
)
HELD_OUT = 6  # every sixth image, as in the embedded set

_Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load_images(path: str | Path, image_size: int | None = None) -> ImageDataset:
    """Returns the images in a folder (one folder a class) or in an `.npz` file.

    path: the folder, for which Pillow is needed, or the file. image_size: scale every image of a folder to a square of
    so many pixels; without it, all must have one size. Images are grey if all are, and else have three channels.

    Raises DataError, which says what is wrong and where, for anything that cannot be learned from: no such path, a
    file that is no image, different sizes, fewer than two classes, wrong shapes or dtypes.
    """
    path = Path(path)
    if image_size is not None:
        integer("load_images", "image_size", image_size, least=8)
    if path.is_dir():
        return _from_folder(path, image_size)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix != ".npz":
        raise DataError(f"{path}: must be a folder with one folder of images a class, or an .npz file")
    if image_size is not None:
        raise DataError(f"{path}: an image size can be chosen for a folder of images, not for an .npz file")
    return _from_npz(path)


def _from_folder(path: Path, image_size: int | None) -> ImageDataset:
    parts = [path / "train", path / "test"]
    split = all(part.is_dir() for part in parts)
    classes = [folder.name for folder in _folders(parts[0] if split else path)]
    if len(classes) < 2:
        raise DataError(f"{path}: must have one folder of images for each of two or more classes, got {classes}")
    if split and (held_out := [folder.name for folder in _folders(parts[1])]) != classes:
        raise DataError(f"{path}: train and test must have the same classes, got {classes} and {held_out}")
    files: list[tuple[Path, int]] = []
    sizes = []
    for part in parts if split else [path]:
        start = len(files)
        for label, name in enumerate(classes):
            found = sorted(file for file in (part / name).iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(f"{part / name}: no image in this class ({', '.join(SUFFIXES)})")
            files += [(file, label) for file in found]
        sizes.append(len(files) - start)
    images = _read_all([file for file, _ in files], image_size)
    labels = np.array([label for _, label in files], np.int64)
    if split:
        return _dataset(
            (images[: sizes[0]], labels[: sizes[0]]), (images[sizes[0] :], labels[sizes[0] :]), classes, path
        )
    return _dataset(*_hold_out((images, labels), path), classes, path)


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _read_all(files: list[Path], image_size: int | None) -> NDArray[np.uint8]:
    """All images, (N, 1 or 3, H, W)."""
    from PIL import Image, ImageOps

    arrays: list[NDArray[np.uint8]] = []
    for file in files:
        try:
            with Image.open(file) as image:
                grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
                upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(f"{file}: cannot be read as an image: {error}") from error
        if image_size is not None:
            upright = ImageOps.fit(upright, (image_size, image_size))
        array = np.asarray(upright)
        array = array[None] if grey else array.transpose(2, 0, 1)
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            (h, w), (h0, w0) = array.shape[1:], arrays[0].shape[1:]
            raise DataError(
                f"{file}: is {w} x {h} pixels, but {files[0]} is {w0} x {h0}: "
                "images must have one size, or be scaled (--image-size 32)"
            )
        arrays.append(array)
    channels = max(len(array) for array in arrays)
    return np.stack([np.broadcast_to(array, (channels, *array.shape[1:])) for array in arrays])


def _from_npz(path: Path) -> ImageDataset:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz file of arrays: {error}") from error
    names = next((names for names in NAMES if set(names) <= arrays.keys()), None)
    if names is None:
        wanted = "; or ".join(", ".join(names) for names in NAMES)
        raise DataError(f"{path}: must have arrays {wanted}; got {', '.join(arrays) or 'none'}")
    parts = [
        (_as_images(path, image, arrays[image]), _as_labels(path, label, arrays[label], len(arrays[image])))
        for image, label in zip(names[::2], names[1::2], strict=True)
    ]
    classes = [str(i) for i in range(1 + max(int(labels.max()) for _, labels in parts))]
    if len(classes) < 2:
        raise DataError(f"{path}: {names[1]} must have two or more classes, got only 0")
    train, test = parts if len(parts) == 2 else _hold_out(parts[0], path)
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(f"{path}: images must have one shape, got {train[0].shape[1:]} and {test[0].shape[1:]}")
    return _dataset(train, test, classes, path)


def _as_images(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise DataError(f"{path}: {name} must be uint8, 0 to 255, got {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
        shapes = "(N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels C"
        raise DataError(f"{path}: {name} must have the shape {shapes}, got {array.shape}")
    return np.ascontiguousarray(array)


def _as_labels(path: Path, name: str, array: NDArray[Any], count: int) -> NDArray[np.int64]:
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise DataError(f"{path}: {name} must be {count} integers, one an image, got {array.dtype} of {array.shape}")
    if array.min() < 0 or array.max() > 999:
        raise DataError(f"{path}: {name} must be between 0 and 999, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _hold_out(part: _Part, path: Path) -> tuple[_Part, _Part]:
    """Splits off every sixth image of each class."""
    images, labels = part
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[HELD_OUT - 1 :: HELD_OUT]] = True
    if not held_out.any():
        raise DataError(f"{path}: needs {HELD_OUT} images of a class, so that one can be held out; got {len(labels)}")
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def _dataset(train: _Part, test: _Part, classes: list[str], path: Path) -> ImageDataset:
    if min(train[0].shape[2:]) < 8:
        raise DataError(f"{path}: images must be at least 8 pixels high and wide, got {train[0].shape[2:]}")
    return ImageDataset(*train, *test, tuple(classes), f"your images ({path})")
