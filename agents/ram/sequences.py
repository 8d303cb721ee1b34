"""Glimpse sequences, from any source, that supervise a part of the training images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid
from oracles.baselines import HandCraftedPolicy
from oracles.demonstrations import Demonstrations


@dataclass(frozen=True)
class Sequences:
    """A glimpse sequence on each of N training images.

    Raises:
        ConfigurationError: if there is no sequence, an image has two, or the shapes do not fit.
    """

    indices: np.ndarray
    """(N,) int64: images of the training split, each once."""
    locations: np.ndarray
    """(N, T) int64: grid locations in the order they are looked at."""

    def __post_init__(self) -> None:
        count = len(self.indices)
        if count == 0 or self.locations.ndim != 2 or len(self.locations) != count:
            raise ConfigurationError(
                f"sequences need indices (N,) and locations (N, T), N >= 1, not {self.indices.shape} and "
                f"{self.locations.shape}."
            )
        if len(np.unique(self.indices)) < count:
            raise ConfigurationError(f"{count} sequences are of {len(np.unique(self.indices))} images; give each one.")

    def __len__(self) -> int:
        return len(self.indices)

    def first(self, num: int | None = None, num_glimpses: int | None = None) -> "Sequences":
        """Returns the first ``num`` sequences with their first ``num_glimpses`` locations; None stands for all.

        Raises:
            ConfigurationError: if there are fewer.
        """
        wanted, steps = num or len(self), num_glimpses or self.locations.shape[1]
        if wanted > len(self) or steps > self.locations.shape[1]:
            raise ConfigurationError(
                f"{wanted} sequences of {steps} glimpses were asked for; there are {len(self)} of "
                f"{self.locations.shape[1]}."
            )
        return Sequences(self.indices[:wanted], self.locations[:wanted, :steps])

    @classmethod
    def demonstrated(cls, demonstrations: Demonstrations) -> "Sequences":
        """Returns the sequences of demonstrations."""
        return cls(demonstrations.indices, demonstrations.locations)

    @classmethod
    def hand_crafted(
        cls, dataset: GlimpseDataset, grid: LocationGrid, num_glimpses: int, indices: np.ndarray, *, seed: int = 0
    ) -> "Sequences":
        """Returns HGS: sequences over the parts of the images ``indices`` (N,), see :class:`HandCraftedPolicy`.

        Raises:
            ConfigurationError: if the data set has no parts.
        """
        return cls(indices, HandCraftedPolicy(grid, num_glimpses, seed).start(dataset, indices)[0])

    @classmethod
    def recorded(cls, model: Any, dataset: GlimpseDataset, indices: np.ndarray) -> "Sequences":
        """Returns PS-RAM: where a trained :class:`RAM` looks, deterministically, on the images ``indices`` (N,)."""
        return cls(indices, model.look(dataset, indices).locations)
