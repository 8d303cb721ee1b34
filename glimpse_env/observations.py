"""What an agent is shown of an episode, and the way back from there to the glimpses."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

from glimpse_env.errors import ConfigurationError
from glimpse_env.locations import LocationGrid

ObservationMode = Literal["history", "glimpse", "canvas"]
Observation: TypeAlias = Any
"""An array, or a dict of arrays; with a leading batch axis where several episodes are meant."""


@dataclass(frozen=True)
class Histories:
    """The glimpses of B episodes; what lies behind an episode's count is zero."""

    glimpses: np.ndarray
    """(B, T, g, g, C * scales) uint8."""
    corners: np.ndarray
    """(B, T, 2) int64: top-left corners (row, col) in pixels."""
    counts: np.ndarray
    """(B,) int64: t, glimpses taken so far."""

    def __post_init__(self) -> None:
        batch, steps = self.glimpses.shape[:2]
        if self.glimpses.ndim != 5 or self.corners.shape != (batch, steps, 2) or self.counts.shape != (batch,):
            raise ValueError(
                f"glimpses {self.glimpses.shape}, corners {self.corners.shape} and counts "
                f"{self.counts.shape} do not belong together."
            )

    @classmethod
    def empty(cls, batch: int, num_glimpses: int, glimpse_size: int, channels: int) -> "Histories":
        """No glimpse taken in any of ``batch`` episodes; ``channels`` are image channels x scales."""
        return cls(
            np.zeros((batch, num_glimpses, glimpse_size, glimpse_size, channels), dtype=np.uint8),
            np.zeros((batch, num_glimpses, 2), dtype=np.int64),
            np.zeros(batch, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: Any) -> "Histories":
        """Some of the episodes; ``rows`` keeps the batch axis (a slice, an index array or a mask)."""
        return Histories(self.glimpses[rows], self.corners[rows], self.counts[rows])

    @property
    def seen(self) -> np.ndarray:
        """(B, T) bool: which glimpses are taken."""
        return np.arange(self.glimpses.shape[1]) < self.counts[:, None]


class Observer(ABC):
    """One way to show histories. Before the first glimpse every observation is all zeros."""

    space: spaces.Space
    """Of one episode's observation."""

    @abstractmethod
    def __call__(self, histories: Histories) -> Observation:
        """The observations of B episodes, in arrays of their own."""

    def blank(self, batch: int) -> Observation:
        """The observations of ``batch`` episodes before their first glimpse."""
        return create_empty_array(self.space, batch, np.zeros)


class HistoryObserver(Observer):
    """All glimpses so far with their locations: a Markov state.

    ``glimpses`` are flattened from (T, g, g, C * scales) in C order with 255 scaled to 1, ``locations`` from (T, 2)
    normalised coordinates (see :class:`LocationGrid`); both are zero from ``step`` on, the number of glimpses taken.
    ``mask`` (T,) is 1 where a glimpse was taken.
    """

    def __init__(self, grid: LocationGrid, num_glimpses: int, channels: int):
        self.grid = grid
        width = num_glimpses * grid.glimpse_size**2 * channels
        self.space = spaces.Dict(
            glimpses=spaces.Box(0.0, 1.0, (width,), np.float32),
            locations=spaces.Box(-1.0, 1.0, (num_glimpses * 2,), np.float32),
            mask=spaces.MultiBinary(num_glimpses),
            step=spaces.Discrete(num_glimpses + 1),
        )

    def __call__(self, histories: Histories) -> Observation:
        batch, seen = len(histories), histories.seen
        locations = self.grid.normalise(histories.corners) * seen[..., None]
        return {
            "glimpses": _to_unit(histories.glimpses).reshape(batch, -1),
            "locations": locations.reshape(batch, -1),
            "mask": seen.astype(np.int8),
            "step": histories.counts.copy(),
        }


class GlimpseObserver(Observer):
    """Only the newest glimpse, flattened from (g, g, C * scales), its normalised location, and the step."""

    def __init__(self, grid: LocationGrid, num_glimpses: int, channels: int):
        self.grid = grid
        self.space = spaces.Dict(
            glimpse=spaces.Box(0.0, 1.0, (grid.glimpse_size**2 * channels,), np.float32),
            location=spaces.Box(-1.0, 1.0, (2,), np.float32),
            step=spaces.Discrete(num_glimpses + 1),
        )

    def __call__(self, histories: Histories) -> Observation:
        rows, newest = np.arange(len(histories)), np.maximum(histories.counts - 1, 0)
        begun = (histories.counts > 0)[:, None]
        return {
            "glimpse": _to_unit(histories.glimpses[rows, newest]).reshape(len(rows), -1),
            "location": self.grid.normalise(histories.corners[rows, newest]) * begun,
            "step": histories.counts.copy(),
        }


class CanvasObserver(Observer):
    """(H, W, C + 1) uint8: what was seen in its place, zero elsewhere; the last channel is 255 where seen.

    Of several scales only the narrowest is painted.
    """

    def __init__(self, grid: LocationGrid, image_channels: int):
        self.grid = grid
        self.space = spaces.Box(0, 255, (grid.image_size, grid.image_size, image_channels + 1), np.uint8)

    def __call__(self, histories: Histories) -> Observation:
        canvas, side = self.blank(len(histories)), self.grid.glimpse_size
        windows = np.lib.stride_tricks.sliding_window_view(canvas, (side, side), axis=(1, 2), writeable=True)
        episodes, steps = np.nonzero(histories.seen)  # (M,), M glimpses in all
        rows, cols = histories.corners[episodes, steps].T
        seen = np.full((len(episodes), canvas.shape[-1], side, side), 255, dtype=np.uint8)
        channels = canvas.shape[-1] - 1
        seen[:, :channels] = histories.glimpses[episodes, steps, ..., :channels].transpose(0, 3, 1, 2)
        windows[episodes, rows, cols] = seen
        return canvas


def make_observer(
    mode: ObservationMode, grid: LocationGrid, num_glimpses: int, image_channels: int, scales: int
) -> Observer:
    """The observer called ``mode``.

    Raises:
        ConfigurationError: if there is none.
    """
    if mode == "history":
        return HistoryObserver(grid, num_glimpses, image_channels * scales)
    if mode == "glimpse":
        return GlimpseObserver(grid, num_glimpses, image_channels * scales)
    if mode == "canvas":
        return CanvasObserver(grid, image_channels)
    raise ConfigurationError(f"observation={mode!r} must be one of {', '.join(get_args(ObservationMode))}.")


def unpack_history(observation: Mapping[str, np.ndarray], grid: LocationGrid) -> Histories:
    """Inverts :class:`HistoryObserver` exactly.

    Args:
        observation: of one episode or of B; how many glimpses were taken is read off ``mask``, so that ``step``
            may have any shape.
        grid: of the environment it came from.
    """
    mask = np.atleast_2d(observation["mask"])
    batch, steps = mask.shape
    side = grid.glimpse_size
    glimpses = np.rint(np.asarray(observation["glimpses"]) * np.float32(255)).astype(np.uint8)
    locations = np.asarray(observation["locations"]).reshape(batch, steps, 2)
    return Histories(
        glimpses=glimpses.reshape(batch, steps, side, side, -1),
        corners=grid.denormalise(locations) * (mask[..., None] != 0),
        counts=mask.sum(axis=1, dtype=np.int64),
    )


def take(observations: Observation, episode: int) -> Observation:
    """One episode's observation out of batched ones."""
    if isinstance(observations, dict):
        return {key: value[episode] for key, value in observations.items()}
    return observations[episode]


def _to_unit(pixels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0, 1]."""
    scaled = pixels.astype(np.float32)
    scaled /= np.float32(255)
    return scaled
