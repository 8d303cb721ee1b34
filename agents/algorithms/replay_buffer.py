"""Experience replay of whole glimpse episodes, the agent's own and demonstrated ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from torch import Tensor

from agents.networks.encoders import EMBEDDING_KEYS, HISTORY_KEYS, WHOLE
from glimpse_env.errors import ArtifactError, ConfigurationError
from glimpse_env.files import whole_file
from glimpse_env.sensing.geometry import LocationGrid

FORMAT = 1
"""Version of the files that buffers are saved to."""


class TransitionSamples(NamedTuple):
    """B transitions as SB3 samples them, and which are demonstrated."""

    observations: dict[str, Tensor]
    """(B, ...) as the environment showed them before the action, with the first t glimpses."""
    actions: Tensor
    """(B, 1) int64 grid locations."""
    next_observations: dict[str, Tensor]
    """(B, ...) after the action, with glimpse t + 1. A demonstration's last glimpse is zero: no action follows it."""
    dones: Tensor
    """(B, 1) float32: 1 where the episode ended."""
    rewards: Tensor
    """(B, 1) float32."""
    discounts: None
    """SB3's discounts of n-step returns, which are not used."""
    demonstrated: Tensor
    """(B,) bool: which transitions are demonstrated."""


class EpisodeSamples(NamedTuple):
    """E whole episodes, and so all their E * T transitions."""

    observations: dict[str, Tensor]
    """(E, ...) observations before the last glimpse, marked with :data:`WHOLE`: networks compute from them all E * T
    states, an episode's behind one another."""
    actions: Tensor
    """(E, T) int64 grid locations."""
    rewards: Tensor
    """(E, T) float32."""
    demonstrated: Tensor
    """(E,) bool: which episodes are demonstrations; they come first."""
    agreement: Tensor
    """(k, T, L) float32 in 0..1 for the k demonstrations: the demonstrator's preference for each action relative to the
    action taken, at most 1."""


@dataclass
class _Episodes:
    """n episodes in arrays."""

    seen: np.ndarray
    """(n, T or T - 1, W) uint8 pixels or float16 embeddings: the glimpses in order."""
    actions: np.ndarray
    """(n, T) int64 grid locations."""
    rewards: np.ndarray
    """(n, T) float32."""
    agreement: np.ndarray
    """(n, T, L) float16, see :class:`EpisodeSamples`; (n, T, 0) unless they are demonstrations."""

    def __len__(self) -> int:
        return len(self.actions)


