"""The embedded images are the selection that is documented, every damaged file is named with both checksums, the full
set is found or downloaded in the documented order, and batches are a partition of their arrays.

Where a test needs a full set it passes the embedded subset off as one, so that nothing depends on the machine or the
network; the tests of the real full set are skipped where it is absent.
"""

import gzip
import hashlib
import http.server
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograd import data

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LABELS = "t10k-labels-idx1-ubyte"


def arrays_of(dataset):
    return dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels


def raw_content(name):
    return gzip.decompress((data.EMBEDDED / f"{name}.gz").read_bytes())


def put_files(folder, names=NAMES):
    """Copy embedded files to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(data.EMBEDDED / f"{name}.gz", folder)
    return folder


@pytest.fixture(scope="module")
def real_full_set():
    if data._missing(data.DEBIAN):
        pytest.skip(f"the full Fashion-MNIST is not in {data.DEBIAN}")
    return data.fashion_mnist(full=True)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places of the full set, empty, with the embedded files as what they must hold."""
    chosen, debian, cache = tmp_path / "chosen", tmp_path / "debian", tmp_path / "cache" / "convgrad" / "fashion-mnist"
    chosen.mkdir()
    monkeypatch.setenv("AUTOGRAD_DATA", str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "DEBIAN", debian)
    monkeypatch.setattr(data, "_FULL", data._SUBSET)
    if sys.platform == "darwin":
        monkeypatch.setattr(data, "_cache_folder", lambda: cache)
    return chosen, debian, cache


# The embedded subset.


def test_subset_is_balanced_uint8_images_with_int64_labels():
    subset = data.fashion_mnist()
    shapes_and_dtypes = [(array.shape, array.dtype.name) for array in arrays_of(subset)]
    assert shapes_and_dtypes == [
        ((5000, 1, 28, 28), "uint8"),
        ((5000,), "int64"),
        ((1000, 1, 28, 28), "uint8"),
        ((1000,), "int64"),
    ]
    assert np.bincount(subset.train_labels).tolist() == [500] * 10
    assert np.bincount(subset.test_labels).tolist() == [100] * 10
    assert len(subset.class_names) == 10
    assert subset.class_names[9] == "Ankle boot"
    assert str(data.EMBEDDED) in subset.source
    assert not any(array.flags.writeable for array in arrays_of(subset))


def test_subset_is_the_first_of_each_class_in_upstream_order(real_full_set):
    full, subset = real_full_set, data.fashion_mnist()
    for count, images, labels, kept_images, kept_labels in (
        (500, full.train_images, full.train_labels, subset.train_images, subset.train_labels),
        (100, full.test_images, full.test_labels, subset.test_images, subset.test_labels),
    ):
        seen = dict.fromkeys(range(10), 0)
        kept = []
        for index, label in enumerate(labels.tolist()):
            if seen[label] < count:
                seen[label] += 1
                kept.append(index)
        assert np.array_equal(images[kept], kept_images)
        assert np.array_equal(labels[kept], kept_labels)


def test_subset_is_small_reproducible_and_licensed():
    assert sum(path.stat().st_size for path in data.EMBEDDED.iterdir() if path.is_file()) < 2_700_000
    for name in NAMES:
        # Bytes 3 to 7 of a gzip header are flags (no file name) and the time stamp.
        assert (data.EMBEDDED / f"{name}.gz").read_bytes()[3:8] == bytes(5)
    licence = (data.EMBEDDED / "LICENSE").read_text()
    assert "MIT License" in licence
    assert "Copyright (c) 2017 Zalando SE" in licence


def test_full_set(real_full_set):
    assert real_full_set.train_images.shape == (60000, 1, 28, 28)
    assert real_full_set.test_images.shape == (10000, 1, 28, 28)
    assert np.bincount(real_full_set.train_labels).tolist() == [6000] * 10
    assert np.bincount(real_full_set.test_labels).tolist() == [1000] * 10


