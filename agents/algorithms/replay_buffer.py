"""Experience replay of whole glimpse episodes, the agent's own and demonstrated ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from torch import Tensor

from agents.cloning_data import HISTORY_OBSERVERS
from agents.networks.encoders import WHOLE, observation_of
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import read_npz, whole_file
from glimpse_env.sensing.geometry import grid_of

FORMAT = 1
"""Version of the files that buffers are saved to."""
OTHER_CLASS = (
    "this agent learns from whole episodes, as SB3's own classes do not; load it with "
    "agents.algorithms.dqfd.GlimpseDQN or GlimpseQRDQN, whichever trained it."
)
"""What is said where SB3's own class is to load or train one."""


class EpisodeSamples(NamedTuple):
    """E whole episodes, and so all their E * T transitions."""

    observations: dict[str, Tensor]
    """(E, ...) observations before the last glimpse, marked with :data:`WHOLE`: networks compute from them all E * T
    states, an episode's behind one another."""
    actions: Tensor
    """(E, T) int64 grid locations, or L to stop; -1 behind an episode's last action."""
    rewards: Tensor
    """(E, T) float32."""
    agreement: Tensor
    """(k, T, L) float32 in 0..1 for the k demonstrations, which come first: the demonstrator's preference for each
    action relative to the action taken, at most 1."""


