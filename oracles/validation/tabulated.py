"""Small problems of real images whose optimum is found exactly: N images, few places, few glimpses, all tabulated.

The world is N images, each as likely. A glimpse shows a policy one of C symbols, the cluster that it falls into among
the glimpses at its place, and nothing else; the judge, which sees the glimpses themselves, scores what was looked at.
With n images left after a history h and n_c of them showing symbol c at place l, backward induction gives the optimum
among all policies that see symbols:

    V(h) = min_l sum_c n_c / n V(h, l, c),    V(h) = mean of the judge's log-loss over the n images after T glimpses

Policies are compared there without sampling error, and on images that nothing was planned with.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.judge.judge import Judge, rows_for_network

Seen: TypeAlias = tuple[tuple[int, int], ...]
"""A history: (place, symbol) of each glimpse, places numbered within the problem."""
Planner: TypeAlias = Callable[["TabulatedProblem", np.ndarray, Seen], np.ndarray]
"""``planner(problem, rows, seen)`` gives what each place is expected to lead to, (L,) float64, +inf where it was looked
at: the lowest one is looked at next. ``rows`` (n,) are the images that fit the history ``seen``."""

JUDGED_AT_ONCE = 4096
"""Sums of embeddings judged at a time."""


@dataclass(frozen=True)
class TabulatedProblem:
    """N images, what a policy sees of them, and what the judge makes of every set of places.

    Raises:
        ConfigurationError: if the shapes disagree.
    """

    symbols: np.ndarray
    """(N, L) int64: the cluster of each image's glimpse at each place."""
    losses: tuple[np.ndarray, ...]
    """For t = 1..T the judge's log-loss in nats of the label, (sets of t places, N) float32, in the order of
    :func:`itertools.combinations`."""
    correct: np.ndarray
    """(sets of T places, N) bool: whether the judge names the class."""

    def __post_init__(self) -> None:
        count, places = self.symbols.shape
        shapes = [(len(list(itertools.combinations(range(places), t + 1))), count) for t in range(len(self.losses))]
        if [one.shape for one in self.losses] != shapes or self.correct.shape != shapes[-1]:
            raise ConfigurationError(
                f"a tabulated problem needs losses of shapes {shapes}, not {[one.shape for one in self.losses]}."
            )

    @property
    def num_glimpses(self) -> int:
        """T."""
        return len(self.losses)

    @cached_property
    def _following(self) -> dict[tuple[int, ...], np.ndarray]:
        """By sorted places: the number (L,) of the set with each place added; -1 where it is among them already."""
        places = range(self.symbols.shape[1])
        found = {}
        for t in range(self.num_glimpses):
            numbers = {one: i for i, one in enumerate(itertools.combinations(places, t + 1))}
            for one in itertools.combinations(places, t):
                found[one] = np.array([numbers.get(tuple(sorted((*one, place))), -1) for place in places])
        return found

    def after(self, rows: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
        """Returns the mean log-loss (L,) over images ``rows`` after ``places`` and each further one; +inf at these."""
        numbers = self._following[tuple(sorted(places))]
        means = self.losses[len(places)][numbers[:, None], rows].mean(axis=1, dtype=np.float64)
        return np.where(numbers < 0, np.inf, means)

    def split(self, rows: np.ndarray, place: int) -> dict[int, np.ndarray]:
        """Returns those of the images ``rows`` that show each symbol at a place."""
        shown = self.symbols[rows, place]
        return {int(symbol): rows[shown == symbol] for symbol in np.unique(shown)}

    def number(self, places: tuple[int, ...]) -> int:
        """Returns which of the sets of T places this is."""
        one = tuple(sorted(places))
        return int(self._following[one[:-1]][one[-1]])


def greedy(problem: TabulatedProblem, rows: np.ndarray, seen: Seen) -> np.ndarray:
    """Greedy experimental design: the mean log-loss after one more glimpse."""
    return problem.after(rows, tuple(place for place, _ in seen))


def open_loop(problem: TabulatedProblem, rows: np.ndarray, seen: Seen) -> np.ndarray:
    """The best set of the places left, of which the one that says most by itself comes next; see
    :mod:`oracles.rivals.aaco`."""
    places = tuple(place for place, _ in seen)
    others = [place for place in range(problem.symbols.shape[1]) if place not in places]
    plans = list(itertools.combinations(others, problem.num_glimpses - len(places)))
    numbers = [problem.number((*places, *plan)) for plan in plans]
    best = plans[int(problem.losses[-1][numbers][:, rows].mean(axis=1).argmin())]
    alone = problem.after(rows, places)
    return np.where(np.isin(np.arange(len(alone)), best), alone, np.inf)


class Following:
    """Looks where what a planner would do afterwards leads to least: with ``greedy`` one step of policy iteration.

    ``base`` None plans with itself, which is backward induction.
    """

    def __init__(self, base: Planner | None):
        self.base = base
        self._values: dict[tuple[tuple[int, int], ...], float] = {}

    def __call__(self, problem: TabulatedProblem, rows: np.ndarray, seen: Seen) -> np.ndarray:
        places = tuple(place for place, _ in seen)
        values = problem.after(rows, places)
        if len(seen) == problem.num_glimpses - 1:
            return values
        for place in np.flatnonzero(np.isfinite(values)).tolist():
            parts = problem.split(rows, place)
            values[place] = sum(
                len(part) / len(rows) * self._value(problem, part, (*seen, (place, symbol)))
                for symbol, part in parts.items()
            )
        return values

    def _value(self, problem: TabulatedProblem, rows: np.ndarray, seen: Seen) -> float:
        """Returns the loss expected after a history, kept for each set of (place, symbol)."""
        key = tuple(sorted(seen))
        if key not in self._values:
            if self.base is None or len(seen) == problem.num_glimpses - 1:
                value = float(self(problem, rows, seen).min())
            else:
                place = int(self.base(problem, rows, seen).argmin())
                value = sum(
                    len(part) / len(rows) * self._value(problem, part, (*seen, (place, symbol)))
                    for symbol, part in problem.split(rows, place).items()
                )
            self._values[key] = value
        return self._values[key]


def chosen_sets(planner: Planner, problem: TabulatedProblem, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which set of T places a planner looks at on the problem's images (N,), and on other ones (M,).

    Args:
        planner: plans with the problem's images only.
        problem: the world.
        others: (M, L) int64, symbols of other images. Where none of the world's images fits what they show, the last
            symbol is overlooked.
    """
    ours, theirs = np.empty(len(problem.symbols), np.int64), np.empty(len(others), np.int64)

    def follow(rows: np.ndarray, other: np.ndarray, fitting: np.ndarray, seen: Seen) -> None:
        if not len(rows) and not len(other):
            return
        if len(seen) == problem.num_glimpses:
            ours[rows] = theirs[other] = problem.number(tuple(place for place, _ in seen))
            return
        fitting = rows if len(rows) else fitting
        place = int(planner(problem, fitting, seen).argmin())
        for symbol in np.unique([*problem.symbols[rows, place], *others[other, place]]).tolist():
            mine = rows[problem.symbols[rows, place] == symbol]
            follow(mine, other[others[other, place] == symbol], fitting, (*seen, (place, symbol)))

    every = np.arange(len(ours))
    follow(every, np.arange(len(theirs)), every, ())
    return ours, theirs


@torch.inference_mode()
def tabulated_losses(
    judge: Judge, dataset: GlimpseDataset, rows: np.ndarray, locations: np.ndarray, num_glimpses: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Returns ``losses`` and ``correct`` of a :class:`TabulatedProblem`, each image judged as in episodes.

    Args:
        judge: of the data set.
        dataset: a split.
        rows: (N,) int64, images of it.
        locations: (L,) grid locations, the places.
        num_glimpses: T, at most that of the judge.
    """
    labels = torch.from_numpy(np.asarray(dataset.labels[rows]))
    folds = np.asarray(dataset.folds[rows])
    tables: list[np.ndarray] = []
    for t in range(1, num_glimpses + 1):
        sets = torch.tensor(list(itertools.combinations(range(len(locations)), t)))
        chance = torch.zeros(len(sets), len(rows))
        best = torch.zeros(len(sets), len(rows), dtype=torch.bool)
        for members in np.array_split(np.arange(len(rows)), max(1, len(rows) // 64)):
            p = _mean_probabilities(judge, dataset, rows[members], folds[members], locations, sets)  # (S, b, classes)
            chance[:, members] = p.gather(-1, labels[members].expand(len(sets), -1)[..., None])[..., 0]
            best[:, members] = p.argmax(-1) == labels[members]
        tables.append(-np.log(np.maximum(chance.numpy(), np.finfo(np.float32).tiny)))
    return tuple(tables), best.numpy()


def _mean_probabilities(
    judge: Judge, dataset: GlimpseDataset, rows: np.ndarray, folds: np.ndarray, locations: np.ndarray, sets: Tensor
) -> Tensor:
    """Returns p(theta) (sets, n, classes) of images after each set of places, the mean of the networks that may judge
    each."""
    total, asked = torch.zeros(len(sets), len(rows), judge.num_classes), torch.zeros(len(rows), 1)
    for k in range(len(judge.networks)):
        mine = rows_for_network(k, folds)
        if len(mine):
            embeddings = judge.embed_split(k, dataset, rows[mine])[:, torch.from_numpy(locations)]  # (b, L, D)
            for part in torch.arange(len(sets)).split(max(1, JUDGED_AT_ONCE // len(mine))):
                summed = embeddings[:, sets[part]].sum(2)  # (b, s, D)
                p = judge.class_log_probabilities(k, summed, sets.shape[1]).exp().cpu()
                total[part[:, None], torch.from_numpy(mine)] += p.transpose(0, 1)
            asked[mine] += 1
    return total / asked


def glimpse_embeddings(judge: Judge, dataset: GlimpseDataset, rows: np.ndarray, locations: np.ndarray) -> np.ndarray:
    """Returns what glimpses are clustered by, (N, L, D) float32: their embeddings by the judge's first network."""
    chunks = np.array_split(rows, max(1, len(rows) // 64))
    return np.concatenate(
        [judge.embed_split(0, dataset, some)[:, torch.from_numpy(locations)].cpu().numpy() for some in chunks]
    )


def clustered(world: np.ndarray, others: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters glimpses at each place by k-means.

    Args:
        world: (N, L, D), what the clusters are found in.
        others: (M, L, D), assigned to the nearest cluster.
        count: C, clusters at each place.
        seed: of their first centres.

    Returns:
        Symbols (N, L) and (M, L), int64.
    """
    from sklearn.cluster import KMeans

    places = [KMeans(count, n_init=1, random_state=seed).fit(world[:, place]) for place in range(world.shape[1])]
    ours = np.stack([one.labels_ for one in places], axis=1)
    theirs = np.stack([one.predict(others[:, place]) for place, one in enumerate(places)], axis=1)
    return ours.astype(np.int64), theirs.astype(np.int64)