class EpisodeReplayBuffer(ReplayBuffer):
    """SB3's replay buffer for episodes that run in lockstep from a reset, as this project's environments do.

    An episode is kept once, as its glimpses (pixels in a byte each, embeddings in half precision, both without loss),
    T locations and T rewards, where SB3 keeps 2 T observations of T glimpses in single precision. New episodes of the
    agent replace its oldest ones; demonstrations stay, and have a fixed share of what is sampled.
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
            observation_space: that of ``observation="history"`` or ``"embedding"``.
            action_space: ``Discrete`` grid locations.
            device: device of the samples.
            n_envs: number of environments that are stepped together.
            optimize_memory_usage: must stay False; no observation is kept twice anyway.
            grid: the fields of the environment's :class:`LocationGrid`.
            demo_share: share of demonstrations in samples, in 0..1, once there are episodes of both kinds.

        Raises:
            ConfigurationError: if an argument is out of range or does not fit the others.
        """
        keys = set(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else set()
        if keys not in (HISTORY_KEYS, EMBEDDING_KEYS) or not isinstance(action_space, spaces.Discrete):
            raise ConfigurationError(
                'the replay buffer needs an environment with observation="history" or "embedding" and discrete '
                f"actions; this one shows {observation_space} and takes {action_space}."
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
        self.grid = LocationGrid(**grid)
        self.key = "embeddings" if keys == EMBEDDING_KEYS else "glimpses"
        self.width = observation_space[self.key].shape[0] // self.steps  # type: ignore[index]
        self.own = self._rows(capacity, self.steps, 0)
        self.demonstrations = self._rows(0, self.steps - 1, int(action_space.n))
        self._begun: list[tuple[np.ndarray, np.ndarray]] = []  # actions and rewards of unfinished episodes
        self._rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Makes samples from now on depend on ``seed`` and the content only."""
        self._rng = np.random.default_rng([seed, 1])

    @property
    def num_own(self) -> int:
        """Number of the agent's own episodes."""
        return self.capacity if self.full else self.pos

    def size(self) -> int:
        """Returns the number of transitions that can be sampled."""
        return (self.num_own + len(self.demonstrations)) * self.steps

    def reset(self) -> None:
        """Removes the agent's own episodes."""
        super().reset()
        self._begun = []

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
            ConfigurationError: if the environments are not in lockstep.
        """
        counts = obs["mask"].sum(axis=1)
        if counts[0] == 0:
            self._begun = []  # of episodes that a reset cut off
        self._begun.append((np.array(action).reshape(-1), np.array(reward, dtype=np.float32)))
        if (counts != len(self._begun) - 1).any() or np.any(done) != np.all(done):
            raise ConfigurationError(
                f"environments have taken {counts.min()} to {counts.max()} glimpses where {len(self._begun) - 1} steps "
                "were added; the replay buffer needs episodes that begin together at a reset."
            )
        if np.all(done):
            actions, rewards = (np.stack(part, axis=1) for part in zip(*self._begun, strict=True))
            seen = np.stack([info["terminal_observation"][self.key] for info in infos])  # (n_envs, T * W)
            self._begun = []
            rows = (self.pos + np.arange(len(actions))) % self.capacity
            self.own.seen[rows] = self._compact(seen.reshape(len(actions), self.steps, -1))
            self.own.actions[rows], self.own.rewards[rows] = actions, rewards
            self.full = self.full or self.pos + len(actions) >= self.capacity
            self.pos = (self.pos + len(actions)) % self.capacity

    def set_demonstrations(
        self, seen: np.ndarray, actions: np.ndarray, rewards: np.ndarray, agreement: np.ndarray
    ) -> None:
        """Stores demonstrations in place of earlier ones.

        Args:
            seen: (N, T - 1, ...) uint8 pixels or float16 embeddings of all glimpses but the last.
            actions: (N, T) int, grid locations in the order they were looked at.
            rewards: (N, T) the environment's rewards for them.
            agreement: (N, T, L) in 0..1, see :class:`EpisodeSamples`.

        Raises:
            ConfigurationError: if shapes or dtypes do not fit.
        """
        count, kept = len(actions), self.demonstrations
        given = (seen.dtype, (*seen.shape[:2], int(np.prod(seen.shape[2:]))), actions.shape, rewards.shape)
        wanted = (kept.seen.dtype, (count, *kept.seen.shape[1:]), (count, self.steps), (count, self.steps))
        if given != wanted or agreement.shape != (count, *kept.agreement.shape[1:]):
            raise ConfigurationError(
                f"demonstrations with {seen.dtype} {given[1:]} and {agreement.shape} were given where "
                f"{wanted[0]} {wanted[1:]} and {(count, *kept.agreement.shape[1:])} are needed; make them for this "
                "environment's observations."
            )
        self.demonstrations = _Episodes(
            seen.reshape(wanted[1]).copy(),
            actions.astype(np.int64),
            rewards.astype(np.float32),
            agreement.astype(np.float16),
        )

    def sample(self, batch_size: int, env: Any = None) -> TransitionSamples:  # type: ignore[override]
        """Returns ``batch_size`` transitions, drawn with replacement."""
        episodes, demonstrated = self._draw(batch_size, self.demo_share, self._rng)
        t = self._rng.integers(self.steps, size=batch_size)
        each = np.arange(batch_size)
        return TransitionSamples(
            observations=self._observations(episodes, t),
            actions=self.to_torch(episodes.actions[each, t][:, None]),
            next_observations=self._observations(episodes, t + 1),
            dones=self.to_torch((t == self.steps - 1).astype(np.float32)[:, None]),
            rewards=self.to_torch(episodes.rewards[each, t][:, None]),
            discounts=None,
            demonstrated=self.to_torch(demonstrated),
        )

    def sample_episodes(
        self, count: int, *, demo_share: float | None = None, rng: np.random.Generator | None = None
    ) -> EpisodeSamples:
        """Returns ``count`` whole episodes, drawn with replacement; by default with the buffer's share of
        demonstrations and random numbers."""
        share = self.demo_share if demo_share is None else demo_share
        episodes, demonstrated = self._draw(count, share, self._rng if rng is None else rng)
        observations = self._observations(episodes, np.full(count, self.steps - 1))
        observations[WHOLE] = observations["mask"]
        return EpisodeSamples(
            observations=observations,
            actions=self.to_torch(episodes.actions),
            rewards=self.to_torch(episodes.rewards),
            demonstrated=self.to_torch(demonstrated),
            agreement=self.to_torch(episodes.agreement.astype(np.float32)),
        )

    def save(self, path: str | Path) -> None:
        """Writes all finished episodes to an npz file, whole or not at all."""
        own = {f"own_{name}": values[: self.num_own] for name, values in vars(self.own).items()}
        demos = {f"demo_{name}": values for name, values in vars(self.demonstrations).items()}
        state = np.array([FORMAT, self.capacity, self.pos, self.full])
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, state=state, **own, **demos)

    def load(self, path: str | Path) -> None:
        """Reads what :meth:`save` wrote, in place of the present content.

        Raises:
            ArtifactError: if the file cannot be read or was saved by a buffer of another size or content.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            version, capacity, pos, full = stored["state"].tolist()
            own, demos = (
                _Episodes(*(stored[f"{whose}_{name}"] for name in ("seen", "actions", "rewards", "agreement")))
                for whose in ("own", "demo")
            )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ArtifactError(f"the replay {path} cannot be read ({error}); start the run again.") from error
        stored_shape, shape = own.seen.shape[1:], self.own.seen.shape[1:]
        expected = (FORMAT, self.capacity, shape, self.own.seen.dtype)
        if (version, capacity, stored_shape, own.seen.dtype) != expected:
            raise ArtifactError(
                f"the replay {path} (format {version}) holds {capacity} episodes of {own.seen.dtype} {stored_shape}, "
                f"not {self.capacity} of {self.own.seen.dtype} {shape}; load it into the model that it was saved with."
            )
        for name, values in vars(own).items():
            getattr(self.own, name)[: len(own)] = values
        self.set_demonstrations(demos.seen, demos.actions, demos.rewards, demos.agreement)
        self.pos, self.full, self._begun = int(pos), bool(full), []

    def to_torch(self, array: np.ndarray, copy: bool = False) -> Tensor:
        """Converts as SB3 does; arrays here are fresh and need no copy."""
        return super().to_torch(array, copy)

    def _rows(self, count: int, glimpses: int, locations: int) -> _Episodes:
        """Returns empty arrays for ``count`` episodes with ``glimpses`` glimpses."""
        dtype = np.float16 if self.key == "embeddings" else np.uint8
        return _Episodes(
            np.zeros((count, glimpses, self.width), dtype=dtype),
            np.zeros((count, self.steps), dtype=np.int64),
            np.zeros((count, self.steps), dtype=np.float32),
            np.zeros((count, self.steps, locations), dtype=np.float16),
        )

    def _compact(self, seen: np.ndarray) -> np.ndarray:
        """Converts observed float32 glimpses to the stored dtype, without loss."""
        return seen.astype(np.float16) if self.key == "embeddings" else np.rint(seen * 255).astype(np.uint8)

    def _draw(self, count: int, share: float, rng: np.random.Generator) -> tuple[_Episodes, np.ndarray]:
        """Returns ``count`` episodes, demonstrations first, and (count,) bool: whether each is one."""
        num_own, num_demos = self.num_own, len(self.demonstrations)
        if num_own + num_demos == 0:
            raise ConfigurationError("the replay buffer is empty; play episodes or load demonstrations first.")
        if num_own == 0 or num_demos == 0:
            share = float(num_own == 0)
        k = round(share * count)
        demos = rng.integers(num_demos, size=k) if k else np.zeros(0, dtype=np.int64)
        own = rng.integers(num_own, size=count - k) if k < count else np.zeros(0, dtype=np.int64)
        seen = np.zeros((count, self.steps, self.width), dtype=self.own.seen.dtype)
        seen[:k, :-1], seen[k:] = self.demonstrations.seen[demos], self.own.seen[own]
        actions = np.concatenate([self.demonstrations.actions[demos], self.own.actions[own]])
        rewards = np.concatenate([self.demonstrations.rewards[demos], self.own.rewards[own]])
        return _Episodes(seen, actions, rewards, self.demonstrations.agreement[demos]), np.arange(count) < k

    def _observations(self, episodes: _Episodes, counts: np.ndarray) -> dict[str, Tensor]:
        """Returns the observations of n episodes after their first ``counts`` (n,) glimpses."""
        mask = np.arange(self.steps) < counts[:, None]  # (n, T)
        seen = episodes.seen.astype(np.float32)
        if self.key == "glimpses":
            seen *= np.float32(1 / 255)
        seen[~mask] = 0
        locations = np.where(mask[..., None], self.grid.normalised[episodes.actions], np.float32(0))
        observations = {
            self.key: seen.reshape(len(mask), -1),
            "locations": locations.reshape(len(mask), -1),
            "mask": mask.astype(np.int8),
            "step": counts,
        }
        return {key: self.to_torch(values) for key, values in observations.items()}
