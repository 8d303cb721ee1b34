"""What diagnostics share: images drawn in milliseconds, as many as are asked for, whose best policy is known."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import DataSource, LabelledImages, Split
from glimpse_env.files import digest

MAX_IMAGES = 1_000_000
"""Images of a split, at most."""
SPLITS: tuple[Split, ...] = ("train", "val", "test", "judge", "oracle")
"""Splits whose position in here is part of the seed of their images."""
NOISE = 60
"""Pixels without a stroke are darker than this."""
STROKES = (150, 256)
"""Range of the strokes' brightness, one for each place."""
BRIGHT = 140
"""Strokes are brighter than this, all else is darker."""
GLYPH_NAMES = ("lying bar", "standing bar", "cross", "frame")
"""Names of :func:`glyphs`, the classes."""


def glyphs(cell: int) -> np.ndarray:
    """Returns masks (4, cell, cell) bool: a lying bar, a standing bar, a cross and a frame."""
    masks = np.zeros((4, cell, cell), dtype=bool)
    middle, inside = slice(cell // 2 - 1, cell // 2 + 1), slice(cell // 8, cell - cell // 8)
    masks[[0, 2], middle, inside] = True
    masks[[1, 2], inside, middle] = True
    masks[3, inside, inside] = True
    masks[3, cell // 4 : -(cell // 4), cell // 4 : -(cell // 4)] = False
    return masks


def painted(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns images (N, side * cell, side * cell, 1) uint8: strokes on noise.

    Args:
        masks: (N, side * side, cell, cell) bool, the strokes at places side by side, row by row.
        rng: draws the noise, and how bright the strokes of each place are.
    """
    count, places, cell, _ = masks.shape
    side = math.isqrt(places)
    cells = rng.integers(NOISE, size=masks.shape, dtype=np.uint8)
    strokes = rng.integers(*STROKES, size=(count, places, 1, 1)).astype(np.uint8)
    cells = np.where(masks, strokes, cells).reshape(count, side, side, cell, cell)
    return cells.transpose(0, 1, 3, 2, 4).reshape(count, side * cell, side * cell, 1)


def middles(places: np.ndarray, side: int, cell: int) -> np.ndarray:
    """Returns ``places`` (N, P) int64, numbered row by row, as parts (N, P, 3) float32, all visible."""
    parts = [*(cell * np.stack(np.divmod(places, side)) + (cell - 1) / 2), np.ones_like(places)]
    return np.stack(parts, axis=-1).astype(np.float32)


class Diagnostic(DataSource):
    """Drawn images, each class as often; splits of any size agree on the images that they share.

    Judges and amortised oracles are trained on fresh images in every pass.

    Args:
        seed: seed of all images.
        num_train: images of the training split, as many as of a pass of training an amortised oracle.
        num_val: images of the validation split.
        num_test: images of the test split.
        num_judge: images of one pass of training the judge.

    Raises:
        ConfigurationError: if a number is out of range.
    """

    num_folds = 1
    version: ClassVar[int]
    """Version of the drawing; part of the fingerprint."""
    images_per_chunk: ClassVar[int] = 500
    """Images of a split that share a random generator."""
    class_names = GLYPH_NAMES

    @property
    def optimum(self) -> float:
        """Success expected of the best policy there is, see :mod:`oracles.diagnostics`."""
        return 1.0

    def __init__(
        self, seed: int = 0, num_train: int = 2000, num_val: int = 1000, num_test: int = 2000, num_judge: int = 8000
    ) -> None:
        self.seed = whole_number("seed", seed, 0)
        numbers = {"num_train": num_train, "num_val": num_val, "num_test": num_test, "num_judge": num_judge}
        self._numbers = {name: whole_number(name, number, 1, MAX_IMAGES) for name, number in numbers.items()}

    @abstractmethod
    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws images (N, H, W, C) uint8 of classes ``labels`` (N,) int64, with their parts (N, P, 3) float32."""

    @cached_property
    def fingerprint(self) -> str:
        return digest("diagnostic", self.name, self.version, self.seed)

    @property
    def options(self) -> dict[str, Any]:
        return {"seed": self.seed, **self._numbers}

    def size(self, split: Split) -> int:
        return self._numbers[f"num_{'train' if split == 'oracle' else split}"]

    def fill(self, split: Split, arrays: LabelledImages, progress: Callable[[int], object]) -> None:
        for first in range(0, len(arrays.labels), self.images_per_chunk):
            here = slice(first, min(first + self.images_per_chunk, len(arrays.labels)))
            labels = (first + np.arange(self.images_per_chunk)) % len(self.class_names)
            images, parts = self.draw(labels, np.random.default_rng([self.seed, SPLITS.index(split), first]))
            count = here.stop - first
            arrays.labels[here], arrays.images[here], arrays.parts[here] = labels[:count], images[:count], parts[:count]
            progress(count)

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._fresh(self._numbers["num_judge"], rng)

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        return self._fresh(self._numbers["num_train"], rng)

    def _fresh(self, count: int, rng: np.random.Generator) -> LabelledImages:
        labels = rng.permutation(np.arange(count) % len(self.class_names))
        images, parts = self.draw(labels, rng)
        return LabelledImages(images, labels, np.full(count, -1), parts)
