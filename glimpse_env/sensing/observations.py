"""Kinds of observation that show an agent its glimpses, and the way back from observations to glimpses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

from glimpse_env.registry import Registry
from glimpse_env.sensing.array_pool import ArrayPool
from glimpse_env.sensing.geometry import Geometry, LocationGrid

Observation: TypeAlias = Any
"""An array, or a dict of arrays; with a leading batch axis where several episodes are meant."""


@dataclass(frozen=True)
class Histories:
    """The glimpses of B episodes; entries from an episode's count on are zero."""

    glimpses: np.ndarray
    """(B, T, g, g, C * scales) uint8."""
    corners: np.ndarray
    """(B, T, 2) int64: top-left corners (row, col) in pixels; (B, T, 3) with zooms, (row, col, zoom)."""
    counts: np.ndarray
    """(B,) int64: t, glimpses taken so far."""

    def __post_init__(self) -> None:
        batch, steps = self.glimpses.shape[:2]
        fit = self.corners.shape in ((batch, steps, 2), (batch, steps, 3))
        if self.glimpses.ndim != 5 or not fit or self.counts.shape != (batch,):
            raise ValueError(
                f"glimpses {self.glimpses.shape}, corners {self.corners.shape} and counts "
                f"{self.counts.shape} do not belong together."
            )

    @classmethod
    def empty(
        cls, batch: int, num_glimpses: int, glimpse_size: int, channels: int, coordinates: int = 2
    ) -> "Histories":
        """Returns ``batch`` episodes without a glimpse; ``channels`` are image channels x scales, ``coordinates`` the
        numbers of a corner."""
        return cls(
            np.zeros((batch, num_glimpses, glimpse_size, glimpse_size, channels), dtype=np.uint8),
            np.zeros((batch, num_glimpses, coordinates), dtype=np.int64),
            np.zeros(batch, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: Any) -> "Histories":
        """Returns some of the episodes; ``rows`` is a slice, an index array or a mask."""
        return Histories(self.glimpses[rows], self.corners[rows], self.counts[rows])

    @property
    def seen(self) -> np.ndarray:
        """(B, T) bool: True where a glimpse is taken."""
        return np.arange(self.glimpses.shape[1]) < self.counts[:, None]


ALL_ROWS = slice(None)
"""All episodes of a batch."""


class Observer(ABC):
    """One kind of observation. Before the first glimpse an observation is all zeros.

    A class of your own sets ``space`` and has :meth:`write`; :func:`register_observation` gives it a name.
    """

    space: spaces.Space
    """Space of one episode's observations."""
    writes_each: bool = False
    """Whether :meth:`write` also takes as ``t`` an array (b,), the number of each episode's glimpse."""

    def __init__(self) -> None:
        self._pool = ArrayPool()

    @abstractmethod
    def write(
        self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray, rows: Any = ALL_ROWS
    ) -> None:
        """Writes a glimpse into batched observations, in place.

        Args:
            observations: batched observations of B episodes, of which ``rows`` have taken ``t`` glimpses.
            t: 0-based number of the glimpse.
            glimpses: (b, g, g, C * scales) uint8.
            corners: (b, 2) int pixels, or (b, 3) with zooms.
            rows: indices of b of the B episodes; default all.
        """

    def begin(self, observations: Observation) -> None:
        """Makes observations of episodes that ended blank for the next ones, in place."""
        self.clear(observations, ALL_ROWS)

    def clear(self, observations: Observation, rows: Any) -> None:
        """Makes the observations of the episodes ``rows`` blank, in place."""
        for array in arrays_of(observations):
            array[rows] = 0

    def advance(self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray) -> Observation:
        """Writes glimpse ``t`` of all episodes into ``observations`` and returns a copy of them."""
        self.write(observations, t, glimpses, corners)
        return self._copied(observations, t + 1)

    def write_some(
        self, observations: Observation, counts: np.ndarray, glimpses: np.ndarray, corners: np.ndarray, rows: np.ndarray
    ) -> None:
        """Writes a glimpse of the episodes ``rows`` (b,) int64, which have taken ``counts`` (b,) int64, in place."""
        if self.writes_each:
            self.write(observations, counts, glimpses, corners, rows)  # type: ignore[arg-type]
            return
        for t in np.unique(counts):
            some = counts == t
            self.write(observations, int(t), glimpses[some], corners[some], rows[some])

    def copied(self, observations: Observation) -> Observation:
        """Returns a copy of batched observations."""
        return self._copied(observations, None)

    def _copied(self, observations: Observation, count: int | None) -> Observation:
        """Copies ``observations``, which have ``count`` glimpses, or None where they have different numbers."""
        if isinstance(observations, dict):
            return {key: self._copied(values, count) for key, values in observations.items()}
        copied = self._pool.take(observations.shape, observations.dtype)
        copied[...] = observations
        return copied

    def blank(self, batch: int) -> Observation:
        """Returns the observations of ``batch`` episodes before their first glimpse."""
        return create_empty_array(self.space, batch, self._zeros)

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = self._pool.take(shape, np.dtype(dtype))
        array.fill(0)
        return array

    def __call__(self, histories: Histories) -> Observation:
        """Returns the observations of B episodes, which may have taken different numbers of glimpses."""
        observations = self.blank(len(histories))
        for t in range(int(histories.counts.max(initial=0))):
            rows = np.flatnonzero(histories.counts > t)
            self.write(observations, t, histories.glimpses[rows, t], histories.corners[rows, t], rows)
        return observations


class HistoryObserver(Observer):
    """All glimpses so far with their locations: a Markov state.

    ``glimpses`` are flattened from (T, g, g, C * scales) in C order with 255 scaled to 1, ``locations`` from (T, 2)
    normalised coordinates (see :class:`LocationGrid`), (T, 3) with zooms; both are zero from ``step`` on, the number of
    glimpses taken.
    ``mask`` (T,) is 1 where a glimpse was taken.
    """

    key = "glimpses"
    bounds = (0.0, 1.0)
    writes_each = True

    def __init__(self, geometry: Geometry, channels: int):
        super().__init__()
        self.grid, self.num_glimpses = geometry.grid, geometry.num_glimpses
        num_glimpses, self.width = geometry.num_glimpses, self._width(geometry, channels)
        self.space = spaces.Dict(
            {
                self.key: spaces.Box(*self.bounds, (num_glimpses * self.width,), np.float32),
                "locations": spaces.Box(-1.0, 1.0, (num_glimpses * self.grid.coordinates,), np.float32),
                "mask": spaces.MultiBinary(num_glimpses),
                "step": spaces.Discrete(num_glimpses + 1),
            }
        )

    def write(
        self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray, rows: Any = ALL_ROWS
    ) -> None:
        batch, steps = observations["mask"].shape
        numbers = self._numbers(glimpses.reshape(len(corners), self.width), batch)
        observations[self.key].reshape(batch, steps, -1)[rows, t] = numbers
        observations["locations"].reshape(batch, steps, -1)[rows, t] = self.grid.normalise(corners)
        observations["mask"][rows, t] = 1
        observations["step"][rows] = t + 1

    def begin(self, observations: Observation) -> None:
        pass  # remains of the last episodes lie behind the glimpses that are copied

    def _copied(self, observations: Observation, count: int | None) -> Observation:
        count = self.num_glimpses if count is None else count
        copied = {key: self._pool.take(array.shape, array.dtype) for key, array in observations.items()}
        for key, array in copied.items():
            if array.ndim == 1:  # the step
                array[:] = observations[key]
            else:
                end = count * array.shape[1] // self.num_glimpses
                array[:, :end] = observations[key][:, :end]
                array[:, end:] = 0
        return copied

    def _width(self, geometry: Geometry, channels: int) -> int:
        """Returns how many numbers a glimpse has."""
        return geometry.glimpse_size**2 * channels * geometry.scales

    def _numbers(self, glimpses: np.ndarray, batch: int) -> np.ndarray:
        """Converts glimpses (b, width) of ``batch`` episodes, or of some, to numbers that can be written as float32."""
        return _to_unit(glimpses, self._pool.take((batch, self.width), np.dtype(np.float32))[: len(glimpses)])


class EmbeddingObserver(HistoryObserver):
    """As :class:`HistoryObserver` with ``embeddings`` (T * D,) in place of ``glimpses``: those of each glimpse and its
    location by the judge's first network. The "glimpses" that it writes are (b, D) float16."""

    key = "embeddings"
    bounds = (float(np.finfo(np.float16).min), float(np.finfo(np.float16).max))

    def _width(self, geometry: Geometry, channels: int) -> int:
        return channels  # D, the width of an embedding

    def _numbers(self, glimpses: np.ndarray, batch: int) -> np.ndarray:
        return glimpses


class FeatureObserver(EmbeddingObserver):
    """As :class:`HistoryObserver` with ``features`` (T * W,) in place of ``glimpses``: what a frozen encoder makes of
    each glimpse alone. The "glimpses" that it writes are (b, W) float16."""

    key = "features"


class GlimpseObserver(Observer):
    """Only the newest glimpse, flattened from (g, g, C * scales), its normalised location, and the step."""

    writes_each = True

    def __init__(self, geometry: Geometry, channels: int):
        super().__init__()
        self.grid = geometry.grid
        width = geometry.glimpse_size**2 * channels * geometry.scales
        self.space = spaces.Dict(
            glimpse=spaces.Box(0.0, 1.0, (width,), np.float32),
            location=spaces.Box(-1.0, 1.0, (self.grid.coordinates,), np.float32),
            step=spaces.Discrete(geometry.num_glimpses + 1),
        )

    def write(
        self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray, rows: Any = ALL_ROWS
    ) -> None:
        for key, value in self._newest(t, glimpses, corners, len(observations["step"])).items():
            observations[key][rows] = value

    def begin(self, observations: Observation) -> None:
        pass  # no glimpse is kept for the next step

    def advance(self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray) -> Observation:
        return self._newest(t, glimpses, corners, len(corners))

    def _newest(self, t: int, glimpses: np.ndarray, corners: np.ndarray, batch: int) -> dict[str, np.ndarray]:
        pixels = glimpses.reshape(len(corners), -1)
        room = self._pool.take((batch, pixels.shape[1]), np.dtype(np.float32))
        return {
            "glimpse": _to_unit(pixels, room[: len(pixels)]),
            "location": self.grid.normalise(corners),
            "step": np.full(len(corners), t + 1),
        }


class CanvasObserver(Observer):
    """(H, W, C + 1) uint8: the seen pixels in their places, zero elsewhere; the last channel is 255 where seen.

    Of several scales only the narrowest is painted. With zooms a wide glimpse is painted enlarged, where nothing was
    seen more closely, and the last channel is 255 // zoom.
    """

    writes_each = True

    def __init__(self, geometry: Geometry, channels: int):
        super().__init__()
        self.grid, side = geometry.grid, geometry.image_size
        self.space = spaces.Box(0, 255, (side, side, channels + 1), np.uint8)

    def write(
        self, observations: Observation, t: int, glimpses: np.ndarray, corners: np.ndarray, rows: Any = ALL_ROWS
    ) -> None:
        episodes = np.arange(len(observations))[rows]
        if self.grid.coordinates == 2:
            self._paint(observations, episodes, glimpses, corners, 255)
            return
        for zoom in np.unique(corners[:, 2]):
            mine = np.flatnonzero(corners[:, 2] == zoom)
            enlarged = glimpses[mine].repeat(zoom, axis=1).repeat(zoom, axis=2)
            self._paint(observations, episodes[mine], enlarged, corners[mine], 255 // int(zoom))

    @staticmethod
    def _paint(
        observations: np.ndarray, episodes: np.ndarray, glimpses: np.ndarray, corners: np.ndarray, closeness: int
    ) -> None:
        """Paints glimpses (b, s, s, C * scales) where nothing closer was seen; ``closeness`` is in the last channel."""
        side, channels = glimpses.shape[1], observations.shape[3] - 1
        windows = np.lib.stride_tricks.sliding_window_view(
            observations, (side, side, channels + 1), axis=(1, 2, 3), writeable=True
        )
        seen = np.full((len(corners), side, side, channels + 1), closeness, dtype=np.uint8)
        seen[..., :channels] = glimpses[..., :channels]
        if closeness < 255:
            before = windows[episodes, corners[:, 0], corners[:, 1], 0]
            seen = np.where(before[..., -1:] > closeness, before, seen)
        windows[episodes, corners[:, 0], corners[:, 1], 0] = seen


ObserverFactory: TypeAlias = Callable[[Geometry, int], Observer]
"""Makes an observer from the geometry of the glimpses and the number of image channels; that of embeddings from the
width of an embedding, that of features from W, in place of the channels."""

OBSERVATIONS: Registry[ObserverFactory] = Registry(
    "observation",
    {
        "history": HistoryObserver,
        "glimpse": GlimpseObserver,
        "canvas": CanvasObserver,
        "embedding": EmbeddingObserver,
        "features": FeatureObserver,
    },
)
"""Kinds of observation by name."""


def register_observation(name: str, factory: ObserverFactory | str) -> None:
    """Registers a kind of observation, which is then an ``observation`` of every environment.

    ``observation="your_package:name"`` imports ``your_package`` first, so that it can register the name.

    Args:
        name: the name.
        factory: makes the :class:`Observer` from a :class:`Geometry` and the number of image channels, as a class of
            observers with this signature does; or its place, ``"module:attribute"``.

    Raises:
        ConfigurationError: if another kind has this name.
    """
    OBSERVATIONS.add(name, factory)


def unpack_history(observation: Mapping[str, np.ndarray], grid: LocationGrid) -> Histories:
    """Recovers the glimpses from the observations of :class:`HistoryObserver`, exactly.

    Args:
        observation: of one episode or of B; the number of glimpses is read off ``mask``, so that ``step`` may have
            any shape.
        grid: the environment's grid.
    """
    mask = np.atleast_2d(observation["mask"])
    batch, steps = mask.shape
    side = grid.glimpse_size
    glimpses = np.rint(np.asarray(observation["glimpses"]) * np.float32(255)).astype(np.uint8)
    locations = np.asarray(observation["locations"]).reshape(batch, steps, grid.coordinates)
    return Histories(
        glimpses=glimpses.reshape(batch, steps, side, side, -1),
        corners=grid.denormalise(locations) * (mask[..., None] != 0),
        counts=mask.sum(axis=1, dtype=np.int64),
    )


def take(observations: Observation, episode: int) -> Observation:
    """Returns one episode's observation out of batched ones."""
    return select(observations, episode)


def select(observations: Observation, rows: Any) -> Observation:
    """Returns the observations of the episodes ``rows`` out of batched ones; with an index array they are copies."""
    if isinstance(observations, dict):
        return {key: values[rows] for key, values in observations.items()}
    return observations[rows]


def arrays_of(observations: Observation) -> list[np.ndarray]:
    """Returns the array that observations are, or all of a dict's."""
    return list(observations.values()) if isinstance(observations, dict) else [observations]


_LARGE = 1 << 20
"""Bytes from which on PyTorch converts several times as fast as NumPy; with less, calling it takes longer."""


def _to_unit(pixels: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Writes uint8 as float32 in [0, 1], 255 as exactly 1, into ``out`` and returns it."""
    if out.nbytes < _LARGE:
        out[...] = pixels
        out *= np.float32(1 / 255)
    else:
        torch.from_numpy(out).copy_(torch.from_numpy(pixels)).mul_(1 / 255)
    return out
