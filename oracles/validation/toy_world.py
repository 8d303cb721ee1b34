"""Finite worlds in which posterior and EPE are known exactly: what the oracle's estimates are compared with."""

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset, Split
from glimpse_env.datasets.copies import ORIGINAL, ImageCopy
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest
from glimpse_env.judge.posterior import GlimpsePosterior
from glimpse_env.sensing.geometry import Geometry

IMPOSSIBLE = -60.0
"""Log-likelihood of a pixel that a cause never shows."""
History = list[tuple[int, int]]
"""Pixels seen, as (place, value) pairs; places are numbered row by row, values are 0..V - 1."""


@dataclass(frozen=True)
class ToyWorld:
    """p(theta, x): one of M equally likely causes, each of a class, draws every pixel by itself.

    A glimpse is one pixel. Where each class has one cause, pixels are independent given the class; where a cause shows
    one value only at each place, causes are the images of the world.

    Raises:
        ConfigurationError: if the shapes disagree, places make no square or probabilities do not sum to one.
    """

    likelihood: np.ndarray
    """(M, L, V) float64: p(value | cause, place)."""
    labels: np.ndarray
    """(M,) int64: the causes' classes, 0..classes - 1, each at least once."""
    pixels: np.ndarray
    """(V,) uint8: how bright the values are."""

    def __post_init__(self) -> None:
        shape = self.likelihood.shape
        square = len(shape) == 3 and round(shape[1] ** 0.5) ** 2 == shape[1]
        agree = square and self.labels.shape == shape[:1] and self.pixels.shape == shape[2:]
        if not agree or not np.allclose(self.likelihood.sum(-1), 1.0):
            raise ConfigurationError(
                "a toy world needs likelihood (M, side^2, V), summing to one over values, labels (M,) and pixels "
                f"(V,), not {shape}, {self.labels.shape} and {self.pixels.shape}."
            )

    @classmethod
    def random(cls, rng: np.random.Generator, *, classes: int = 3, side: int = 3, values: int = 3) -> "ToyWorld":
        """Returns a world with a class for each cause and random probabilities of pixels: some places tell more."""
        logits = rng.normal(size=(classes, side**2, values)) * rng.uniform(0.0, 2.5, size=(1, side**2, 1))
        p = np.exp(logits)
        pixels = np.linspace(0, 255, values).round().astype(np.uint8)
        return cls(p / p.sum(-1, keepdims=True), np.arange(classes), pixels)

    @classmethod
    def of_images(cls, images: np.ndarray, labels: np.ndarray) -> "ToyWorld":
        """Returns the world of the images (M, side, side, 1) uint8, equally likely."""
        pixels, values = np.unique(images, return_inverse=True)
        return cls(np.eye(len(pixels))[values.reshape(len(images), -1)], labels, pixels)

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def num_places(self) -> int:
        """L, pixels of an image."""
        return self.likelihood.shape[1]

    @cached_property
    def geometry(self) -> Geometry:
        """Glimpses of single pixels, as many as there are."""
        return Geometry(round(self.num_places**0.5), glimpse_size=1, stride=1, num_glimpses=self.num_places)

    @cached_property
    def fingerprint(self) -> str:
        return digest("toy world", self.likelihood, self.labels, self.pixels)

    def causes(self, history: History) -> np.ndarray:
        """Returns p(cause | history), (M,) float64, by Bayes' rule."""
        p = np.ones(len(self.labels))
        for place, value in dict.fromkeys(history):  # a second look at a place tells nothing
            p = p * self.likelihood[:, place, value]
        return p / p.sum()

    def present(self, history: History, criterion: str) -> float:
        """Returns the criterion of the present posterior, its expectation over labels where it depends on them."""
        return _value(self._classes(self.causes(history)), criterion)

    def expected(self, history: History, criterion: str) -> np.ndarray:
        """Returns the criterion expected after one more glimpse at each place, (L,) float64,

            EPE(l) = sum_v p(y_l = v | history) H[ p(theta | history, y_l = v) ]

        by enumeration of the values. Under the exact posterior expected entropy and expected log-loss are the same.
        """
        causes, seen = self.causes(history), {place for place, _ in history}
        expected = np.empty(self.num_places)
        for place in range(self.num_places):
            if place in seen:
                expected[place] = self.present(history, criterion)
                continue
            joint = causes[:, None] * self.likelihood[:, place]  # (M, V)
            total = joint.sum(0)
            expected[place] = sum(
                total[v] * _value(self._classes(joint[:, v] / total[v]), criterion) for v in np.flatnonzero(total)
            )
        return expected

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws values (count, L) int64 and labels (count,) int64 of images from p(theta, x)."""
        causes = rng.integers(len(self.labels), size=count)
        cumulated = self.likelihood.cumsum(-1)[causes]  # (count, L, V)
        values = (rng.random((count, self.num_places, 1)) > cumulated[..., :-1]).sum(-1)
        return values, self.labels[causes]

    def dataset(self, values: np.ndarray, labels: np.ndarray, split: Split = "train") -> GlimpseDataset:
        """Returns images of values (N, L) as a split of a data set."""
        side = self.geometry.image_size
        return GlimpseDataset(
            name="toy",
            split=split,
            images=self.pixels[values].reshape(-1, side, side, 1),
            labels=np.asarray(labels, dtype=np.int64),
            folds=np.zeros(len(labels), dtype=np.int64),
            class_names=tuple(f"class {k}" for k in range(self.num_classes)),
            part_names=(),
            parts=np.zeros((len(labels), 0, 3), dtype=np.float32),
            fingerprint=digest(self.fingerprint, values),
            geometry=self.geometry,
        )

    def _classes(self, causes: np.ndarray) -> np.ndarray:
        """Returns probabilities of classes (classes,) from those of causes (M,)."""
        return np.bincount(self.labels, weights=causes, minlength=self.num_classes)


class ExactJudge:
    """Bayes' rule in a toy world, in the factorised form that :class:`glimpse_env.judge.judge.Judge` has.

    A glimpse's embedding is its log-likelihood under every cause, so that embeddings add up. Two looks at one place
    count as two pieces of evidence, unless every cause is sure of its pixel there.
    """

    def __init__(self, world: ToyWorld):
        self.world = world
        self.geometry, self.grid = world.geometry, world.geometry.grid
        self.networks: list[GlimpsePosterior | None] = [None]
        self.num_classes = world.num_classes
        self.card = SimpleNamespace(scales=1)
        self.frozen = None  # it reads the glimpses themselves
        self.device = torch.device("cpu")
        self.identity = digest("exact judge", world.fingerprint)
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(world.likelihood), IMPOSSIBLE)
        self._log_likelihood = torch.from_numpy(logs.transpose(1, 2, 0).astype(np.float32))  # (L, V, M)
        self._labels = torch.from_numpy(world.labels)

    def encode_once(self, glimpses: np.ndarray) -> np.ndarray:
        """Returns the glimpses themselves; see :meth:`glimpse_env.judge.judge.Judge.encode_once`."""
        return glimpses

    def embed_glimpses(self, network: int, glimpses: np.ndarray, corners: np.ndarray) -> Tensor:
        """Returns embeddings (B, M) float32; see :meth:`glimpse_env.judge.judge.Judge.embed_glimpses`."""
        return self._log_likelihood[self.grid.nearest(corners), self._values(glimpses[:, 0, 0, 0])]

    def embed_grid(self, network: int, images: np.ndarray) -> Tensor:
        """Returns embeddings (N, L, M) float32 of all glimpses of images."""
        return self._log_likelihood[torch.arange(len(self.grid)), self._values(images.reshape(len(images), -1))]

    def embed_split(
        self, network: int, dataset: GlimpseDataset, rows: np.ndarray, copy: ImageCopy = ORIGINAL
    ) -> Tensor:
        """Returns embeddings (n, L, M) float32 of all glimpses of images ``rows`` (n,) of a split."""
        return self.embed_grid(network, copy(np.asarray(dataset.images[rows])))

    def class_log_probabilities(self, network: int, summed: Tensor, counts: Tensor | int) -> Tensor:
        """Returns log p(theta), (..., classes) float32, from sums of embeddings (..., M)."""
        of_class = [summed[..., self._labels == c].logsumexp(-1) for c in range(self.num_classes)]
        return torch.log_softmax(torch.stack(of_class, dim=-1), dim=-1)

    def probabilities(
        self, glimpses: np.ndarray, corners: np.ndarray, counts: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        """Returns class probabilities (B, classes) float32; see :meth:`glimpse_env.judge.judge.Judge.probabilities`."""
        summed = torch.zeros(len(glimpses), len(self.world.labels))
        for t in range(glimpses.shape[1]):
            taken = torch.from_numpy(counts > t)[:, None]
            summed += self.embed_glimpses(0, glimpses[:, t], corners[:, t]) * taken
        return self.class_log_probabilities(0, summed, 0).exp().numpy()

    def _values(self, pixels: np.ndarray) -> Tensor:
        """Returns the numbers (...) of the values of pixels (...) uint8."""
        return torch.from_numpy(np.abs(pixels[..., None].astype(np.int64) - self.world.pixels).argmin(-1))


def _value(p: np.ndarray, criterion: str) -> float:
    """Returns the criterion of an exact posterior p (classes,)."""
    if criterion in ("error", "least_confidence"):
        return float(1.0 - p.max())
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())
