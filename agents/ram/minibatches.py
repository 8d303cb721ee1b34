"""The minibatches that RAM trains on: which images, and where to look on those that are supervised."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from agents.ram.sequences import Sequences

FREE = -1
"""Stands in place of a location that is sampled."""

IMAGES, SUPERVISED, HEURISTIC, SAMPLING, DROPOUT = range(5)
"""Purposes of random numbers."""


def random_stream(seed: int, purpose: int, number: int) -> np.random.Generator:
    """Returns the generator for one purpose in iteration, or pass, ``number``; no two share random numbers."""
    return np.random.default_rng([seed, purpose, number])


@lru_cache(maxsize=8)
def _order(seed: int, purpose: int, epoch: int, count: int) -> np.ndarray:
    """Returns the order (count,) of a pass."""
    return random_stream(seed, purpose, epoch).permutation(count)


@dataclass(frozen=True)
class Minibatch:
    """Images and prescribed locations of the B episodes of an iteration."""

    indices: np.ndarray
    """(B,) int64: images of the training split."""
    given: np.ndarray
    """(B, T) int64: prescribed locations, or FREE."""
    supervised: np.ndarray
    """(B,) bool: whether the prescribed locations are imitated."""
    group: int = 1
    """Neighbouring episodes on one image, whose locations wake-sleep's q proposes; 1 without wake-sleep."""


@dataclass
class MinibatchSampler:
    """Draws minibatches, which depend on the seed and the iteration's number only."""

    seed: int
    images: int
    """Images in the training split."""
    locations: int
    """L, of the grid."""
    steps: int
    """T, glimpses in an episode."""
    episodes: int
    """B, episodes in a minibatch."""
    sequences: Sequences | None = None
    """Sequences of the supervised images; None for none."""
    supervised_share: float = 0.0
    """Share of supervised episodes in a minibatch, in 0..1."""
    wake_sleep: int = 0
    """Episodes on each image with wake-sleep; 0 without."""
    pretraining: int = 0
    """Iterations at first whose locations are random."""

    def __post_init__(self) -> None:
        every = np.arange(self.images)
        free = every if self.sequences is None else np.setdiff1d(every, self.sequences.indices)
        self._free = free if len(free) else every  # images without a sequence; where all have one, all

    def draw(self, number: int) -> Minibatch:
        """Returns the minibatch of iteration ``number``."""
        given = np.full((self.episodes, self.steps), FREE)
        if self.wake_sleep:
            images = self._in_epoch_order(IMAGES, self.images, self.episodes // self.wake_sleep, number)
            unsupervised = np.zeros(self.episodes, dtype=bool)
            return Minibatch(np.repeat(images, self.wake_sleep), given, unsupervised, self.wake_sleep)
        supervised = 0 if self.sequences is None else round(self.supervised_share * self.episodes)
        indices = self._free[self._in_epoch_order(IMAGES, len(self._free), self.episodes - supervised, number)]
        if number < self.pretraining:
            given = random_stream(self.seed, HEURISTIC, number).integers(self.locations, size=given.shape)
        if self.sequences is not None:
            rows = self._in_epoch_order(SUPERVISED, len(self.sequences), supervised, number)
            indices = np.concatenate([self.sequences.indices[rows], indices])
            given[:supervised] = self.sequences.locations[rows]
        return Minibatch(indices, given, np.arange(self.episodes) < supervised)

    def _in_epoch_order(self, purpose: int, count: int, wanted: int, number: int) -> np.ndarray:
        """Returns (wanted,) of 0..count - 1 for iteration ``number``: all come once before one comes again."""
        places = np.arange(number * wanted, (number + 1) * wanted)
        if wanted == 0:
            return places
        epochs = range(places[0] // count, places[-1] // count + 1)
        orders = np.concatenate([_order(self.seed, purpose, epoch, count) for epoch in epochs])
        return orders[places - epochs[0] * count]
