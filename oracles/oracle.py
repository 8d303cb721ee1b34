"""The BOED oracle: looks where the posterior is expected to be surest, seeing glimpses and locations only."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge import Judge
from glimpse_env.observations import Histories, unpack_history
from oracles.completion import CompletionConfig, ImageBank, completion_weights
from oracles.epe import Criterion, expected_criterion
from oracles.policy import GlimpsePolicy, Observations, actions_for

MAP_TITLES: dict[Criterion, str] = {
    "entropy": "Expected entropy, nats",
    "log_loss": "Expected log-loss, nats",
    "error": "Expected error",
}


@dataclass(frozen=True)
class OracleConfig:
    """What the oracle minimises and how it completes images."""

    criterion: Criterion = "entropy"
    completion: CompletionConfig = field(default_factory=CompletionConfig)
    first_samples: int = 1000
    """Bank images that the first location, the same for every image, is computed from."""


@dataclass
class OracleState:
    """What the oracle keeps of B running episodes, so that no glimpse is matched twice."""

    counts: np.ndarray
    """(B,) int64: glimpses taken in so far."""
    summed: list[Tensor]
    """Per network: (B, D) sum of the glimpses' embeddings."""
    distances: list[Tensor]
    """Per network: (B, N) squared distances to its bank, summed over the glimpses; +inf for images left out."""


