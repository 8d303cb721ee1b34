"""The BOED oracle that looks on while that is expected to be worth what glimpses cost, and stops then."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from glimpse_env.checks import check_settings
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.judge import Judge
from glimpse_env.sensing.observations import Histories
from oracles.base import unseen_scores
from oracles.boed.completion import ImageBank, completion_precision
from oracles.boed.criteria import CRITERIA, criterion_of_each
from oracles.boed.lattice import Level, backward, levels
from oracles.boed.oracle import BOEDOracle, OracleConfig, OracleState
from oracles.boed.planning import Completions, present_criterion

FIRST_SAMPLES = 200
"""Bank images that the first decision is computed from, at most: each is weighted for each other one."""
BISECTED_ROWS = 64
"""Beliefs that the bandwidth after as many glimpses is set on."""
TIE = 1e-5
"""Values that are no further apart are equal; of equals looking on comes before stopping."""


@dataclass(frozen=True)
class AnytimeConfig:
    """What the oracle pays and minimises, and how far it looks ahead.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    cost: float = 0.02
    """c, of a glimpse, in the unit of ``criterion``."""
    criterion: str = "least_confidence"
    """What counts when it stops, one of :data:`oracles.boed.criteria.CRITERIA`: the default is in units of success."""
    places: int = 8
    """P, locations among which it plans, those that serve the completions best by the criterion of ``oracle``."""
    depth: int | None = None
    """Glimpses that it looks ahead, at most; None for all that are left."""
    oracle: OracleConfig = field(default_factory=OracleConfig)
    """How images are completed; its criterion finds the places."""

    def __post_init__(self) -> None:
        CRITERIA.name_of(self.criterion)
        check_settings(self, cost=(0, None), places=(1, None), depth=(1, None))


