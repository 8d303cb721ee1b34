"""Cluttered digits: composition, splits and folds that share no digit, and damaged files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from glimpse_env.datasets import digits
from glimpse_env.datasets.base import LabelledImages
from glimpse_env.datasets.digits import ClutteredDigits, ClutteredMNIST, Digits, compose, read_idx
from glimpse_env.errors import ConfigurationError, DatasetFormatError, DatasetNotFoundError
from tests.support.tiny_data import write_idx, write_tiny_mnist

FILES = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    return write_tiny_mnist(tmp_path)


def test_compose_places_the_whole_digit_anywhere_and_four_pieces_of_others() -> None:
    pool = np.stack([np.full((28, 28), value, np.uint8) for value in (200, 100)])
    images = compose(pool, np.zeros(3000, np.int64), np.array([0, 1]), np.random.default_rng(0))
    assert images.shape == (3000, 60, 60, 1)
    assert images.dtype == np.uint8
    assert set(np.unique(images)) == {0, 100, 200}, "pieces of an image's own digit"
    digit = images[..., 0] == 200
    assert (digit.sum(axis=(1, 2)) == 28 * 28).all()
    tops, lefts = digit.any(axis=2).argmax(axis=1), digit.any(axis=1).argmax(axis=1)
    assert (digit.any(axis=2).sum(axis=1) == 28).all()
    assert (digit.any(axis=1).sum(axis=1) == 28).all()
    for corners in (tops, lefts):
        assert set(corners) == set(range(60 - 28 + 1))
    clutter = (images == 100).sum(axis=(1, 2, 3))
    assert clutter.max() == 4 * 8 * 8
    assert clutter.mean() > 2 * 8 * 8


def test_compose_keeps_the_brighter_pixel_and_cuts_pieces_where_there_is_ink() -> None:
    pool = np.zeros((3, 28, 28), np.uint8)
    pool[0] = 50
    pool[1:, 4:24, 4:24] = 250
    images = compose(pool, np.zeros(500, np.int64), np.arange(3), np.random.default_rng(0))
    assert set(np.unique(images)) == {0, 50, 250}
    assert (images.reshape(500, -1) == 250).any(axis=1).all()


def test_the_same_seed_gives_the_same_images_and_another_seed_others(mnist: Path) -> None:
    first, same, other = (load_fresh(ClutteredMNIST(mnist, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], same[0])
    assert (first[0] != other[0]).any(axis=(1, 2, 3)).mean() > 0.9
    np.testing.assert_array_equal(first[1], other[1])
    fingerprints = {ClutteredMNIST(mnist, seed=seed).fingerprint for seed in (3, 3, 4)}
    assert len(fingerprints) == 2


def load_fresh(source: ClutteredDigits) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the training split, not from the cache."""
    count = source.size("train")
    arrays = LabelledImages(
        images=np.zeros((count, 60, 60, 1), np.uint8),
        labels=np.zeros(count, np.int64),
        folds=np.full(count, -1),
        parts=np.zeros((count, 0, 3), np.float32),
    )
    source.fill("train", arrays, lambda n: None)
    return arrays.images, arrays.labels


def test_splits_of_one_seed_are_drawn_apart(tmp_path: Path) -> None:
    folder = write_tiny_mnist(tmp_path, train=120, test=110)
    for kind in ("images-idx3", "labels-idx1"):
        digits = read_idx(folder / f"train-{kind}-ubyte.gz")[:110]
        write_idx(folder / f"t10k-{kind}-ubyte.gz", digits)
    source = ClutteredMNIST(folder)
    assert (source.load("train").images != source.load("test").images).any(axis=(1, 2, 3)).mean() > 0.9