class BOEDOracle(GlimpsePolicy):
    """Greedy Bayesian experimental design: l_t = argmin_l EPE(l) among the locations not yet seen.

    It belongs to one judge. With ``network=k`` it asks that network alone, its bank being the images of fold k; it
    then serves the images of fold k. Without, the EPE is the mean over the judge's networks, each with its own bank:
    for images that no network was trained on.
    """

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        config: OracleConfig | None = None,
        *,
        network: int | None = None,
        banks: list[ImageBank] | None = None,
    ):
        """
        Args:
            dataset: the training split, the banks' source.
            judge: whose posterior is asked.
            config: see :class:`OracleConfig`.
            network: the one to ask; None for all.
            banks: made already, one a network asked; None makes them.
        """
        self.dataset, self.judge = dataset, judge
        self.config = config or OracleConfig()
        networks = range(len(judge.networks)) if network is None else [network]
        self.banks = banks or [ImageBank(dataset, judge, k, self.config.completion.bank_size) for k in networks]
        self.map_title = MAP_TITLES[self.config.criterion]
        self._first_map: np.ndarray | None = None

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> OracleState:
        """A state whose banks leave out the images to be looked at, where they are of the same split."""
        state = self._fresh_state(len(indices))
        if dataset.split == self.dataset.split:
            for bank, distances in zip(self.banks, state.distances, strict=True):
                distances[torch.from_numpy(np.asarray(indices)[:, None] == bank.rows)] = torch.inf
        return state

    def predict(
        self,
        observation: Observations,
        state: OracleState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, OracleState]:
        """The locations of lowest EPE; ``deterministic=False`` changes nothing, the oracle does not sample."""
        histories = unpack_history(observation, self.judge.grid)
        batch = len(histories.counts)
        if state is None:
            state = self._fresh_state(batch)
        elif episode_start is not None and np.any(episode_start & (state.counts > 0)):
            self._restart(state, np.flatnonzero(episode_start))
        self._take_in(histories, state)
        self.last_maps = self.expected_maps(state)
        scores = self.last_maps.copy()
        for t in range(histories.corners.shape[1]):
            rows = np.flatnonzero(histories.counts > t)
            scores[rows, self.judge.grid.nearest(histories.corners[rows, t])] = np.inf
        return actions_for(scores.argmin(axis=1), observation), state

    def expected_maps(self, state: OracleState) -> np.ndarray:
        """The criterion expected at every location, (B, L) float32."""
        maps = np.zeros((len(state.counts), len(self.judge.grid)), dtype=np.float32)
        for b, count in enumerate(state.counts):
            if count == 0:
                maps[b] = self.first_map()
        later = np.flatnonzero(state.counts > 0)
        if len(later):
            for bank, summed, distances in zip(self.banks, state.summed, state.distances, strict=True):
                maps[later] += self._maps(bank, summed[later], state.counts[later], distances[later]) / len(self.banks)
        return maps

    def first_map(self) -> np.ndarray:
        """(L,) float32: the criterion before any glimpse, the same for every image and computed once."""
        if self._first_map is None:
            maps = []
            for bank in self.banks:
                # spread over the bank, since neighbours may be of one class
                chosen = torch.linspace(0, len(bank) - 1, min(len(bank), self.config.first_samples)).long().unique()
                weights = torch.full((len(chosen),), 1.0 / len(chosen))
                summed = torch.zeros(bank.embeddings.shape[-1])
                maps.append(self._expected(bank, summed, 0, chosen, weights))
            self._first_map = torch.stack(maps).mean(0).numpy()
        return self._first_map

    def _maps(self, bank: ImageBank, summed: Tensor, counts: np.ndarray, distances: Tensor) -> np.ndarray:
        """The criterion under one network for histories with a glimpse at least, (B, L)."""
        config = self.config.completion
        short = min(config.short_list, len(bank))
        nearest, candidates = distances.topk(short, dim=-1, largest=False, sorted=False)  # (B, short)
        log_prior = torch.zeros_like(nearest)
        if config.label_weight:
            posterior = self.judge.class_log_probabilities(bank.network, summed, torch.from_numpy(counts))
            log_prior = config.label_weight * posterior.gather(1, bank.labels[candidates])
        weights = completion_weights(nearest, log_prior, config)
        kept, positions = weights.topk(min(config.samples, short), dim=-1)  # (B, S)
        kept = kept / kept.sum(-1, keepdim=True)
        samples = candidates.gather(1, positions)
        return torch.stack(
            [self._expected(bank, summed[b], int(counts[b]), samples[b], kept[b]) for b in range(len(counts))]
        ).numpy()

    def _expected(self, bank: ImageBank, summed: Tensor, count: int, samples: Tensor, weights: Tensor) -> Tensor:
        """(L,): the criterion of one history over chosen completions, a bounded number of them at a time."""
        chunk = 128
        return torch.stack(
            [
                expected_criterion(
                    self.judge,
                    bank.network,
                    summed,
                    count,
                    bank.embeddings[part].float(),
                    bank.labels[part],
                    share,
                    self.config.criterion,
                )
                for part, share in zip(samples.split(chunk), weights.split(chunk), strict=True)
            ]
        ).sum(0)

    def _fresh_state(self, batch: int) -> OracleState:
        return OracleState(
            counts=np.zeros(batch, dtype=np.int64),
            summed=[torch.zeros(batch, bank.embeddings.shape[-1]) for bank in self.banks],
            distances=[torch.zeros(batch, len(bank)) for bank in self.banks],
        )

    def _restart(self, state: OracleState, rows: np.ndarray) -> None:
        """New episodes begin in ``rows``: of which image nobody knows, so none is left out."""
        state.counts[rows] = 0
        for summed, distances in zip(state.summed, state.distances, strict=True):
            summed[rows] = 0.0
            distances[rows] = 0.0

    def _take_in(self, histories: Histories, state: OracleState) -> None:
        """Brings the state up to the glimpses of the observation."""
        if len(state.counts) != len(histories.counts) or (state.counts > histories.counts).any():
            raise ConfigurationError(
                "the oracle's state belongs to other episodes than the observation; pass state=None to start afresh."
            )
        for t in range(int(state.counts.min()), int(histories.counts.max())):
            rows = np.flatnonzero((state.counts <= t) & (histories.counts > t))
            glimpses, corners = histories.glimpses[rows, t], histories.corners[rows, t]
            for bank, summed, distances in zip(self.banks, state.summed, state.distances, strict=True):
                embedded = self.judge.embed_glimpses(bank.network, glimpses, corners)
                summed[rows] += embedded
                distances[rows] += bank.squared_distances(glimpses, embedded, corners, self.config.completion.match)
        state.counts = histories.counts.astype(np.int64)
