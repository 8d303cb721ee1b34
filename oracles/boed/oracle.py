"""The BOED oracle: looks where the expected posterior entropy is lowest, from glimpses and locations only."""

import logging
import warnings
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from glimpse_env.checks import check_settings, one_of
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import IncoherentPosteriorWarning
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Histories
from oracles.base import MappingPolicy
from oracles.boed.completion import CompletionConfig, ImageBank, completion_weights, queries_of
from oracles.boed.criteria import CRITERIA, Horizon, entropy, expected_criterion, map_title
from oracles.boed.planning import Completions, planned_map, present_criterion

logger = logging.getLogger(__name__)

GLIMPSES_AT_ONCE = 2048
"""Completed glimpses judged at a time on the CPU, so that the arrays stay in the processor's cache."""
GLIMPSES_ON_DEVICE = 131_072
"""The same on any other device."""
ROUNDING_NATS = 1e-4
"""Nats by which an expected entropy may be above the present one through rounding."""
MIN_PREDICTIONS = 100
"""Predictions before which no share of violations gives a warning."""


History = Literal["seen", "completion"]


@dataclass(frozen=True)
class OracleConfig:
    """What the oracle minimises and how it completes images.

    Raises:
        ConfigurationError: if there is no such ``criterion``, ``history`` or ``horizon``, or a value is out of range.
    """

    criterion: str = "entropy"
    """One of :data:`oracles.boed.criteria.CRITERIA`; ``"module:name"`` imports the module first."""
    completion: CompletionConfig = field(default_factory=CompletionConfig)
    first_samples: int = 1000
    """Bank images that the first location, the same for every image, is computed from."""
    history: History = "seen"
    """Glimpses at the places looked at that the candidate's glimpse is added to: those ``seen``, or the
    ``completion``'s own. Where no bank image resembles what was seen, a candidate that overlaps a seen window counts as
    new with ``seen``, since part of it is another image's. With ``completion`` it counts as a second look, but then the
    weights alone condition on what was seen."""
    horizon: Horizon = "next"
    """Glimpse after which the criterion counts; for ``last`` see :func:`oracles.boed.planning.planned_map`."""

    def __post_init__(self) -> None:
        CRITERIA.name_of(self.criterion)
        one_of("horizon", self.horizon, get_args(Horizon))
        one_of("history", self.history, get_args(History))
        check_settings(self, first_samples=(1, None))


@dataclass
class OracleCounters:
    """How often expected entropies are above the present entropy, which under an exact posterior none is.

    Both are the calibrated judge's, each at its own number of glimpses, means over the networks used. Histories without
    a glimpse are left out, since their map is the same for every image.
    """

    predictions: int = 0
    """Histories compared."""
    violations: int = 0
    """Histories whose lowest expected entropy was above the present one."""
    locations: int = 0
    """Locations compared, over all histories."""
    locations_above: int = 0
    """Locations whose expected entropy was above the present one."""


@dataclass
class OracleState:
    """State of B running episodes, so that no glimpse is matched twice."""

    counts: np.ndarray
    """(B,) int64, glimpses in the state."""
    summed: list[Tensor]
    """(B, D) per network, sums of the glimpses' embeddings."""
    distances: list[Tensor]
    """(B, N) per network, squared distances to its bank, summed over the glimpses; +inf for images left out. Estimates
    where the bank is searched coarsely."""
    queries: list[Tensor]
    """(B, T, F) per network, the numbers the glimpses are compared by; T is 0 where the bank is searched exactly."""
    corners: np.ndarray
    """(B, T, 2) int pixels, (B, T, 3) with zooms, the glimpses' places."""