def test_full_must_be_a_bool():
    with pytest.raises(TypeError, match=r"^fashion_mnist: full must be a bool, got 'yes'$"):
        data.fashion_mnist("yes")


# Damaged and wrong files.


def changed(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def compressed_then(damage):
    return lambda raw: damage(gzip.compress(raw, mtime=0))


WRONG_FILES = {
    "empty": (lambda raw: b"", "IDX magic number must be 0x00000801, got 0x;"),
    "no IDX": (lambda raw: b"<html>", "IDX magic number must be 0x00000801, got 0x3c68746d;"),
    "images": (lambda raw: raw_content("t10k-images-idx3-ubyte"), "must be 0x00000801, got 0x00000803;"),
    "another dtype": (lambda raw: b"\0\0\x0d\1" + raw[4:], "must be 0x00000801, got 0x00000d01;"),
    "header cut": (lambda raw: raw[:6], r"IDX header must give the shape \(1000,\), got \(\);"),
    "another count": (lambda raw: raw_content("train-labels-idx1-ubyte"), r"shape \(1000,\), got \(5000,\);"),
    "cut": (lambda raw: raw[:-1], "content must have 1008 bytes, got 1007;"),
    "too long": (lambda raw: raw + b"\0", "content must have 1008 bytes, got 1009;"),
    "one bit": (lambda raw: changed(raw, -2), "its header is right, its values are not;"),
    "one bit, compressed": (lambda raw: gzip.compress(changed(raw, 500)), "its header is right, its values are not;"),
    "gzip cut": (compressed_then(lambda packed: packed[:-20]), r"gzip stream breaks after \d+ bytes .*end-of-stream"),
    "gzip header only": (compressed_then(lambda packed: packed[:2]), "gzip stream breaks after 0 bytes"),
    "gzip checksum": (compressed_then(lambda packed: changed(packed, -8)), "gzip stream breaks .*CRC"),
    "gzip body": (compressed_then(lambda packed: packed[:40] + bytes(40) + packed[80:]), "gzip stream breaks"),
    "gzip and more": (compressed_then(lambda packed: packed + b"more"), "gzip stream breaks after 1008 bytes"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_file_is_named_with_both_checksums(places, wrong):
    chosen, *_ = places
    damage, reason = WRONG_FILES[wrong]
    path = put_files(chosen) / f"{LABELS}.gz"
    raw = raw_content(LABELS)
    content = damage(raw)
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=reason) as caught:
        data.fashion_mnist(full=True)
    message = str(caught.value)
    assert message.startswith(f"fashion_mnist: {path} is damaged or not the right file: ")
    checksums = message.rpartition("SHA-256 of the raw content: ")[2]
    expected, actual = checksums.removeprefix("expected ").split(", actual ")
    assert expected == hashlib.sha256(raw).hexdigest()
    if "gzip" not in wrong and "compressed" not in wrong:
        assert actual == hashlib.sha256(content).hexdigest()
    # A stream damaged after its last byte of content has the right content and is refused all the same.
    assert len(actual) == 64
    assert actual != expected or wrong in ("gzip checksum", "gzip and more")


def test_content_before_the_damage_of_a_long_file_is_counted(places):
    chosen, *_ = places
    path = put_files(chosen) / "train-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(data.DataError) as caught:
        data.fashion_mnist(full=True)
    count = int(str(caught.value).split(" breaks after ")[1].split()[0])
    raw = raw_content("train-images-idx3-ubyte")
    assert 0.4 * len(raw) < count < 0.6 * len(raw)
    assert f"actual {hashlib.sha256(raw[:count]).hexdigest()}" in str(caught.value)


def test_missing_embedded_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "EMBEDDED", put_files(tmp_path, NAMES[:3]))
    with pytest.raises(data.DataError, match=f"^fashion_mnist: {tmp_path / LABELS}.gz is missing$"):
        data.fashion_mnist()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails, /proc/self/mem")
def test_unreadable_file_is_named(places):
    path = put_files(places[0], NAMES[:3]) / LABELS
    path.symlink_to("/proc/self/mem")
    with pytest.raises(data.DataError, match=f"^fashion_mnist: cannot read {path}: Input/output error$"):
        data.fashion_mnist(full=True)


# Where the full set is looked for.


def test_raw_and_compressed_files_under_either_name_are_accepted(places):
    chosen, *_ = places
    put_files(chosen, NAMES[:1])
    (chosen / NAMES[1]).write_bytes(raw_content(NAMES[1]))
    (chosen / f"{NAMES[2]}.gz").write_bytes(raw_content(NAMES[2]))
    shutil.copy(data.EMBEDDED / f"{NAMES[3]}.gz", chosen / NAMES[3])
    found = data.fashion_mnist(full=True)
    for array, expected in zip(arrays_of(found), arrays_of(data.fashion_mnist()), strict=True):
        assert np.array_equal(array, expected)


def test_places_are_searched_in_order(places):
    for folder in reversed(places):
        put_files(folder)
        assert data.fashion_mnist(full=True).source == f"full set ({folder})"


def test_incomplete_place_is_passed_over(places):
    chosen, debian, _ = places
    put_files(chosen, NAMES[:3])
    put_files(debian)
    assert data.fashion_mnist(full=True).source == f"full set ({debian})"


def test_chosen_place_must_be_a_folder(places, monkeypatch):
    put_files(places[1])
    monkeypatch.setenv("AUTOGRAD_DATA", "/no/such/folder")
    with pytest.raises(data.DataError, match=r"^fashion_mnist: \$AUTOGRAD_DATA must name a folder, got '/no/such/f"):
        data.fashion_mnist(full=True)
    assert data.find_fashion_mnist()[1] == ("$AUTOGRAD_DATA = /no/such/folder", "no such folder")
    assert len(data.fashion_mnist().train_images) == 5000


def test_find_lists_every_place_in_order(places, monkeypatch):
    chosen, debian, cache = places
    put_files(chosen, NAMES[:3])
    put_files(debian)
    assert data.find_fashion_mnist() == [
        (str(data.EMBEDDED), "subset, part of the package"),
        (f"$AUTOGRAD_DATA = {chosen}", f"incomplete: without {LABELS}"),
        (str(debian), "full set"),
        (str(cache), "no such folder"),
    ]
    monkeypatch.setenv("AUTOGRAD_DATA", "")
    assert data.find_fashion_mnist()[1] == ("$AUTOGRAD_DATA", "not set")


@pytest.mark.parametrize("xdg", ["", "/somewhere/else"])
def test_cache_is_where_pooch_has_it(monkeypatch, xdg):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert data._cache_folder() == pooch.os_cache("convgrad") / "fashion-mnist"


# Downloading.


class Server(http.server.ThreadingHTTPServer):
    """Answers with `files`, by name; `asked` lists what was asked for, `promised` is added to each Content-Length."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"{name}.gz": (data.EMBEDDED / f"{name}.gz").read_bytes() for name in NAMES}
        self.asked = []
        self.promised = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/data/")
        self.server.asked.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + self.server.promised))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Keep the requests out of the test report."""


@pytest.fixture
def server(places, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(data, "UPSTREAM", f"http://127.0.0.1:{server.server_port}/data/")
        yield server
        server.shutdown()
        thread.join()


def test_download_fills_the_cache_once(places, server):
    cache = places[2]
    downloaded = data.fashion_mnist(full=True)
    assert downloaded.source == f"full set, downloaded from {data.UPSTREAM} ({cache})"
    assert np.array_equal(downloaded.test_images, data.fashion_mnist().test_images)
    assert sorted(path.name for path in cache.iterdir()) == sorted(server.files)
    assert data.fashion_mnist(full=True).source == f"full set ({cache})"
    assert server.asked == [f"{name}.gz" for name in NAMES]


def test_download_gets_only_what_the_cache_lacks(places, server):
    cache = put_files(places[2], NAMES[:2])
    (cache / NAMES[2]).write_bytes(raw_content(NAMES[2]))
    data.fashion_mnist(full=True)
    assert server.asked == [f"{LABELS}.gz"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(lambda content: content[:-9], "gzip stream breaks"), (lambda content: b"<html>", "IDX magic number must be")],
)
def test_damaged_download_is_named_and_stays_out_of_the_cache(places, server, damage, reason):
    server.files[f"{LABELS}.gz"] = damage(server.files[f"{LABELS}.gz"])
    with pytest.raises(data.DataError, match=reason) as caught:
        data.fashion_mnist(full=True)
    assert f"{data.UPSTREAM}{LABELS}.gz is damaged" in str(caught.value)
    assert f"expected {data._SUBSET[3].sha256}, actual " in str(caught.value)
    assert sorted(path.name for path in places[2].iterdir()) == sorted(f"{name}.gz" for name in NAMES[:3])


def test_interrupted_download_is_an_error_and_stays_out_of_the_cache(places, server):
    server.promised = 1
    with pytest.raises(data.DataError, match=f"^fashion_mnist: cannot download {data.UPSTREAM}{NAMES[0]}.gz into "):
        data.fashion_mnist(full=True)
    assert list(places[2].iterdir()) == []


def test_file_that_the_server_lacks_is_named(server):
    del server.files[f"{LABELS}.gz"]
    with pytest.raises(data.DataError, match=f"cannot download {data.UPSTREAM}{LABELS}.gz into .*: 404 "):
        data.fashion_mnist(full=True)


def test_offline_says_what_to_do(places, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        monkeypatch.setattr(data, "UPSTREAM", f"http://127.0.0.1:{unanswered.getsockname()[1]}/")
        with pytest.raises(data.DataError, match=r"cannot download .*refused.*named by \$AUTOGRAD_DATA$"):
            data.fashion_mnist(full=True)


def test_download_into_what_cannot_be_a_folder_is_an_error(places, server):
    cache = places[2]
    cache.parent.mkdir(parents=True)
    cache.write_text("a file, not a folder")
    with pytest.raises(data.DataError, match=f"cannot download .* into {cache}: "):
        data.fashion_mnist(full=True)


def test_download_without_pooch_names_the_extra(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(data.DataError, match=r"needs pooch: pip install 'convgrad\[learn\]'"):
        data.fashion_mnist(full=True)


def test_optional_packages_are_not_imported_by_the_module_or_the_subset():
    program = (
        "import sys; from autograd import data; data.fashion_mnist(); data.find_fashion_mnist();"
        "print({'pooch', 'requests', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (finished.stdout, finished.stderr) == ("set()\n", "")


# Pixels to numbers.


def test_normalise_is_the_documented_formula_in_float32():
    images = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    for mean, std in ((0.28604, 0.35302), (0, 1), (np.float32(0.5), 2)):
        result = data.normalise(images, mean, std)
        assert result.dtype == np.float32
        assert result.shape == images.shape
        exact = (images / 255.0 - float(mean)) / float(std)
        # Two roundings of numbers up to 1 (times 255) and the division by std: a few units in the last place.
        np.testing.assert_allclose(result, exact, rtol=0, atol=4 * np.finfo(np.float32).eps / float(std))
    assert np.array_equal(data.normalise(images), data.normalise(images, 0.28604, 0.35302))
    assert data.normalise(images, 0, 1).max() == 1


def test_normalise_defaults_are_the_statistics_of_the_full_training_set(real_full_set):
    pixels = real_full_set.train_images / np.float32(255)
    # The constants are rounded to five decimals.
    assert float(pixels.mean(dtype=np.float64)) == pytest.approx(data.MEAN, abs=5e-6)
    assert float(pixels.std(dtype=np.float64)) == pytest.approx(data.STD, abs=5e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 2)),), TypeError, "images must be a uint8 array, got an array of float64"),
        (([[0, 255]],), TypeError, "images must be a uint8 array, got list"),
        ((np.zeros(2, np.uint8), "0"), TypeError, "mean must be a number, got '0'"),
        ((np.zeros(2, np.uint8), 0.5, True), TypeError, "std must be a number, got True"),
        ((np.zeros(2, np.uint8), float("nan")), ValueError, "mean must be finite, got nan"),
        ((np.zeros(2, np.uint8), -(10**309)), ValueError, f"mean must be finite, got {-(10**309)}"),
        ((np.zeros(2, np.uint8), 0, 0), ValueError, "std must be positive, got 0.0"),
        ((np.zeros(2, np.uint8), 0, float("inf")), ValueError, "std must be finite, got inf"),
    ],
)
def test_normalise_rejects(arguments, error, message):
    with pytest.raises(error) as caught:
        data.normalise(*arguments)
    assert str(caught.value) == f"normalise: {message}"


