"""A user's own images: what is read from folders and .npz files, and what bad ones get said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd.data import DataError
from autograd.images import load_images

RNG = np.random.default_rng(0)


def write(path: Path, size: tuple[int, int] = (10, 12), colour: bool = False) -> np.ndarray[Any, Any]:
    """Writes a random image of (height, width) and returns its pixels."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = RNG.integers(0, 256, (*size, 3) if colour else size, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path)
    return pixels


class TestFolders:
    def test_every_sixth_image_of_a_class_is_held_out(self, tmp_path: Path) -> None:
        pixels = {name: [write(tmp_path / name / f"{i:02}.png") for i in range(7)] for name in ("cat", "dog")}
        data = load_images(tmp_path)
        assert data.class_names == ("cat", "dog")
        np.testing.assert_array_equal(data.train_labels, [0] * 6 + [1] * 6)
        np.testing.assert_array_equal(data.test_labels, [0, 1])
        np.testing.assert_array_equal(data.test_images[:, 0], [pixels["cat"][5], pixels["dog"][5]])
        np.testing.assert_array_equal(data.train_images[:6, 0], [*pixels["cat"][:5], pixels["cat"][6]])

    def test_train_and_test_folders(self, tmp_path: Path) -> None:
        for part, count in (("train", 3), ("test", 1)):
            for name in "ab":
                for i in range(count):
                    write(tmp_path / part / name / f"{i}.PNG")
        data = load_images(tmp_path)
        assert (len(data.train_images), len(data.test_images)) == (6, 2)
        np.testing.assert_array_equal(data.train_labels, [0, 0, 0, 1, 1, 1])

    def test_one_colour_image_gives_all_three_channels(self, tmp_path: Path) -> None:
        grey = [write(tmp_path / "a" / f"{i}.png") for i in range(6)]
        colour = [write(tmp_path / "b" / f"{i}.png", colour=True) for i in range(6)]
        data = load_images(tmp_path)
        np.testing.assert_array_equal(data.train_images[0], [grey[0]] * 3)
        np.testing.assert_array_equal(data.train_images[5], colour[0].transpose(2, 0, 1))

    def test_sizes_differ_unless_scaled(self, tmp_path: Path) -> None:
        for name in "ab":
            for i in range(6):
                write(tmp_path / name / f"{i}.png", size=(20 + i, 30))
        with pytest.raises(DataError, match=r"1\.png: is 30 x 21 pixels, but .*0\.png is 30 x 20: .*--image-size"):
            load_images(tmp_path)
        assert load_images(tmp_path, image_size=16).train_images.shape == (10, 1, 16, 16)

    def test_too_few_classes(self, tmp_path: Path) -> None:
        write(tmp_path / "only" / "1.png")
        with pytest.raises(DataError, match=r"two or more classes, got \['only'\]"):
            load_images(tmp_path)

    def test_different_classes_in_the_parts(self, tmp_path: Path) -> None:
        for place in ("train/a", "train/b", "test/a", "test/c"):
            write(tmp_path / place / "1.png")
        with pytest.raises(DataError, match="the same classes"):
            load_images(tmp_path)

    def test_an_empty_class(self, tmp_path: Path) -> None:
        write(tmp_path / "a" / "1.png")
        (tmp_path / "b").mkdir()
        with pytest.raises(DataError, match="b: no image in this class"):
            load_images(tmp_path)

    def test_a_file_that_is_no_image(self, tmp_path: Path) -> None:
        for name in "ab":
            write(tmp_path / name / "1.png")
        (tmp_path / "b" / "2.png").write_bytes(b"not an image")
        with pytest.raises(DataError, match=r"2\.png: cannot be read as an image"):
            load_images(tmp_path)

    def test_too_few_to_hold_one_out(self, tmp_path: Path) -> None:
        for name in "ab":
            write(tmp_path / name / "1.png")
        with pytest.raises(DataError, match="needs 6 images of a class"):
            load_images(tmp_path)

    def test_too_small(self, tmp_path: Path) -> None:
        for name in "ab":
            for i in range(6):
                write(tmp_path / name / f"{i}.png", size=(4, 12))
        with pytest.raises(DataError, match="at least 8 pixels"):
            load_images(tmp_path)


IMAGES = RNG.integers(0, 256, (12, 9, 10), dtype=np.uint8)
LABELS = np.arange(12) % 2


class TestNpz:
    @pytest.mark.parametrize(
        ("array", "shape"),
        [
            (IMAGES, (10, 1, 9, 10)),
            (IMAGES[..., None], (10, 1, 9, 10)),
            (IMAGES[:, None], (10, 1, 9, 10)),
            (np.stack([IMAGES] * 3, axis=3), (10, 3, 9, 10)),
        ],
    )
    def test_layouts(self, array: np.ndarray[Any, Any], shape: tuple[int, ...], tmp_path: Path) -> None:
        np.savez(tmp_path / "set.npz", images=array, labels=LABELS)
        data = load_images(tmp_path / "set.npz")
        assert data.train_images.shape == shape
        np.testing.assert_array_equal(data.train_images[:, -1], IMAGES[[*range(10)]])
        assert data.class_names == ("0", "1")

    @pytest.mark.parametrize(
        "names",
        [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
    )
    def test_names(self, names: tuple[str, ...], tmp_path: Path) -> None:
        parts = (IMAGES[:8], LABELS[:8, None], IMAGES[8:], LABELS[8:])
        np.savez(tmp_path / "set.npz", **dict(zip(names, parts, strict=True)))
        data = load_images(tmp_path / "set.npz")
        np.testing.assert_array_equal(data.train_images[:, 0], IMAGES[:8])
        np.testing.assert_array_equal(data.test_labels, LABELS[8:])

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"pictures": IMAGES}, "must have arrays x_train, .* got pictures"),
            ({"images": IMAGES / 255, "labels": LABELS}, "images must be uint8, 0 to 255, got float64"),
            ({"images": IMAGES[0], "labels": LABELS}, r"images must have the shape .* got \(9, 10\)"),
            ({"images": IMAGES, "labels": LABELS[:5]}, r"labels must be 12 integers, .* got int64 of \(5,\)"),
            ({"images": IMAGES, "labels": LABELS - 1}, "labels must be between 0 and 999, got -1 to 0"),
            ({"images": IMAGES, "labels": LABELS * 0}, "two or more classes"),
            ({"images": IMAGES, "labels": LABELS + 0.5}, "labels must be 12 integers"),
        ],
    )
    def test_bad_arrays(self, arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
        np.savez(tmp_path / "set.npz", **arrays)
        with pytest.raises(DataError, match=words):
            load_images(tmp_path / "set.npz")

    def test_images_of_two_shapes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "s.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:, 1:], y_test=LABELS)
        with pytest.raises(DataError, match="one shape"):
            load_images(tmp_path / "s.npz")

    def test_a_file_that_is_no_npz(self, tmp_path: Path) -> None:
        (tmp_path / "set.npz").write_bytes(b"PK nonsense")
        with pytest.raises(DataError, match=r"set\.npz: cannot be read as an \.npz file"):
            load_images(tmp_path / "set.npz")

    def test_a_size_is_for_folders(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
        with pytest.raises(DataError, match="image size"):
            load_images(tmp_path / "set.npz", image_size=16)


@pytest.mark.parametrize(("name", "words"), [("nowhere", "no such file or folder"), ("x.txt", "must be a folder")])
def test_other_paths(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(DataError, match=words):
        load_images(tmp_path / name)
