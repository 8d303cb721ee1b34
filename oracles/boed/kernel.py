"""Expected losses by kernel regression over few photographs: the best fixed sequence where they say nothing.

With some ten images a class the completions of :mod:`oracles.boed.completion` are few and their weighted mean is noise,
whose minimum loses to a fixed sequence. Here the completions are all training images, each with its own glimpses at the
places looked at, and their weights are those of kernel ridge regression in place of importance sampling. With d^2 the
squared distance of the glimpses seen, a sum over them as in the paper,

    E[loss(l) | y_1:t, l_1:t] ~ m(l) + k (K + ridge I)^-1 (C(l) - m(l)),   k_n = exp(-sharpness d_n^2 / mean d^2)

where C_n(l) is image n's own log-loss after the last glimpse: after l_1:t, l and what the best fixed sequence has left.
Mirror images can be regressed over as well, and photographs of other classes (:mod:`oracles.boed.further`); distances
can be those of the features predicted for all places (:mod:`oracles.boed.unseen`).
The more ridge the closer to the mean m, whose minimum is the next location of the fixed sequence. Each choice improves
on that sequence by one step of policy iteration, so that it looks ahead as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glimpse_env.checks import check_settings
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.datasets.copies import copies_of
from glimpse_env.encoding.table import FeatureTable
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Histories
from oracles.base import MappingPolicy, random_part
from oracles.baselines import best_fixed, embedded_images
from oracles.boed.criteria import map_title
from oracles.boed.further import FurtherImages
from oracles.boed.regression import KernelRegression
from oracles.boed.unseen import PredictedMaps

IMAGES_PER_CHUNK = 64
"""Images whose losses are computed at a time."""


@dataclass(frozen=True)
class KernelConfig:
    """How expected losses are regressed.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    ridge: float = 3.0
    """Added to the kernel's diagonal, which is 1; the best fixed sequence is its limit."""
    sharpness: float = 2.0
    """Inverse width of the kernel, in units of the mean squared distance between images."""
    branches: int = 3
    """Locations among which each choice but the last is made, after the same locations: regressions are kept by the
    set of locations, and there are ``branches`` times as many with each glimpse."""
    most_nats: float = 6.0
    """What larger log-losses count as."""
    images: int = 2100
    """Training images regressed over, at most, drawn at random where there are more."""
    mirrored: bool = False
    """Whether their mirror images are regressed over as well, where ``images`` has room for both: for data whose mirror
    images are of the same class."""
    further: str | None = None
    """Name of a data set, or path of an image folder, whose training images of other classes are regressed over as
    well, without their labels; None for none."""
    further_images: int = 1300
    """Number of them, at most, drawn at random where there are more."""
    further_ridge: float = 10.0
    """Added to the kernel's diagonal for them in place of ``ridge``."""
    predicted: float = 0.0
    """Share, 0 to 1, in the squared distance, of that between the features predicted for all places from those seen, by
    models fitted to the same images and the further ones."""
    side_images: int = 512
    """Training images regressed over, at most, where an agent has left the locations that this oracle would have
    chosen."""

    def __post_init__(self) -> None:
        positive = ("ridge", "sharpness", "most_nats", "further_ridge")
        large = dict.fromkeys(positive, (-math.inf, 1e9))
        check_settings(
            self,
            predicted=(0, 1),
            **dict.fromkeys(("branches", "images", "side_images", "further_images"), (1, None)),
            **large,
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name}={getattr(self, name)!r} must be above 0.")


def covering(losses: Tensor, count: int) -> list[int]:
    """Returns ``count`` locations so that the best of them serves images well: chosen greedily to minimise the mean
    over images of the least of losses (n, L), of which infinite ones count out their locations."""
    best, chosen = losses.new_full((len(losses),), torch.inf), []
    for _ in range(min(count, int(torch.isfinite(losses).any(0).sum()))):
        chosen.append(int(torch.minimum(best[:, None], losses).mean(0).argmin()))
        best = torch.minimum(best, losses[:, chosen[-1]])
    return chosen