# Batches.


@given(
    length=st.integers(0, 40),
    batch_size=st.integers(1, 50),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**70),
)
def test_every_epoch_is_a_partition_into_matching_items(length, batch_size, shuffle, drop_last, seed):
    items = np.arange(length)
    images = np.stack([items, -items], axis=1)
    epochs = data.batches(images, items, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, rng=seed)
    for _ in range(2):
        epoch = list(epochs)
        assert len(epoch) == len(epochs)
        sizes = [len(labels) for _, labels in epoch]
        used = length - length % batch_size if drop_last else length
        assert sum(sizes) == used
        assert all(size == batch_size for size in sizes[:-1])
        assert 0 not in sizes
        labels = [label for _, labels in epoch for label in labels.tolist()]
        assert len(set(labels)) == used
        assert shuffle or labels == list(range(used))
        for pair, label in epoch:
            assert np.array_equal(pair, np.stack([label, -label], axis=1))


def order_of(epochs):
    return np.concatenate([items for (items,) in epochs]).tolist()


def test_each_epoch_has_a_new_order_and_a_seed_repeats_them():
    items = np.arange(100)
    first, again, other = (data.batches(items, batch_size=7, rng=seed) for seed in (3, 3, 4))
    orders = [order_of(first), order_of(first)]
    assert orders[0] != orders[1]
    assert [order_of(again), order_of(again)] == orders
    assert order_of(other) != orders[0]
    assert order_of(data.batches(items, batch_size=7, rng=np.random.default_rng(3))) == orders[0]
    unseeded = data.batches(items, batch_size=7)
    assert order_of(unseeded) != order_of(unseeded)


