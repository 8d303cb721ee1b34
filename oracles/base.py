"""What every policy of this package is: something with Stable-Baselines3's ``predict``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.observations import unpack_history

Observations: TypeAlias = Mapping[str, np.ndarray]
"""A batch of ``history`` observations, see :class:`glimpse_env.sensing.observations.HistoryObserver`."""


class GlimpsePolicy(ABC):
    """Chooses the next glimpse for a batch of episodes.

    ``last_maps`` holds, after :meth:`predict`, the criterion at every location, (B, L) float32 (lower is better), for
    policies that compute one; else None.
    """

    last_maps: np.ndarray | None = None
    map_title: str = ""
    """What the maps show, with its unit, for pictures."""

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> Any:
        """The state with which episodes on ``dataset.images[indices]`` begin.

        Only a policy that may peek, and says so, learns from it what is in the image. The oracle uses it to leave the
        very image out of its bank.
        """
        return None

    @abstractmethod
    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Grid locations (B,) int64 for ``history`` observations of a batch (or a scalar for a single one)."""


class PlannedPolicy(GlimpsePolicy):
    """Follows sequences that ``start`` planned whole, with more in view than glimpses: (B, T) locations, and the maps
    (B, T, L) they were chosen by."""

    grid: LocationGrid

    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        histories = unpack_history(observation, self.grid)
        if state is None:
            raise ConfigurationError(f"{type(self).__name__} needs a state from start(dataset, indices).")
        sequences, maps = state
        rows = np.arange(len(sequences))
        self.last_maps = maps[rows, histories.counts]
        return actions_for(sequences[rows, histories.counts], observation), state


def actions_for(locations: np.ndarray, observation: Observations) -> np.ndarray:
    """Locations (B,) as the actions an observation asks for: a scalar where it is that of a single environment."""
    return locations if np.ndim(observation["mask"]) > 1 else locations[0]
