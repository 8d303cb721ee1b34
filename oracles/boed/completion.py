"""Stochastic image completion r(x | y_1:t, l_1:t): images of a bank, weighted by how well they match the glimpses.

Importance sampling with the Dirac likelihood relaxed to a Gaussian,

    log w_n = -sum_i d(y_i, fovea(x_n, l_i))^2 / (2 sigma^2)

a sum over the glimpses seen, with sigma set by bisection on the effective sample size (Harvey et al., section 4.2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from glimpse_env.checks import check_settings, one_of, whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import ORIGINAL, copied_images, copies_of, named
from glimpse_env.devices import resident
from glimpse_env.errors import ConfigurationError
from glimpse_env.files import digest
from glimpse_env.judge.judge import Judge, rows_for_network
from glimpse_env.judge.tables import EmbeddingTable
from glimpse_env.sensing.sensor import reduced_to_level
from oracles.base import random_part
from oracles.boed.coarse import CoarseTable

Match = Literal["pixels", "embedding"]

ENTRIES_PER_REDUCTION = 1024
"""Entries whose images are reduced by a zoom at a time."""
LARGE_BANK = 10_000
"""Entries up to which a bank is by default searched exactly."""
COARSE_DIMENSIONS = 64
"""Principal components of the coarse search by default; docs/oracle_cost.md has its recall."""
ENTRIES_PER_COMPARISON = 16_384
"""Entries compared exactly at a time, whose windows are in memory as floats."""
LISTED_PER_COMPARISON = 256
"""Entries of a shortlist compared exactly at a time, so that their windows stay in the processor's cache."""


