"""The best policies for the diagnostics: they see glimpses and places only, and know how the images are made."""

from abc import abstractmethod
from typing import Any

import numpy as np

from glimpse_env.datasets.base import DataSource
from glimpse_env.datasets.diagnostics import memory, needle, signpost
from glimpse_env.datasets.diagnostics.drawn import BRIGHT
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.observations import Histories
from oracles.base import GlimpsePolicy, masked_argmin


class BestPolicy(GlimpsePolicy):
    """Looks at the nearest place to a target that was not looked at yet."""

    def __init__(self, grid: LocationGrid):
        self.grid = grid

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        targets = self.targets(histories.glimpses[..., 0], self.grid.nearest(histories.corners), histories.counts)
        apart = [np.divmod(places, self.grid.side) for places in (np.arange(len(self.grid)), targets[:, None])]
        distances = sum(np.abs(there - here) for there, here in zip(*apart, strict=True))  # (B, L)
        return masked_argmin(np.asarray(distances, dtype=np.float64), histories, self.grid), state

    @abstractmethod
    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Returns where to look next, (B,) int64.

        Args:
            glimpses: (B, T, g, g) uint8, zero from an episode's count on.
            places: (B, T) int64, where they were taken.
            counts: (B,) int64, how many were taken.
        """


class SignFollower(BestPolicy):
    """Signpost: looks at the sign, and then where it points."""

    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        arrows = ((glimpses[:, 0, None] > BRIGHT) == signpost.ARROWS).mean(axis=(2, 3)).argmax(axis=1)
        return np.where(counts == 0, signpost.CENTRE, signpost.AROUND[arrows])


class Bisection(BestPolicy):
    """Needle: looks at the middle of the rows and columns that the signs leave over; without signs at the nearest place
    to the middle that is new."""

    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        low, high = self.left_over(glimpses, places)
        row, col = (low + high + 1) // 2
        return row * self.grid.side + col

    def left_over(self, glimpses: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first and the last row and column, (2, B) int64 each, in which the needle can be."""
        match = ((glimpses[:, :, None] > BRIGHT) == needle.HINTS).all(axis=(3, 4))  # (B, T, 9)
        match[:, :, 4] = False  # blank, no sign
        signs = np.stack(np.divmod(match.argmax(axis=2), 3))  # (2, B, T): 0 for less, 1 for equal, 2 for greater
        known, here = match.any(axis=2), np.stack(np.divmod(places, self.grid.side))
        low = np.where(known & (signs > 0), here + (signs == 2), 0).max(axis=2)
        high = np.where(known & (signs < 2), here - (signs == 0), self.grid.side - 1).min(axis=2)
        return low, high


class TrailFollower(BestPolicy):
    """Memory: follows the trail; at its end, goes to the glyph in the quarter that was lit at the start."""

    def targets(self, glimpses: np.ndarray, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
        maps = glimpses.reshape(*glimpses.shape[:2], -1)  # (B, T, 64)
        ground = np.where(maps[:, 0] > BRIGHT, 0, maps[:, 0])  # the start's map without its dot
        lit = np.stack([ground[:, q == memory.QUARTER_OF].mean(axis=1) for q in range(4)], axis=1).argmax(axis=1)
        dots = maps[np.arange(len(counts)), np.maximum(counts - 1, 0)] > BRIGHT  # (B, 64)
        fork = dots.sum(axis=1, keepdims=True) == 4
        dots &= ~fork | (lit[:, None] == memory.QUARTER_OF)
        return np.where(counts == 0, memory.START, dots.argmax(axis=1))


BEST: dict[str, type[BestPolicy]] = {"signpost": SignFollower, "needle": Bisection, "memory": TrailFollower}
"""By the data set's name."""


def best_unavailable(source: DataSource) -> str | None:
    """Says why there is no best policy for a data set; None where there is."""
    if source.name not in BEST:
        return f"policy 'best' is there for diagnostics ({', '.join(BEST)}); of {source.name!r} the best is not known."
    return "policy 'best' looks without zooms only." if len(source.geometry.zooms) > 1 else None
