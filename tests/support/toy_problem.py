"""A finite world: a handful of 3 x 3 images seen a pixel at a time, and the judge that is exactly Bayes' rule in it."""

from typing import Any, ClassVar

import numpy as np
import torch

from glimpse_env.datasets.base import DataSource, GlimpseDataset, LabelledImages, Split
from glimpse_env.files import digest
from glimpse_env.judge.posterior import GlimpsePosterior, PosteriorConfig
from glimpse_env.sensing.geometry import Geometry
from oracles.validation.toy_world import ExactJudge, ToyWorld

GEOMETRY = Geometry(image_size=3, glimpse_size=1, stride=1, num_glimpses=2)

# Pixel 0 tells the family. Pixel 1 tells the species of the first family and nothing of the second, pixel 5 the other
# way round, and the rest is the same everywhere: where to look next depends on what was seen.
_ROWS = [
    ([family, first, 7, 7, 7, second, 7, 7, 7], 2 * (family > 0) + ((second if family else first) > 0))
    for family in (0, 255)
    for first in (0, 255)
    for second in (0, 255)
]
IMAGES = np.array([row for row, _ in _ROWS], dtype=np.uint8).reshape(-1, 3, 3, 1)
LABELS = np.array([label for _, label in _ROWS], dtype=np.int64)


class ToyJudge(ExactJudge):
    """Exact in the world of some images (M, 3, 3, 1) uint8, all equally likely."""

    def __init__(self, images: np.ndarray = IMAGES, labels: np.ndarray = LABELS):
        super().__init__(ToyWorld.of_images(images, labels))
        self.geometry, self.card.num_glimpses = GEOMETRY, GEOMETRY.num_glimpses
        config = PosteriorConfig(1, 1, channels=1, num_classes=self.num_classes, features=16, embedding=32)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.networks = [GlimpsePosterior(config)]  # what an amortised oracle takes its convolutions from


def toy_dataset(rows: np.ndarray, split: Split = "train") -> GlimpseDataset:
    """Images of the world, as often as ``rows`` names them."""
    return GlimpseDataset(
        name="toy",
        split=split,
        images=IMAGES[rows],
        labels=LABELS[rows],
        folds=np.zeros(len(rows), dtype=np.int64),
        class_names=("a", "b", "c", "d"),
        part_names=(),
        parts=np.zeros((len(rows), 0, 3), dtype=np.float32),
        fingerprint=digest(rows),
        geometry=GEOMETRY,
    )


def posterior_of(history: list[tuple[int, int]]) -> np.ndarray:
    """(M,) probability of each image of the world given pixels seen, as (location, value) pairs."""
    flat = IMAGES.reshape(len(IMAGES), -1)
    possible = np.ones(len(flat), dtype=bool)
    for place, value in history:
        possible &= flat[:, place] == value
    return possible / possible.sum()


def exact_epe(history: list[tuple[int, int]]) -> np.ndarray:
    """(L,) nats: the expected posterior entropy of every location, by enumeration of the world."""
    flat, weights = IMAGES.reshape(len(IMAGES), -1), posterior_of(history)
    scores = np.zeros(flat.shape[1])
    for place in range(flat.shape[1]):
        for n in np.flatnonzero(weights):
            after = posterior_of([*history, (place, int(flat[n, place]))])
            p = np.bincount(LABELS, weights=after)
            scores[place] += weights[n] * -(p[p > 0] * np.log(p[p > 0])).sum()
    return scores


class ToySource(DataSource):
    """The world as a data set: image i of every split is image i mod 8 of the world."""

    name = "toy"
    geometry = GEOMETRY
    image_shape = (3, 3, 1)
    num_folds = 1
    class_names = ("a", "b", "c", "d")
    fingerprint = digest("toy world")
    options: ClassVar[dict[str, Any]] = {}

    def size(self, split: Split) -> int:
        return 24

    def fill(self, split, arrays, progress):
        rows = np.arange(len(arrays.labels)) % len(IMAGES)
        arrays.images[:], arrays.labels[:] = IMAGES[rows], LABELS[rows]
        arrays.folds[:] = 0 if split == "train" else -1

    def unseen_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        rows = rng.integers(len(IMAGES), size=64)
        return LabelledImages(
            IMAGES[rows], LABELS[rows], np.full(len(rows), -1), np.zeros((len(rows), 0, 3), np.float32)
        )

    def judge_images(self, fold: int, rng: np.random.Generator) -> LabelledImages:
        raise NotImplementedError("the toy judge is exact and needs no training")
