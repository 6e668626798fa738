"""The main job and the command line: training, the sums that must come out, and what bad input gets."""

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


def test_every_filter_is_what_it_was_plus_the_sum_of_its_steps(learned: learn.Learned) -> None:
    for name in ("conv1.weight", "conv2.weight"):
        reel = learned.film[name]
        # Each of the 60 steps rounds once, by half a unit in the last place of a weight below 0.5.
        assert reel.discrepancy < 60 * 2**-26
        assert reel.same_memory
        assert np.abs(reel.moved).max() > 1e-2
        np.testing.assert_array_equal(reel.end, dict(learned.model.named_parameters())[name].data)


def test_a_seed_fixes_every_bit(few: ImageDataset, learned: learn.Learned) -> None:
    again = learn.train(few, epochs=3)
    for name, array in again.model.state_dict().items():
        np.testing.assert_array_equal(array, learned.model.state_dict()[name])
    start = again.fresh().state_dict()
    np.testing.assert_array_equal(start["conv1.weight"], again.film["conv1.weight"].start)
    other = learn.network(seed=1).state_dict()
    assert all((array != start[name]).any() for name, array in other.items())


def test_steps_instead_of_epochs(few: ImageDataset) -> None:
    result = learn.train(few, steps=25)
    assert len(result.losses) == result.film.steps == 25
    assert len(result.epochs) == 2


def test_images_of_another_shape_and_number_of_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 3
    images = np.clip(rng.normal(60 + 60 * labels[:, None, None, None], 20, (96, 3, 13, 17)), 0, 255).astype(np.uint8)
    data = ImageDataset(images, labels, images[:30], labels[:30], ("dark", "grey", "light"), "made up")
    result = learn.train(data, epochs=4)
    assert result.layer.weight.shape == (16, 3, 7, 7)
    assert abs(result.images.mean()) < 1e-3
    assert result.images.std() == pytest.approx(1, abs=1e-3)
    assert result.epochs[-1].accuracy > 0.6  # chance is 1 / 3


@pytest.mark.parametrize("activation", learn.ACTIVATIONS)
def test_activations(activation: str, few: ImageDataset) -> None:
    fewer = dataclasses.replace(few, train_images=few.train_images[:96], train_labels=few.train_labels[:96])
    result = learn.train(fewer, activation, epochs=1)
    assert result.film["conv1.weight"].discrepancy < 1e-5
    assert np.isfinite(result.epochs[0].loss)


def command(few: ImageDataset, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs `learn` on few images, without the page's numbers, which have tests of their own."""
    for package in ("jinja2", "plotly", "rich", "threadpoolctl"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.setattr("autograd.__main__.fashion_mnist", lambda full: few)
    monkeypatch.setattr("autograd.__main__.tell", lambda learned, data, **_: {"film": {"discrepancy": 1e-7}})
    monkeypatch.setattr("autograd.__main__.write_page", lambda told, path: path.write_text("page"))
    return main(["learn", *arguments])


def test_learn_from_the_command_line(
    few: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "report.html"
    assert command(few, monkeypatch, "--epochs", "2", "--activation", "tanh", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "epoch  2/2" in printed
    assert "Held-out accuracy" in printed
    assert "40 steps" in printed
    assert str(out) in printed
    assert out.read_text() == "page"


def test_learn_from_your_own_images(
    few: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.npz"
    np.savez(path, images=few.train_images[:120], labels=few.train_labels[:120])
    out = str(tmp_path / "report.html")
    assert command(few, monkeypatch, "--data", str(path), "--steps", "5", "--out", out) == 0
    printed = capsys.readouterr().out
    assert f"your images ({path})" in printed
    assert "over 5 steps" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--image-size", "16"], "--image-size is for a folder of your own images"),
    ],
)
def test_images_that_cannot_be_had(
    arguments: list[str],
    words: str,
    few: ImageDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(few, monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


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
    pytest.importorskip("plotly", reason="plotly is not installed")
    assert main(["learn", "--learning-rate", "-1"]) == 2
    assert capsys.readouterr().err == "autograd learn: --learning-rate must be positive, got -1.0\n"


@pytest.mark.parametrize("out", [".", "page", "page.png", ""])
def test_a_page_that_cannot_be_written_is_refused_before_training(
    out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed")
    monkeypatch.setattr("autograd.__main__.train", lambda *args: pytest.fail("it trained"))
    assert main(["learn", "--out", out]) == 2
    assert capsys.readouterr().err.startswith("autograd learn: the page's name must end in .html")


def test_divergence_is_an_error(few: ImageDataset) -> None:
    with pytest.raises(ValueError, match=r"train: the loss is (nan|inf) in epoch \d; try a smaller learning rate"):
        learn.train(few, epochs=2, learning_rate=1e4)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["learn"]) == 2
    assert "pip install 'convgrad[learn]'" in capsys.readouterr().err