@dataclass
class KernelState:
    """State of B running episodes, so that no glimpse is encoded twice."""

    counts: np.ndarray
    """(B,) int64, glimpses in the state."""
    features: Tensor
    """(B, T, F) float32, the glimpses' features."""
    locations: np.ndarray
    """(B, T) int64, their grid locations."""
    own: np.ndarray
    """(B,) int64, which of the images regressed over each episode's is; -1 for none."""


@dataclass(frozen=True)
class _Node:
    """The regression after one set of locations, and where the next glimpse may be."""

    regression: KernelRegression | None
    """None before the first glimpse."""
    mean: Tensor
    """(L,) float32, the loss over all images."""
    allowed: np.ndarray
    """(L,) bool."""
    on_tree: bool
    """Whether the oracle itself reaches these locations; all its images are regressed over then, else a part."""
    shares: tuple[float, float] = (1.0, 0.0)
    """What the features seen, and coordinates of those predicted, are multiplied by in the regression's inputs."""


class KernelOracle(MappingPolicy[KernelState]):
    """Looks where kernel regression expects the least log-loss after the last glimpse; see the module's docstring.

    Glimpses are compared by the frozen features of the judge's encoder, or by their pixels, averaged to 8 x 8, where
    the judge has none. An image that is among the training images is left out of its own prediction.

    Attributes:
        sequence: (T,) int64, the best fixed sequence, which it starts from.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        config: KernelConfig | None = None,
        further: FurtherImages | None = None,
    ):
        """
        Args:
            dataset: the training split.
            judge: gives the posterior; each image is judged by a network that never saw it.
            config: see :class:`KernelConfig`.
            further: images that ``config.further`` names.

        Raises:
            ConfigurationError: if predicted features are asked for of a judge without frozen ones.
        """
        self.dataset, self.judge, self.grid, self.config = dataset, judge, judge.grid, config or KernelConfig()
        self.num_glimpses = judge.card.num_glimpses
        self.sequence = best_fixed(dataset, judge, self.num_glimpses)
        self.rows = random_part(np.arange(len(dataset)), self.config.images)
        self.copies = copies_of(self.config.mirrored and 2 * len(self.rows) <= self.config.images, 0)
        embedded = [embedded_images(dataset, judge, self.rows, copy) for copy in self.copies]
        self.embeddings = torch.cat([embeddings for embeddings, _, _ in embedded])
        self.labels = torch.cat([labels for _, labels, _ in embedded])
        self.networks = np.concatenate([networks for _, _, networks in embedded])
        self.map_title = map_title("log_loss", "last")
        self._side = random_part(np.arange(len(self.rows)), max(1, self.config.side_images // len(self.copies)))
        self._table = None if judge.frozen is None else FeatureTable(dataset, judge.frozen, self.copies)
        self.further = further
        self._predicted = None
        if self.config.predicted:
            if self._table is None:
                raise ConfigurationError(
                    f"predicted={self.config.predicted} needs a judge on frozen features; train one, or leave it at 0."
                )
            images = self._table(self.rows[:, None], np.arange(len(self.grid)))
            others = None if self.further is None else self.further.features
            self._predicted = PredictedMaps(images, self.networks[: len(self.rows)], others)
        self._nodes: dict[tuple[tuple[int, ...], int], _Node] = {}  # by locations and number of glimpses

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> KernelState:
        """Returns a state in which images to be looked at, where they are training images, are left out."""
        state = self.fresh_state(len(indices))
        if (dataset.fingerprint, dataset.split) == (self.dataset.fingerprint, self.dataset.split):
            places = np.searchsorted(self.rows, indices).clip(max=len(self.rows) - 1)
            state.own = np.where(self.rows[places] == indices, places, -1)
        return state

    def fresh_state(self, batch: int) -> KernelState:
        return KernelState(
            counts=np.zeros(batch, dtype=np.int64),
            features=torch.zeros(batch, self.num_glimpses, 0, device=self.judge.device),
            locations=np.zeros((batch, self.num_glimpses), dtype=np.int64),
            own=np.full(batch, -1),
        )

    def restart(self, state: KernelState, rows: np.ndarray) -> None:
        """Clears the episodes ``rows``; as the images of the next ones are unknown, none is left out."""
        state.own[rows] = -1

    def add_new(self, histories: Histories, state: KernelState) -> None:
        new = (np.arange(self.num_glimpses) < histories.counts[:, None]) & (
            np.arange(self.num_glimpses) >= state.counts[:, None]
        )
        if not new.any():
            return
        features = self._features(histories.glimpses[new])
        if state.features.shape[2] == 0:
            state.features = features.new_zeros(*state.features.shape[:2], features.shape[1])
        state.features[torch.from_numpy(new)] = features
        state.locations[new] = self.grid.nearest(histories.corners[new])

    def expected_maps(self, state: KernelState) -> np.ndarray:
        maps = np.empty((len(state.counts), len(self.grid)), dtype=np.float32)
        seen = [
            tuple(np.unique(row[:count]).tolist()) for row, count in zip(state.locations, state.counts, strict=True)
        ]
        for locations in dict.fromkeys(seen):
            rows = np.array([b for b, other in enumerate(seen) if other == locations])
            for count in np.unique(state.counts[rows]):  # more than the locations where some were looked at twice
                members = rows[state.counts[rows] == count]
                maps[members] = self._maps(locations, int(count), state, members)
        return maps

    def _maps(self, locations: tuple[int, ...], count: int, state: KernelState, rows: np.ndarray) -> np.ndarray:
        """Returns the expected losses (b, L) of the episodes ``rows`` (b,), which looked at ``locations``."""
        node = self._node(locations, count)
        if node.regression is None:
            maps = np.repeat(node.mean.cpu().numpy()[None], len(rows), axis=0)
        else:
            order = [
                [int(np.flatnonzero(state.locations[b, :count] == location)[-1]) for location in locations]
                for b in rows
            ]
            own = state.own[rows]
            features = state.features[torch.from_numpy(rows)[:, None], torch.tensor(order)]
            folds = np.where(own == -1, -1, self.networks[own])
            inputs = self._inputs(features, locations, folds, node.shares)
            if not node.on_tree:
                places = np.searchsorted(self._side, own).clip(max=len(self._side) - 1)
                own = np.where(self._side[places] == own, places, -1)
            maps = node.regression(inputs, own).cpu().numpy()
        # what is not among the branches is no better than they are
        least = maps[:, node.allowed].min(axis=1, keepdims=True)
        return np.where(node.allowed, maps, np.maximum(maps, least + 1e-4))

    def _inputs(
        self, features: Tensor, locations: tuple[int, ...], folds: np.ndarray, shares: tuple[float, float]
    ) -> Tensor:
        """Returns what is compared (n, F') of features (n, t, F) at ``locations`` of images of ``folds`` (n,), -1 for
        images that no model of predicted features saw."""
        if self._predicted is None:
            return features.flatten(1)
        return torch.cat([shares[0] * features.flatten(1), shares[1] * self._predicted(features, locations, folds)], 1)

    def _left(self, locations: Sequence[int], count: int) -> list[int]:
        """Returns what the fixed sequence has left after ``count`` glimpses and the one that is to be chosen."""
        after = self.num_glimpses - count - 1
        return [int(x) for x in self.sequence if x not in locations][-after:] if after else []

    def _node(self, locations: tuple[int, ...], count: int, on_tree: bool | None = None) -> _Node:
        """Returns the regression after ``count`` glimpses at ``locations``, made at first use; ``on_tree`` None finds
        out whether the oracle reaches them."""
        if (locations, count) not in self._nodes:
            if on_tree is None:
                on_tree = self._reaches(locations, count)
            left = self._left(locations, count)
            images = np.arange(len(self.rows)) if on_tree else self._side
            entries = (np.arange(len(self.copies))[:, None] * len(self.rows) + images).reshape(-1)
            losses = self._losses(entries, [*locations, *left]).clamp_max_(float(self.config.most_nats))
            allowed = np.ones(len(self.grid), dtype=bool)
            allowed[[*locations, *left]] = False
            regression, shares = None, (1.0, 0.0)
            if locations:
                features = self._bank_features(entries, np.array(locations)).unflatten(1, (len(locations), -1))
                folds = self.networks[entries]
                if self._predicted is not None:
                    both = features.flatten(1), self._predicted(features, locations, folds)
                    seen, predicted = (float(part.var(0, correction=0).sum().clamp_min(1e-12)) for part in both)
                    share = self.config.predicted
                    shares = math.sqrt((1.0 - share) / seen), math.sqrt(share / predicted)
                inputs = self._inputs(features, locations, folds, shares)
                settings = self.config.ridge, self.config.sharpness, len(self.copies)
                further = None
                if self.further is not None and on_tree:
                    theirs = self.further.features[:, list(locations)].to(self.judge.device).float()
                    theirs = self._inputs(theirs, locations, np.full(len(theirs), -1), shares)
                    their_losses = self.further.losses([*locations, *left], float(self.config.most_nats))
                    further = theirs, their_losses, self.config.further_ridge
                regression = KernelRegression(inputs, losses, *settings, further)
            if on_tree and left:
                branches = [int(self.sequence[0])]
                if regression is not None:
                    open_losses = regression.left_out.clone()
                    open_losses[:, torch.from_numpy(~allowed)] = torch.inf
                    branches = covering(open_losses, self.config.branches)
                allowed[:] = False
                allowed[branches] = True
            self._nodes[locations, count] = _Node(regression, losses.mean(0), allowed, on_tree, shares)
        return self._nodes[locations, count]

    def _reaches(self, locations: tuple[int, ...], count: int) -> bool:
        """Returns whether the oracle itself may have looked at ``locations`` with its first ``count`` glimpses.

        It depends on nothing that was asked before: all its paths within ``locations`` are followed.
        """
        reached: set[tuple[int, ...]] = {()}
        for t in range(count):
            reached = {
                tuple(sorted({*before, int(branch)}))
                for before in reached
                for branch in np.flatnonzero(self._node(before, t, True).allowed)
                if branch in locations
            }
        return len(locations) == count and locations in reached

    @torch.no_grad()
    def _losses(self, entries: np.ndarray, locations: list[int]) -> Tensor:
        """Returns the log-loss (n, L) of entries (n,), images or copies, after ``locations`` and each further one."""
        losses = torch.empty(len(entries), len(self.grid), device=self.judge.device)
        for k in np.unique(self.networks[entries]):
            members = np.flatnonzero(self.networks[entries] == k)
            for rows in np.array_split(members, max(1, len(members) // IMAGES_PER_CHUNK)):
                embedded = self.embeddings[torch.from_numpy(entries[rows])].to(self.judge.device)  # (b, L, D)
                summed = embedded + embedded[:, locations].sum(1, keepdim=True)
                answers = self.judge.class_log_probabilities(int(k), summed, len(locations) + 1)
                labels = self.labels[torch.from_numpy(entries[rows])].to(self.judge.device)
                losses[torch.from_numpy(rows)] = -answers.gather(
                    -1, labels[:, None, None].expand(-1, answers.shape[1], 1)
                )[..., 0]
        return losses

    def _bank_features(self, entries: np.ndarray, locations: np.ndarray) -> Tensor:
        """Returns the features (n, t * F) of entries (n,), images or copies, at ``locations`` (t,), one after
        another; the entries of one copy come together."""
        which, places = np.divmod(entries, len(self.rows))
        features = []
        for c, copy in enumerate(self.copies):
            rows = self.rows[places[which == c]]
            if self._table is not None:
                part = torch.from_numpy(self._table(rows[:, None], locations, c)).to(self.judge.device).float()
            else:
                images = copy(self.dataset.images[rows])
                corners = np.tile(self.grid.corners[locations], (len(rows), 1))
                glimpses = self.judge.geometry.sensor(images, np.repeat(np.arange(len(rows)), len(locations)), corners)
                part = self._features(glimpses)
            features.append(part.reshape(len(rows), -1))
        return torch.cat(features)

    def _features(self, glimpses: np.ndarray) -> Tensor:
        """Returns the numbers (B, F) float32 by which glimpses (B, g, g, C * scales) uint8 are compared."""
        if self.judge.frozen is not None:
            return self.judge.frozen.encode(glimpses).to(self.judge.device)
        pixels = torch.from_numpy(glimpses).to(self.judge.device).permute(0, 3, 1, 2) / 255.0
        return torch.nn.functional.adaptive_avg_pool2d(pixels, min(8, pixels.shape[-1])).flatten(1)