class EpisodeReplayBuffer(ReplayBuffer):
    """SB3's replay buffer for whole episodes, which may stop before their T-th glimpse.

    An episode is kept once, as its glimpses (pixels in a byte each, numbers in their place in half precision, both
    without loss), T actions and T rewards, where SB3 keeps 2 T observations of T glimpses in single precision. New
    episodes of the agent replace its oldest ones; demonstrations stay, and have a fixed share of what
    :meth:`sample_episodes` draws.

    Attributes:
        own: arrays of the agent's episodes: ``seen`` (n, T, W) uint8 pixels or float16 numbers in their place, the
            glimpses in order, zero where there is none; ``actions`` (n, T) int64, -1 behind the last one, and
            ``rewards`` (n, T) float32; ``agreement`` (n, T, 0).
        demonstrations: the same of the demonstrations, with ``seen`` (n, T - 1, W), as no action follows the last
            glimpse, and ``agreement`` (n, T, L) float16, see :class:`EpisodeSamples`.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        grid: Mapping[str, Any],
        demo_share: float = 0.25,
    ):
        """
        Args:
            buffer_size: capacity for the agent's own transitions, rounded down to whole episodes.
            observation_space: that of ``observation="history"``, ``"embedding"`` or ``"features"``.
            action_space: ``Discrete`` grid locations, perhaps with one more action that stops.
            device: device of the samples.
            n_envs: number of environments that are stepped together.
            optimize_memory_usage: must stay False; no observation is kept twice anyway.
            grid: the fields of the environment's :class:`LocationGrid`.
            demo_share: share of demonstrations in samples, in 0..1, once there are episodes of both kinds.

        Raises:
            ConfigurationError: if an argument is out of range or does not fit the others.
        """
        mode = observation_of(observation_space)
        if mode is None or not isinstance(action_space, spaces.Discrete):
            raise ConfigurationError(
                'the replay buffer needs an environment with observation="history", "embedding" or "features" and '
                f"discrete actions; this one shows {observation_space} and takes {action_space}."
            )
        if not 0 <= demo_share <= 1:
            raise ConfigurationError(f"demo_share={demo_share} must lie in 0..1.")
        if optimize_memory_usage:
            raise ConfigurationError(
                "optimize_memory_usage=True is not needed, episodes are kept once; leave it False."
            )
        assert isinstance(observation_space, spaces.Dict)
        self.steps = int(observation_space["mask"].shape[0])  # type: ignore[index]
        capacity = buffer_size // self.steps
        if capacity < n_envs:
            raise ConfigurationError(
                f"buffer_size={buffer_size} holds {capacity} episodes of {self.steps} steps, fewer than the {n_envs} "
                "environments play at once; make it larger."
            )
        BaseBuffer.__init__(self, capacity * self.steps, observation_space, action_space, device, n_envs=n_envs)
        self.capacity = capacity
        self.demo_share = demo_share
        self.grid = grid_of(grid)
        self.key = HISTORY_OBSERVERS[mode].key
        self.width = observation_space[self.key].shape[0] // self.steps  # type: ignore[index]
        self.own = self._empty(capacity, self.steps, 0)
        self.demonstrations = self._empty(0, self.steps - 1, int(action_space.n))
        self._begun = self._empty(n_envs, self.steps, 0)  # unfinished episodes
        self._num_begun = np.zeros(n_envs, dtype=np.int64)  # their steps
        self._rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Makes samples from now on depend on ``seed`` and the content only."""
        self._rng = np.random.default_rng([seed, 1])

    @property
    def num_own(self) -> int:
        """Number of the agent's own episodes."""
        return self.capacity if self.full else self.pos

    @property
    def num_demonstrations(self) -> int:
        """Number of demonstrations."""
        return len(self.demonstrations["actions"])

    def size(self) -> int:
        """Returns the number of transitions that can be sampled, T an episode."""
        return (self.num_own + self.num_demonstrations) * self.steps

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Adds a step of all environments; glimpses are taken from the infos when the episodes end.

        Raises:
            ConfigurationError: if an episode did not begin at a reset, or was cut off by something else.
        """
        counts = obs["mask"].sum(axis=1)
        self._num_begun[counts == 0] = 0  # of episodes that a reset cut off
        t, every, ended = self._num_begun, np.arange(self.n_envs), np.flatnonzero(done)
        if (counts != t).any():
            raise ConfigurationError(
                f"environments have taken {counts.min()} to {counts.max()} glimpses where {t.min()} to {t.max()} steps "
                "were added; the replay buffer needs episodes that begin at a reset."
            )
        actions = np.array(action).reshape(-1)
        cut = (t[ended] + 1 < self.steps) & (actions[ended] < len(self.grid))
        if cut.any():
            raise ConfigurationError(
                f"an episode ended after {t[ended][cut][0] + 1} of {self.steps} steps and did not stop; the replay "
                "buffer needs episodes that nothing else cuts off."
            )
        self._begun["actions"][every, t], self._begun["rewards"][every, t] = actions, reward
        self._num_begun = t + 1
        if len(ended):
            seen = np.stack([infos[i]["terminal_observation"][self.key] for i in ended])  # (b, T * W)
            rows = (self.pos + np.arange(len(ended))) % self.capacity
            stored = np.rint(seen * 255) if self.key == "glimpses" else seen  # exact in the array's dtype
            behind = np.arange(self.steps) >= self._num_begun[ended, None]
            self.own["seen"][rows] = stored.reshape(len(ended), self.steps, -1)
            self.own["actions"][rows] = np.where(behind, -1, self._begun["actions"][ended])
            self.own["rewards"][rows] = np.where(behind, 0, self._begun["rewards"][ended])
            self._num_begun[ended] = 0
            self.full = self.full or self.pos + len(ended) >= self.capacity
            self.pos = (self.pos + len(ended)) % self.capacity

    def set_demonstrations(
        self, seen: np.ndarray, actions: np.ndarray, rewards: np.ndarray, agreement: np.ndarray
    ) -> None:
        """Stores demonstrations in place of earlier ones.

        Args:
            seen: (N, T - 1, ...) uint8 pixels or float16 numbers in their place, of all glimpses but the last.
            actions: (N, T) int, grid locations in the order they were looked at, or L to stop; -1 behind an episode's
                last action.
            rewards: (N, T) the environment's rewards for them.
            agreement: (N, T, L) in 0..1, see :class:`EpisodeSamples`.

        Raises:
            ConfigurationError: if shapes or dtypes do not fit.
        """
        given = {"seen": seen.reshape(*seen.shape[:2], int(np.prod(seen.shape[2:]))), "actions": actions}
        given |= {"rewards": rewards, "agreement": agreement}
        stored = {}
        for name, values in given.items():
            shape, dtype = (len(actions), *self.demonstrations[name].shape[1:]), self.demonstrations[name].dtype
            if values.shape != shape or (name == "seen" and seen.dtype != dtype):
                raise ConfigurationError(
                    f"demonstrations with {name} {values.dtype} {values.shape} were given where {dtype} {shape} are "
                    "needed; make them for this environment's observations."
                )
            stored[name] = values.astype(dtype)
        self.demonstrations = stored

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """Refuses single transitions, which are not kept.

        Raises:
            ConfigurationError: always; it names the class that learns from whole episodes.
        """
        raise ConfigurationError(OTHER_CLASS)

    def sample_episodes(
        self, count: int, *, demo_share: float | None = None, rng: np.random.Generator | None = None
    ) -> EpisodeSamples:
        """Returns ``count`` whole episodes, drawn with replacement; by default with the buffer's share of
        demonstrations and random numbers."""
        share = self.demo_share if demo_share is None else demo_share
        rng = self._rng if rng is None else rng
        num_own, num_demos = self.num_own, self.num_demonstrations
        if num_own + num_demos == 0:
            raise ConfigurationError("the replay buffer is empty; play episodes or load demonstrations first.")
        if num_own == 0 or num_demos == 0:
            share = float(num_own == 0)
        k = round(share * count)
        demos = rng.integers(num_demos, size=k) if k else np.zeros(0, dtype=np.int64)
        own = rng.integers(num_own, size=count - k) if k < count else np.zeros(0, dtype=np.int64)
        seen, actions, rewards = (
            np.concatenate([self.demonstrations[name][demos], self.own[name][own][:, :length]])
            for name, length in (("seen", self.steps - 1), ("actions", self.steps), ("rewards", self.steps))
        )
        glimpses = np.zeros((count, self.steps, self.width), dtype=np.float32)
        glimpses[:, :-1] = seen
        if self.key == "glimpses":
            glimpses *= np.float32(1 / 255)
        mask = ((actions >= 0) & (actions < len(self.grid))).astype(np.int8)  # (count, T)
        mask[:, -1] = 0
        locations = self.grid.normalised[np.where(mask, actions, 0)] * mask[..., None]
        arrays = {
            self.key: glimpses.reshape(count, -1),
            "locations": locations.reshape(count, -1),
            "mask": mask,
            "step": mask.sum(axis=1, dtype=np.int64),
        }
        observations = {key: self.to_torch(values) for key, values in arrays.items()}
        observations[WHOLE] = observations["mask"]
        agreement = self.demonstrations["agreement"][demos].astype(np.float32)
        return EpisodeSamples(observations, *map(self.to_torch, (actions, rewards, agreement)))

    def save(self, path: str | Path) -> None:
        """Writes all finished episodes to an npz file, whole or not at all."""
        arrays: dict[str, Any] = {f"own_{name}": values[: self.num_own] for name, values in self.own.items()}
        arrays |= {f"demo_{name}": values for name, values in self.demonstrations.items()}
        state = np.array([FORMAT, self.capacity, self.pos, self.full])
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, state=state, **arrays)

    def load(self, path: str | Path) -> None:
        """Reads what :meth:`save` wrote, in place of the present content.

        Raises:
            ArtifactError: if the file cannot be read or was saved by a buffer of another size or content.
        """
        try:
            file = read_npz(Path(path))
            version, capacity, pos, full = file["state"].tolist()
            own, demos = ({name: file[f"{whose}_{name}"] for name in self.own} for whose in ("own", "demo"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"the replay {path} cannot be read ({error}); start the run again.") from error
        stored, ours = own["seen"], self.own["seen"]
        if (version, capacity, stored.shape[1:], stored.dtype) != (FORMAT, self.capacity, ours.shape[1:], ours.dtype):
            raise ArtifactError(
                f"the replay {path} (format {version}) holds {capacity} episodes of {stored.dtype} {stored.shape[1:]}, "
                f"not {self.capacity} of {ours.dtype} {ours.shape[1:]}; load it into the model that it was saved with."
            )
        for name, values in own.items():
            place = self.own[name]
            if (values.dtype, values.shape[1:]) != (place.dtype, place.shape[1:]) or len(values) > len(place):
                raise ArtifactError(
                    f"the replay {path} has {name} of {values.dtype} {values.shape}; start the run again."
                )
        try:
            self.set_demonstrations(**demos)
        except (ValueError, IndexError) as error:
            raise ArtifactError(
                f"the replay {path} has other demonstrations ({error}); start the run again."
            ) from error
        for name, values in own.items():
            self.own[name][: len(values)] = values
        self.pos, self.full = int(pos), bool(full)
        self._num_begun[:] = 0

    def to_torch(self, array: np.ndarray, copy: bool = False) -> Tensor:
        """Converts as SB3 does; arrays here are fresh and need no copy."""
        return super().to_torch(array, copy)

    def _empty(self, count: int, glimpses: int, locations: int) -> dict[str, np.ndarray]:
        """Returns arrays for ``count`` episodes with ``glimpses`` glimpses."""
        return {
            "seen": np.zeros((count, glimpses, self.width), np.uint8 if self.key == "glimpses" else np.float16),
            "actions": np.zeros((count, self.steps), np.int64),
            "rewards": np.zeros((count, self.steps), np.float32),
            "agreement": np.zeros((count, self.steps, locations), np.float16),
        }