def test_no_part_of_a_digit_crosses_splits_or_folds(tmp_path: Path) -> None:
    """Each split and fold has digits of one brightness, so every pixel tells where it comes from."""
    folder = write_tiny_mnist(tmp_path, train=120, test=40)
    fold_of_row = np.arange(120) // 10 % 2  # labels are 0, 1, .., 9, 0, ..
    brightness = np.where(np.arange(120) < 110, np.where(fold_of_row == 0, 10, 20), 30)
    write_idx(folder / FILES[0], np.broadcast_to(brightness[:, None, None], (120, 28, 28)).astype(np.uint8))
    write_idx(folder / FILES[2], np.full((40, 28, 28), 40, np.uint8))
    source = ClutteredMNIST(folder)

    train = source.load("train")
    for fold, value in ((0, 10), (1, 20)):
        assert set(np.unique(train.images[train.folds == fold])) == {0, value}
        for seed in range(3):
            fed = source.judge_images(fold, np.random.default_rng(seed))
            assert set(np.unique(fed.images)) == {0, 30 - value}, f"network {fold} is fed what it will judge"
    for split, value in (("val", 30), ("test", 40)):
        data = source.load(split)
        assert set(np.unique(data.images)) == {0, value}
        assert (data.folds == -1).all()


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_judge_images_are_fresh_and_follow_the_generator(name: str, mnist: Path) -> None:
    source = Digits() if name == "digits" else ClutteredMNIST(mnist)
    first, same, other = (source.judge_images(0, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, same.images)
    np.testing.assert_array_equal(first.labels, same.labels)
    assert (first.labels != other.labels).any(), "not shuffled"
    train = source.load("train")
    assert len(first.images) == (train.folds != 0).sum()
    np.testing.assert_array_equal(np.bincount(first.labels), np.bincount(train.labels[train.folds != 0]))
    assert first.images.dtype == np.uint8
    assert first.labels.dtype == np.int64
    assert first.parts.shape == (len(first.images), 0, 3)
    assert first.parts.dtype == np.float32


def test_every_small_digit_is_in_one_split_and_fold() -> None:
    pools = Digits().pools
    everything = [image.tobytes() for pool in pools.values() for image in pool.images]
    assert len(everything) == len(set(everything)) == 1797
    for split, share in (("train", 0.6), ("val", 0.1), ("test", 0.3)):
        counts = np.bincount(pools[split].labels, minlength=10)  # type: ignore[index]
        np.testing.assert_allclose(counts / 179.7, share, atol=0.03)
    assert set(pools["train"].folds) == {0, 1}


def test_small_digits_are_enlarged_onto_mnists_frame() -> None:
    pool = Digits().pools["train"]
    assert pool.images.shape[1:] == (28, 28)
    box = np.zeros((28, 28), bool)
    box[4:24, 4:24] = True
    assert (pool.images[:, ~box] == 0).all()
    assert pool.images.max() == 255
    zeros, ones = (pool.images[pool.labels == digit].mean(axis=0) for digit in (0, 1))
    assert zeros[13:15, 13:15].mean() < 50 < 150 < ones[13:15, 13:15].mean(), "a zero is empty in the middle"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_image_shows_the_digit_of_its_label_and_fold(split: str) -> None:
    """The pool's digits are found in the images by looking for one that no pixel of the canvas is darker than."""
    source = Digits()
    data = source.load(split)
    pool = source.pools[split]  # type: ignore[index]
    assert len(data) == source.size(split)
    windows = np.lib.stride_tricks.sliding_window_view
    for index in (0, 1, len(pool), len(data) - 1):
        digit = index % len(pool)
        assert (windows(data.images[index, ..., 0], (28, 28)) >= pool.images[digit]).all(axis=(2, 3)).any()
        assert data.labels[index] == pool.labels[digit]
        assert data.folds[index] == pool.folds[digit]
    labels = data.labels[:200]
    assert (np.bincount(labels, minlength=10) > 5).all(), "labels are not in random order"


def test_mnist_sizes_and_classes(mnist: Path) -> None:
    source = ClutteredMNIST(mnist)
    assert [source.size(split) for split in ("train", "val", "test")] == [110, 10, 40]
    assert source.class_names == tuple("0123456789")
    assert source.part_names == ()
    assert source.num_folds == 2
    np.testing.assert_array_equal(source.load("test").labels, np.arange(40) % 10)


@pytest.mark.parametrize("place", [".", "mnist", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_found_where_others_keep_it(tmp_path: Path, place: str, zipped: bool) -> None:
    expected = ClutteredMNIST(write_tiny_mnist(tmp_path / "elsewhere"))
    folder = tmp_path / "root" / place
    folder.mkdir(parents=True)
    for name in FILES:
        array = read_idx(tmp_path / "elsewhere" / "mnist" / name)
        write_idx(folder / (name if zipped else name.removesuffix(".gz")), array)
    assert ClutteredMNIST(tmp_path / "root").fingerprint == expected.fingerprint


def test_missing_mnist_names_the_places_and_the_remedy(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mnist / FILES[3]).unlink()
    monkeypatch.setenv("GLIMPSE_DATA", str(mnist.parent))
    with pytest.raises(DatasetNotFoundError, match=r"scripts/download_data.py mnist.*GLIMPSE_DATA") as caught:
        ClutteredMNIST()
    assert str(mnist.parent / "MNIST" / "raw") in str(caught.value)


def test_read_idx_against_bytes_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03" + bytes([1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(read_idx(path), [[1, 2, 3], [4, 5, 6]])


def idx_of(*shape: int, fill: int = 0) -> np.ndarray:
    return np.full(shape, fill, np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (FILES[0], gzip.compress(b"\x00\x00\x08\x03" * 50, mtime=0)[:-12], "not a readable IDX file"),
        (FILES[0], b"<html>not found</html>", "not a readable IDX file"),
        (FILES[1], gzip.compress(b"\x00", mtime=0), "not a readable IDX file"),
        (FILES[1], gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", mtime=0), "unsigned bytes"),
        (FILES[3], gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x28\x00", mtime=0), r"not an IDX file of \(40,\)"),
        (FILES[2], idx_of(40, 27, 28), r"shape \(27, 28\), not 28 x 28"),
        (FILES[3], idx_of(39), r"shape \(39,\) for 40 images in t10k-images"),
        (FILES[1], idx_of(120, fill=10), "label 10 is no digit"),
    ],
)
def test_damaged_files_are_named(mnist: Path, name: str, content: bytes | np.ndarray, message: str) -> None:
    if isinstance(content, bytes):
        (mnist / name).write_bytes(content)
    else:
        write_idx(mnist / name, content)
    source = ClutteredMNIST(mnist)
    with pytest.raises(DatasetFormatError, match=message) as caught:
        source.load("train")
    assert str(mnist / name) in str(caught.value)
    assert "download_data.py mnist" in str(caught.value)


def test_too_few_digits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetFormatError, match="too few"):
        ClutteredMNIST(write_tiny_mnist(tmp_path, train=12)).load("train")


@pytest.mark.parametrize("make", [Digits, ClutteredMNIST])
def test_negative_seeds_are_refused(make: type[Digits | ClutteredMNIST]) -> None:
    with pytest.raises(ConfigurationError, match="seed=-1"):
        make(seed=-1)


def test_more_glimpses_are_another_protocol_on_the_same_images(mnist: Path) -> None:
    usual, longer = ClutteredMNIST(mnist), ClutteredMNIST(mnist, num_glimpses=8)
    assert (usual.geometry.num_glimpses, longer.geometry.num_glimpses) == (6, 8)
    assert longer.fingerprint != usual.fingerprint
    assert np.array_equal(longer.load("train").images, usual.load("train").images)
    assert usual.options == {"root": str(mnist), "seed": 0}  # as before there were other options
    with pytest.raises(ConfigurationError, match="num_glimpses=0"):
        Digits(num_glimpses=0)


def test_placements_make_several_images_of_each_training_digit(mnist: Path) -> None:
    usual, more = ClutteredMNIST(mnist), ClutteredMNIST(mnist, placements=3)
    assert more.size("train") == 3 * usual.size("train")
    assert (more.size("val"), more.size("test")) == (usual.size("val"), usual.size("test"))
    assert len({usual.fingerprint, more.fingerprint, ClutteredMNIST(mnist, num_glimpses=3).fingerprint}) == 3
    train = more.load("train")
    by_digit = np.asarray(train.images).reshape(3, usual.size("train"), -1)
    assert (train.labels.reshape(3, -1) == train.labels[: usual.size("train")]).all()
    assert not (by_digit[0] == by_digit[1]).all(axis=1).any()  # each has a place and clutter of its own


def test_options_make_the_source_again(mnist: Path) -> None:
    for source in (Digits(seed=2), ClutteredMNIST(mnist, seed=2), ClutteredMNIST(mnist, num_glimpses=4, placements=2)):
        options = json.loads(json.dumps(source.options))
        assert type(source)(**options).fingerprint == source.fingerprint


def test_the_real_mnist(real_data: Path) -> None:
    try:
        source = ClutteredMNIST(real_data)
    except DatasetNotFoundError as error:
        pytest.skip(str(error))
    assert [source.size(split) for split in ("train", "val", "test")] == [55_000, 2_000, 10_000]
    digits = [image.tobytes() for pool in source.pools.values() for image in pool.images]
    assert len(set(digits)) == 70_000
    test = source.load("test")
    assert (np.bincount(test.labels) > 850).all()
    ink = (test.images > 127).sum(axis=(1, 2, 3))
    assert 60 < np.median(ink) < 300


def test_a_file_that_unpacks_to_too_much_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images.gz"
    write_idx(path, np.zeros((50, 10), np.uint8))
    monkeypatch.setattr(digits, "MAX_IDX_BYTES", 512)
    assert read_idx(path).shape == (50, 10)
    write_idx(path, np.zeros((51, 10), np.uint8))
    with pytest.raises(DatasetFormatError, match=r"images\.gz: more than 512 bytes"):
        read_idx(path)
