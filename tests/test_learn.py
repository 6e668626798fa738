"""The main job and the command line: training, the sums that must come out, the picture, and what bad input gets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autograd import learn
from autograd.__main__ import main
from autograd.data import ImageDataset, fashion_mnist


@pytest.fixture(scope="module")
def few() -> ImageDataset:
    data = fashion_mnist()
    return dataclasses.replace(
        data,
        train_images=data.train_images[:640],
        train_labels=data.train_labels[:640],
        test_images=data.test_images[:200],
        test_labels=data.test_labels[:200],
    )


@pytest.fixture(scope="module")
def learned(few: ImageDataset) -> learn.Learned:
    return learn.train(few, epochs=3)


def test_it_learns(learned: learn.Learned) -> None:
    losses = [epoch.loss for epoch in learned.epochs]
    assert losses == sorted(losses, reverse=True)
    assert learned.epochs[-1].accuracy > 0.5  # chance is 0.1


def test_every_weight_is_what_it_was_plus_the_sum_of_its_steps(learned: learn.Learned) -> None:
    # Each of the 60 steps rounds once, by half a unit in the last place of a weight below 0.5.
    assert learned.discrepancy() < 60 * 2**-26
    moved = max(float(np.abs(move).max()) for move in learned.moves.values())
    assert moved > 1e-2


def test_a_seed_fixes_every_bit(few: ImageDataset, learned: learn.Learned) -> None:
    again = learn.train(few, epochs=3)
    for name, array in again.model.state_dict().items():
        np.testing.assert_array_equal(array, learned.model.state_dict()[name])
    other = learn.network(seed=1).state_dict()
    assert all((array != again.before[name]).any() for name, array in other.items())


@pytest.mark.parametrize("activation", learn.ACTIVATIONS)
def test_activations(activation: str, few: ImageDataset) -> None:
    fewer = dataclasses.replace(few, train_images=few.train_images[:96], train_labels=few.train_labels[:96])
    result = learn.train(fewer, activation, epochs=1)
    assert result.discrepancy() < 1e-5
    assert np.isfinite(result.epochs[0].loss)


def test_the_picture_is_drawn(learned: learn.Learned, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    learn.draw(learned, tmp_path / "new" / "filters.png")
    pixels = image.imread(tmp_path / "new" / "filters.png")
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 100


def test_learn_from_the_command_line(
    few: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("rich", reason="rich is not installed")
    monkeypatch.setattr("autograd.__main__.fashion_mnist", lambda full: few)
    out = tmp_path / "picture.png"
    assert main(["learn", "--epochs", "2", "--activation", "tanh", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "epoch  2/2" in printed
    assert "Held-out accuracy" in printed
    assert "40 steps" in printed
    assert out.read_bytes().startswith(b"\x89PNG")


def test_info_names_what_is_in_use() -> None:
    result = subprocess.run([sys.executable, "-m", "autograd", "info"], capture_output=True, text=True, check=True)
    for word in ("convgrad", "NumPy", "instruction set", "threads", "data:"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learn", "--epochs", "0"], "must be a positive integer, got '0'"),
        (["learn", "--activation", "swish"], "invalid choice: 'swish'"),
        (["learn", "--seed", "-1"], "must be an integer that is not negative, got '-1'"),
        (["teach"], "invalid choice: 'teach'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments_get_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_a_wrong_value_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main(["learn", "--learning-rate", "-1"]) == 2
    assert capsys.readouterr().err == "autograd learn: --learning-rate must be positive, got -1.0\n"


@pytest.mark.parametrize("out", [".", "picture", "picture.xyz", ""])
def test_a_picture_that_cannot_be_written_is_refused_before_training(
    out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr("autograd.__main__.train", lambda *args: pytest.fail("it trained"))
    assert main(["learn", "--out", out]) == 2
    assert capsys.readouterr().err.startswith("autograd learn: the picture")


def test_divergence_is_an_error(few: ImageDataset) -> None:
    with pytest.raises(ValueError, match=r"train: the loss is (nan|inf) in epoch \d; try a smaller learning rate"):
        learn.train(few, epochs=2, learning_rate=1e4)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["learn"]) == 2
    assert "pip install 'convgrad[learn]'" in capsys.readouterr().err
