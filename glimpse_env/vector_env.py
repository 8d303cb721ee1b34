"""The environment: many episodes at once as a native Gymnasium vector environment."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from glimpse_env.checks import seed_or_none
from glimpse_env.datasets.base import GlimpseDataset
from glimpse_env.episodes import ActionMode, EpisodeBatch, Posterior, RewardMode, Task
from glimpse_env.errors import ConfigurationError
from glimpse_env.rendering.frames import draw_batch
from glimpse_env.sensing.observations import Observation, ObservationMode

_AHEAD = 64
"""Images a generator draws at once: the same as one by one, at a fraction of the calls."""


class GlimpseVectorEnv(gym.vector.VectorEnv):
    """``num_envs`` copies of :class:`GlimpseEnv` stepped as one batch, with the same seeds the same episodes.

    Sub-environment ``i`` draws its images from a generator of its own, seeded ``seed + i``. Episodes begin together and
    so end together; the next ones begin within the same step (``AutoresetMode.SAME_STEP``): the observations and infos
    are theirs, and those of the old ones are in ``info["final_obs"]`` and ``info["final_info"]``.

    Args:
        dataset, judge: see :class:`EpisodeBatch`, like the arguments not listed here.
        num_envs: B.
        render_mode: None or ``"rgb_array"``.

    Raises:
        ConfigurationError: if an argument is out of range.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        dataset: GlimpseDataset,
        judge: Posterior | None,
        *,
        num_envs: int = 1,
        task: Task = "look",
        observation: ObservationMode = "history",
        action: ActionMode = "discrete",
        reward: RewardMode = "classification",
        posterior_info: bool = True,
        tabulated: bool = False,
        render_mode: str | None = None,
    ):
        if render_mode is not None and render_mode != "rgb_array":
            raise ConfigurationError(
                f"render_mode={render_mode!r} of a vector environment must be None or 'rgb_array'; "
                "only the single environment has a window."
            )
        self.render_mode = render_mode
        self.batch = EpisodeBatch(
            dataset,
            judge,
            num_envs,
            task=task,
            observation=observation,
            action=action,
            reward=reward,
            posterior_info=posterior_info,
            tabulated=tabulated,
        )
        self.num_envs = len(self.batch)
        self.single_observation_space = self.batch.observer.space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator] = []
        self._seeds: list[int] = []
        self._ahead = np.zeros((self.num_envs, _AHEAD), dtype=np.int64)
        self._drawn = np.full(self.num_envs, _AHEAD)
        self._running = False
        self.autoreset_mode = AutoresetMode.SAME_STEP  # other tools look here

    @property
    def dataset(self) -> GlimpseDataset:
        return self.batch.dataset

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The sub-environments' generators."""
        self._seed([None] * self.num_envs)
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The sub-environments' seeds."""
        self._seed([None] * self.num_envs)
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode in every sub-environment.

        Args:
            seed: s to seed the sub-environments s, s + 1, ..., or a seed (or None) for each, or None to leave
                their generators as they are.
            options: ``{"index": i}`` shows image ``i``, or with an array of ``num_envs`` an image in each.

        Raises:
            ConfigurationError: if an option is out of range, a seed is no seed or there are not ``num_envs`` of them;
                the episodes can go on then.
        """
        indices = self.batch.requested(options)
        if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
            seeds = [seed_or_none(one) for one in seed]
        else:
            first = seed_or_none(seed)
            seeds = [None if first is None else first + i for i in range(self.num_envs)]
        if len(seeds) != self.num_envs:
            raise ConfigurationError(f"{len(seeds)} seeds were given for {self.num_envs} environments.")
        self._seed(seeds)
        observations, info = self.batch.begin(self._draw() if indices is None else indices)
        self._running = True
        return observations, self._marked(info)

    def step(self, actions: Any) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one glimpse in every sub-environment, or the answers of agents that classify.

        Raises:
            ResetNeeded: before the first :meth:`reset`.
            InvalidActionError: naming the first invalid action; nothing has changed then.
        """
        if not self._running:
            raise ResetNeeded("Call reset() before step().")
        transition = self.batch.step(actions)
        observations, info = transition.observations, self._marked(transition.info)
        if transition.ended:
            final = {"final_obs": self._apart(observations), "final_info": info}
            observations, info = self.batch.begin(self._draw())
            info = self._marked(info | final)
        ended = np.full(self.num_envs, transition.ended)
        return observations, transition.rewards, ended, np.zeros(self.num_envs, dtype=bool), info

    def action_masks(self) -> np.ndarray:
        """(num_envs, L) bool: the locations not yet looked at, for MaskablePPO.

        Raises:
            ConfigurationError: if actions are continuous.
        """
        return self.batch.action_masks()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A frame of each sub-environment, (height, width, 3) uint8; None without a render mode.

        Raises:
            ResetNeeded: before the first :meth:`reset`.
        """
        if not self._running:
            raise ResetNeeded("Call reset() before render().")
        return None if self.render_mode is None else tuple(draw_batch(self.batch))

    def _seed(self, seeds: Sequence[int | None]) -> None:
        """Seeds the sub-environments that have a seed, and, the first time, the others at random."""
        first = not self._generators
        for i, seed in enumerate(seeds):
            if first:
                generator, used = seeding.np_random(seed)
                self._generators.append(generator)
                self._seeds.append(used)
            elif seed is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seed)
                self._drawn[i] = _AHEAD

    def _draw(self) -> np.ndarray:
        """(B,) int64: an image for each sub-environment by its own generator."""
        for i in np.flatnonzero(self._drawn == _AHEAD):
            self._ahead[i] = self._generators[i].integers(len(self.dataset), size=_AHEAD)
            self._drawn[i] = 0
        chosen = self._ahead[np.arange(self.num_envs), self._drawn]
        self._drawn += 1
        return chosen

    def _apart(self, observations: Observation) -> np.ndarray:
        """(B,) object: batched observations one by one."""
        apart = np.empty(self.num_envs, dtype=object)
        if isinstance(observations, dict):
            apart[:] = list(map(dict, map(zip, repeat(tuple(observations)), zip(*observations.values()))))  # noqa: B905
        else:
            for i, one in enumerate(observations):
                apart[i] = one
        return apart

    def _marked(self, info: dict[str, Any]) -> dict[str, Any]:
        """Adds Gymnasium's ``_key`` masks: every sub-environment has every key."""
        return info | {f"_{key}": np.ones(self.num_envs, dtype=bool) for key in info}
