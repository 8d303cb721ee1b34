"""Stochastic image completion r(x | y_1:t, l_1:t): images of a bank, weighted by how well they match the glimpses.

Importance sampling with the Dirac likelihood relaxed to a Gaussian,

    log w_n = -sum_i d(y_i, fovea(x_n, l_i))^2 / (2 sigma^2)

a sum over the glimpses seen, with sigma set by bisection on the effective sample size (Harvey et al., section 4.2).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.embeddings import EmbeddingTable, fill_table
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge import Judge, asked_of
from glimpse_env.sensor import Sensor

Match = Literal["pixels", "embedding"]


@dataclass(frozen=True)
class CompletionConfig:
    """How completions are found and weighted."""

    match: Match = "pixels"
    """Distance of two glimpses: Euclidean between their pixels (the paper's) or between the judge's embeddings."""
    effective_samples: float = 25.0
    """Effective sample size that the bandwidth is set for."""
    bandwidth: float | None = None
    """A fixed sigma, in units of the distance, instead of the bisection."""
    label_weight: float = 0.0
    """Exponent of the judge's posterior of a completion's label, multiplied to its weight; 0 leaves it out."""
    samples: int = 40
    """Completions kept, the heaviest ones."""
    short_list: int = 500
    """Nearest images that the bandwidth is set on."""
    bank_size: int = 10_000
    """Images in the bank at most."""

    def __post_init__(self) -> None:
        if self.match not in get_args(Match):
            raise ConfigurationError(f"match={self.match!r} must be one of {', '.join(get_args(Match))}.")
        if not 1 <= self.samples <= self.short_list:
            raise ConfigurationError(f"samples={self.samples} must lie in 1..short_list={self.short_list}.")


class ImageBank:
    """Training images that one network of a judge never saw, with their embeddings at every grid location.

    Attributes:
        rows: (N,) int64, which images of the training split.
        images: (N, H, W, C) uint8.
        labels: (N,) int64 tensor.
        embeddings: (N, L, D) float16 tensor, memory-mapped from the cache where ``cached``.
    """

    def __init__(self, dataset: GlimpseDataset, judge: Judge, network: int, size: int, *, cached: bool = True):
        self.judge, self.network = judge, network
        self.rows = asked_of(network, dataset.folds)[:size]
        if len(self.rows) == 0:
            raise ConfigurationError(
                f"no image of {dataset.name}/{dataset.split} is unseen by network {network}: the bank would be empty."
            )
        contiguous = self.rows[-1] - self.rows[0] + 1 == len(self.rows)
        self.images = (
            dataset.images[self.rows[0] : self.rows[-1] + 1] if contiguous else np.asarray(dataset.images[self.rows])
        )
        self.labels = torch.from_numpy(np.asarray(dataset.labels[self.rows]))
        self.sensor = Sensor(judge.grid.glimpse_size, judge.card.scales)
        if cached:
            self.embeddings = torch.from_numpy(EmbeddingTable(dataset, judge, network, self.rows).array)
        else:
            width = judge.embed_grid(network, self.images[:1]).shape[2]
            self.embeddings = torch.empty((len(self), len(judge.grid), width), dtype=torch.float16)
            fill_table(self.embeddings.numpy(), dataset, judge, network, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def squared_distances(self, glimpses: np.ndarray, embedded: Tensor, corners: np.ndarray, match: str) -> Tensor:
        """Squared distance of each glimpse to every bank image's glimpse at the same place.

        Args:
            glimpses: (B, g, g, C * scales) uint8.
            embedded: (B, D) float32, the judge's embeddings of them.
            corners: (B, 2) int pixels; the embeddings are compared at the nearest grid location.
            match: as in :class:`CompletionConfig`.

        Returns:
            (B, N) float32; pixels count in [0, 1].
        """
        distances = torch.empty(len(glimpses), len(self))
        places, owner = np.unique(corners, axis=0, return_inverse=True)
        every = np.arange(len(self))
        for place, corner in enumerate(places):
            rows = torch.from_numpy(np.flatnonzero(owner.reshape(-1) == place))
            if match == "pixels":
                # the window of all images is read once for all episodes that look there
                bank = torch.from_numpy(self.sensor(self.images, every, np.broadcast_to(corner, (len(self), 2))))
                ours, theirs = torch.from_numpy(glimpses)[rows].flatten(1) / 255.0, bank.flatten(1) / 255.0
            else:
                ours = embedded[rows]
                theirs = self.embeddings[:, int(self.judge.grid.nearest(corner))].float()
            squares = ours.square().sum(1)[:, None] + theirs.square().sum(1)[None] - 2.0 * ours @ theirs.T
            distances[rows] = squares.clamp_min_(0.0)
        return distances


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / sum_n w_n^2 of weights (..., N) that sum to one: (...)."""
    return 1.0 / weights.square().sum(-1)


def completion_weights(distances: Tensor, log_prior: Tensor, config: CompletionConfig) -> Tensor:
    """softmax_n(log_prior_n - d_n / (2 sigma^2)), sigma by bisection on the effective sample size.

    Args:
        distances: (B, N) squared distances summed over the glimpses seen; +inf leaves an image out.
        log_prior: (B, N) log-weights beside the match.
        config: says the effective sample size, or the bandwidth.

    Returns:
        (B, N) float32, rows sum to one.
    """
    nearest = distances.amin(-1, keepdim=True)
    if config.bandwidth is not None:
        return torch.softmax(log_prior - (distances - nearest) / (2.0 * config.bandwidth**2), dim=-1)
    usable = torch.isfinite(distances).sum(-1)
    target = torch.minimum(torch.tensor(config.effective_samples), 0.9 * usable)
    gaps = distances - nearest
    scale = torch.where(torch.isfinite(gaps), gaps, 0.0).mean(-1, keepdim=True).clamp_min(1e-12)
    gaps = gaps / scale
    low, high = torch.full_like(nearest, -12.0), torch.full_like(nearest, 12.0)  # log precision, in units of 1/scale
    for _ in range(30):
        middle = (low + high) / 2
        weights = torch.softmax(log_prior - gaps * middle.exp(), dim=-1)
        flat = (effective_sample_size(weights) > target)[:, None]  # then the precision has to grow
        low, high = torch.where(flat, middle, low), torch.where(flat, high, middle)
    return weights
