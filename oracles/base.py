"""What every policy of this package is: something with Stable-Baselines3's ``predict``."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.errors import ConfigurationError
from glimpse_env.sensing.geometry import LocationGrid
from glimpse_env.sensing.observations import Histories, unpack_history

Observations: TypeAlias = Mapping[str, np.ndarray]
"""A batch of ``history`` observations, see :class:`glimpse_env.sensing.observations.HistoryObserver`."""


class GlimpsePolicy:
    """Chooses the next glimpse for a batch of episodes; subclasses give :meth:`choose`, and :meth:`start` if they need.

    ``last_maps`` holds, after :meth:`predict`, the criterion at every location, (B, L) float32 (lower is better), for
    policies that compute one; else None.
    """

    grid: LocationGrid
    last_maps: np.ndarray | None = None
    last_stop: np.ndarray | None = None
    """(B,) float32: what the maps expect, if no glimpse is taken any more; None where it is not known."""
    map_title: str = ""
    """What the maps show, with its unit, for pictures."""
    stops: bool = False
    """Whether it may choose L = ``len(grid)``, which means that it stops."""
    weighs_stop: bool = False
    """Whether it stops where ``last_stop`` is less than ``last_maps`` at all locations not yet looked at."""

    def start(self, dataset: GlimpseDataset, indices: np.ndarray) -> Any:
        """Returns the state with which episodes on ``dataset.images[indices]`` begin.

        Only a policy that may peek, and says so, learns from it what is in the image. The oracle uses it to leave the
        very image out of its bank.
        """
        return None

    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Returns the next locations and the state, as Stable-Baselines3's models do.

        Args:
            observation: ``history`` observations of B episodes, or of a single one.
            state: what the last call returned; None, or what :meth:`start` gives, at the start of all episodes.
            episode_start: (B,) bool, which episodes have just begun; None if none has but those ``state`` says.
            deterministic: without effect, as no policy here samples at will.

        Returns:
            Grid locations, (B,) int64 or a scalar for a single episode, L where it stops, and the state.

        Raises:
            ConfigurationError: if a history is full, so that there is no next glimpse.
        """
        histories = unpack_history(observation, self.grid)
        check_room(histories.counts, histories.corners.shape[1])
        locations, state = self.choose(histories, state, episode_start)
        return locations if np.ndim(observation["mask"]) > 1 else locations[0], state

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        """Returns the next locations (B,) int64 after histories with room for a glimpse, and the state."""
        raise NotImplementedError(f"{type(self).__name__} needs a method choose, or a predict of its own.")


class EpisodeState(Protocol):
    """What a policy keeps of B running episodes."""

    counts: np.ndarray
    """(B,) int64, glimpses in the state."""


State = TypeVar("State", bound=EpisodeState)


class MappingPolicy(GlimpsePolicy, Generic[State]):
    """Looks where a map of all locations, computed from a state that each glimpse is added to once, is lowest."""

    def choose(
        self, histories: Histories, state: State | None, episode_start: np.ndarray | None
    ) -> tuple[np.ndarray, State]:
        if state is None:
            state = self.fresh_state(len(histories))
        elif episode_start is not None and np.any(episode_start & (state.counts > 0)):
            state.counts[episode_start] = 0
            self.restart(state, np.flatnonzero(episode_start))
        if len(state.counts) != len(histories) or (state.counts > histories.counts).any():
            raise ConfigurationError(
                "the oracle's state belongs to other episodes than the observation; pass state=None at their start."
            )
        self.add_new(histories, state)
        state.counts = histories.counts.astype(np.int64)
        self.last_maps = self.expected_maps(state)
        return masked_argmin(self.last_maps, histories, self.grid), state

    @abstractmethod
    def fresh_state(self, batch: int) -> State:
        """Returns the state of ``batch`` episodes before their first glimpse."""

    @abstractmethod
    def restart(self, state: State, rows: np.ndarray) -> None:
        """Clears what the state keeps of the episodes ``rows``, whose counts are zero already."""

    @abstractmethod
    def add_new(self, histories: Histories, state: State) -> None:
        """Adds the glimpses of the histories behind ``state.counts``, but leaves the counts."""

    @abstractmethod
    def expected_maps(self, state: State) -> np.ndarray:
        """Returns the criterion expected at every location, (B, L) float32."""


class PlannedPolicy(GlimpsePolicy):
    """Follows sequences that ``start`` planned whole, with more in view than glimpses: (B, T) locations, and the maps
    (B, T, L) they were chosen by, or None."""

    def choose(self, histories: Histories, state: Any, episode_start: np.ndarray | None) -> tuple[np.ndarray, Any]:
        if state is None:
            raise ConfigurationError(f"{type(self).__name__} needs a state from start(dataset, indices).")
        sequences, maps = state
        check_room(histories.counts, sequences.shape[1])
        rows = np.arange(len(sequences))
        self.last_maps = None if maps is None else maps[rows, histories.counts]
        return sequences[rows, histories.counts], state


def check_room(counts: np.ndarray, num_glimpses: int) -> None:
    """Checks that there is a next glimpse after ``counts`` (B,) of ``num_glimpses`` glimpses.

    Raises:
        ConfigurationError: if a history is full.
    """
    if (counts >= num_glimpses).any():
        raise ConfigurationError(
            f"a history of {counts.max()} glimpses is full, as there are {num_glimpses} in an episode; reset the "
            "environment before asking for another location."
        )


def masked_argmin(scores: np.ndarray, histories: Histories, grid: LocationGrid) -> np.ndarray:
    """Returns the locations (B,) int64 of the lowest ``scores`` (B, L) among those that a history has not seen."""
    return unseen_scores(scores, histories, grid).argmin(axis=1)


def unseen_scores(scores: np.ndarray, histories: Histories, grid: LocationGrid) -> np.ndarray:
    """Returns a copy of ``scores`` (B, L) with +inf at the locations that a history has seen."""
    episode, step = np.nonzero(histories.seen)
    scores = scores.copy()
    scores[episode, grid.nearest(histories.corners[episode, step])] = np.inf
    return scores


def random_keys(rng: np.random.Generator, shape: tuple[int, ...], grid: LocationGrid) -> np.ndarray:
    """Returns random keys (..., L) float32, at least 0, of which the n lowest are at n random locations.

    With zooms, in ascending order, each is drawn by drawing a level and then a place in it, among those not yet drawn:
    the few wide windows come up as often as the many narrow ones.
    """
    keys = rng.random((*shape, len(grid)), dtype=np.float32)
    if len(grid.levels) > 1:  # exponential variables, whose minimum falls on each in proportion to its rate
        keys = -np.log1p(-keys)
        for part in grid.level_slices:
            keys[..., part] *= part.stop - part.start
    return keys


def random_locations(rng: np.random.Generator, shape: tuple[int, ...], grid: LocationGrid) -> np.ndarray:
    """Returns random locations int64 of a shape; with zooms each of a level drawn first."""
    if len(grid.levels) == 1:
        return rng.integers(len(grid), size=shape)
    level = rng.integers(len(grid.levels), size=shape)
    starts = np.array([part.start for part in grid.level_slices])
    counts = np.array([len(one) for one in grid.levels])
    return starts[level] + (rng.random(shape) * counts[level]).astype(np.int64)


def random_part(rows: np.ndarray, size: int) -> np.ndarray:
    """Returns ``size`` of ``rows`` (n,) at random, ascending and always the same; all in their order if there are no
    more. Files are often sorted by class, so that the first rows would not stand for the whole."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:size])
