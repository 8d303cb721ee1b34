"""Cluttered translated digits: a digit somewhere on an empty canvas, among pieces of other digits.

The task of "Recurrent Models of Visual Attention" (RAM), on MNIST or on the small digits that come with
scikit-learn.
"""

import gzip
import math
import os
import struct
import zlib
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glimpse_env.checks import path_or_none, whole_number
from glimpse_env.console.names import command
from glimpse_env.datasets.base import DataSource, LabelledImages, Split, data_root, folds_by_class
from glimpse_env.datasets.texts import require_regular
from glimpse_env.errors import DatasetFormatError, DatasetNotFoundError
from glimpse_env.files import digest
from glimpse_env.sensing.geometry import Geometry

PROTOCOL = 1
"""Version of how images are composed; part of the fingerprint."""

CANVAS = 60
"""Side of an image in pixels."""
DIGIT = 28
"""Side of a digit's frame in pixels."""
MARGIN = 4
"""Empty pixels around a digit in its frame, as in MNIST."""
PIECE = 8
"""Side of a piece of clutter in pixels."""
NUM_PIECES = 4
MAX_IDX_BYTES = 1 << 30
"""Most bytes that are unpacked of a file."""
_MAX_GLIMPSES = 169  # as many as locations
IMAGES_PER_CHUNK = 2048
"""Images that share a random generator."""
IMAGES_PER_PASS = 9600
"""Most images of a fold in one pass of training an amortised oracle."""
SEEDED_SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""Splits whose position in here is part of the seed of their images."""


class ClutteredDigits(DataSource):
    """Digits at a random place of a 60 x 60 canvas with four 8 x 8 pieces of other digits.

    Digits and pieces are combined by the brighter pixel. A digit belongs to one split, and in ``train`` to
    one fold; pieces are cut from digits of the same split and fold, so that no network of the judge is
    trained on any part of what it judges.
    """

    geometry = Geometry(image_size=CANVAS, glimpse_size=12, stride=4, num_glimpses=6)
    image_shape = (CANVAS, CANVAS, 1)
    num_folds = 2
    class_names = tuple("0123456789")
    placements: dict[Split, int]
    """Number of images made of each digit of a split, each with a place and clutter of its own."""

    def __init__(self, seed: int, num_glimpses: int) -> None:
        self.seed = whole_number("seed", seed, 0)
        self.geometry = replace(
            self.geometry, num_glimpses=whole_number("num_glimpses", num_glimpses, 1, _MAX_GLIMPSES)
        )

    @cached_property
    @abstractmethod
    def pools(self) -> dict[Split, LabelledImages]:
        """The M digits of each split, images (M, 28, 28) uint8.

        Raises:
            DatasetFormatError: if a file cannot be read as digits, or a fold holds fewer than two digits.
        """

    @cached_property
    def fingerprint(self) -> str:
        pools = (self.pools[split] for split in SEEDED_SPLITS)
        arrays = (array for pool in pools for array in (pool.images, pool.labels))
        return digest([self.name, PROTOCOL, self.seed, self.num_folds, *self._variant.items()], *arrays)

    @property
    def options(self) -> dict[str, Any]:
        return {"seed": self.seed, **self._variant}

    @property
    def _variant(self) -> dict[str, Any]:
        """Options younger than the data set where they are not the defaults: without them it keeps its fingerprint."""
        return self.unless_default({"num_glimpses": self.geometry.num_glimpses, "placements": self.placements["train"]})

    def size(self, split: Split) -> int:
        return len(self.pools[split]) * self.placements[split]

    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        pool = self.pools[split]
        digits = np.arange(len(arrays.labels)) % len(pool)
        arrays.labels[:], arrays.folds[:] = pool.labels[digits], pool.folds[digits]
        for fold in np.unique(pool.folds):
            members = np.flatnonzero(pool.folds == fold)
            positions = np.flatnonzero(arrays.folds == fold)
            for chunk, block in enumerate(_chunks(positions)):
                rng = np.random.default_rng([self.seed, SEEDED_SPLITS.index(split), int(fold) + 1, chunk])
                arrays.images[block] = compose(pool.images, digits[block], members, rng)
                progress(len(block))

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._composed(np.flatnonzero(self.pools["train"].folds != fold), rng)

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        folds = self.pools["train"].folds
        others = [other for other in range(self.num_folds) if other != fold]
        by_fold = [self._composed(np.flatnonzero(folds == other), rng, IMAGES_PER_PASS) for other in others]
        arrays = (vars(images).values() for images in by_fold)
        return LabelledImages(*(np.concatenate(parts) for parts in zip(*arrays, strict=True)))

    def _composed(self, members: np.ndarray, rng: np.random.Generator, most: int | None = None) -> LabelledImages:
        """Composes as many fresh images of the digits ``members`` (K,) as ``train`` has, or ``most``."""
        pool = self.pools["train"]
        digits = rng.permutation(np.tile(members, self.placements["train"]))[:most]
        images = np.concatenate([compose(pool.images, block, members, rng) for block in _chunks(digits)])
        return LabelledImages(images, pool.labels[digits], pool.folds[digits], pool.parts[digits])

    def _pool(self, split: Split, images: np.ndarray, labels: np.ndarray) -> LabelledImages:
        """Returns the digits that a split is made of, in ``train`` with folds.

        Raises:
            DatasetFormatError: if a fold holds fewer than two digits: clutter is cut from another one.
        """
        folds = folds_by_class(labels, self.num_folds) if split == "train" else np.full(len(labels), -1, np.int64)
        if len(folds) == 0 or np.unique(folds, return_counts=True)[1].min() < 2:
            raise DatasetFormatError(
                f"{len(images)} digits are too few for a split with clutter; use the whole data set."
            )
        return LabelledImages(images, labels, folds, np.zeros((len(labels), 0, 3), dtype=np.float32))


class ClutteredMNIST(ClutteredDigits):
    """Cluttered translated MNIST.

    ``test`` is made of the 10 000 test digits, ``val`` of the last twelfth of the training digits (at most
    2000 images) and ``train`` of the others, an image each.

    Args:
        root: folder with the four IDX files, gzipped or not, or with such a folder called ``mnist``,
            ``MNIST`` or ``MNIST/raw``; default ``GLIMPSE_DATA``.
        seed: seed of the places and the clutter.
        num_glimpses: T.
        placements: images made of each training digit.

    Raises:
        ConfigurationError: if a number is not whole or out of range.
        DatasetNotFoundError: if the files are missing.
        DatasetFormatError: naming the file, on first use, if it cannot be read as digits.
    """

    name = "mnist"

    def __init__(
        self, root: str | Path | None = None, seed: int = 0, num_glimpses: int = 6, placements: int = 1
    ) -> None:
        super().__init__(seed, num_glimpses)
        self.placements = {"train": whole_number("placements", placements, 1, 100), "val": 1, "test": 1}
        self.root = path_or_none("root", root)
        self._files = _find_idx_files(data_root(self.root))

    @property
    def options(self) -> dict[str, Any]:
        return {"root": self.root, **super().options}

    @cached_property
    def pools(self) -> dict[Split, LabelledImages]:
        images, labels = self._read("train")
        end = len(images) - len(images) // 12
        digits: dict[Split, tuple[np.ndarray, np.ndarray]] = {
            "train": (images[:end], labels[:end]),
            "val": (images[end:], labels[end:]),
            "test": self._read("t10k"),
        }
        return {split: self._pool(split, images, labels) for split, (images, labels) in digits.items()}

    def size(self, split: Split) -> int:
        count = super().size(split)
        return min(count, 2000) if split == "val" else count

    def _read(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        images_file, labels_file = self._files[f"{part}-images"], self._files[f"{part}-labels"]
        images, labels = read_idx(images_file), read_idx(labels_file)
        if images.shape[1:] != (DIGIT, DIGIT):
            raise DatasetFormatError(
                f"{images_file}: images of shape {images.shape[1:]}, not 28 x 28; {_MNIST_REMEDY}."
            )
        if labels.shape != (len(images),):
            raise DatasetFormatError(
                f"{labels_file}: labels of shape {labels.shape} for {len(images)} images in "
                f"{images_file.name}; {_MNIST_REMEDY}."
            )
        if labels.max(initial=0) > 9:
            raise DatasetFormatError(f"{labels_file}: label {labels.max()} is no digit; {_MNIST_REMEDY}.")
        return images, labels.astype(np.int64)


class Digits(ClutteredDigits):
    """Cluttered translated digits from scikit-learn's 1797 small ones: nothing to download.

    The 8 x 8 digits are enlarged to 20 x 20 in MNIST's 28 x 28 frame. Of each class 60 % of the digits make
    ``train`` (4 images each), 10 % ``val`` (3 each) and 30 % ``test`` (2 each), whatever the seed.

    Args:
        seed: seed of the places and the clutter.
        num_glimpses: T.

    Raises:
        ConfigurationError: if a number is not whole or out of range.
    """

    name = "digits"
    placements = {"train": 4, "val": 3, "test": 2}  # noqa: RUF012

    def __init__(self, seed: int = 0, num_glimpses: int = 6) -> None:
        super().__init__(seed, num_glimpses)

    @cached_property
    def pools(self) -> dict[Split, LabelledImages]:
        from sklearn.datasets import load_digits  # slow to import and needed by this data set alone

        small, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))  # the file's rows are sorted by writer
        small, labels = small[order].reshape(-1, 8, 8), labels[order].astype(np.int64)
        tenth = folds_by_class(labels, 10)
        shares: dict[Split, np.ndarray] = {"train": tenth < 6, "val": tenth == 6, "test": tenth > 6}
        pools: dict[Split, LabelledImages] = {}
        for split, members in shares.items():
            images = np.stack([_enlarge(digit) for digit in small[members]])
            pools[split] = self._pool(split, images, labels[members])
        return pools


def compose(pool: np.ndarray, digits: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places digits on canvases and clutters them.

    Args:
        pool: (M, 28, 28) uint8.
        digits: (N,) indices into ``pool``: the digit of each image; all of them members.
        members: (K,) sorted indices into ``pool`` of the digits that pieces may be cut from; an image's own
            is left out.
        rng: draws, uniformly, the places, the digits the pieces come from and where they are cut: from the
            20 x 20 box in which MNIST's digits lie, as a piece of the margin would be blank.

    Returns:
        (N, 60, 60, 1) uint8.
    """
    count = len(digits)
    images = np.zeros((count, CANVAS, CANVAS), dtype=np.uint8)
    each = np.arange(count)
    corners = rng.integers(CANVAS - DIGIT + 1, size=(count, 2))
    images[_squares(each, corners, DIGIT)] = pool[digits]

    own = np.searchsorted(members, digits)
    for _ in range(NUM_PIECES):
        other = rng.integers(len(members) - 1, size=count)
        other += other >= own
        cut = MARGIN + rng.integers(DIGIT - 2 * MARGIN - PIECE + 1, size=(count, 2))
        corners = rng.integers(CANVAS - PIECE + 1, size=(count, 2))
        pieces = pool[_squares(members[other], cut, PIECE)]  # (N, 8, 8)
        there = _squares(each, corners, PIECE)
        images[there] = np.maximum(images[there], pieces)
    return images[..., None]


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, gzipped where its name ends in ``.gz``.

    Raises:
        DatasetFormatError: naming the file, if it is damaged or not such a file.
    """
    try:
        require_regular(path)
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(MAX_IDX_BYTES + 1)
        zeros, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DatasetFormatError(f"{path}: not a readable IDX file ({error}); {_MNIST_REMEDY}.") from error
    if len(content) > MAX_IDX_BYTES:
        raise DatasetFormatError(f"{path}: more than {MAX_IDX_BYTES} bytes; {_MNIST_REMEDY}.")
    start = 4 + 4 * dimensions
    if zeros != 0 or kind != 8 or len(content) - start != math.prod(shape):
        raise DatasetFormatError(
            f"{path}: not an IDX file of {shape} unsigned bytes, as its header says; {_MNIST_REMEDY}."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


_MNIST_REMEDY = f"delete it and run `{command('download_data', 'mnist')}`"
_IDX_NAMES = tuple(
    (f"{part}-{kind}", f"{part}-{kind}-idx{dimensions}-ubyte")
    for part in ("train", "t10k")
    for kind, dimensions in (("images", 3), ("labels", 1))
)


def _find_idx_files(root: Path) -> dict[str, Path]:
    folders = [root, root / "mnist", root / "MNIST", root / "MNIST" / "raw"]
    for folder in folders:
        files = {
            key: path
            for key, name in _IDX_NAMES
            for path in (folder / name, folder / f"{name}.gz")
            if os.path.isfile(path)
        }
        if len(files) == len(_IDX_NAMES):
            return files
    raise DatasetNotFoundError(
        f"MNIST's four IDX files ({_IDX_NAMES[0][1]}.gz, ...) were not found in "
        f"{', '.join(map(str, folders))}; run `{command('download_data', 'mnist')}` or set GLIMPSE_DATA "
        "to the folder that has them."
    )


def _squares(images: np.ndarray, corners: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the index of N squares, (N, side, side), in an array of images, by (N,) images and (N, 2) corners."""
    rows, cols = np.ogrid[:side, :side]
    return images[:, None, None], corners[:, 0, None, None] + rows, corners[:, 1, None, None] + cols


def _chunks(indices: np.ndarray) -> list[np.ndarray]:
    return [indices[start : start + IMAGES_PER_CHUNK] for start in range(0, len(indices), IMAGES_PER_CHUNK)]


def _enlarge(digit: np.ndarray) -> np.ndarray:
    """Enlarges a digit (8, 8) of values 0..16 to a (28, 28) uint8 image."""
    side = DIGIT - 2 * MARGIN
    image = Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8))
    return np.pad(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)), MARGIN)