@dataclass(frozen=True)
class CompletionConfig:
    """How completions are found and weighted.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    match: Match = "pixels"
    """What glimpses are compared by: the Euclidean distance of their pixels (the paper's) or of their embeddings."""
    effective_samples: float = 25.0
    """Effective sample size that the bandwidth is set for."""
    bandwidth: float | None = None
    """A fixed sigma, in units of the distance, instead of the bisection."""
    label_weight: float = 0.0
    """Exponent of the judge's posterior of a completion's label, a factor of its weight; 0 leaves it out."""
    samples: int = 40
    """Completions kept, the heaviest ones."""
    short_list: int = 500
    """Nearest images that the bandwidth is set on."""
    bank_size: int = 10_000
    """Images of the training split in the bank, at most, drawn at random where there are more; copies come on top."""
    mirrored: bool = False
    """Whether the bank also holds the images' mirror images: for data whose mirror images are of the same class."""
    shifts: int = 0
    """The bank also holds the images moved by so many pixels in each of the four directions; 0 for none."""
    coarse: int | None = None
    """Principal components that a first, coarse search is done by; 0 searches exactly throughout. None is exact for
    up to 10 000 entries and takes 64 components for more."""
    coarse_keep: int = 2
    """Entries that are compared exactly after the coarse search, in multiples of ``short_list``."""

    def __post_init__(self) -> None:
        one_of("match", self.match, get_args(Match))
        least = dict.fromkeys(("effective_samples", "samples", "short_list", "bank_size", "coarse_keep"), (1, None))
        least |= dict.fromkeys(("label_weight", "shifts", "coarse"), (0, None))
        check_settings(self, bandwidth=(1e-9, None), **least)
        if not 1 <= self.samples <= self.short_list:
            raise ConfigurationError(f"samples={self.samples} must lie in 1..short_list={self.short_list}.")

    def dimensions(self, entries: int) -> int:
        """Returns the components of the coarse search of a bank with so many entries; 0 where the search is exact."""
        if self.coarse_keep * self.short_list >= entries:
            return 0  # the coarse search would leave nothing out
        if self.coarse is None:
            return COARSE_DIMENSIONS if entries > LARGE_BANK else 0
        return self.coarse


class ImageBank:
    """Training images that one network of a judge never saw, with their embeddings at every grid location.

    Copies of the images are further entries: copy c of image i of n is entry c * n + i, the originals first. Methods
    that compare glimpses take ``queries`` (B, F) float32, see :func:`queries_of`; the glimpses' ``corners`` (B, 2) int
    pixels, (B, 3) with zooms, at which entries are compared (embeddings at the nearest grid location); and ``match`` as
    in :class:`CompletionConfig`. Distances are computed, and returned, on the queries' device.

    Attributes:
        rows: (N,) int64, which image of the training split each entry is, or is a copy of.
        labels: (N,) int64 tensor, on the judge's device.
        embeddings: (N, L, D) float16 tensor, on the judge's device where there is room, else memory-mapped from the
            cache where ``cached``.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        network: int,
        size: int,
        *,
        cached: bool = True,
        mirrored: bool = False,
        shifts: int = 0,
    ):
        """
        Args:
            dataset: the training split.
            judge: gives the embeddings.
            network: index k of its network.
            size: images at most, copies not counted; of more, :func:`oracles.base.random_part` takes a part.
            cached: whether embeddings are kept in the cache, or in memory.
            mirrored, shifts: copies in the bank, as in :class:`CompletionConfig`.

        Raises:
            ConfigurationError: if the network has seen all images, or ``shifts`` is out of range.
        """
        self.dataset, self.judge, self.network, self.cached = dataset, judge, network, cached
        sources = random_part(rows_for_network(network, dataset.folds), size)
        if len(sources) == 0:
            raise ConfigurationError(
                f"no image of {dataset.name}/{dataset.split} is unseen by network {network}: the bank would be empty."
            )
        self.copies = copies_of(mirrored, whole_number("shifts", shifts, 0, dataset.images.shape[1] - 1))
        self.rows = np.tile(sources, len(self.copies))
        self.labels = torch.from_numpy(np.asarray(dataset.labels[self.rows])).to(judge.device)
        self.sensor = judge.geometry.sensor
        table = EmbeddingTable(dataset, judge, network, sources, self.copies, cached)
        self.embeddings = resident(torch.from_numpy(table.array), judge.device)
        self._reductions: dict[int, np.ndarray] = {}
        self._coarse: dict[tuple[Match, int], CoarseTable] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def embedded(self, entries: Tensor, places: Tensor | slice = slice(None)) -> Tensor:
        """Returns the embeddings float32 of entries at grid locations, or at all, on the judge's device."""
        return self.embeddings[entries.to(self.embeddings.device), places].to(self.judge.device).float()

    def features(
        self, entries: np.ndarray, corner: np.ndarray, match: Match, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Returns the numbers (n, F) float32 by which glimpses of entries (n,) at ``corner`` (2 or 3,) are compared."""
        if match == "embedding":
            place = int(self.judge.grid.nearest(corner))
            return self.embeddings[torch.from_numpy(entries), place].to(device).float()
        images, places = self._pixels
        if corner[2:].any() and (reduced := self._reduced(int(corner[2]), corner)) is not None:
            images, corner = reduced
            places = np.arange(len(self))
        windows = self.sensor(images, places[entries], np.broadcast_to(corner, (len(entries), len(corner))))
        return torch.from_numpy(windows).to(device).flatten(1) / 255.0

    def squared_distances(self, queries: Tensor, corners: np.ndarray, match: Match) -> Tensor:
        """Returns the squared distance (B, N) float32 of each glimpse to every entry's at the same place."""
        distances = queries.new_empty(len(queries), len(self))
        for rows, corner in _by_place(corners):
            ours = queries[rows]
            energy = ours.square().sum(1)[:, None]
            for start in range(0, len(self), ENTRIES_PER_COMPARISON):
                entries = np.arange(start, min(start + ENTRIES_PER_COMPARISON, len(self)))
                # the window of these images is read once for all episodes that look there
                theirs = self.features(entries, corner, match, queries.device)
                squares = energy + theirs.square().sum(1)[None] - 2.0 * ours @ theirs.T
                distances[rows, start : entries[-1] + 1] = squares.clamp_min_(0.0)
        return distances

    def coarse_distances(self, queries: Tensor, corners: np.ndarray, match: Match, dimensions: int) -> Tensor:
        """Returns estimates (B, N) of :meth:`squared_distances` at grid locations, by some principal components."""
        table = self.coarse_table(match, dimensions)
        distances = queries.new_empty(len(queries), len(self))
        for rows, corner in _by_place(corners):
            distances[rows] = table.squared_distances(queries[rows], int(self.judge.grid.nearest(corner)))
        return distances

    def listed_distances(self, entries: Tensor, queries: Tensor, corners: np.ndarray, match: Match) -> Tensor:
        """Returns squared distances (n,) of one history's glimpses to entries (n,) int64, summed over glimpses."""
        total, entries = queries.new_zeros(len(entries)), entries.cpu()
        for query, corner in zip(queries, corners, strict=True):
            for some, out in zip(entries.split(LISTED_PER_COMPARISON), total.split(LISTED_PER_COMPARISON), strict=True):
                out += self.features(some.numpy(), corner, match, queries.device).sub_(query).square_().sum(1)
        return total

    def coarse_table(self, match: Match, dimensions: int) -> CoarseTable:
        """Returns the table of the coarse search, computed now where the cache lacks it, which may take minutes."""
        if (match, dimensions) not in self._coarse:
            data, judge, corners = self.dataset, self.judge, self.judge.grid.corners
            key = f"{data.name}-" + digest(
                *(judge.identity, data.fingerprint, data.split, self.network, self.rows),
                *(named(self.copies), match, dimensions),
            )
            self._coarse[match, dimensions] = CoarseTable.made(
                lambda entries, place: self.features(entries, corners[place], match),
                len(self),
                len(corners),
                dimensions,
                key if self.cached else None,
            )
        return self._coarse[match, dimensions]

    def _reduced(self, zoom: int, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the entries' images (N, S, S, C) reduced by a zoom, and where a corner (row, col, zoom) is there,
        (2,); None where no pixel of theirs begins at it. They are kept, so that wide windows take no longer than narrow
        ones.
        """
        grid = self.judge.grid
        level = grid.levels[grid.zooms.index(zoom)]
        place, beside = np.divmod(corner[:2] - level.offset, zoom)
        if zoom == 1 or not level.even or beside.any():
            return None
        if zoom not in self._reductions:
            images, places = self._pixels
            parts = [
                places[start : start + ENTRIES_PER_REDUCTION] for start in range(0, len(self), ENTRIES_PER_REDUCTION)
            ]
            self._reductions[zoom] = np.concatenate([reduced_to_level(images[part], level) for part in parts])
        inside = (place >= 0).all() and place.max() + grid.glimpse_size <= self._reductions[zoom].shape[1]
        return (self._reductions[zoom], place) if inside else None

    @cached_property
    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Images (M, H, W, C) of the entries, and the index of each entry's image (N,)."""
        if self.copies == (ORIGINAL,):
            return self.dataset.images, self.rows
        sources = self.rows[: len(self.rows) // len(self.copies)]
        return copied_images(self.dataset, sources, self.copies), np.arange(len(self))


def queries_of(glimpses: np.ndarray, embedded: Tensor, match: Match) -> Tensor:
    """Returns the numbers (B, F) float32 by which glimpses (B, g, g, C * scales) uint8 with embeddings (B, D) are
    compared: pixels in [0, 1], or the embeddings; on the embeddings' device."""
    return torch.from_numpy(glimpses).to(embedded.device).flatten(1) / 255.0 if match == "pixels" else embedded


def _by_place(corners: np.ndarray) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yields each different corner in ``corners`` (B, 2 or 3), after the rows (b,) that have it."""
    places, owner = np.unique(corners, axis=0, return_inverse=True)
    for place, corner in enumerate(places):
        yield torch.from_numpy(np.flatnonzero(owner.reshape(-1) == place)), corner


def effective_sample_size(weights: Tensor) -> Tensor:
    """Returns 1 / sum_n w_n^2, (...), of weights (..., N) that sum to one."""
    return 1.0 / weights.square().sum(-1)


def completion_weights(distances: Tensor, log_prior: Tensor, config: CompletionConfig) -> Tensor:
    """Returns softmax_n(log_prior_n - d_n / (2 sigma^2)), sigma by bisection on the effective sample size.

    Args:
        distances: (B, N) squared distances summed over the glimpses seen; +inf leaves an image out.
        log_prior: (B, N) log-weights that the match is added to.
        config: gives the effective sample size, or the bandwidth.

    Returns:
        (B, N) float32, rows sum to one.
    """
    return _weights_and_precision(distances, log_prior, config)[0]


def completion_precision(distances: Tensor, log_prior: Tensor, config: CompletionConfig) -> Tensor:
    """Returns the 1 / (2 sigma^2) of :func:`completion_weights`, (B, 1) float32."""
    return _weights_and_precision(distances, log_prior, config)[1]


def _weights_and_precision(distances: Tensor, log_prior: Tensor, config: CompletionConfig) -> tuple[Tensor, Tensor]:
    nearest = distances.amin(-1, keepdim=True)
    if config.bandwidth is not None:
        weights = torch.softmax(log_prior - (distances - nearest) / (2.0 * config.bandwidth**2), dim=-1)
        return weights, torch.full_like(nearest, 0.5 / config.bandwidth**2)
    usable = torch.isfinite(distances).sum(-1)
    target = (0.9 * usable).clamp_max(config.effective_samples)
    gaps = distances - nearest
    scale = torch.where(torch.isfinite(gaps), gaps, 0.0).mean(-1, keepdim=True).clamp_min(1e-12)
    gaps = gaps / scale
    low, high = torch.full_like(nearest, -12.0), torch.full_like(nearest, 12.0)  # log precision, in units of 1/scale
    for _ in range(30):
        middle = (low + high) / 2
        weights = torch.softmax(log_prior - gaps * middle.exp(), dim=-1)
        flat = (effective_sample_size(weights) > target)[:, None]  # then the precision has to grow
        low, high = torch.where(flat, middle, low), torch.where(flat, high, middle)
    return weights, middle.exp() / scale