class AnytimeOracle(BOEDOracle):
    """Bayesian experimental design that may stop: at each step it takes what minimises the expected criterion where it
    stops plus the costs until then, of all the ways to look at up to P places and to stop; see
    :mod:`oracles.boed.lattice`.

    ``last_maps`` and ``last_stop`` hold that sum for each location, and for stopping now. Locations that were not
    planned with have the highest value of those that were.

    Attributes:
        evaluations: posteriors computed since it was made. A decision with S completions and r glimpses left takes
            S (L + 1 + sum_{d=1..r} binom(P, d)) for each network, where greedy design takes S L.
    """

    stops = weighs_stop = True

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Judge,
        config: AnytimeConfig | None = None,
        *,
        network: int | None = None,
        banks: list[ImageBank] | None = None,
    ):
        """
        Args:
            config: see :class:`AnytimeConfig`.
            dataset, judge, network, banks: see :class:`oracles.boed.oracle.BOEDOracle`.
        """
        self.anytime = config or AnytimeConfig()
        super().__init__(dataset, judge, self.anytime.oracle, network=network, banks=banks)
        self.map_title = f"{CRITERIA[self.anytime.criterion].title}, and costs"
        self.first_samples = min(self.config.first_samples, FIRST_SAMPLES)
        self.evaluations = 0
        self._compares_entropies = False

    def choose(
        self, histories: Histories, state: OracleState | None, episode_start: np.ndarray | None
    ) -> tuple[np.ndarray, OracleState]:
        locations, state = super().choose(histories, state, episode_start)
        assert self.last_maps is not None
        assert self.last_stop is not None
        least = unseen_scores(self.last_maps, histories, self.grid).min(axis=1)
        return np.where(self.last_stop < least - TIE, len(self.grid), locations), state

    @torch.inference_mode()
    def scores(self, completions: list[Completions], places: np.ndarray) -> tuple[np.ndarray, float]:
        config, count, device = self.anytime, len(places), self.judge.device
        tables = [self._one_step(part, count) * part.weights[:, None] for part in completions]
        losses = torch.cat(tables)  # (sum of S, L)
        losses[:, places] = torch.inf
        planned = torch.tensor(covering_places(losses, config.places), device=device)
        left = self.judge.card.num_glimpses - count
        lattice = levels(len(planned), min(left, config.depth or left, len(planned)))
        present = [present_criterion(self.judge, part, count, config.criterion) for part in completions]
        stop = torch.stack(present).mean()
        further = torch.stack([self._expected(part, planned, lattice, count) for part in completions]).mean(0)
        # what is seen can be ignored, so that no glimpse is expected to do harm
        values = config.cost + torch.minimum(further, stop)  # (P,)
        scores = values.max().expand(len(self.grid)).clone()
        scores[planned] = values
        return scores.cpu().numpy(), float(stop)

    def _one_step(self, part: Completions, count: int) -> Tensor:
        """Returns the oracle's criterion (S, L) of each completion after one more glimpse at each location."""
        chunk = max(1, self.at_once // len(self.grid))
        history = part.summed.expand(len(part.samples), -1)[:, None]  # (S, 1, D)
        self.evaluations += len(part.samples) * (len(self.grid) + 1)
        return torch.cat(
            [
                criterion_of_each(
                    self.judge,
                    part.bank.network,
                    summed,
                    count,
                    part.bank.embedded(samples),
                    part.bank.labels[samples],
                    self.config.criterion,
                )
                for summed, samples in zip(history.split(chunk), part.samples.split(chunk), strict=True)
            ]
        )

    def _expected(self, part: Completions, planned: Tensor, lattice: tuple[Level, ...], count: int) -> Tensor:
        """Returns the least expected criterion and costs (P,) after a glimpse at each planned place, itself unpaid."""
        config, bank, samples = self.config.completion, part.bank, part.samples
        labels, table = bank.labels[samples], bank.embedded(samples)[:, planned]  # (S,), (S, P, D)
        between = torch.stack([self._between(part, int(place), table[:, i]) for i, place in enumerate(planned)])
        losses, weights = [], []
        for level in lattice[1:]:
            sets, size = level.members.shape
            summed = part.summed[:, None] + table[:, level.members].sum(2)  # (S, n, D)
            answers = self.judge.class_log_probabilities(bank.network, summed, count + size)  # (S, n, classes)
            self.evaluations += len(samples) * sets
            losses.append(CRITERIA[self.anytime.criterion].function(answers, labels[:, None].expand(-1, sets)).T)
            distances = part.distances + between[level.members].sum(1)  # (n, S, S)
            log_prior = config.label_weight * answers[..., labels].transpose(0, 1)
            # one bandwidth for sets of a size, since bisection for each row would take most of the time
            some = torch.linspace(0, sets * len(samples) - 1, min(sets * len(samples), BISECTED_ROWS)).long()
            rows = distances.flatten(0, 1)[some], log_prior.flatten(0, 1)[some]
            precision = completion_precision(*rows, config).median()
            nearest = distances.amin(-1, keepdim=True)  # subtracted first, as squares of pixels lose digits
            weights.append(torch.softmax(log_prior - precision * (distances - nearest), dim=-1))
        return part.weights @ backward(losses, weights, lattice, self.anytime.cost)

    def _between(self, part: Completions, place: int, embedded: Tensor) -> Tensor:
        """Returns the squared distances (S, S) between the completions' glimpses at a place, with their embeddings."""
        features, match = embedded, self.config.completion.match
        if match == "pixels":
            entries, corner = part.samples.cpu().numpy(), self.grid.corners[place]
            features = part.bank.features(entries, corner, match, self.judge.device)
        return torch.cdist(features, features).square()


def covering_places(losses: Tensor, count: int) -> list[int]:
    """Returns ``count`` places, or all that may be, so that the best of them serves completions well.

    They are chosen greedily to minimise the sum over completions of the least of their losses (n, L), among equals the
    one with the least sum of losses; places with infinite ones count out.
    """
    alone = losses.sum(0)
    best = torch.full_like(losses[:, 0], torch.inf)
    chosen: list[int] = []
    for _ in range(min(count, int(torch.isfinite(alone).sum()))):
        scores = torch.minimum(best[:, None], losses).sum(0) + 1e-3 * alone
        scores[chosen] = torch.inf
        chosen.append(int(scores.argmin()))
        best = torch.minimum(best, losses[:, chosen[-1]])
    return chosen
