"""The actions of episodes: their space, the check of what agents hand in, and what it means."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces

from glimpse_env.errors import ConfigurationError, InvalidActionError
from glimpse_env.sensing.geometry import LocationGrid

ActionMode = Literal["discrete", "continuous"]
ActionSpace: TypeAlias = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


@dataclass(frozen=True)
class Choices:
    """What the actions of B episodes mean."""

    places: np.ndarray
    """(B,) int64 grid locations, or (B, 2) coordinates in [-1, 1]; of an action that stops, any number."""
    stops: np.ndarray
    """(B,) bool: which actions take no glimpse and end their episode."""
    answers: np.ndarray | None
    """(B,) classes named, or (B, classes) numbers in [-1, 1]; None where agents name none."""


class Actions:
    """The actions of one kind of episodes.

    Args:
        grid: the L locations.
        num_classes: number of classes, one of which each action names; None where a judge names it.
        mode: how a place is given.
        stop: whether an action can stop.
    """

    def __init__(self, grid: LocationGrid, num_classes: int | None, mode: ActionMode, stop: bool):
        self.grid, self.num_classes, self.mode, self.stop = grid, num_classes, mode, stop
        self._coordinates = grid.coordinates
        self.space = self._space()
        """Action space of one episode."""

    @property
    def num_places(self) -> int:
        """L, and one more where an action can stop."""
        return len(self.grid) + self.stop

    def read(self, actions: Any, batch: int) -> Choices:
        """Checks the actions of ``batch`` episodes and returns what they mean.

        Raises:
            InvalidActionError: naming an action that is not in the action space.
        """
        values = self.checked(actions, batch)
        if self.mode == "discrete":
            places, answers = (values, None) if self.num_classes is None else (values[:, 0], values[:, 1])
            stops = places == len(self.grid) if self.stop else np.zeros(batch, dtype=bool)
            return Choices(places, stops, answers)
        d = self._coordinates
        stops = values[:, d] > 0 if self.stop else np.zeros(batch, dtype=bool)
        return Choices(values[:, :d], stops, None if self.num_classes is None else values[:, d + self.stop :])

    def checked(self, actions: Any, batch: int) -> np.ndarray:
        """Returns actions of ``batch`` episodes as an array (batch, ...).

        Raises:
            InvalidActionError: naming an action that is not in the action space.
        """
        space = self.space
        shape = (batch, *space.shape)  # type: ignore[misc]
        kinds = "iu" if self.mode == "discrete" else "fiu"
        low, high = (-1, 1) if isinstance(space, spaces.Box) else (0, getattr(space, "nvec", self.num_places) - 1)
        try:
            values = np.asarray(actions)
        except (TypeError, ValueError, RuntimeError) as error:  # the last from a tensor that wants a gradient
            raise InvalidActionError(f"actions {actions!r} are no array ({error}): take {self._members}.") from error
        if values.dtype.kind not in kinds or values.shape != shape:
            raise InvalidActionError(
                f"actions {actions!r} ({values.dtype}, shape {values.shape}) must be {self._members}; shape {shape}."
            )
        within = (values >= low) & (values <= high)  # false for NaN
        valid = within.reshape(batch, -1).all(axis=1)
        if not valid.all():
            raise InvalidActionError(f"action {values[~valid][0]} is not in the action space: take {self._members}.")
        return values

    def masks(self, locations: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Returns which actions an agent may take.

        Args:
            locations: (B, T) int64 grid locations, of which an episode's first ``counts`` were looked at.
            counts: (B,) int64.

        Returns:
            (B, L) bool: True at the locations not yet looked at; then an entry for the action that stops, and one for
            each class that actions name, where there are any: all True.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        if self.mode != "discrete":
            raise ConfigurationError("action_masks() needs action='discrete': others cannot be listed.")
        masks = np.ones((len(counts), self.num_places + (self.num_classes or 0)), dtype=bool)
        rows, steps = np.nonzero(np.arange(locations.shape[1]) < counts[:, None])
        masks[rows, locations[rows, steps]] = False
        return masks

    def _space(self) -> ActionSpace:
        if self.mode == "discrete":
            if self.num_classes is None:
                return spaces.Discrete(self.num_places)
            return spaces.MultiDiscrete([self.num_places, self.num_classes])
        return spaces.Box(-1.0, 1.0, (self._coordinates + self.stop + (self.num_classes or 0),), np.float32)

    @property
    def _members(self) -> str:
        """What actions are, for messages."""
        if self.mode == "discrete":
            stop = f" ({len(self.grid)} to stop)" if self.stop else ""
            if self.num_classes is None:
                return f"integers in 0..{self.num_places - 1}{stop}"
            return f"a location in 0..{self.num_places - 1}{stop} and a class in 0..{self.num_classes - 1}"
        (count,) = self.space.shape  # type: ignore[misc]
        return "pairs in [-1, 1]" if count == 2 else f"{count} numbers in [-1, 1]"