def test_batches_in_order_are_views_and_shuffled_ones_copies():
    items = np.arange(10)
    assert all(np.shares_memory(batch, items) for (batch,) in data.batches(items, batch_size=3, shuffle=False))
    assert not any(np.shares_memory(batch, items) for (batch,) in data.batches(items, batch_size=3))


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ((), {}, TypeError, "at least one array is needed, got none"),
        (([1, 2],), {}, TypeError, "arrays[0] must be a NumPy array, got list"),
        ((np.zeros(3), np.array(1.0)), {}, ValueError, "arrays[1] must have at least one axis, got shape ()"),
        ((np.zeros(3), np.zeros((2, 3))), {}, ValueError, "arrays must have equal lengths, got [3, 2]"),
        ((np.zeros(3),), {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ((np.zeros(3),), {"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ((np.zeros(3),), {"batch_size": True}, TypeError, "batch_size must be an integer, got True"),
        ((np.zeros(3),), {"shuffle": "no"}, TypeError, "shuffle must be a bool, got 'no'"),
        ((np.zeros(3),), {"drop_last": 1}, TypeError, "drop_last must be a bool, got 1"),
        ((np.zeros(3),), {"rng": -1}, ValueError, "rng must be a numpy Generator, a seed or None, got -1"),
        (
            (np.zeros(3),),
            {"rng": "seed"},
            TypeError,
            "rng must be a numpy Generator, a seed or None, got 'seed'",
        ),
    ],
)
def test_batches_rejects(arrays, options, error, message):
    with pytest.raises(error) as caught:
        data.batches(*arrays, **{"batch_size": 2, **options})
    assert str(caught.value) == f"batches: {message}"
