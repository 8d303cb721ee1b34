"""What every policy of this package is: something with Stable-Baselines3's ``predict``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset

Observations: TypeAlias = Mapping[str, np.ndarray]
"""A batch of ``history`` observations, see :class:`glimpse_env.observations.HistoryObserver`."""


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


def actions_for(locations: np.ndarray, observation: Observations) -> np.ndarray:
    """Locations (B,) as the actions an observation asks for: a scalar where it is that of a single environment."""
    return locations if np.ndim(observation["mask"]) > 1 else locations[0]