class BOEDOracle(MappingPolicy[OracleState]):
    """Greedy Bayesian experimental design: l_t = argmin_l EPE(l) among the locations not yet seen.

    It belongs to one judge. With ``network=k`` it uses that network alone, with the images of fold k as its bank, for
    images of fold k. Without, the EPE is the mean over the judge's networks, each with its own bank, for images that no
    network was trained on.

    Attributes:
        counters: see :class:`OracleCounters`; they stay at zero where the criterion is not the entropy. After
            violations in more than half of at least :data:`MIN_PREDICTIONS` predictions it warns with an
            :class:`IncoherentPosteriorWarning`, or in the log where the judge is still in training.
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
            dataset: the training split, which the banks are taken from.
            judge: gives the posterior.
            config: see :class:`OracleConfig`.
            network: index of the network to use; None for all.
            banks: one per network used, whatever ``config`` says of their size and copies; None makes them.
        """
        self.dataset, self.judge, self.grid = dataset, judge, judge.grid
        self.config = config or OracleConfig()
        networks = range(len(judge.networks)) if network is None else [network]
        asked = self.config.completion
        self.banks = banks or [
            ImageBank(dataset, judge, k, asked.bank_size, mirrored=asked.mirrored, shifts=asked.shifts)
            for k in networks
        ]
        self.map_title = map_title(self.config.criterion, self.config.horizon)
        self._compares_entropies = self.config.criterion == "entropy"
        self.first_samples = self.config.first_samples
        self.counters = OracleCounters()
        self._warned = False
        self._first: tuple[np.ndarray, float] | None = None

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> OracleState:
        """Returns a state whose banks leave out the images to be looked at, where these are the banks' own."""
        state = self.fresh_state(len(indices))
        if (dataset.fingerprint, dataset.split) == (self.dataset.fingerprint, self.dataset.split):
            for bank, distances in zip(self.banks, state.distances, strict=True):
                distances[torch.from_numpy(np.asarray(indices)[:, None] == bank.rows)] = torch.inf
        return state

    def expected_maps(self, state: OracleState) -> np.ndarray:
        maps = np.zeros((len(state.counts), len(self.judge.grid)), dtype=np.float32)
        self.last_stop = np.zeros(len(state.counts), dtype=np.float32)
        for b, count in enumerate(state.counts):
            if count == 0:
                maps[b], self.last_stop[b] = self.first_scores()
        later = np.flatnonzero(state.counts > 0)
        if len(later):
            completions = [self._completions(k, state, later) for k in range(len(self.banks))]
            for i, row in enumerate(later):
                places = self.judge.grid.nearest(state.corners[row, : state.counts[row]])
                maps[row], self.last_stop[row] = self.scores([of_network[i] for of_network in completions], places)
            if self._compares_entropies:
                self._compare_with_present(maps[later], state, later)
        return maps

    def first_map(self) -> np.ndarray:
        """Returns the criterion (L,) float32 before any glimpse, the same for every image and computed once."""
        return self.first_scores()[0]

    def first_scores(self) -> tuple[np.ndarray, float]:
        """Returns what :meth:`scores` does before any glimpse, the same for every image and computed once."""
        if self._first is None:
            completions = []
            for bank in self.banks:
                # spread over the bank, since neighbours may be of one class
                samples = torch.linspace(0, len(bank) - 1, min(len(bank), self.first_samples)).long().unique()
                weights = torch.full((len(samples),), 1.0 / len(samples), device=self.judge.device)
                nothing = torch.zeros(1, bank.embeddings.shape[-1], device=self.judge.device)
                completions.append(Completions(bank, nothing, samples, weights, torch.zeros_like(weights)))
            self._first = self.scores(completions, np.empty(0, dtype=np.int64))
        return self._first

    def class_probabilities(self, state: OracleState) -> np.ndarray:
        """Returns the judge's p(theta) (B, classes) float32 after the glimpses of a state, the mean over networks."""
        counts = torch.from_numpy(state.counts)
        answers = [
            self.judge.class_log_probabilities(bank.network, summed, counts).exp()
            for bank, summed in zip(self.banks, state.summed, strict=True)
        ]
        return torch.stack(answers).mean(0).cpu().numpy()

    def _nearest(self, k: int, state: OracleState, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Returns the exact squared distances (b, n) of histories ``rows`` (b,) to the nearest entries of bank k, and
        the indices (b, n) of these entries."""
        config, bank = self.config.completion, self.banks[k]
        short = min(config.short_list, len(bank))
        distances = state.distances[k][torch.from_numpy(rows)]
        if not config.dimensions(len(bank)):
            nearest, candidates = distances.topk(short, dim=-1, largest=False, sorted=False)
            return nearest, candidates
        estimates, listed = distances.topk(config.coarse_keep * short, dim=-1, largest=False, sorted=False)
        exact = [
            bank.listed_distances(entries, state.queries[k][b, :count], state.corners[b, :count], config.match)
            for b, count, entries in zip(rows, state.counts[rows], listed, strict=True)
        ]
        left_out = torch.isinf(estimates)
        nearest, places = torch.stack(exact).masked_fill(left_out, torch.inf).topk(short, dim=-1, largest=False)
        return nearest, listed.gather(1, places)

    def _completions(self, k: int, state: OracleState, rows: np.ndarray) -> list[Completions]:
        """Returns the completions under network k of histories ``rows`` (b,), which have a glimpse at least."""
        config, bank, counts = self.config.completion, self.banks[k], state.counts[rows]
        nearest, candidates = self._nearest(k, state, rows)
        summed = state.summed[k][rows]
        log_prior = torch.zeros_like(nearest)
        if config.label_weight:
            posterior = self.judge.class_log_probabilities(bank.network, summed, torch.from_numpy(counts))
            log_prior = config.label_weight * posterior.gather(1, bank.labels[candidates])
        weights = completion_weights(nearest, log_prior, config)
        kept, positions = weights.topk(min(config.samples, weights.shape[1]), dim=-1)  # (b, S)
        kept = kept / kept.sum(-1, keepdim=True)
        samples = candidates.gather(1, positions)
        completions = []
        for i, row in enumerate(rows):
            history = summed[i : i + 1]
            if self.config.history == "completion":
                places = torch.from_numpy(self.judge.grid.nearest(state.corners[row, : counts[i]]))
                history = bank.embedded(samples[i][:, None], places).sum(1)
            completions.append(Completions(bank, history, samples[i], kept[i], nearest[i, positions[i]]))
        return completions

    def scores(self, completions: list[Completions], places: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the criterion (L,) of one history that looked at ``places`` (t,), from its completions under each
        network, and the present one, if it is judged now."""
        present = [present_criterion(self.judge, part, len(places), self.config.criterion) for part in completions]
        stop = float(torch.stack(present).mean())
        if self.config.horizon == "last":
            steps, criterion = self.judge.card.num_glimpses, self.config.criterion
            return planned_map(self.judge, completions, places, steps, criterion), stop
        maps = [self.expected_over(one.bank, one.summed, len(places), one.samples, one.weights) for one in completions]
        return torch.stack(maps).mean(0).cpu().numpy(), stop

    def expected_over(self, bank: ImageBank, summed: Tensor, count: int, samples: Tensor, weights: Tensor) -> Tensor:
        """Returns the criterion of one history over completions, a bounded number of them at a time.

        Args:
            bank: holds the completions.
            summed: (D,), (1, D) or (S, D), sum of the embeddings of the history's glimpses.
            count: t, the number of these glimpses.
            samples: (S,) entries of the bank.
            weights: (S,) that sum to one.

        Returns:
            (L,) float32.
        """
        chunk = max(1, self.at_once // len(self.judge.grid))
        histories = summed.expand(len(samples), -1)[:, None]  # (S, 1, D)
        return torch.stack(
            [
                expected_criterion(
                    self.judge,
                    bank.network,
                    history,
                    count,
                    bank.embedded(part),
                    bank.labels[part],
                    share,
                    self.config.criterion,
                )
                for history, part, share in zip(
                    histories.split(chunk), samples.split(chunk), weights.split(chunk), strict=True
                )
            ]
        ).sum(0)

    @property
    def at_once(self) -> int:
        """Completed glimpses judged at a time."""
        return GLIMPSES_AT_ONCE if self.judge.device.type == "cpu" else GLIMPSES_ON_DEVICE

    def _compare_with_present(self, maps: np.ndarray, state: OracleState, rows: np.ndarray) -> None:
        """Counts expected entropies ``maps`` (b, L) above the present ones, in the histories ``rows`` (b,)."""
        counts = torch.from_numpy(state.counts[rows])
        present = np.mean(
            [
                entropy(self.judge.class_log_probabilities(bank.network, summed[rows], counts)).cpu().numpy()
                for bank, summed in zip(self.banks, state.summed, strict=True)
            ],
            axis=0,
        )
        above = maps > present[:, None] + ROUNDING_NATS  # (b, L)
        seen = self.counters
        seen.predictions += len(rows)
        seen.violations += int(above.all(axis=1).sum())
        seen.locations += above.size
        seen.locations_above += int(above.sum())
        if not self._warned and seen.predictions >= MIN_PREDICTIONS and seen.violations > seen.predictions / 2:
            self._warned = True
            message = (
                f"in {seen.violations} of {seen.predictions} predictions every location's expected entropy is above "
                "the present one, which no exact posterior allows: this judge is a poor guide; train it for longer, "
                "or try criterion='log_loss'."
            )
            if self.judge.card.scores:
                warnings.warn(message, IncoherentPosteriorWarning, stacklevel=4)
            else:  # it is still in training, not calibrated yet
                logger.info(message)

    def fresh_state(self, batch: int) -> OracleState:
        device = self.judge.device
        return OracleState(
            counts=np.zeros(batch, dtype=np.int64),
            summed=[torch.zeros(batch, bank.embeddings.shape[-1], device=device) for bank in self.banks],
            distances=[torch.zeros(batch, len(bank), device=device) for bank in self.banks],
            queries=[torch.empty(batch, 0, 0, device=device) for _ in self.banks],
            corners=np.empty((batch, 0, self.grid.coordinates), dtype=np.int64),
        )

    def restart(self, state: OracleState, rows: np.ndarray) -> None:
        """Clears the episodes ``rows``; as the images of the next ones are unknown, none is left out of the banks."""
        for summed, distances in zip(state.summed, state.distances, strict=True):
            summed[rows] = 0.0
            distances[rows] = 0.0

    def add_new(self, histories: Histories, state: OracleState) -> None:
        config = self.config.completion
        state.corners = histories.corners
        for t in range(int(state.counts.min()), int(histories.counts.max())):
            rows = np.flatnonzero((state.counts <= t) & (histories.counts > t))
            glimpses, corners = histories.glimpses[rows, t], histories.corners[rows, t]
            encoded = self.judge.encode_once(glimpses)
            for k, bank in enumerate(self.banks):
                embedded = self.judge.embed_glimpses(bank.network, encoded, corners)
                state.summed[k][rows] += embedded
                dimensions = config.dimensions(len(bank))
                queries = queries_of(glimpses, embedded, config.match)
                if not dimensions:
                    state.distances[k][rows] += bank.squared_distances(queries, corners, config.match)
                    continue
                if state.queries[k].shape[1] == 0:
                    state.queries[k] = queries.new_zeros(*histories.corners.shape[:2], queries.shape[1])
                state.queries[k][rows, t] = queries
                state.distances[k][rows] += bank.coarse_distances(queries, corners, config.match, dimensions)
