"""AACO, acquisition conditioned oracle (Valancius, Lennon and Oliva, PMLR 235, 2024): non-greedy, and not trained.

After glimpses o at t places, with N_k(o) the k training images whose glimpses there are nearest to those seen, theta_i
and y_i their labels and glimpses, and v sets of at most T - t places not yet looked at,

    v* = argmin_v 1/k sum_{i in N_k(o)} -log q(theta_i | y_i at o and v)
    l  = argmin_{l in v*} 1/k sum_{i in N_k(o)} -log q(theta_i | y_i at o and l)

and so on after each glimpse. The sets are a random sample, their sizes uniform in 1..T - t; the authors' price of a
glimpse is 0 here, as all T are taken. q is the judge, and glimpses are compared by its embeddings.

A set is one plan for all that the next glimpses may show, where the best continuation may depend on them: where a sign
says which place is worth a look, the sign has no part in the best set, see ``tests/oracles/rivals/test_aaco.py``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glimpse_env.checks import whole_number
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.judge.judge import Judge
from oracles.base import random_keys
from oracles.boed.completion import CompletionConfig
from oracles.boed.oracle import BOEDOracle, OracleConfig
from oracles.boed.planning import Completions

ALIKE = 1e6
"""Bandwidth with which all neighbours count the same."""
ABOVE = 1e-4
"""Nats by which places outside of the best set are at least above those in it."""


@dataclass(frozen=True)
class AACOConfig:
    """How many neighbours and sets of places there are.

    Raises:
        ConfigurationError: if a value is out of range.
    """

    neighbours: int = 5
    """k."""
    subsets: int = 300
    """Sets of places compared at each step; the same ones for all images."""
    seed: int = 0
    """Seed of the sets."""

    def __post_init__(self) -> None:
        whole_number("neighbours", self.neighbours, 1)
        whole_number("subsets", self.subsets, 1)
        whole_number("seed", self.seed, 0)


class AACO(BOEDOracle):
    """Looks at the most telling place of the best set of places for the nearest training images.

    The map is the log-loss expected after one more glimpse, with the places outside of the best set put above those in
    it. Before any glimpse all training images are equally near.
    """

    def __init__(
        self, dataset: GlimpseDataset, judge: Judge, config: AACOConfig | None = None, *, network: int | None = None
    ):
        """
        Args:
            config: see :class:`AACOConfig`.
            dataset, judge, network: see :class:`oracles.boed.oracle.BOEDOracle`.
        """
        self.aaco = config or AACOConfig()
        k = self.aaco.neighbours
        nearest = CompletionConfig(match="embedding", bandwidth=ALIKE, samples=k, short_list=k)
        super().__init__(dataset, judge, OracleConfig("log_loss", nearest, history="completion"), network=network)
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @torch.inference_mode()
    def scores(self, completions: list[Completions], places: np.ndarray) -> tuple[np.ndarray, float]:
        order, members = self._subsets(places)
        losses = torch.stack([self._losses(part, len(places), order, members) for part in completions]).mean(0)
        best = int(losses.argmin())
        allowed = order[best][members[best]]
        expected, stop = super().scores(completions, places)
        others = np.maximum(expected, expected[allowed].min() + np.float32(ABOVE))
        others[allowed] = expected[allowed]
        return others, stop

    def _subsets(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns locations (M, n) int64, and which of them are in each of M sets (M, n) bool: none in ``places``."""
        count, steps = len(places), min(self.judge.card.num_glimpses, len(self.grid))
        if count not in self._drawn:
            rng = np.random.default_rng([self.aaco.seed, count])
            keys = random_keys(rng, (self.aaco.subsets,), self.grid)
            order = keys.argsort(axis=1)[:, :steps]  # of these, at most t have been looked at
            self._drawn[count] = order, rng.integers(1, steps - count + 1, self.aaco.subsets)
        order, sizes = self._drawn[count]
        unseen = ~np.isin(order, places)
        return order, unseen & (unseen.cumsum(axis=1) <= sizes[:, None])

    def _losses(self, part: Completions, count: int, order: np.ndarray, members: np.ndarray) -> Tensor:
        """Returns the mean log-loss (M,) of the neighbours' labels after their own glimpses in each set."""
        bank, device = part.bank, self.judge.device
        places, weights = torch.from_numpy(order).to(device), torch.from_numpy(members).to(device).float()
        counts = torch.from_numpy(count + members.sum(axis=1)).to(device)
        chunk = max(1, self.at_once // len(order))
        total = torch.zeros(len(order), device=device)
        history = part.summed.expand(len(part.samples), -1)
        for own, entries, share in zip(
            history.split(chunk), part.samples.split(chunk), part.weights.split(chunk), strict=True
        ):
            table = bank.embedded(entries)  # (S, L, D)
            offsets = torch.arange(len(entries), device=device)[:, None, None] * len(self.grid)
            index = (places + offsets).flatten(0, 1)  # (S M, n)
            further = F.embedding_bag(
                index, table.flatten(0, 1), mode="sum", per_sample_weights=weights.repeat(len(entries), 1)
            )
            summed = own[:, None] + further.unflatten(0, (len(entries), -1))  # (S, M, D)
            answers = self.judge.class_log_probabilities(bank.network, summed, counts)
            labels = bank.labels[entries][:, None, None].expand(*answers.shape[:2], 1)
            total -= share @ answers.gather(-1, labels)[..., 0]
        return total
