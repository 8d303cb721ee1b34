"""An agent to score that is no Stable-Baselines3 model: it looks about the middle, then where its first glimpse was
brighter on one side."""

from typing import Any

import numpy as np


class BrightestFirst:
    """Looks at the middle of the image, then each time beside it, towards where that glimpse was brightest."""

    def __init__(self, geometry: Any):
        self.grid, self.size, self.steps = geometry.grid, geometry.glimpse_size, geometry.num_glimpses

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, None]:
        """Returns (B,) int locations of the grid for a batch of observations of ``observation="history"``."""
        taken, middle = observation["mask"].sum(axis=1).astype(int), self.grid.side // 2
        glimpses = observation["glimpses"].reshape(len(taken), self.steps, self.size, self.size, -1)
        light = glimpses[:, 0].mean(axis=-1)  # (B, g, g)
        half = self.size // 2
        down = np.sign(light[:, half:].sum((1, 2)) - light[:, :half].sum((1, 2)))
        right = np.sign(light[:, :, half:].sum((1, 2)) - light[:, :, :half].sum((1, 2)))
        rows, columns = (np.clip(middle + 2 * taken * way, 0, self.grid.side - 1) for way in (down, right))
        return (rows * self.grid.side + columns).astype(np.int64), None


def make_agent(source: Any, judge: Any) -> BrightestFirst:
    """Returns the agent for a data set and its judge."""
    return BrightestFirst(source.geometry)
